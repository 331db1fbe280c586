"""Which files are one recording: headers with their data, and FIF files that continue in others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from eegm2.data.files.fif import FIFFacts, check_fiffile, next_part
from eegm2.data.files.formats import file_suffix, has_reader
from eegm2.data.files.readers import companion_files
from eegm2.errors import DataError


@dataclass(frozen=True)
class Found:
    """One recording: its main file, those that belong to it, and why it cannot be used (or None)."""

    path: Path
    files: tuple[Path, ...] = ()
    problem: str | None = None


def recordings_among(files: Iterable[Path]) -> list[Found]:
    """Return the recordings that files are, in their order; a split one is its first part with the others.

    Which parts belong together is what the files themselves say: a dash and a number in a name mean nothing.

    Parameters
    ----------
    files : iterable of Path
        Any files; those without a reader are passed over.
    """
    paths = [path for path in files if has_reader(path)]
    facts = {path: _facts(path) for path in paths if file_suffix(path) in (".fif", ".fif.gz")}
    following = {path: _following(path, fact) for path, fact in facts.items()}
    later = {part for part in following.values() if part is not None}
    found = []
    for path in paths:
        if path in later:
            continue
        fact = facts.get(path)
        if fact is not None and fact.previous is not None:
            before = Path(fact.previous.replace("\\", "/")).name
            why = f"a later part of a split recording, without the part before it ({before})"
            found.append(Found(path, problem=f"{path}: {why}; copy all parts"))
        else:
            found.append(Found(path, companion_files(path) + _chain(path, following)))
    return found


def _facts(path: Path) -> FIFFacts | None:
    """Return what a FIF file says of itself; None where it is damaged, which loading it tells."""
    try:
        return check_fiffile(path)
    except DataError:
        return None


def _following(path: Path, fact: FIFFacts | None) -> Path | None:
    if fact is None:
        return None
    try:
        part = next_part(path, fact)
    except DataError:  # loading it tells
        return None
    return part if part is not None and part.is_file() and part != path else None


def _chain(path: Path, following: dict[Path, Path | None]) -> tuple[Path, ...]:
    """Return the parts that come after one, in order."""
    parts: list[Path] = []
    while (part := following.get(path) or (_following(path, _facts(path)) if parts else None)) is not None:
        if part in parts:
            break
        parts.append(part)
        path = part
    return tuple(parts)
