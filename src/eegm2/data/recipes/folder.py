"""A file, or any folder with EEG files at any depth; annotations in the files are the labels."""

from __future__ import annotations

import re
from pathlib import Path

from eegm2.data.names import composed, shown
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError


def subject_of(relative: Path) -> str:
    """Return the subject: an entity ``sub-…`` of name or folder, else the top folder, else the name.

    Parameters
    ----------
    relative : Path
        Path of the file below the folder that was given.
    """
    for part in reversed(relative.parts):
        entity = re.search(r"(?:^|_)(sub-[A-Za-z0-9]+)", part)
        if entity:
            return entity[1]
    from eegm2.data.files.formats import stem

    alone = re.sub(r"_split-\d+", "", stem(relative))
    return composed(shown(relative.parts[0] if len(relative.parts) > 1 else alone))


def discover(root: Path) -> list[SourceRecording]:
    """Find EEG files; a recording is named by the path of its first file without suffix."""
    from eegm2.data.files.formats import READERS, stem
    from eegm2.data.files.parts import recordings_among
    from eegm2.data.files.tree import walk

    base = root.parent if root.is_file() else root
    found = []
    for part in recordings_among(walk(root).files):
        relative = part.path.relative_to(base)
        found.append(
            SourceRecording(
                recording_id=shown(relative.with_name(stem(relative)).as_posix()),
                subject=subject_of(relative),
                path=part.path,
                files=part.files,
                problem=part.problem,
            )
        )
    if not found:
        raise DataError(f"{root}: no EEG files ({' '.join(sorted(READERS))}) in it; check the folder")
    return found


RECIPES = (
    Recipe(
        name="folder",
        description=(
            "A file or any nested EEG files; "
            "the subject is a sub-… in the path, else the top folder, else the name."
        ),
        tree="S01/session1.edf\nS01/session2.edf\nS02/session1.bdf",
        licence="your own data",
        url="",
        discover=discover,
        subjects="as the folder",
    ),
)
