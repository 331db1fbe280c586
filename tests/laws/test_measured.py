"""Laws of what a report measures: power of whole classes in decibels, windows of people held out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eegm2.data.store.recording_store import RecordingStore
from eegm2.evaluation.baselines.class_power import band_power_by_class
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.report.contents import Probe, ReportData
from eegm2.report.folders import read_history, read_log
from eegm2.report.gather import _of_store
from eegm2.report.measured import class_power
from tests.evaluation.helpers import CHANNELS, labelled_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return labelled_store(tmp_path_factory.mktemp("laws") / "store", subjects=3, seconds=12)


def test_power_is_of_each_class_in_microvolts(store: RecordingStore) -> None:
    """A rhythm of 20 µV has 200 µV²; noise of 5 µV has 25 µV² over 16 Hz."""
    data = ReportData("r", {"windows": {"window_s": 2.0, "scaling": "zscore"}})
    found = class_power(store, data)
    assert found is not None
    assert (found.n_windows, found.n_subjects, found.ch_names) == (18, 3, CHANNELS)
    own = {name: found.power_db[i] for i, name in enumerate(found.classes)}
    alpha, delta = found.bands.index("alpha"), found.bands.index("delta")
    for name, band, width in (("shut", alpha, 5), ("open", delta, 3)):
        expected = 10 * np.log10(200 + 25 * width / 16)
        np.testing.assert_allclose(own[name][band], expected, atol=0.4)
    for name, band in (("open", alpha), ("shut", delta)):
        assert own[name][band].max() < 12


def test_power_is_of_the_classes_that_were_probed(store: RecordingStore) -> None:
    data = ReportData("r", {"windows": {"window_s": 2.0}})
    data.probes = [Probe("p", {"classes": ["b", "a"], "target": "group"})]
    found = class_power(store, data)
    assert found is not None
    assert found.classes == ("b", "a")
    data.probes = [Probe("p", {"classes": ["x", "y"], "target": "nothing"})]
    assert class_power(store, data) is None


def test_people_count_alike_and_those_of_all_classes_alone() -> None:
    """Mean decibels of each person's windows, then of people; a person of one class says nothing."""
    rng = np.random.default_rng(0)
    who = np.array(["p"] * 6 + ["q"] * 3 + ["r"] * 4)
    y = np.array([0, 0, 0, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0])
    x = rng.standard_normal((13, 2, 128)) * rng.uniform(1, 9, (13, 2, 1))
    data = LabelledWindows.from_arrays(x, y, who, classes=("a", "b"))
    found, bands = band_power_by_class(data, 64.0, ("theta=4:8", "none=40:50", "alpha=8:13"))
    assert bands == ("theta", "alpha")
    from scipy.signal import welch

    frequency_hz, density = welch(data.x.astype(float), 64.0, nperseg=128)
    for b, (low, high) in enumerate(((4, 8), (8, 13))):
        db = 10 * np.log10(density[..., (frequency_hz >= low) & (frequency_hz < high)].sum(-1) * 0.5)
        for label in (0, 1):
            of_people = [db[(who == name) & (y == label)].mean(0) for name in "pq"]
            np.testing.assert_allclose(found[label, b], np.mean(of_people, axis=0), atol=1e-6)


def test_losses_of_a_tuned_run_are_counted_from_one_epoch_by_epoch(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"train_loss": [3.0, 2.0, 1.0], "val_loss": [4.0, 5.0]}))
    log, problem = read_history(path)
    assert log is not None
    assert problem == ""
    np.testing.assert_array_equal(log.epoch, [1, 2, 3])
    np.testing.assert_array_equal(log.curves["train_loss"], [3, 2, 1])
    np.testing.assert_array_equal(log.curves["val_loss"], [4, 5, np.nan])


def test_a_log_has_the_last_value_of_each_epoch(tmp_path: Path) -> None:
    """Steps of an epoch are logged before it; rates of both kinds of names are the rate."""
    path = tmp_path / "metrics.csv"
    rows = [
        "epoch,step,train_loss_epoch,val_loss,lr-AdamW",
        "1,5,3.0,,",
        "1,6,,4.0,",
        "1,7,2.5,,0.1",
        "2,9,2.0,,0.2",
    ]
    path.write_text("\n".join([*rows, "2,9,,3.5,", ""]))
    log, _ = read_log(path)
    assert log is not None
    np.testing.assert_array_equal(log.epoch, [1, 2])
    assert {name: values.tolist() for name, values in log.curves.items()} == {
        "train_loss": [2.5, 2.0], "val_loss": [4.0, 3.5], "lr": [0.1, 0.2],
    }  # fmt: skip


def test_of_several_stores_each_has_its_own_people() -> None:
    splits = {"train": ("one/p", "two/q", "one/r"), "val": ("two/p",), "test": ()}
    data = ReportData("r", splits=splits)
    assert _of_store(data, "one").splits == {"train": ("p", "r"), "val": (), "test": ()}
    assert _of_store(data, "two").splits == {"train": ("q",), "val": ("p",), "test": ()}
    assert _of_store(data, "").splits == splits
