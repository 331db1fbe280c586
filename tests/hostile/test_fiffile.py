"""FIF files are walked before MNE follows their links."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from eegm2.data.files.fif import check_fiffile
from eegm2.data.files.readers import read_raw
from eegm2.errors import DataError
from tests.hostile.seeds import signal_uv, write_fif, write_set


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_fif(tmp_path_factory.mktemp("fif") / "one_raw.fif", signal_uv()).main.read_bytes()


def test_a_correct_file_passes(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "one_raw.fif"
    path.write_bytes(whole)
    check_fiffile(path)


@pytest.mark.parametrize(
    ("place", "number", "message"),
    [
        (8, 2**31 - 1, "byte 0: a tag of 2147483647 bytes"),
        (8, -5, "byte 0: a tag of -5 bytes"),
        (0, 7, "does not begin with a file id"),
    ],
)
def test_lies_are_refused(place: int, number: int, message: str, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "one_raw.fif"
    path.write_bytes(whole[:place] + struct.pack(">i", number) + whole[place + 4 :])
    with pytest.raises(DataError, match=message) as error:
        check_fiffile(path)
    assert str(path) in str(error.value)


def test_a_link_to_what_is_no_tag_is_refused(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "one_raw.fif"
    path.write_bytes(whole[:12] + struct.pack(">i", len(whole) - 8) + whole[16:])
    with pytest.raises(DataError, match=f"byte {len(whole) - 8}: a tag was expected"):
        check_fiffile(path)


def test_a_circle_ends(whole: bytes, tmp_path: Path) -> None:
    size = struct.unpack_from(">i", whole, 8)[0]
    second = 16 + size
    path = tmp_path / "one_raw.fif"
    path.write_bytes(whole[: second + 12] + struct.pack(">i", second) + whole[second + 16 :])
    with pytest.raises(DataError, match="in a circle"):
        check_fiffile(path)


@pytest.mark.parametrize("content", [b"", b"abc", bytes(200)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.fif"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged FIF file"):
        check_fiffile(path)


def test_samples_from_nowhere_are_refused(tmp_path: Path) -> None:
    from scipy.io import loadmat, savemat

    seed = write_set(tmp_path / "one.set", signal_uv(), beside=True)
    content = loadmat(seed.main, simplify_cells=True)
    content["EEG"]["pnts"] = 1e9
    savemat(seed.main, {"EEG": content["EEG"]}, appendmat=False)
    with pytest.raises(
        DataError, match="promises 1000000000 samples of 6 channels, its files have 24576 bytes"
    ):
        read_raw(seed.main)
