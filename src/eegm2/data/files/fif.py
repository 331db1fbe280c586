"""Check the chain of tags of a FIF file before a reader follows it.

A FIF file is a list of tags that each say how long they are and where the next one begins. MNE believes
them: a wrong length asks for any amount of memory, a link backwards never ends.
"""

from __future__ import annotations

import contextlib
import gzip
import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eegm2.errors import DataError

Buffer = bytes | mmap.mmap
_HEADER = struct.Struct(">iIii")  # kind, type, size, next
_DIRECTORY, _FILE_ID = 102, 100
_BLOCK_START, _BLOCK_END, _REFERENCE, _EPOCHS, _RAW = 104, 105, 118, 373, (102, 112, 119)
_ROLE, _NUMBER, _NAME = 115, 117, 118
_PREVIOUS, _NEXT = 1, 2


@dataclass(frozen=True)
class FIFFile:
    """What the tags of a FIF file say of it.

    Attributes
    ----------
    previous, following : str or None
        File names of the parts before and after this one, where the recording is split.
    holds : str
        ``raw``, ``epochs`` or ``other``.
    """

    previous: str | None
    following: str | None
    holds: str


def fif_facts(path: str | Path) -> FIFFile:
    """Return what a FIF file holds and which files it continues in, from its tags; no sample is read.

    Raises
    ------
    DataError
        As `check_fiffile`.
    """
    with _opened(path) as data:
        names: dict[int, str | None] = {}
        blocks: list[int] = []
        seen: set[int] = set()
        reference: dict[int, bytes] = {}
        for place, kind, size in _tags(data):
            content = data[place + _HEADER.size : place + _HEADER.size + size] if size <= 4096 else b""
            if kind == _BLOCK_START and len(content) == 4:
                blocks.append(int.from_bytes(content, "big"))
                seen.add(blocks[-1])
                reference = {}
            elif kind == _BLOCK_END and blocks:
                if blocks.pop() == _REFERENCE:
                    names[int.from_bytes(reference.get(_ROLE, b""), "big")] = _referred(Path(path), reference)
            elif blocks and blocks[-1] == _REFERENCE and kind in (_ROLE, _NUMBER, _NAME):
                reference[kind] = content
    holds = "raw" if seen & set(_RAW) else "epochs" if _EPOCHS in seen else "other"
    return FIFFile(names.get(_PREVIOUS), names.get(_NEXT), holds)


def _referred(path: Path, reference: dict[int, bytes]) -> str | None:
    """Return the name of the file that a reference means: given, or by its number."""
    if _NAME in reference:
        return reference[_NAME].decode("utf-8", "surrogateescape").rstrip("\0")
    if _NUMBER not in reference:
        return None
    number = int.from_bytes(reference[_NUMBER], "big")
    first, _, rest = path.name.partition(".")
    base = re.sub(r"-\d+$", "", first)
    return f"{base}-{number}.{rest}" if number else f"{base}.{rest}"


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
    with _opened(path) as data:
        for place, kind, size in _tags(data):
            if kind == _DIRECTORY:
                for entry in range(place + _HEADER.size, place + _HEADER.size + size - 15, _HEADER.size):
                    target = _HEADER.unpack_from(data, entry)[3]
                    if target > 0:
                        _tag(data, target)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Buffer]:
    """Map a file, or unpack it; turn what is wrong with it into one line that names it."""
    try:
        with Path(path).open("rb") as file:
            if not file.read(1):
                raise ValueError("it is empty")
            if Path(path).name.lower().endswith(".gz"):
                yield gzip.decompress(Path(path).read_bytes())
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged FIF file ({error}); copy or export the file again") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the permissions"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: damaged FIF file ({error}); copy or export the file again") from error


def _tags(data: Buffer) -> Iterator[tuple[int, int, int]]:
    """Yield (place, kind, size) of the tags in their order; raise ValueError where the chain is broken."""
    if _tag(data, 0)[0] != _FILE_ID:
        raise ValueError("it does not begin with a file id")
    place, visited = 0, set[int]()
    while place < len(data):
        if place in visited:
            raise ValueError(f"byte {place}: the tags follow one another in a circle")
        visited.add(place)
        kind, size, following = _tag(data, place)
        yield place, kind, size
        if following == -1:
            return
        place = following if following > 0 else place + _HEADER.size + size


def _tag(data: Buffer, place: int) -> tuple[int, int, int]:
    """Return (kind, size, next) of the tag at a byte."""
    if place + _HEADER.size > len(data):
        raise ValueError(f"byte {place}: a tag was expected, the file has {len(data)} bytes")
    kind, _, size, following = _HEADER.unpack_from(data, place)
    if not 0 <= size <= len(data) - place - _HEADER.size:
        raise ValueError(
            f"byte {place}: a tag of {size} bytes, {len(data) - place - _HEADER.size} are left in the file"
        )
    return kind, size, following
