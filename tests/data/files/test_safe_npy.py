"""Pickled dicts are read without running anything; everything else is refused with the file named."""

import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegm2.data.files.safe_npy import read_pickled_dict
from eegm2.errors import DataError


def npy(path: Path, pickled: bytes) -> Path:
    """Write `pickled` behind the header that numpy.save writes for a single object."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(header.getvalue() + pickled)
    return path


def authors_dict(n: int = 5) -> dict:
    rng = np.random.default_rng(0)
    return {
        "train_data": rng.standard_normal((n, 14, 256)),
        "train_label": np.arange(n) % 2,
        "val_data": rng.standard_normal((3, 14, 256)).astype(np.float32),
        "val_label": [0, 1, 1],
        "test_data": np.asfortranarray(rng.standard_normal((2, 14, 256))),
        "test_label": np.array(["open", "closed"]),
        "big_endian": np.arange(4, dtype=">f4"),
        "max_len": 256,
        "scalar": np.float64(1.5),
        "empty": np.zeros((0, 14, 256)),
        "objects": np.array([1, "two", None], dtype=object),
        "nothing": None,
    }


def assert_same(got: dict, expected: dict) -> None:
    assert list(got) == list(expected)
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            assert got[key].dtype == value.dtype, key
            assert got[key].shape == value.shape, key
            np.testing.assert_array_equal(got[key], value)
        else:
            assert got[key] == value


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_what_numpy_saves_at_every_protocol(tmp_path, protocol):
    content = authors_dict()
    assert_same(
        read_pickled_dict(npy(tmp_path / "a.npy", pickle.dumps(np.array(content), protocol))), content
    )


def test_reads_numpy_save_itself(tmp_path):
    np.save(tmp_path / "STEW ü.npy", authors_dict(40), allow_pickle=True)
    assert_same(read_pickled_dict(tmp_path / "STEW ü.npy"), authors_dict(40))


def test_reads_the_module_names_of_older_numpy(tmp_path):
    pickled = pickle.dumps(np.array({"x": np.arange(3.0)}), 3)
    assert b"numpy._core.multiarray" in pickled
    old = pickled.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(read_pickled_dict(npy(tmp_path / "old.npy", old))["x"], np.arange(3.0))


def test_same_type_with_two_byte_orders_is_kept_apart(tmp_path):
    content = {"a": np.arange(3, dtype="<f8"), "b": np.arange(3, dtype=">f8"), "c": np.arange(2, dtype="<f8")}
    assert_same(read_pickled_dict(npy(tmp_path / "a.npy", pickle.dumps(np.array(content), 4))), content)


class Runs:
    """A pickle of this calls `function` when read by the pickle module."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_is_refused_and_not_run(tmp_path, protocol):
    trace = tmp_path / "ran"
    attacks = {
        "system": Runs(os.system, f"touch {trace}"),
        "eval": Runs(eval, f"open({str(trace)!r}, 'w')"),
        "load": Runs(np.load, str(tmp_path / "other.npy"), None, True),
        "getattr": Runs(getattr, np.ndarray, "tofile"),
        "nested": {"train_data": [Runs(os.system, f"touch {trace}")]},
    }
    for name, attack in attacks.items():
        for wrapped in (attack, np.array({"train_data": attack}, dtype=object)):
            path = npy(tmp_path / f"{name}.npy", pickle.dumps(wrapped, protocol))
            with pytest.raises(
                DataError, match=rf"{name}\.npy: refused, the file holds (the name .*code|instruction)"
            ):
                read_pickled_dict(path)
    assert not trace.exists()


def test_the_attack_would_work_on_a_plain_reader(tmp_path):
    """Shows that the test above would notice: numpy's own reader runs the same file's code."""
    trace = tmp_path / "ran"
    path = npy(tmp_path / "system.npy", pickle.dumps(Runs(os.system, f"touch '{trace}'"), 4))
    np.load(path, allow_pickle=True)
    assert trace.exists()


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (b"cposix\nsystem\n(S'true'\ntR.", "posix.system"),
        (b"(S'true'\nios\nsystem\n.", "instruction STRING"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}b.", "not an array"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "a call of numpy.ndarray"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00V9\x85R.", "data type 'V9'"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R.", "latin1"),
        (b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00P1\n.", "instruction PERSID"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02]]a]}\x81.", "instruction NEWOBJ"),
        (b"\x80\x02h\x05.", "never stored"),
        (b"\x80\x02e.", "missing mark"),
        (b"\x80\x02s.", "missing value"),
        (b"\x80\x02}]}s.", "keys are not text"),
        (b"\x80\x02K\x01K\x02.", "several values"),
    ],
)
def test_hand_written_programs_are_refused(tmp_path, program, found):
    with pytest.raises(DataError, match=rf"p\.npy: refused, the file holds .*{found}"):
        read_pickled_dict(npy(tmp_path / "p.npy", program))


BOMBS = {
    "bytes8": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62),
    "bytes": b"\x80\x03B" + struct.pack("<I", (1 << 32) - 1),
    "text8": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40),
    "text": b"\x80\x02X" + struct.pack("<I", (1 << 31) - 1),
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"\x8e" + struct.pack("<Q", 1 << 61),
    "bytearray8": b"\x80\x05\x96" + struct.pack("<Q", 1 << 50),
}


@pytest.mark.parametrize("name", BOMBS)
def test_announced_lengths_are_not_believed(tmp_path, name):
    with pytest.raises(
        DataError, match=rf"{name}\.npy: refused, the file holds a piece of \d+ bytes is announced"
    ):
        read_pickled_dict(npy(tmp_path / f"{name}.npy", BOMBS[name] + b"xx."))


def test_a_shape_larger_than_its_content_is_refused(tmp_path):
    pickled = pickle.dumps(np.array({"x": np.zeros((7, 5), "f4")}), 3)
    huge = pickled.replace(b"K\x07K\x05\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86")
    assert huge != pickled
    with pytest.raises(
        DataError, match=r"b\.npy: refused.*shape \(2147483647, 2147483647\) whose content has another"
    ):
        read_pickled_dict(npy(tmp_path / "b.npy", huge))


def test_number_of_instructions_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("eegm2.data.files.safe_npy.MAX_INSTRUCTIONS", 1000)
    with pytest.raises(DataError, match=r"n\.npy: refused, the file holds more than 1000 instructions"):
        read_pickled_dict(npy(tmp_path / "n.npy", b"\x80\x02]" + b"N0"[:1] * 2000 + b"."))


@pytest.mark.parametrize("damage", ["truncated", "not npy", "empty", "plain array", "missing", "list"])
def test_other_files_are_refused_by_name(tmp_path, damage):
    path = npy(tmp_path / "d.npy", pickle.dumps(np.array(authors_dict()), 4))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "not npy":
        path.write_text("hello")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "plain array":
        np.save(path, np.zeros(3))
    elif damage == "missing":
        path.unlink()
    else:
        npy(path, pickle.dumps([1, 2], 4))
    with pytest.raises(DataError, match=r"d\.npy: (refused|not a readable)"):
        read_pickled_dict(path)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=6))
def test_damaged_bytes_give_data_or_a_named_error(tmp_path_factory, at, change):
    pickled = pickle.dumps(np.array({"train_data": np.zeros((2, 3, 8)), "train_label": [1, 2]}), 4)
    at %= len(pickled)
    path = npy(tmp_path_factory.mktemp("fuzz") / "f.npy", pickled[:at] + change + pickled[at + len(change) :])
    message = f"{path}: a dict"
    try:
        result = read_pickled_dict(path)
    except DataError as error:
        message, result = str(error), {}
    assert isinstance(result, dict)
    assert str(path) in message
