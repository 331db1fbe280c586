"""One file of a data set: whose it is and what its labels are, as ``eegm2 prepare`` of all would say."""

from __future__ import annotations

import os
from pathlib import Path

from eegm2.data.names import shown
from eegm2.data.recipes.base import SourceRecording, detect_recipe
from eegm2.data.recipes.folder import subject_of
from eegm2.errors import EEGM2Error

LEVELS = 5
"""So many folders above a file are looked at for a layout that is known."""


def recording_of(path: Path) -> SourceRecording:
    """Return a file as a recording: as the data set around it has it, or by its own name.

    Parameters
    ----------
    path : Path
        An EEG file. The folders above it are asked, the nearest first, whether they are of a known layout
        (BIDS and the like) that has this file; where none is, the subject is the ``sub-…`` of its name, else
        the name, and the annotations within it are the labels.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 (links stay as they are: a data set may be made of them)
    for root in list(path.parents)[:LEVELS]:
        if root == Path(root.anchor) or root == Path.home():
            break
        try:
            recipe = detect_recipe(root)
            found = [] if recipe.name == "folder" else recipe.discover(root)
        except (EEGM2Error, OSError):  # not of this layout after all
            continue
        for source in found:
            if path in (source.path, *source.files) and source.problem is None:
                return source
    return SourceRecording(shown(path.stem), subject_of(Path(path.name)), path)
