"""Check the chain of tags of a FIF file before a reader follows it, and find the files it goes on in.

A FIF file is a list of tags that each say how long they are and where the next one begins. MNE believes
them: a wrong length asks for any amount of memory, a link backwards never ends, a next part may be any file.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import mmap
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eegm2.data.files.naming import beside
from eegm2.errors import DataError

_HEADER = struct.Struct(">iIii")  # kind, type, size, next
_FILE_ID, _POINTER, _DIRECTORY, _START, _END = 100, 101, 102, 104, 105
_N_CHANS, _BUFFER, _SKIP, _ROLE, _NUMBER, _NAME = 200, 300, 301, 115, 117, 118
_INFO_BLOCK, _REFERENCE_BLOCK, _EPOCHS_BLOCK, _RAW_BLOCKS = 101, 118, 373, {102, 112, 119}
_PREVIOUS_FILE, _NEXT_FILE = 1, 2
#: Bytes per value of the types that samples and matrices have, by their number.
_WIDTHS = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 16: 2, 20: 8, 21: 16}
#: Zeros compress 1,000 to 1; recordings do not.
_MAX_INFLATION, _FREE_INFLATION = 100, 16 * 2**20
_MAX_PARTS = 1000


@dataclass
class FIFFacts:
    """What a FIF file says of itself.

    Attributes
    ----------
    n_chans : int
        0 where it is not stated.
    n_times : int or None
        Samples in its buffers; None if stretches are left out.
    next_names, next_numbers : list
        Its next part, by name and by number; several only in a damaged file.
    previous : str or None
        Name of the part before it.
    blocks : set of int
        Kinds of its blocks.
    """

    n_chans: int = 0
    n_times: int | None = 0
    next_names: list[str] = field(default_factory=list)
    next_numbers: list[int] = field(default_factory=list)
    previous: str | None = None
    blocks: set[int] = field(default_factory=set)

    @property
    def holds(self) -> str:
        """What is in it: ``raw``, ``epochs`` or ``other``."""
        return "raw" if self.blocks & _RAW_BLOCKS else "epochs" if _EPOCHS_BLOCK in self.blocks else "other"


def check_fiffile(path: str | Path) -> FIFFacts:
    """Refuse a FIF file whose tags do not fit into it or follow one another for ever.

    Parameters
    ----------
    path : str or Path
        A ``.fif`` file, or ``.fif.gz``: that is unpacked as far as a recording can be.

    Raises
    ------
    DataError
        If the file cannot be opened or is damaged; the message says at which byte.
    """
    try:
        with _content(Path(path)) as data:
            return _Walk(data).facts
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions"
        ) from error
    except (ValueError, struct.error, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged FIF file ({error}); copy or export the file again") from error


def fif_parts(path: Path) -> dict[Path, FIFFacts]:
    """Return a recording's files in order, each checked: the given one and those it goes on in.

    Raises
    ------
    DataError
        If a part is damaged, missing, in another folder, or one that was there before.
    """
    found: dict[Path, FIFFacts] = {}
    following: Path | None = path
    while following is not None:
        if following in found:
            raise DataError(f"{path}: names {following.name} as a later part of itself; export it again")
        if len(found) >= _MAX_PARTS:
            raise DataError(f"{path}: has more than {_MAX_PARTS} parts; export it again")
        if not following.is_file():
            raise DataError(f"{path}: is split and its next part {following.name} is missing; copy it beside")
        found[following] = check_fiffile(following)
        following = next_part(following, found[following])
    return found


def next_part(path: Path, facts: FIFFacts) -> Path | None:
    """Return the file in which a recording goes on, None if it ends here."""
    parts = [beside(path, name, "next part") for name in facts.next_names]
    if len(set(parts)) > 1:
        raise DataError(f"{path}: names {len(set(parts))} files as its next part; export it again")
    if parts:
        return parts[0]
    for number in facts.next_numbers:
        stem, dot, rest = path.name.partition(".")
        first, _, last = stem.rpartition("-")
        return path.with_name(f"{first if last.isdigit() else stem}-{number}{dot}{rest}")
    return None


@contextlib.contextmanager
def _content(path: Path) -> Iterator[mmap.mmap]:
    """Give the bytes of a file, unpacked where it is compressed."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        if not file.read(1):
            raise ValueError("it is empty")
        file.seek(0)
        if path.name.lower().endswith(".gz"):
            limit = _FREE_INFLATION + _MAX_INFLATION * path.stat().st_size
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            size = 0
            with gzip.GzipFile(fileobj=file) as packed:
                while block := packed.read(1 << 20):
                    size += len(block)
                    if size > limit:
                        raise ValueError(f"more than {limit} bytes from {path.stat().st_size}")
                    unpacked.write(block)
            unpacked.flush()
            if not size:
                raise ValueError("it is empty")
            file = unpacked  # type: ignore[assignment]
        yield stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class _Walk:
    """Follows the tags from the first to the last; ValueError where the chain is broken."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.facts = data, FIFFacts()
        self.blocks: list[int] = []
        self.role = 0
        self.buffers: list[tuple[int, int, int]] = []
        if self.tag(0)[0] != _FILE_ID:
            raise ValueError("it does not begin with a file id")
        self.chain()
        self.count()

    def chain(self) -> None:
        """Visit tag after tag; then compare what a directory lists with them."""
        place, visited, directories = 0, set[int](), list[int]()
        while place < len(self.data):
            if place in visited:
                raise ValueError(f"byte {place}: the tags follow one another in a circle")
            visited.add(place)
            kind, values, size, following = self.tag(place)
            self.visit(kind, values, place + _HEADER.size, size)
            if kind == _POINTER and size == 4:
                directories.append(self.number(place + _HEADER.size))
            if following == -1:
                break
            place = following if following > 0 else place + _HEADER.size + size
        for directory in directories:
            self.directory(directory, visited)

    def directory(self, place: int, visited: set[int]) -> None:
        """Refuse a directory that says otherwise than the tags, lists one again or refers to other files."""
        if place <= 0:
            return
        kind, _, size, _ = self.tag(place)
        if kind != _DIRECTORY:
            raise ValueError(f"byte {place}: a directory was expected")
        start, listed = place + _HEADER.size, set[int]()
        for entry in range(start, start + size - 15, _HEADER.size):
            *stated, target = self.unpack(entry)
            if target <= 0:
                continue
            *found, _ = self.tag(target)
            if found != stated:
                raise ValueError(f"byte {entry}: a directory with another tag than that at byte {target}")
            if target in listed or (target not in visited and found[0] in (_NAME, _NUMBER, _BUFFER)):
                raise ValueError(f"byte {entry}: a directory that lists byte {target} once too often")
            listed.add(target)

    def visit(self, kind: int, values: int, start: int, size: int) -> None:
        """Take note of what a tag says."""
        if kind == _START and size >= 4:
            self.blocks.append(self.number(start))
            self.facts.blocks.add(self.blocks[-1])
            self.role = _NEXT_FILE  # unless it is said otherwise
        elif kind == _END and self.blocks:
            self.blocks.pop()
        block = self.blocks[-1] if self.blocks else 0
        if kind == _N_CHANS and block == _INFO_BLOCK and size >= 4:
            self.facts.n_chans = self.number(start)
        elif kind == _BUFFER:
            self.buffers.append((start, values, size))
        elif kind == _SKIP:
            self.facts.n_times = None
        elif block == _REFERENCE_BLOCK and size >= 4:
            if kind == _ROLE:
                self.role = self.number(start)
            elif kind == _NAME and self.role == _NEXT_FILE:
                self.name(start, size)
            elif kind == _NAME and self.role == _PREVIOUS_FILE:
                self.facts.previous = self.text(start, size)
            elif kind == _NUMBER and self.role == _PREVIOUS_FILE and self.facts.previous is None:
                self.facts.previous = f"part {self.number(start)}"
            elif kind == _NUMBER and self.role == _NEXT_FILE:
                self.facts.next_numbers.append(self.number(start))
        if values >> 16 in (0x4000, 0x4010, 0x4020):
            self.matrix(values, start, size)

    def name(self, start: int, size: int) -> None:
        """Keep the name of a next part."""
        text = self.text(start, size)
        if text not in self.facts.next_names:
            self.facts.next_names.append(text)

    def text(self, start: int, size: int) -> str:
        """Return a text of the file."""
        return self.data[start : start + size].decode("latin-1").rstrip("\0")

    def matrix(self, values: int, start: int, size: int) -> None:
        """Refuse a matrix larger than its tag."""
        if size < 8:
            raise ValueError(f"byte {start}: a matrix of {size} bytes")
        n_dims = self.number(start + size - 4)
        if not 1 <= n_dims <= 8 or size < 4 * (n_dims + 1):
            raise ValueError(f"byte {start}: a matrix of {n_dims} dimensions")
        dims = struct.unpack_from(f">{n_dims}i", self.data, start + size - 4 * (n_dims + 1))
        dense = values >> 16 == 0x4000
        stored = math.prod(dims) * _WIDTHS.get(values & 0xFFFF, 1) if dense else max(dims) * 4
        if min(dims) < 0 or stored > (size if dense else 64 * size):
            raise ValueError(f"byte {start}: a matrix of {dims} in {size} bytes")

    def count(self) -> None:
        """Add up the samples of the buffers; a part of a sample is damage."""
        for start, values, size in self.buffers:
            frame = _WIDTHS.get(values, 0) * self.facts.n_chans
            if frame < 1 or size % frame:
                raise ValueError(
                    f"byte {start}: {size} bytes of type {values} are no whole samples of "
                    f"{self.facts.n_chans} channels"
                )
            if self.facts.n_times is not None:
                self.facts.n_times += size // frame

    def tag(self, place: int) -> tuple[int, int, int, int]:
        """Return (kind, type, size, next) of the tag at a byte."""
        if place + _HEADER.size > len(self.data):
            raise ValueError(f"byte {place}: a tag was expected, the file has {len(self.data)} bytes")
        kind, values, size, following = self.unpack(place)
        if not 0 <= size <= len(self.data) - place - _HEADER.size:
            raise ValueError(
                f"byte {place}: a tag of {size} bytes, {len(self.data) - place - _HEADER.size} are left in "
                "the file"
            )
        return kind, values, size, following

    def unpack(self, place: int) -> tuple[int, int, int, int]:
        return _HEADER.unpack_from(self.data, place)

    def number(self, place: int) -> int:
        value: int = struct.unpack_from(">i", self.data, place)[0]
        return value
