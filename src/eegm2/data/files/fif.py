"""Check the chain of tags of a FIF file before a reader follows it.

A FIF file is a list of tags that each say how long they are and where the next one begins. MNE believes
them: a wrong length asks for any amount of memory, a link backwards never ends.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from eegm2.errors import DataError

_HEADER = struct.Struct(">iIii")  # kind, type, size, next
_DIRECTORY, _FILE_ID = 102, 100


def check_fiffile(path: str | Path) -> None:
    """Refuse a FIF file whose tags do not fit into it or follow one another for ever.

    Parameters
    ----------
    path : str or Path
        A ``.fif`` file, not compressed.

    Raises
    ------
    DataError
        If the file cannot be opened or is damaged; the message says at which byte.
    """
    try:
        with Path(path).open("rb") as file:
            if not file.read(1):
                raise ValueError("it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _walk(data)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the permissions"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: damaged FIF file ({error}); copy or export the file again") from error


def _walk(data: mmap.mmap) -> None:
    """Follow the tags from the first to the last; raise ValueError where the chain is broken."""
    if _tag(data, 0)[0] != _FILE_ID:
        raise ValueError("it does not begin with a file id")
    place, visited = 0, set[int]()
    while place < len(data):
        if place in visited:
            raise ValueError(f"byte {place}: the tags follow one another in a circle")
        visited.add(place)
        kind, size, following = _tag(data, place)
        if kind == _DIRECTORY:
            for entry in range(place + _HEADER.size, place + _HEADER.size + size - 15, _HEADER.size):
                target = _HEADER.unpack_from(data, entry)[3]
                if target > 0:
                    _tag(data, target)
        if following == -1:
            return
        place = following if following > 0 else place + _HEADER.size + size


def _tag(data: mmap.mmap, place: int) -> tuple[int, int, int]:
    """Return (kind, size, next) of the tag at a byte."""
    if place + _HEADER.size > len(data):
        raise ValueError(f"byte {place}: a tag was expected, the file has {len(data)} bytes")
    kind, _, size, following = _HEADER.unpack_from(data, place)
    if not 0 <= size <= len(data) - place - _HEADER.size:
        raise ValueError(
            f"byte {place}: a tag of {size} bytes, {len(data) - place - _HEADER.size} are left in the file"
        )
    return kind, size, following
