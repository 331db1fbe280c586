"""Laws at the edges of rooms: what lies exactly at a limit, and what is counted once."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mne
import numpy as np
import pytest
from scipy.signal import welch

from eegm2.data.channels import Montage
from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.files.tals import record_onset
from eegm2.data.labels import LabelSpan
from eegm2.data.signal import filters
from eegm2.data.signal.microvolts import read_microvolts
from eegm2.data.signal.mixing import mixing_matrix
from eegm2.data.signal.preprocessing import preprocess
from eegm2.data.store.facts import RecordingInfo, _is_number
from eegm2.data.windows.labelling import recording_windows
from eegm2.deploy.predict import run as predicting
from eegm2.deploy.predict.flags import window_flags
from eegm2.errors import DataError, EEGM2Error
from eegm2.evaluation.baselines import baseline_runner
from eegm2.evaluation.baselines.class_power import band_power_by_class
from eegm2.evaluation.scores.crossval import subject_splits
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from tests.data.samples import write_store


def test_an_offset_of_a_channel_is_no_artefact_and_a_swing_is() -> None:
    """Each channel of each window is looked at around its own middle."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 128)).astype(np.float32)
    x += np.array([0.0, 4e3, -9e3], np.float32)[:, None] + 1e3 * np.arange(4, dtype=np.float32)[:, None, None]
    x[2, 1, 60:64] += 40.0
    x[3, 2] = x[3, 2, 0]
    own: Any = SimpleNamespace(facts={})
    assert window_flags(x, 1.0, None, own, ("a", "b", "c")) == [[], [], ["artefact:b"], ["flat:c"]]


@pytest.mark.parametrize(("share", "refused"), [(0.25, False), (0.5, False), (0.51, True)])
def test_half_of_a_recording_may_be_missing_and_no_more(share: float, refused: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 400)) * 1e-5
    x[1, 50 : 50 + round(400 * share)] = np.nan
    raw = mne.io.RawArray(x, mne.create_info(["C3", "C4"], 100.0, "eeg"), verbose="error")
    config = PreprocessingConfig(nan="interpolate")
    if refused:
        with pytest.raises(DataError, match=r"204 samples are not numbers, the first at 0\.500 s, in C4"):
            read_microvolts(raw, ["C3", "C4"], config, "x.fif")
        return
    *_, found = read_microvolts(raw, ["C3", "C4"], config, "x.fif")
    assert found == pytest.approx(share)


def test_a_channel_that_was_renamed_is_no_longer_what_its_name_says() -> None:
    montage = Montage("m", ("Fz", "Pz"), {"Cz": "Fz"})
    matrix, _ = mixing_matrix(["Cz", "Pz"], montage, where="x.edf")
    np.testing.assert_array_equal(matrix, np.eye(2))
    with pytest.raises(EEGM2Error, match="Cz"):
        mixing_matrix(["Cz", "Pz"], Montage("m", ("Cz", "Pz"), {"Cz": "Fz"}), where="x.edf")


def labelled(people: list[str], y: list[int]) -> LabelledWindows:
    n = len(y)
    x = np.random.default_rng(0).standard_normal((n, 2, 512)).astype(np.float32)
    who = np.array(people)
    return LabelledWindows(x, np.array(y), who, who, np.arange(float(n)), ("rest", "task"))


def test_folds_need_somebody_to_train_on_to_validate_and_to_test() -> None:
    with pytest.raises(DataError, match="n_folds: got 2 for 2 subjects"):
        subject_splits(labelled(["a", "a", "b", "b"], [0, 1, 0, 1]), 2)
    three = labelled(["a", "a", "b", "b", "c", "c"], [0, 1] * 3)
    with pytest.raises(DataError, match="n_folds: got 2 for 3 subjects, which leaves one"):
        subject_splits(three, 2)
    splits = subject_splits(three, 3)
    assert len(splits) == 3
    assert all(len(split.train) and len(split.val) and len(split.test) for split in splits)


def test_power_by_class_is_of_segments_of_two_seconds() -> None:
    """Welch's, half overlapping, in dB; averaged within each person first."""
    rate_hz = 128.0
    data = labelled(["a"] * 6 + ["b"] * 2, [0, 1, 0, 1, 0, 1, 0, 1])
    power_db, names = band_power_by_class(data, rate_hz, ("alpha=8:13",))
    hertz, density = welch(data.x, rate_hz, nperseg=256, noverlap=128)
    inside = (hertz >= 8) & (hertz < 13)
    db = 10 * np.log10(density[..., inside].sum(-1) * 0.5)  # every half a hertz
    for number in (0, 1):
        each = [db[(data.subject == who) & (data.y == number)].mean(0) for who in "ab"]
        np.testing.assert_allclose(power_db[number, 0], np.mean(each, 0), atol=1e-2)
    assert names == ("alpha",)


def test_predictions_of_another_model_or_without_their_arrays_are_made_again(tmp_path: Path) -> None:
    (tmp_path / predicting.RECORDINGS).mkdir()
    path = tmp_path / predicting.RECORDINGS / "r.json"
    path.write_text(json.dumps({"mark": "m1", "n_windows": 3}))
    assert predicting._finished(tmp_path, "r", "m1") is None
    np.savez(path.with_suffix(".npz"), x=np.zeros(1))
    assert predicting._finished(tmp_path, "r", "m1") == {"mark": "m1", "n_windows": 3}
    assert predicting._finished(tmp_path, "r", "m2") is None
    assert predicting._finished(tmp_path, "other", "m1") is None


def test_only_the_recordings_that_are_asked_for_are_verified(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", 3)
    for number in (0, 2):
        (array,) = (path for path in (tmp_path / "store").rglob(f"r{number}-*.raw"))
        damaged = bytearray(array.read_bytes())
        damaged[-1] ^= 1
        array.write_bytes(bytes(damaged))
    store = type(store)(tmp_path / "store")
    assert store.verify(["r1"]) == {}
    assert list(type(store)(tmp_path / "store").verify(["r2", "r1"])) == ["r2"]
    assert sorted(type(store)(tmp_path / "store").verify()) == ["r0", "r2"]


@pytest.mark.parametrize(
    ("value", "is_one"),
    [(1, True), (-2.5, True), (2**53 - 1, True), (2**53, False), (True, False), ("1", False), (None, False),
     (float("nan"), False), (float("inf"), False)],
)  # fmt: skip
def test_a_number_of_a_store_is_one_that_a_float_can_hold(value: Any, is_one: bool) -> None:
    assert _is_number(value) is is_one


@pytest.mark.parametrize(
    ("block", "onset_s"),
    [(b"+12.5\x14\x14\x00", 12.5), (b"-3\x14\x14\x00", -3.0), (b"", None), (b"\x00\x00", None)],
)
def test_a_record_begins_when_its_first_list_says(block: bytes, onset_s: float | None) -> None:
    assert record_onset(block) == onset_s


def test_a_window_around_a_label_may_begin_with_the_recording_and_end_with_it() -> None:
    """Labels of one second at 0.5 s, 5 s and 9.5 s of ten: windows of 2 s around the middle of each."""
    info = RecordingInfo("r", "s", "", 1000, 100.0, ("C3",))
    spans = [LabelSpan(middle_s - 0.5, 1.0, "x") for middle_s in (0.99, 1.0, 5.0, 9.0, 9.01)]
    config = WindowConfig(window_s=2.0, label_rule="centre")
    starts, labels = recording_windows(info, spans, config, ("w", "x"), 200, 200)
    assert starts.tolist() == [0, 400, 800]
    assert labels.tolist() == [1, 1, 1]


@pytest.mark.parametrize("offset", ["keep", "remove"])
def test_channels_are_prepared_alike_however_many_at_once(
    offset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    names = ["Fp1", "Fp2", "C3", "C4", "O1"]
    x = 1e-5 * rng.standard_normal((5, 2000)) + 1e-3 * np.arange(5)[:, None]
    raw = mne.io.RawArray(x, mne.create_info(names, 250.0, "eeg"), verbose="error")
    high_pass = {"keep": 0.0, "remove": 0.5}[offset]
    config = PreprocessingConfig(l_freq_hz=high_pass, sfreq_hz=100.0, channels=tuple(names), offset=offset)
    together = preprocess(raw, config, where="x.fif").array
    for number in (1, 2):
        monkeypatch.setattr(filters.Filters, "channels_at_once", lambda *_, n=number: n)
        np.testing.assert_allclose(
            preprocess(raw, config, where="x.fif").array, together, rtol=1e-5, atol=1e-4
        )


@pytest.mark.parametrize("name", ["band_power", "riemann", "slow_potentials"])
def test_a_baseline_learns_from_targets_that_are_known(name: str) -> None:
    data = labelled([f"p{i}" for i in range(12)], [0, 1] * 6)
    values = LabelledWindows(data.x, np.arange(12.0), data.subject, data.recording, data.start_s, classes=())
    split = Split(np.arange(6), np.arange(6, 9), np.arange(9, 12))
    runner = baseline_runner(name, sfreq_hz=128.0)
    assert len(runner(values, split, 0).score) == 3
    values.y[2] = np.nan
    with pytest.raises(DataError, match="train"):
        runner(values, split, 0)
