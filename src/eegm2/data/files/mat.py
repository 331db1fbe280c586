"""Check a MAT file (version 5) before a parser in C trusts its sizes.

SciPy's reader can take the whole process down on a damaged file: sizes and counts in it are believed.
`check_matfile` walks the same tags first, reads no sample, and refuses what does not fit the file.
"""

from __future__ import annotations

import itertools
import math
import mmap
import struct
import zlib
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Final

from eegm2.data.files.hdf5 import check_hdf5file
from eegm2.errors import DataError

#: Bytes per value of the data types of the format (table 1-1 of its description), by their number.
_ITEM_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
#: How `struct` calls them.
_CODES: Final = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_WHOLE: Final = frozenset({5, 6})
_NAME: Final = frozenset({1, 2, 16})
_TEXT: Final = frozenset({1, 2, 3, 4, 16, 17, 18})
_VALUES: Final = _ITEM_SIZES.keys() - {16, 17, 18}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 4, 5, 16, 17
_NUMERIC: Final = range(6, 16)
_MAX_DEPTH, _MAX_DIMS = 24, 16
#: Zeros compress 1,000 to 1; recordings do not.
_MAX_INFLATION, _FREE_INFLATION = 100, 16 * 2**20

Buffer = bytes | mmap.mmap


class _Damaged(Exception):
    """What is wrong, without the file's name."""


#: A number, a text, or the dimensions of an array.
Fact = float | str | tuple[int, ...]


def check_matfile(path: str | Path) -> dict[str, Fact]:
    """Refuse a MAT file whose sizes, counts or types contradict one another or the file's length.

    Files of version 7.3 (HDF5) are left to `eegm2.data.files.hdf5`; version 4, which holds no structures, is
    refused.

    Parameters
    ----------
    path : str or Path
        A ``.mat`` or ``.set`` file.

    Returns
    -------
    dict
        Its variables, and the fields of those that are structures: numbers, texts, dimensions of arrays.

    Raises
    ------
    DataError
        If the file cannot be opened or is damaged; the message says at which byte.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(128)
            if len(head) < 128:
                raise _Damaged(f"has {len(head)} bytes, less than the header of a MAT file")
            if head.startswith(b"\x89HDF"):
                return check_hdf5file(path)
            order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
            if order is None:
                raise _Damaged("its header is not that of a MAT file of version 5")
            version = struct.unpack(order + "H", head[124:126])[0] >> 8
            if version == 2:
                return check_hdf5file(path)
            if version != 1:
                raise _Damaged(f"its header gives version {version}, expected 1 or 2")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                walker = _Walker(data, order)
                walker.variables(128)
                return walker.facts
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _Damaged as error:
        raise DataError(
            f"{path}: damaged MAT file ({error}); get the file again or save it again with EEGLAB"
        ) from None


class _Walker:
    """Steps through the elements of one buffer."""

    def __init__(self, data: Buffer, order: str) -> None:
        self.data = data
        self.order = order
        self.facts: dict[str, Fact] = {}
        self.last: Fact | None = None

    def variables(self, place: int) -> None:
        """Check every top-level element from `place` to the end of the buffer."""
        count = 0
        while place < len(self.data):
            kind, start, size, place = self.tag(place, len(self.data), padded=False)
            if kind == _COMPRESSED:
                inner = _Walker(self.inflate(start, size), self.order)
                _, start, size, _ = inner.element(0, len(inner.data), {_MATRIX})
                inner.matrix(start, start + size, 0)
                self.facts |= inner.facts
            elif kind == _MATRIX:
                self.matrix(start, start + size, 0)
            else:
                raise _Damaged(f"byte {start}: type {kind} where a variable was expected")
            count += 1
        if count == 0:
            raise _Damaged("holds no variable")

    def tag(self, place: int, end: int, *, padded: bool = True) -> tuple[int, int, int, int]:
        """Return (type, first byte, size, place of the next element) of the element at `place`."""
        if place + 8 > end:
            raise _Damaged(f"byte {place}: an element was expected, {end - place} bytes are left")
        kind, size = struct.unpack_from(self.order + "II", self.data, place)
        if kind >> 16:  # a small element: type and size share a word, the data follow in the next
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise _Damaged(f"byte {place}: a small element of {size} bytes")
            return kind, place + 4, size, place + 8
        start = place + 8
        if start + size > end:
            raise _Damaged(f"byte {place}: an element of {size} bytes where {end - start} are left")
        next_place = start + size
        if padded and kind != _COMPRESSED:
            next_place += -size % 8
        return kind, start, size, min(next_place, end)

    def element(self, place: int, end: int, kinds: Set[int]) -> tuple[int, int, int, int]:
        """Return `tag`; refuse an element of another type than `kinds`."""
        kind, start, size, place = self.tag(place, end)
        if kind not in kinds:
            raise _Damaged(f"byte {start}: an element of type {kind}, not one of {sorted(kinds)}")
        return kind, start, size, place

    def integers(self, place: int, end: int, kinds: Set[int] = _WHOLE) -> tuple[tuple[int, ...], int, int]:
        """Return 32-bit integers, their first byte and the place of the next element."""
        _, start, size, place = self.element(place, end, kinds)
        if size % 4:
            raise _Damaged(f"byte {start}: {size} bytes are no 32-bit numbers")
        return struct.unpack_from(f"{self.order}{size // 4}i", self.data, start), start, place

    def matrix(self, place: int, end: int, depth: int) -> None:
        """Check one array between two bytes, and all arrays in it."""
        if place == end:
            return  # an empty array
        if depth > _MAX_DEPTH:
            raise _Damaged(f"byte {place}: arrays nested more than {_MAX_DEPTH} deep")
        _, start, size, place = self.element(place, end, {6})
        if size != 8:
            raise _Damaged(f"byte {start}: array flags of {size} bytes, expected 8")
        flags = struct.unpack_from(self.order + "I", self.data, start)[0]
        array_class, is_complex = flags & 0xFF, bool(flags & 0x0800)
        if not _CELL <= array_class <= _OPAQUE:
            raise _Damaged(f"byte {start}: array class {array_class} is unknown")
        if array_class == _OPAQUE:  # three names, then an array
            for _ in range(3):
                _, _, _, place = self.element(place, end, _NAME)
            self.filled(self.arrays(place, end, 1, depth), end)
            return
        dims, start, place = self.integers(place, end)
        if not 2 <= len(dims) <= _MAX_DIMS or min(dims) < 0:
            raise _Damaged(f"byte {start}: dimensions {dims[:_MAX_DIMS]}")
        count = math.prod(dims)
        _, start, size, place = self.element(place, end, _NAME)
        name = bytes(self.data[start : start + size]).decode("latin-1")
        self.last = dims
        if count > 8 * (end - place) and count > 1:
            raise _Damaged(f"byte {start}: {count} values cannot be in {end - place} bytes")
        if array_class in _NUMERIC or array_class == _CHAR:
            first = place
            place = self.values(place, end, count, array_class, is_complex)
            self.last = self.fact(first, end, dims, array_class)
        elif array_class == _SPARSE:
            place = self.sparse(place, end, dims, is_complex, logical=bool(flags & 0x0200))
        elif array_class == _FUNCTION:
            place = self.arrays(place, end, 1, depth)
        else:
            place = self.children(place, end, count, array_class, depth)
        self.filled(place, end)
        if depth == 0 and self.last is not None and array_class != _STRUCT:
            self.facts[name] = self.last

    def fact(self, place: int, end: int, dims: tuple[int, ...], array_class: int) -> Fact:
        """Return a single number, a short text, or the dimensions of anything else."""
        kind, start, size, _ = self.tag(place, end)
        if array_class == _CHAR and size <= 4096 and min(dims[:2]) <= 1:
            page = {4: "utf-16", 17: "utf-16", 18: "utf-32"}.get(kind, "utf-8")
            page += {"<": "-le", ">": "-be"}[self.order] if page != "utf-8" else ""
            return bytes(self.data[start : start + size]).decode(page, "replace")
        if array_class in _NUMERIC and math.prod(dims) == 1 and kind in _CODES:
            return float(struct.unpack_from(self.order + _CODES[kind], self.data, start)[0])
        return dims

    def filled(self, place: int, end: int) -> None:
        """Refuse an array whose parts end before it does: readers go on where the parts end."""
        if place != end:
            raise _Damaged(f"byte {place}: {end - place} bytes left over in an array")

    def values(self, place: int, end: int, count: int, array_class: int, is_complex: bool) -> int:
        """Check that the stored values are as many as the dimensions say."""
        for _ in range(2 if is_complex else 1):
            kind, start, size, place = self.element(place, end, _TEXT if array_class == _CHAR else _VALUES)
            found = size // _ITEM_SIZES[kind]
            encoded = kind in (16, 17, 18) and count <= size <= 4 * count
            encoded = encoded or (array_class == _CHAR and size == 0)  # MATLAB writes blanks so
            if size % _ITEM_SIZES[kind] or (found != count and not encoded):
                raise _Damaged(f"byte {start}: {size} bytes of type {kind} are not {count} values")
        return place

    def sparse(self, place: int, end: int, dims: tuple[int, ...], is_complex: bool, logical: bool) -> int:
        """Check the three or four parts of a sparse array: rows, column starts, values."""
        rows, _, place = self.integers(place, end)
        columns, start, place = self.integers(place, end)
        steps = all(low <= high for low, high in itertools.pairwise(columns))
        if len(dims) != 2 or len(columns) != dims[1] + 1 or columns[0] != 0 or not steps:
            raise _Damaged(f"byte {start}: column starts that do not fit the dimensions {dims}")
        if columns[-1] > len(rows) or any(not 0 <= row < dims[0] for row in rows[: columns[-1]]):
            raise _Damaged(f"byte {start}: rows outside the dimensions {dims}")
        for _ in range(2 if is_complex else 1):
            kind, start, size, place = self.element(place, end, _VALUES)
            if size // (1 if logical else _ITEM_SIZES[kind]) < columns[-1]:
                raise _Damaged(f"byte {start}: {size} bytes are not {columns[-1]} values")
        return place

    def children(self, place: int, end: int, count: int, array_class: int, depth: int) -> int:
        """Check the arrays inside a cell or struct array."""
        if array_class == _OBJECT:
            _, _, _, place = self.element(place, end, _NAME)
        if array_class != _CELL:
            width, _, place = self.integers(place, end, {5})
            _, start, size, place = self.element(place, end, _NAME)
            if len(width) != 1 or width[0] < 1 or size % width[0]:
                raise _Damaged(f"byte {start}: field names of {size} bytes, {width[:4]} each")
            packed = bytes(self.data[start : start + size])
            names = [
                packed[i : i + width[0]].split(b"\0")[0].decode("latin-1") for i in range(0, size, width[0])
            ]
            if depth == 0 and count == 1:
                return self.arrays(place, end, len(names), depth, names)
            count *= len(names)
        return self.arrays(place, end, count, depth)

    def arrays(self, place: int, end: int, count: int, depth: int, names: Sequence[str] = ()) -> int:
        """Check `count` arrays one after another; keep the facts of those that are fields of a variable."""
        if 8 * count > end - place:
            raise _Damaged(f"byte {place}: {count} arrays cannot be in {end - place} bytes")
        for number in range(count):
            _, start, size, place = self.element(place, end, {_MATRIX})
            self.last = (0, 0)
            self.matrix(start, start + size, depth + 1)
            if names:
                self.facts[names[number]] = self.last
        return place

    def inflate(self, start: int, size: int) -> bytes:
        """Return a compressed variable; far too large results are refused before they are made."""
        limit = _FREE_INFLATION + _MAX_INFLATION * size
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(self.data[start : start + size], limit)
        except zlib.error as error:
            raise _Damaged(f"byte {start}: {error}") from error
        if not stream.eof:
            over = f"more than {limit} bytes from {size}" if len(data) >= limit else "cut short"
            raise _Damaged(f"byte {start}: a compressed variable is {over}")
        return data
