"""Names that a file gives to other files: of its own folder, or refused."""

from __future__ import annotations

from pathlib import Path

from eegm2.errors import DataError

MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 3000


def elsewhere(path: Path, named: str, role: str) -> DataError:
    """Return the refusal of a file that makes another one, anywhere on the disk, part of itself."""
    return DataError(
        f"{path}: names {named!r:.200} as its {role}, which is not beside it; put it there and name it so"
    )


def impossible_name(name: str) -> str:
    """Return why `name` cannot be that of a file, or an empty string."""
    if not name or name in (".", "..") or name.endswith(("/.", "/..")):
        return "is a folder"
    if not name.isprintable():
        return "holds characters that no name has"
    if any(len(part.encode(errors="surrogateescape")) > MAX_NAME_BYTES for part in name.split("/")):
        return f"is longer than {MAX_NAME_BYTES} bytes"
    if len(name.encode(errors="surrogateescape")) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    return ""


def beside(path: Path, named: str, role: str) -> Path:
    """Return the file that `path` names as a part of itself.

    Links are not followed: a data set under version control is a tree of them.

    Parameters
    ----------
    path : Path
        The file that names another one.
    named : str
        The name in it.
    role : str
        What it is named as, for the message.

    Raises
    ------
    DataError
        If it is not a name of a file in the same folder.
    """
    if "/" in named or "\\" in named or Path(named).is_absolute() or named[1:2] == ":":
        raise elsewhere(path, named, role)
    if problem := impossible_name(named):
        raise DataError(f"{path}: names {named!r:.80} as its {role}, which {problem}; correct it")
    return path.with_name(named)
