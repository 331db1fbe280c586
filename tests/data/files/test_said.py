"""What a reader says reaches the user, refuses, or is harmless; ranges and equal names are kept."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from eegm2.data.config import PrepareConfig, PreprocessingConfig
from eegm2.data.files.readers import read_raw, recalled
from eegm2.data.files.said import ReadingWarning, reading
from eegm2.data.preparing.prepare import prepare
from eegm2.data.signal.preprocessing import preprocess
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import DataError
from tests.data.samples import eeg, write_edf

NAMES = ["Fz", "Cz", "Pz", "Oz"]


def said(text: str, category: type[Warning] = RuntimeWarning) -> list[str]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with reading("a.edf"):
            warnings.warn(text, category, stacklevel=1)
    return [str(item.message) for item in told if item.category is ReadingWarning]


def test_what_is_not_known_is_told_and_the_harmless_is_not() -> None:
    assert said("Something\nodd happened") == ["MNE says: Something odd happened"]
    assert said("This filename (a.fif) does not conform to MNE naming conventions.") == []
    assert said("The data contains 'boundary' events, indicating data discontinuities") == []
    assert said("an old function", DeprecationWarning) == []
    assert said("Omitted 3 annotation(s) that were outside data range.") == [
        "3 annotations outside the recording left out"
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "could not be read, acquisition error likely: 12 samples set to zero",
            "12 samples cannot be",
        ),
        (
            "Header information is incorrect for record length. Set to 1.",
            "no sampling rate",
        ),
    ],
)
def test_repairs_that_change_samples_are_refused(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=rf"a\.edf: .*{reason}"):
        said(text)


def without_range(path: Path, signal: int, field: int) -> Path:
    """Write a file in which one channel's digital (field 2, 3) or physical minimum is its maximum."""
    write_edf(path, eeg(4, 2560), NAMES)
    content = bytearray(path.read_bytes())
    n = int(content[252:256])
    place = 256 + n * (16 + 80 + 8) + n * 8 * field + 8 * signal
    other = place - n * 8 if field in (1, 3) else place + n * 8
    content[place : place + 8] = content[other : other + 8]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("field", [0, 3])
def test_a_channel_without_a_range_is_left_out_or_refused_by_name(field: int, tmp_path: Path) -> None:
    path = without_range(tmp_path / "in" / "a.edf", 1, field)
    raw = read_raw(path)
    assert recalled(raw, "without_range") == ("Cz",)
    prepare(path, tmp_path / "out", PrepareConfig(jobs=1))
    store = RecordingStore(tmp_path / "out")
    assert store.ch_names == ("Fz", "Pz", "Oz")
    assert store["a"].quality["dropped_channels"] == ["Cz"]
    with pytest.raises(DataError, match=r"channels without a range .*: Cz; choose another montage"):
        preprocess(raw, PreprocessingConfig(channels=("Fz", "Cz")), where="a.edf")


def test_a_channel_of_another_scale_is_refused_by_name(tmp_path: Path) -> None:
    import mne

    x = eeg(4, 2560) * 1e-6
    x[2] *= 2000
    raw = mne.io.RawArray(x, mne.create_info(NAMES, 128.0, "eeg"), verbose="error")
    with pytest.raises(DataError, match=r"x: channels whose scale is far from the others' .*: Pz \(\d"):
        preprocess(raw, PreprocessingConfig(), where="x")
    x[2] /= 100  # noisy, which is told and not refused
    raw = mne.io.RawArray(x, raw.info, verbose="error")
    assert preprocess(raw, PreprocessingConfig(), where="x").quality["noisy_channels"] == ["Pz"]


CHB = ["FP1-F7", "F7-T7", "T8-P8", "P8-O2", "T8-P8"]


def test_equal_names_can_be_chosen_by_what_is_shown(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "chb.edf", eeg(5, 2560), CHB)
    raw = read_raw(path)
    assert recalled(raw, "repeated") == ("T8-P8",)
    whole = preprocess(raw, PreprocessingConfig(), where="x")
    assert whole.ch_names == ("Fp1-F7", "F7-T7", "T8-P8-0", "P8-O2", "T8-P8-1")
    for number, row in (("0", 2), ("1", 4)):
        one = preprocess(raw, PreprocessingConfig(channels=(f"T8-P8-{number}", "Fp1-F7")), where="x")
        np.testing.assert_array_equal(one.array[0], whole.array[row])
        config = PreprocessingConfig(channels=("T8-P8",), aliases=(f"T8-P8-{number}=T8-P8",))
        np.testing.assert_array_equal(preprocess(raw, config, where="x").array[0], whole.array[row])
    with pytest.raises(DataError, match=r"'T8-P8-0', 'T8-P8-1'; say which .*--aliases 'T8-P8-0=T8-P8'"):
        preprocess(raw, PreprocessingConfig(channels=("T8-P8",)), where="x")


def test_a_number_of_the_files_own_is_part_of_the_name(tmp_path: Path) -> None:
    raw = read_raw(write_edf(tmp_path / "a.edf", eeg(3, 2560), ["C3-0", "C3-1", "Cz"]))
    assert preprocess(raw, PreprocessingConfig(), where="x").ch_names == ("C3-0", "C3-1", "Cz")
    assert preprocess(raw, PreprocessingConfig(channels=("C3-1",)), where="x").array.shape == (1, 2560)
    with pytest.raises(DataError, match=r"missing 1 of 1 channels: C3 \(the file has C3-0 C3-1 Cz\)"):
        preprocess(raw, PreprocessingConfig(channels=("C3",)), where="x")


def test_spellings_of_one_electrode_are_told_apart(tmp_path: Path) -> None:
    raw = read_raw(write_edf(tmp_path / "a.edf", eeg(3, 2560), ["T3", "T7", "Cz"]))
    whole = preprocess(raw, PreprocessingConfig(), where="x")
    assert whole.ch_names == ("T3", "T7", "Cz")
    again = preprocess(raw, PreprocessingConfig(channels=whole.ch_names), where="x")
    np.testing.assert_array_equal(again.array, whole.array)
    config = PreprocessingConfig(channels=("T7",), aliases=("T3=T7",))
    np.testing.assert_array_equal(preprocess(raw, config, where="x").array[0], whole.array[0])
