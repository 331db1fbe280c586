"""A file, or any folder with EEG files at any depth; annotations in the files are the labels."""

from __future__ import annotations

import re
from pathlib import Path

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
    return relative.parts[0] if len(relative.parts) > 1 else _stem(relative)


def discover(root: Path) -> list[SourceRecording]:
    """Find EEG files; a file is one recording named by its path without suffix."""
    from eegm2.data.files.readers import READERS, companion_files, has_reader

    base = root.parent if root.is_file() else root
    candidates = [root] if root.is_file() else sorted(root.rglob("*"))
    found = []
    for path in candidates:
        relative = path.relative_to(base)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not path.is_file() or not has_reader(path) or _is_continuation(path):
            continue
        found.append(
            SourceRecording(
                recording_id=relative.with_name(_stem(relative)).as_posix(),
                subject=subject_of(relative),
                path=path,
                files=companion_files(path),
            )
        )
    if not found:
        raise DataError(f"{root}: no EEG files ({' '.join(sorted(READERS))}) in it; check the folder")
    return found


def _stem(path: Path) -> str:
    from eegm2.data.files.readers import file_suffix

    return path.name[: -len(file_suffix(path))]


def _is_continuation(path: Path) -> bool:
    """Return whether a FIF file is a later part of a split one, which MNE reads along with the first."""
    first = re.sub(r"-\d+(\.fif(?:\.gz)?)$", r"\1", path.name, flags=re.IGNORECASE)
    return first != path.name and path.with_name(first).is_file()


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
