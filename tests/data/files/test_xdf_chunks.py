"""XDF files whose chunks contradict themselves are refused, not read in part."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eegm2.data.files.readers import ReadingWarning, read_raw
from eegm2.errors import DataError
from tests.data.samples import eeg
from tests.data.xdf import chunk, xdf

pytest.importorskip("pyxdf")
T = 100 + np.arange(1000) / 250
CAP = ("cap", "EEG", 250.0, ("Fz", "Cz", "Pz"), T, list(eeg(3, 1000).T), 0.0)
WHOLE = xdf([CAP], per_chunk=500)
FIRST = WHOLE.index(chunk(3, b"")[5:] + struct.pack("<I", 1))  # the tag of the first chunk of samples


def with_bytes(place: int, content: bytes) -> bytes:
    return WHOLE[:place] + content + WHOLE[place + len(content) :]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: WHOLE[:-2000], "truncated or damaged: chunk .* states .* bytes, the file has"),
        (lambda: with_bytes(FIRST + 7, struct.pack("<I", 499)), "counts 499 samples, 21 bytes follow them"),
        (lambda: with_bytes(FIRST + 7, struct.pack("<I", 2**32 - 1)), "ends within number 501"),
        (lambda: with_bytes(FIRST + 2, struct.pack("<I", 9)), "stream 9, which was not announced"),
        (lambda: with_bytes(FIRST, struct.pack("<H", 5)), "mark of a boundary with something else"),
        (lambda: with_bytes(FIRST, struct.pack("<H", 1)), "a second beginning"),
        (lambda: with_bytes(FIRST, struct.pack("<H", 8)), "of the unknown kind 8"),
        (lambda: with_bytes(FIRST + 12, struct.pack("<d", np.nan)), "a time stamp that is no number"),
        (lambda: WHOLE.replace(b"float32", b"float16"), "values of the unknown kind 'float16'"),
        (lambda: WHOLE.replace(b"float32", b"int8"), "states"),
        (lambda: xdf([(*CAP[:6], np.inf)]), "a clock offset that is no number"),
        (lambda: xdf([(*CAP[:2], 500.0, *CAP[3:])]), "states 500 samples a second, its times say 250"),
        (lambda: xdf([(*CAP[:2], 1e300, *CAP[3:])]), "sampling rate of 1e\\+300 Hz"),
    ],
)
def test_a_contradiction_is_refused(content: Callable[[], bytes], said: str, tmp_path: Path) -> None:
    file = tmp_path / "a.xdf"
    file.write_bytes(WHOLE)
    assert read_raw(file).n_times == 1000
    file.write_bytes(content())
    with pytest.raises(DataError, match=rf"^{file}: .*{said}"):
        read_raw(file)


def test_a_chunk_written_twice_is_refused(tmp_path: Path) -> None:
    file, size = tmp_path / "a.xdf", struct.unpack("<I", WHOLE[FIRST - 4 : FIRST])[0]
    file.write_bytes(WHOLE[: FIRST + size] + WHOLE[FIRST - 5 : FIRST + size] + WHOLE[FIRST + size :])
    with pytest.raises(DataError, match="sample 501 is sample 1 again"):
        read_raw(file)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    file, size = tmp_path / "a.xdf", struct.unpack("<I", WHOLE[FIRST - 4 : FIRST])[0]
    file.write_bytes(WHOLE[: FIRST - 5] + WHOLE[FIRST + size :])
    with pytest.warns(ReadingWarning, match="holds 500 of the 1000 samples that its end counts"):
        read_raw(file)
    keys = ("keys", "Markers", 0.0, ("m",), np.array([10.0, 101.0]), ["early", "in"], 0.0)
    file.write_bytes(xdf([CAP, keys]))
    with pytest.warns(ReadingWarning, match="1 markers outside the EEG's time left out"):
        assert list(read_raw(file).annotations.description) == ["in"]


def test_a_compressed_file_takes_the_memory_of_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, file = tmp_path / "a.xdf", tmp_path / "a.xdfz"
    plain.write_bytes(WHOLE)
    file.write_bytes(gzip.compress(WHOLE))
    wanted = read_raw(plain).get_data()
    tracemalloc.start()
    try:
        found = read_raw(file).get_data()
        assert tracemalloc.get_traced_memory()[1] < 32e6  # a limit on what it may hold is no room made for it
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, wanted)
    file.write_bytes(gzip.compress(WHOLE)[:-20])
    with pytest.raises(DataError, match=rf"^{file}: cannot be read"):
        read_raw(file)
    file.write_bytes(gzip.compress(WHOLE))
    monkeypatch.setattr("eegm2.data.files.headsets.xdf_chunks._MOST_BYTES", len(WHOLE) - 1)
    with pytest.raises(DataError, match=r"holds more than 0 GiB; decompress it"):
        read_raw(file)
