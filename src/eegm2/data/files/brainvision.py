"""BrainVision headers: their data file is whole and beside them, before MNE reads it."""

from __future__ import annotations

import re
from pathlib import Path

from eegm2.errors import DataError


def elsewhere(path: Path, named: str, role: str) -> DataError:
    """Return the refusal of a file that makes another one, anywhere on the disk, part of itself."""
    return DataError(
        f"{path}: names {named!r:.200} as its {role}, which is not beside it; put it there and name it so"
    )


def named_files(path: Path) -> list[Path]:
    """Return the data and the marker file that a header names, beside it; none if it cannot be read."""
    try:
        text = path.read_text(encoding="latin-1")
    except OSError:
        return []
    names = re.findall(r"^(?:DataFile|MarkerFile)[ \t]*=[ \t]*([^\r\n]+?)[ \t]*\r?$", text, re.MULTILINE)
    return [path.parent / Path(name.replace("$b", path.stem).replace("\\", "/")).name for name in names]


def refuse_short_brainvision(path: Path) -> None:
    """Compare ``DataPoints`` of the header, where given, with the size of the data file."""
    try:
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from error

    def value(key: str) -> str | None:
        found = re.search(rf"^{key}\s*=\s*(.+?)\s*$", text, re.MULTILINE)
        return found[1] if found else None

    data_file = value("DataFile")
    if data_file is None:
        raise DataError(f"{path}: names no DataFile; export the recording again")
    for key in ("DataFile", "MarkerFile"):
        named = value(key) or ""
        if "/" in named or "\\" in named:
            raise elsewhere(path, named, key)
    data = path.with_name(data_file.replace("$b", path.stem))
    if not data.is_file():
        raise DataError(f"{path}: its data file {data.name} is missing; copy it beside the header")
    width = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}.get(value("BinaryFormat") or "")
    points, channels = value("DataPoints"), value("NumberOfChannels")
    if width and points and channels and points.isdecimal() and channels.isdecimal():
        needed = int(points) * int(channels) * width
        if data.stat().st_size < needed:
            raise DataError(
                f"{data}: truncated: {data.stat().st_size} bytes, the header promises {needed}; "
                "copy the file again"
            )
    frame = (width or 0) * (int(channels) if channels and channels.isdecimal() else 0)
    if frame and data.stat().st_size % frame:
        raise DataError(
            f"{data}: truncated: {data.stat().st_size} bytes are not a whole number of samples of {channels} "
            f"channels ({frame} bytes each); copy the file again"
        )
