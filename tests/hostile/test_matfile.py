"""MAT files are checked before SciPy trusts their sizes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.io import loadmat, savemat

from eegm2.data.files.mat import check_matfile
from eegm2.errors import DataError

VARIABLES: dict[str, Any] = {
    "number": 3.0,
    "matrix": np.arange(12.0).reshape(3, 4),
    "complex": np.arange(4) * 1j,
    "text": "µV and more",
    "nothing": np.zeros((0, 3)),
    "cells": np.array([1.0, "two", np.arange(3)], dtype=object),
    "struct": {"inner": {"deeper": [1, 2, 3]}, "name": "x"},
    "structs": np.array([(1.0, "a"), (2.0, "b")], dtype=[("n", object), ("s", object)]),
    "logical": np.array([True, False]),
    "sparse": sparse.csc_array(np.eye(4)),
    "int8": np.arange(5, dtype=np.int8),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_correct_files_pass(compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "some.mat"
    savemat(path, VARIABLES, do_compression=compressed)
    check_matfile(path)
    assert loadmat(path).keys() >= VARIABLES.keys()


def test_files_of_version_7_3_are_left_to_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "new.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x0200) + b"IM" + bytes(384))
    with pytest.raises(DataError, match=r"needs pymatreader|damaged MAT file"):
        check_matfile(path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (132, 2**31 - 1, "an element of 2147483647 bytes where"),
        (128, 77, "type 77 where a variable was expected"),
        (144, 0xFFFF, "array class 255 is unknown"),
        (140, 2**20, "an element of 1048576 bytes"),
        (160, -1, "dimensions"),
        (160, 2**30, "cannot be in"),
        (160, 5, "are not 20 values"),
    ],
)
def test_lies_are_refused(place: int, value: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "lie.mat"
    savemat(path, {"matrix": np.arange(12.0).reshape(3, 4)})
    data = bytearray(path.read_bytes())
    data[place : place + 4] = np.array(value).astype("<i8").tobytes()[:4]
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        check_matfile(path)
    assert str(path) in str(error.value)


def test_a_decompression_bomb_is_refused_before_it_expands(tmp_path: Path) -> None:
    path = tmp_path / "bomb.mat"
    savemat(path, {"zeros": np.zeros(6_000_000)}, do_compression=True)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="a compressed variable is more than"):
        check_matfile(path)


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    nested: Any = 1.0
    for _ in range(40):
        nested = {"a": nested}
    path = tmp_path / "deep.mat"
    savemat(path, {"nested": nested})
    with pytest.raises(DataError, match="nested more than"):
        check_matfile(path)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 300, bytes(300)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged MAT file"):
        check_matfile(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.mat: cannot be read"):
        check_matfile(tmp_path / "absent.mat")
