"""Laws of deployment: who judges a head, what a unit is worth, whose rate is stated, what a clock says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.pipeline import Pipeline

from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.deploy.device.filters import BlockFilter
from eegm2.deploy.heads import fit as fitting
from eegm2.deploy.heads.as_streamed import StreamedWindows
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.live.clock import ClockTracker
from eegm2.deploy.live.source import unit_factor
from eegm2.errors import DataError
from eegm2.evaluation.protocols.frozen import linear_model
from eegm2.evaluation.protocols.people import PeopleFit, fit_by_people
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.model.statistics import FEATURES
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from tests.data.samples import write_store
from tests.deploy.helpers import checkpoint, network

NAMES = ("Fz", "Cz", "Pz")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("laws")
    store = write_store(folder / "store", 8, ch_names=NAMES, n_times=2560)
    return str(checkpoint(folder / "m.safetensors", "light", ch_names=NAMES)), str(store.url)


def features_of(model: str, store: str, people: list[str], kind: str) -> np.ndarray:
    loaded = load_checkpoint(model)
    windows = WindowDataset(RecordingStore(store), loaded.windows, subjects=people, labelled=True)
    with torch.no_grad():
        x = torch.stack([windows[i]["x"] for i in range(len(windows))])
        return FEATURES[kind](loaded.model.encode(x)).numpy()


@pytest.mark.parametrize("kind", ["statistics", "covariance"])
def test_a_head_is_fitted_on_other_people_than_judge_it(
    place: tuple[str, str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fit, neither the head's nor one that chooses its penalty, gets a window of the people left out."""
    made: list[StreamedWindows] = []
    fitted: list[np.ndarray] = []

    def kept(function: Any) -> Any:
        def wrapped(*args: Any) -> StreamedWindows:
            made.append(function(*args))
            return made[-1]

        return wrapped

    def watched(*args: Any, **options: Any) -> Pipeline:
        pipeline = linear_model(*args, **options)
        fit = pipeline.fit
        pipeline.fit = lambda x, y: (fitted.append(x), fit(x, y))[1]
        return pipeline

    def owner() -> dict[bytes, str]:
        pairs = [zip(m.features.astype(float), m.subjects.tolist(), strict=True) for m in made]
        return {row.tobytes(): name for rows in pairs for row, name in rows}

    def watched_by_people(x: np.ndarray, y: np.ndarray, people: np.ndarray, *rest: Any) -> PeopleFit:
        assert [owner()[row.tobytes()] for row in x] == people.tolist(), "who is left out is who it is"
        fitted.append(x)
        return fit_by_people(x, y, people, *rest)

    monkeypatch.setattr(fitting, "streamed_windows", kept(fitting.streamed_windows))
    monkeypatch.setattr(fitting, "_offline", kept(fitting._offline))
    monkeypatch.setattr(fitting, "linear_model", watched)
    monkeypatch.setattr(fitting, "fit_by_people", watched_by_people)
    model, store = place
    head = fitting.fit_head(model, store, val=0.25, seed=1, features=kind)
    judged = head.facts["validation"]
    assert len(made) == 2
    for x in fitted:
        assert {owner()[row.tobytes()] for row in x} <= set(judged["fitted_on"])
    streams = made[0]
    learnt = streams.apart & np.isin(streams.subjects, judged["fitted_on"])
    # and the head is such a fit: its standardisation is of these windows, its figures of the others'
    np.testing.assert_allclose(head.mean, streams.features[learnt].mean(0), rtol=1e-5, atol=1e-6)
    assert head.facts["n_windows"] == learnt.sum()
    asked = streams.decided & np.isin(streams.subjects, judged["left_out"])
    assert judged["n_windows"] == asked.sum()
    expected = classification_metrics(streams.y[asked], head(streams.features[asked]), classes=head.classes)
    assert judged["metrics"] == expected.plain()
    assert [len(x) for x in fitted] == [learnt.sum(), len(fitted[1])], "one fit as streamed, one as usual"
    data, loaded = RecordingStore(store), load_checkpoint(model).model
    told = {"store_sha256": data.manifest_sha256, "model_sha256": weights_sha256(loaded)}
    told |= {"features": kind, "target": "annotations", "protocol": "linear", "streamed_from": "store"}
    told |= {"n_subjects": len(judged["fitted_on"]), "ch_names": list(NAMES)}
    assert {name: head.facts[name] for name in told} == told
    assert sorted(judged["fitted_on"] + judged["left_out"]) == sorted(
        {info.subject for info in data.recordings}
    )


OPTIONS: dict[str, Any] = {
    "scaling": "zscore", "hop_s": 0.25, "calibration_s": 3.0, "adapt_s": 7.0, "centre": "running",
    "warm_up": 1, "target": "annotations", "features": "statistics", "protocol": "linear",
}  # fmt: skip


@pytest.mark.parametrize("given", [tuple(OPTIONS), ("centre", "warm_up"), ("adapt_s", "calibration_s")])
def test_a_head_is_fitted_with_the_options_that_it_keeps(
    given: tuple[str, ...], place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """People, labels, features and stream as they were asked for, else as the model was trained."""
    asked: list[Any] = []
    real = fitting.streamed_windows
    monkeypatch.setattr(fitting, "streamed_windows", lambda *args: (asked.append(args), real(*args))[1])
    model, store = place
    people = ("s1", "s3", "s4", "s5")
    head = fitting.fit_head(model, store, val=0.0, subjects=people, **{name: OPTIONS[name] for name in given})
    usual = {
        "scaling": "quantile95",
        "hop_s": 0.5,
        "adapt_s": 0.0,
        "centre": "none",
        "warm_up": 15,
        "window_s": 2.0,
    }
    expected = usual | {name: OPTIONS[name] for name in given}
    assert {name: head.facts[name] for name in expected} == expected
    _, _, recordings, cut, classes, how, raw = asked[0]
    assert sorted({info.subject for info in recordings}) == list(people)
    assert {name: getattr(how, name) for name in expected if hasattr(how, name)} == {
        name: value for name, value in expected.items() if hasattr(how, name)
    }
    assert (cut.scaling, cut.target, classes, raw) == (expected["scaling"], "annotations", head.classes, None)


WORTH = {
    "V": 1e6, "volt": 1e6, "Volts": 1e6,
    "mV": 1e3, "millivolts": 1e3,
    "uV": 1.0, "µV": 1.0, "\N{GREEK SMALL LETTER MU}V": 1.0, "microvolt": 1.0, "microvolts": 1.0, " uV ": 1.0,
    "": 1.0,
    "nV": 1e-3, "nanovolts": 1e-3,
}  # fmt: skip


@pytest.mark.parametrize("unit", WORTH)
def test_a_unit_is_worth_its_microvolts(unit: str) -> None:
    assert unit_factor(unit, "here") == WORTH[unit]


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(DataError, match="unit is 'MOhm'"):
        unit_factor("MOhm", "here")


def test_lsl_channels_are_each_in_their_own_unit() -> None:
    pylsl = pytest.importorskip("pylsl")
    from eegm2.deploy.live.lsl import _channels

    info = pylsl.StreamInfo("x", "EEG", 3, 128.0, "float32", "y")
    channels = info.desc().append_child("channels")
    for name, unit in (("A", "volts"), ("B", "microvolts"), ("C", "mV")):
        channel = channels.append_child("channel")
        channel.append_child_value("label", name)
        channel.append_child_value("unit", unit)
    assert _channels(info) == (["A", "B", "C"], ["volts", "microvolts", "mV"])


@pytest.mark.parametrize("rate_hz", [64.0, 250.0])
def test_what_is_exported_states_the_checkpoints_rate(rate_hz: float, tmp_path: Path) -> None:
    """Rate, window, scaling and preprocessing are the checkpoint's; `test_export` reads them in a file."""
    from eegm2.deploy.trained_model import load_trained

    header = {
        "preprocessing": to_dict(PreprocessingConfig(channels=NAMES, sfreq_hz=rate_hz, h_freq_hz=20.0)),
        "windows": to_dict(WindowConfig(window_s=3.0, scaling="zscore")),
        "ch_names": list(NAMES),
        "sfreq_hz": rate_hz,
    }
    save_checkpoint(tmp_path / "m.safetensors", network("light", n_chans=3), header)
    facts = load_trained(tmp_path / "m.safetensors").facts()
    assert facts["sfreq_hz"] == facts["preprocessing"]["sfreq_hz"] == rate_hz
    assert facts["ch_names"] == list(NAMES)
    assert (facts["scaling"], facts["window_s"]) == ("zscore", 3.0)


@pytest.mark.parametrize("rate_hz", [100.0, 256.0])
@pytest.mark.parametrize("ppm", [-2000.0, 0.0, 2000.0])
def test_a_clock_that_is_off_is_measured_with_its_sign(rate_hz: float, ppm: float) -> None:
    clock = ClockTracker(rate_hz)
    stamps = np.arange(round(240 * rate_hz)) / rate_hz * (1 + 1e-6 * ppm)
    assert clock.push(stamps) == ()
    assert clock.drift_ppm == pytest.approx(ppm, abs=100)


def test_a_gap_is_as_many_samples_as_are_missing() -> None:
    clock = ClockTracker(100.0)
    stamps = np.delete(np.arange(3000) / 100.0, np.r_[1000:1007, 2000:2150])
    assert clock.push(stamps) == ((1000, 7), (1993, 150))


def test_a_head_answers_as_the_model_it_was_made_from() -> None:
    """One-vs-rest and multinomial, two classes and more: the probabilities are scikit-learn's."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    for n_classes in (2, 3):
        y = np.arange(60) % n_classes
        x = rng.standard_normal((60, 4)) * 3 + y[:, None] + 5
        names = tuple("abc"[:n_classes])
        for model in (linear_model(), make_pipeline(StandardScaler(), LogisticRegression())):
            model.fit(x, y)
            head = DenseHead.from_pipeline(model, names)
            np.testing.assert_allclose(head(x), model.predict_proba(x), rtol=1e-9)


def test_labels_of_a_head_are_in_the_order_of_its_classes(place: tuple[str, str], tmp_path: Path) -> None:
    """A class without windows among the fitted people is left out by name, the others keep their own."""
    model, _ = place
    labels = (LabelSpan(0.0, 5.0, "open"), LabelSpan(5.0, 5.0, "shut"))
    store = str(write_store(tmp_path / "store", 6, ch_names=NAMES, labels=labels).url)
    head = fitting.fit_head(model, store, val=0.0, classes=("shut", "none", "open"))
    assert head.classes == ("shut", "open")
    other = fitting.fit_head(model, store, val=0.0, classes=("open", "shut"))
    x = features_of(model, store, ["s0", "s1"], "statistics")
    np.testing.assert_allclose(head(x)[:, 0], other(x)[:, 1], rtol=1e-6)


def test_a_chunk_of_nothing_changes_nothing() -> None:
    """Sources that have no new samples give empty chunks, also as their first."""
    from scipy import signal

    sos = signal.butter(2, 0.2, output="sos")
    x = np.random.default_rng(0).standard_normal((2, 50))
    plain, paused = (BlockFilter(sos, signal.sosfilt_zi(sos)) for _ in range(2))
    expected = plain.push(x)
    parts = [x[:, :0], x[:, :20], x[:, :0], x[:, 20:]]
    np.testing.assert_allclose(np.concatenate([paused.push(part) for part in parts], axis=1), expected)


def test_a_figure_rests_on_the_people_who_have_windows_that_it_counts() -> None:
    """Of somebody left out whose stream ends before it decides, nothing is judged."""
    subjects = np.repeat(["a", "b", "c"], 4)
    decided = subjects != "c"
    made = StreamedWindows(
        np.random.default_rng(0).standard_normal((12, 1)).astype(np.float32),
        np.tile([0, 1], 6), subjects, np.ones(12, bool), decided,
    )  # fmt: skip
    head = DenseHead(np.zeros(1), np.ones(1), [(np.ones((2, 1)), np.zeros(2))], ("x", "y"), facts={})
    found = fitting._judgement(head, made, ("x", "y"), ("b", "c"))
    assert (found["n_windows"], found["n_subjects"]) == (4, 1)
