"""NumPy's ``.npy`` and ``.npz`` files, read without pickle and only as far as their bytes reach."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from eegm2.errors import DataError

#: Zeros compress 1,000 to 1; predictions and features do not.
_MAX_INFLATION, _FREE_INFLATION = 200, 64 * 2**20


def load_npy(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Return the array of a ``.npy`` file.

    Parameters
    ----------
    path : Path
        The file.
    mapped : bool
        Map the file instead of reading it.

    Raises
    ------
    DataError
        If the file cannot be read, or its shape, type and size contradict one another.
    """
    try:
        with path.open("rb") as file:
            shape, dtype, _ = _header(file)
            needed, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
        if needed != there:
            raise ValueError(f"shape {shape} of {dtype} takes {needed} bytes, {there} are there")
        array: np.ndarray = np.load(path, mmap_mode="r" if mapped and needed else None, allow_pickle=False)
        _check_text(array)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
    except Exception as error:  # NumPy's parser of headers raises many kinds
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: damaged array ({reason}); write it again") from error
    return array


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.npz`` file.

    Raises
    ------
    FileNotFoundError, OSError
        If it is not there or cannot be read.
    DataError
        If it is damaged, or expands to far more than it can hold.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
            if total > _FREE_INFLATION + _MAX_INFLATION * size:
                raise ValueError(f"{size} bytes that expand to {total}")
            return {
                entry.filename.removesuffix(".npy"): _member(archive, entry) for entry in archive.infolist()
            }
    except OSError:
        raise
    except Exception as error:  # as do zip files
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: damaged arrays ({reason}); write it again") from error


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Return one array; its bytes must be as many as its shape says, and no more than the archive says."""
    with archive.open(entry) as file:
        shape, dtype, fortran = _header(file)
        needed = math.prod(shape) * dtype.itemsize
        if needed > entry.file_size:
            raise ValueError(f"{entry.filename:.40}: shape {shape} of {dtype} in {entry.file_size} bytes")
        data = file.read(needed + 1)
    if len(data) != needed:
        raise ValueError(f"{entry.filename:.40}: {len(data)} bytes, its shape needs {needed}")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    _check_text(array)
    return array


def _check_text(array: np.ndarray) -> None:
    """Refuse text that is no Unicode: NumPy takes any 32 bits for a character."""
    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        codes = np.frombuffer(
            np.ascontiguousarray(array).tobytes(), array.dtype.byteorder.replace("|", "=") + "u4"
        )
        if codes.max() > 0x10FFFF or ((codes >= 0xD800) & (codes < 0xE000)).any():
            raise ValueError("text that is no Unicode")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Return shape, type and whether columns come first; ValueError unless of numbers or text."""
    version = npy_format.read_magic(file)
    read = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format")
    shape, fortran, dtype = read(file)
    if any(n < 0 for n in shape) or dtype.kind not in "biufcUS":
        raise ValueError(f"an array of shape {shape} and type {dtype}")
    return tuple(shape), dtype, fortran
