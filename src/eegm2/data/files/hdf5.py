"""Check a MAT file of version 7.3, which is HDF5, before a reader follows its links.

HDF5 lets a file take samples from other files (external links, external storage, virtual data sets), say
any size without holding a byte of it, and refer to its own parts any number of times over. MATLAB and EEGLAB
write none of that.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from eegm2.errors import DataError

_MAX_INFLATION, _FREE_INFLATION = 100, 16 * 2**20
_BYTES_PER_OBJECT, _FREE_OBJECTS, _MAX_DEPTH = 16, 10_000, 40


class _Refused(Exception):
    """What is wrong, without the file's name."""


def check_hdf5file(path: str | Path) -> dict[str, Any]:
    """Refuse an HDF5 file that leads out of itself, is far larger than its bytes, or has no end.

    Parameters
    ----------
    path : str or Path
        A ``.set`` or ``.mat`` file of MATLAB 7.3.

    Returns
    -------
    dict
        Its variables and the fields of those that are structures, as `eegm2.data.files.mat.check_matfile`.

    Raises
    ------
    DataError
        If it is refused, cannot be opened, or h5py and pymatreader are not installed.
    """
    try:
        import h5py
        import pymatreader  # noqa: F401 (MNE reads these files by it)
    except ImportError as error:
        raise DataError(
            f"{path}: cannot be read: a MAT file of version 7.3 needs pymatreader; pip install pymatreader, "
            "or save the file with EEGLAB as version 5 (-v6)"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            return _Walk(h5py, file, Path(path).stat().st_size).facts()
    except _Refused as error:
        raise DataError(f"{path}: damaged MAT file ({error}); save it again with EEGLAB") from None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: damaged MAT file ({reason}); get the file again") from error


class _Walk:
    """Adds up what a reader would make of every object, each time it is referred to."""

    def __init__(self, h5py: Any, file: Any, size: int) -> None:
        self.h5py, self.file = h5py, file
        self.max_bytes = _FREE_INFLATION + _MAX_INFLATION * size
        self.max_objects = _FREE_OBJECTS + size // _BYTES_PER_OBJECT
        self.known: dict[int, tuple[int, int]] = {}
        self.open: set[int] = set()

    def facts(self) -> dict[str, Any]:
        """Check the whole file; return numbers, texts and dimensions of variables and of their fields."""
        self.weigh(self.file, 0)
        found: dict[str, Any] = {}
        for group in (self.file, *(v for v in self.file.values() if isinstance(v, self.h5py.Group))):
            if group.name != "/#refs#":
                found |= {name: self.fact(value) for name, value in group.items()}
        return found

    def fact(self, value: Any) -> Any:
        """Return a single number, a text, or dimensions in MATLAB's order."""
        if not isinstance(value, self.h5py.Dataset):
            return (1, 1)
        kind = value.attrs.get("MATLAB_class", b"")
        if kind == b"char" and value.size <= 4096 and value.dtype.kind in "ui":
            return "".join(map(chr, value[()].ravel().tolist())) if "MATLAB_empty" not in value.attrs else ""
        if value.size == 1 and value.dtype.kind in "fiu":
            return float(value[()].ravel()[0])
        return tuple(reversed(value.shape))

    def weigh(self, item: Any, depth: int) -> tuple[int, int]:
        """Return how many bytes and objects come of one, all it leads to included."""
        if depth > _MAX_DEPTH:
            raise _Refused(f"objects nested more than {_MAX_DEPTH} deep")
        place = self.h5py.h5o.get_info(item.id).addr
        if place in self.open:
            raise _Refused(f"{item.name!r:.60} leads back to itself")
        if place not in self.known:
            self.open.add(place)
            group = isinstance(item, self.h5py.Group)
            n_bytes, n_objects = self.group(item, depth) if group else self.dataset(item, depth)
            if n_bytes > self.max_bytes or n_objects > self.max_objects:
                raise _Refused(
                    f"{item.name!r:.60} is {n_bytes} bytes in {n_objects} objects, at most {self.max_bytes} "
                    f"in {self.max_objects} come of a file of this size"
                )
            self.open.remove(place)
            self.known[place] = n_bytes, n_objects
        return self.known[place]

    def group(self, group: Any, depth: int) -> tuple[int, int]:
        n_bytes, n_objects = 0, 1
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, self.h5py.HardLink):
                target = getattr(link, "filename", "") or getattr(link, "path", "")
                raise _Refused(f"{name!r:.60} is a link to {target!r:.80}")
            more = self.weigh(group[name], depth + 1)
            n_bytes, n_objects = n_bytes + more[0], n_objects + more[1]
        return n_bytes, n_objects

    def dataset(self, item: Any, depth: int) -> tuple[int, int]:
        if not isinstance(item, self.h5py.Dataset):
            raise _Refused(f"{item.name!r:.60} is neither a group nor an array")
        layout = item.id.get_create_plist()
        if layout.get_external_count():
            raise _Refused(f"{item.name!r:.60} keeps its values in {layout.get_external(0)[0]!r:.80}")
        if item.is_virtual:
            raise _Refused(f"{item.name!r:.60} takes its values from other files")
        n_bytes, n_objects = math.prod(item.shape or (0,)) * item.dtype.itemsize, 1
        if n_bytes > self.max_bytes:
            raise _Refused(f"{item.name!r:.60} is {n_bytes} bytes, which this file cannot hold")
        if item.dtype.kind == "O" and "MATLAB_empty" not in item.attrs:
            if self.h5py.check_ref_dtype(item.dtype) is not self.h5py.Reference:
                raise _Refused(f"{item.name!r:.60} holds objects that MATLAB does not write")
            for reference in item[()].ravel():
                if not reference:
                    raise _Refused(f"{item.name!r:.60} refers to nothing")
                more = self.weigh(self.file[reference], depth + 1)
                n_bytes, n_objects = n_bytes + more[0], n_objects + more[1]
                if n_objects > self.max_objects or n_bytes > self.max_bytes:
                    break
        return n_bytes, n_objects
