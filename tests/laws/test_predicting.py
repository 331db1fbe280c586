"""Laws of predicting: every answer, label and map is of its own window, channel and rhythm."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal

from eegm2.data.config import WindowConfig
from eegm2.data.positions import positions
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.predict import run as running
from eegm2.deploy.predict.classifier import Classifier, _head_file, load_classifier
from eegm2.deploy.predict.config import PredictConfig
from eegm2.deploy.predict.reaction import reactions
from eegm2.deploy.predict.recording import predict_recording
from eegm2.deploy.predict.sources import Prepared, _channel_choices
from eegm2.errors import CheckpointError, ConfigError, DataError
from eegm2.report.figures.predictions import band_reactions, probability_over_time
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint
from tests.data.samples import write_store
from tests.deploy.helpers import checkpoint

RATE_HZ = 128.0
NAMES = ("Fz", "F3", "Cz", "Pz", "Oz", "F4", "T7")


class Loud(Classifier):
    """Takes the standard deviation of every channel as features."""

    def on_montage(self, ch_names: Any, positions: str = "") -> Classifier:
        return self

    def features(self, x: np.ndarray, *_: Any) -> np.ndarray:
        return x.astype(float).std(2)


def loud(names: tuple[str, ...] = NAMES, **facts: Any) -> Loud:
    """Return a classifier that hears each channel and class in a way of its own."""
    rng = np.random.default_rng(5)
    classes = ("open", "closed")
    layer = (0.3 * rng.standard_normal((2, len(names))), rng.standard_normal(2))
    head = DenseHead(np.full(len(names), 1.0), np.full(len(names), 2.0), [layer], classes)
    header = {"ch_names": list(names), "sfreq_hz": RATE_HZ}
    checkpoint: Any = SimpleNamespace(windows=WindowConfig(window_s=2.0, scaling="none"), header=header)
    return Loud(checkpoint, classes, facts, head, None, "linear", "0")


def probabilities(own: Classifier, features: np.ndarray) -> np.ndarray:
    """Return what the head says of features, by hand."""
    assert own.head is not None
    ((weight, bias),) = own.head.layers
    e = np.exp((features - 1) / 2 @ weight.T + bias)
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("centre", ["none", "recording"])
def test_every_answer_is_of_its_window(centre: Any, tmp_path: Path) -> None:
    """Overlapping windows of 2 s in microvolts: times, labels, answers, maps, by hand from the recording."""
    store = write_store(tmp_path / "store", 2, ch_names=NAMES)
    own = loud(centre=centre)
    made = predict_recording(own, store, "r1", PredictConfig(stride_s=1.5))
    starts = np.arange(0, 1280 - 256 + 1, 192)
    x = store.read("r1")
    windows = np.stack([x[:, start : start + 256] for start in starts])
    features = windows.astype(float).std(2)
    expected = probabilities(own, features - (features.mean(0) if centre == "recording" else 0))
    rows = made.facts["windows"]
    np.testing.assert_allclose([row["start_s"] for row in rows], starts / RATE_HZ)
    np.testing.assert_allclose([row["stop_s"] for row in rows], starts / RATE_HZ + 2)
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected, atol=2e-6)
    assert [row["decision"] for row in rows] == [own.classes[i] for i in expected.argmax(1)]
    inside = ["open" if s + 256 <= 640 else "closed" if s >= 640 else "" for s in starts]
    assert [row["label"] for row in rows] == inside
    assert made.facts["n_windows"] == len(starts)
    assert (made.facts["recording"], made.facts["subject"], made.facts["duration_s"]) == ("r1", "s1", 10.0)
    np.testing.assert_allclose(made.facts["probabilities"], expected.mean(0), atol=2e-6)
    frequency_hz, density = signal.welch(windows, RATE_HZ, nperseg=256)
    bands = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 40)}
    assert made.arrays["bands"].tolist() == list(bands)
    for i, (low, high) in enumerate(bands.values()):
        power = density[..., (frequency_hz >= low) & (frequency_hz < high)].sum(-1) * 0.5
        np.testing.assert_allclose(made.arrays["band_power"][..., i], np.log10(power), atol=1e-4)
    np.testing.assert_array_equal(made.arrays["some_uv"], windows[: len(made.arrays["some_uv"])])
    assert len(made.arrays["some_uv"]) == len(windows) <= 8
    np.testing.assert_allclose(made.arrays["mean_features"], features.mean(0))
    assert made.arrays["ch_names"].tolist() == list(NAMES)
    for name, (low, high) in zip(made.arrays["shown"], made.arrays["signal"].astype(float)):
        row = x[NAMES.index(name)]
        assert (low.min(), high.max()) == pytest.approx((row.min(), row.max()), rel=2e-3)


def test_a_flag_counts_once_for_its_window(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", 1, ch_names=NAMES)
    limit = {"centre": [0.0] * 7, "spread": [1.0] * 7, "limit": 1e-3}
    made = predict_recording(loud(range={"unusual": limit}), store, "r0", PredictConfig())
    assert made.facts["n_flagged"] == made.facts["n_windows"] == 5
    assert predict_recording(loud(), store, "r0", PredictConfig()).facts["n_flagged"] == 0


@pytest.mark.parametrize("scaling", ["none", "recording", "zscore"])
def test_a_reaction_is_how_far_the_log_odds_fall(scaling: str) -> None:
    """A channel gives way to the mean of its three nearest; a band is halved, its upper edge not in it."""
    rng = np.random.default_rng(1)
    own = loud(scaling=scaling, centre="recording")
    x = (3 * rng.standard_normal((5, 7, 256)) * np.arange(1, 8)[:, None] ** 0.5).astype(np.float32)
    x += np.float32(4) * np.sin(2 * np.pi * 8 * np.arange(256) / RATE_HZ).astype(np.float32)
    typical, mean = rng.uniform(1, 4, 5), rng.standard_normal((5, 7))
    bands = {"theta": (4.0, 8.0), "alpha": (8.0, 13.0)}

    def odds(windows: np.ndarray) -> np.ndarray:
        windows = windows.astype(np.float64)
        if scaling == "recording":
            windows = windows / typical[:, None, None]
        if scaling == "zscore":
            windows = (windows - windows.mean(2, keepdims=True)) / windows.std(2, keepdims=True)
        p = probabilities(own, windows.std(2) - mean)
        return np.log(p / (1 - p))

    found = reactions(own, x, typical, mean, NAMES, RATE_HZ, bands)
    assert found["n_windows"] == 5
    at = positions(NAMES)
    for i in range(7):
        near = sorted((j for j in range(7) if j != i), key=lambda j: np.linalg.norm(at[j] - at[i]))[:3]
        changed = x.copy()
        changed[:, i] = x[:, near].mean(1)
        fall = (odds(x) - odds(changed)).mean(0)
        np.testing.assert_allclose(np.array(found["channels"])[:, i], fall, atol=2e-4)
    for i, (low, high) in enumerate(bands.values()):
        spectrum, frequency_hz = np.fft.rfft(x), np.fft.rfftfreq(256, 1 / RATE_HZ)
        spectrum[..., (frequency_hz >= low) & (frequency_hz < high)] /= 2
        fall = (odds(x) - odds(np.fft.irfft(spectrum, 256))).mean(0)
        np.testing.assert_allclose(np.array(found["bands"])[:, i], fall, atol=2e-4)
    if scaling != "zscore":
        assert np.abs(found["bands"]).max() > 0.05


def test_windows_that_are_asked_keep_the_amplitude_and_mean_of_their_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of recordings with the first one's channels."""
    asked: list[Any] = []
    monkeypatch.setattr(running, "reactions", lambda *given: (asked.extend(given), {"n_windows": 0})[1])
    (tmp_path / "recordings").mkdir()
    done = []
    for number, names in enumerate((NAMES, NAMES[::-1], NAMES, NAMES)):
        value = float(number + 1)
        np.savez(
            tmp_path / "recordings" / f"f{number}.npz",
            ch_names=np.array(names), some_uv=np.full((3, 7, 16), value, np.float32),
            mean_features=np.full(7, value),
        )  # fmt: skip
        done.append({"file": f"f{number}", "quality": {"typical_uv": 10 * value}})
    made = running._reactions(loud(), tmp_path, done, PredictConfig(), lambda *_: None)
    _, windows, typical, means, names, rate_hz, bands, _ = asked
    recording = windows[:, 0, 0]
    assert sorted(set(recording.tolist())) == [1.0, 3.0, 4.0]
    np.testing.assert_array_equal(typical, 10 * recording)
    np.testing.assert_array_equal(means[:, 0], recording)
    assert (names, rate_hz) == (NAMES, RATE_HZ)
    assert made is not None
    assert made["band_names"] == list(bands) == ["delta", "theta", "alpha", "beta", "gamma"]
    assert made["ch_names"] == list(NAMES)


def test_a_head_takes_the_features_of_its_recording_less_their_mean() -> None:
    """Of windows that overlap by half, every other one counts for a running mean."""
    features = np.random.default_rng(0).standard_normal((40, 7)) + 9
    start_s = np.arange(40) * 2.0
    np.testing.assert_array_equal(loud().centred(features, start_s, 4.0), features)
    whole = loud(centre="recording").centred(features, start_s, 4.0)
    np.testing.assert_allclose(whole, features - features.mean(0))
    running = loud(centre="running").centred(features, start_s, 4.0)
    for row in (30, 31, 39):
        np.testing.assert_allclose(running[row], features[row] - features[: row + 1 : 2].mean(0))
    x = np.zeros((40, 7, 8), np.float32)
    np.testing.assert_allclose(loud().probabilities(x, whole, 4, "cpu"), loud().head(whole))


def test_a_tuned_network_answers_in_probabilities_batch_by_batch() -> None:
    class Tuned(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x[:, 0, 0], x[:, 1, 0]], 1)

    x = np.random.default_rng(0).standard_normal((7, 2, 4)).astype(np.float32)
    own: Any = Classifier(loud().checkpoint, ("a", "b"), {}, None, Tuned(), "fine", "0")  # type: ignore[arg-type]
    assert own.features(x, 3, "cpu") is None
    e = np.exp(x[:, :, 0].astype(float))
    np.testing.assert_allclose(own.probabilities(x, None, 3, "cpu"), e / e.sum(1, keepdims=True), rtol=1e-6)


def test_over_time_shows_who_decided_when_and_from_where_on() -> None:
    """Flags at the middle of their windows, annotations as long as they are, the head's own threshold."""
    spans = np.array([[0.0, 2.0], [2.0, 4.0], [4.0, 6.0], [8.0, 10.0]])
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
    envelope = np.stack([np.full((2, 10), -5.0), np.full((2, 10), 5.0)], 1)
    figure = probability_over_time(
        envelope, ["Cz", "Pz"], 10.0, spans, p, ["a", "b"], labels=["b", "b", "", "a"],
        flagged=np.array([False, True, False, True]), threshold=0.3,
        spectrum=(np.array([1.0, 2.0, 3.0]), np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])),
    )  # fmt: skip
    above, below = figure.axes[0], next(a for a in figure.axes if a.get_ylabel().startswith("probability"))
    dashed = next(line for line in below.lines if line.get_linestyle() == "--")
    assert set(dashed.get_ydata()) == {0.3}
    ticks = next(line for line in below.lines if line.get_marker() == "|")
    np.testing.assert_array_equal(ticks.get_xdata(), [3.0, 9.0])
    shaded = {bar.get_facecolor()[:3]: (bar.get_x(), bar.get_x() + bar.get_width()) for bar in above.patches}
    assert sorted(shaded.values()) == [(0.0, 4.0), (8.0, 10.0)]
    image = next(axes.images[0] for axes in figure.axes if axes.images)
    assert list(image.get_extent()) == [0, 10.0, 0.5, 3.5]
    assert image.origin == "lower"
    np.testing.assert_array_equal(image.get_array(), [[0, 1], [2, 3], [4, 5]])
    assert below.get_ylabel() == "probability of\nb"


def test_a_bar_is_as_long_as_the_answer_falls() -> None:
    axes = band_reactions(["theta", "alpha"], np.array([0.5, -0.25]), "age (years)").axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    found = {names[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in axes.patches}
    assert found == {"theta": 0.5, "alpha": -0.25}
    up, down = (bar.get_facecolor() for bar in axes.patches)
    assert up != down


def test_windows_with_several_flags_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unusual and flat at once, in each of five windows."""
    store = write_store(tmp_path / "store", 1, ch_names=NAMES)
    limit = {"centre": [0.0] * 7, "spread": [1.0] * 7, "limit": 1e-3}
    own = loud(range={"unusual": limit})
    monkeypatch.setattr("eegm2.deploy.predict.flags.FLAT_UV", 1e6)
    made = predict_recording(own, store, "r0", PredictConfig())
    assert [len(row["flags"]) for row in made.facts["windows"]] == [2] * 5
    assert (made.facts["n_flagged"], made.facts["n_windows"]) == (5, 5)


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_threshold_that_is_asked_for_decides_on_windows_and_recording(number: int, tmp_path: Path) -> None:
    """In place of the head's own, from its probability on."""
    store = write_store(tmp_path / "store", 1, ch_names=NAMES)
    own = predict_recording(loud(threshold=2.0), store, "r0", PredictConfig()).facts
    assert {row["decision"] for row in own["windows"]} == {"open"}
    p = np.array([row["probabilities"][1] for row in own["windows"]])
    cut = float(np.sort(p)[number]) - 2e-6
    made = predict_recording(loud(threshold=2.0), store, "r0", PredictConfig(threshold=cut)).facts
    expected = ["closed" if one >= cut else "open" for one in p]
    assert [row["decision"] for row in made["windows"]] == expected
    assert made["decision"] == ("closed" if p.mean() >= cut else "open")
    assert made["shares"]["closed"] == np.mean([one == "closed" for one in expected])


def test_windows_are_scaled_by_the_typical_amplitude_of_their_recording(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", 2, ch_names=NAMES)
    own = loud(scaling="recording")
    made = predict_recording(own, store, "r1", PredictConfig()).facts
    x = store.read("r1").astype(float)
    spread = np.stack([x[:, begin : begin + 256].std(1) for begin in range(0, 1280, 256)])
    expected = probabilities(own, spread / store.typical_uv("r1"))
    np.testing.assert_allclose([row["probabilities"] for row in made["windows"]], expected, atol=2e-5)


def test_recordings_of_the_same_name_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several sources; what cannot be predicted is skipped by its name, with the reason."""

    def one(own: Any, store: Any, recording: str, *rest: Any) -> dict[str, Any]:
        if recording == "r1":
            raise DataError("too short")
        return {"file": rest[3], "store": store.url}

    monkeypatch.setattr(running, "_predict_one", one)
    monkeypatch.setattr(running, "_mark", lambda *_: "")
    done: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    stores = [write_store(tmp_path / name, 3, ch_names=NAMES) for name in ("a", "b", "c")]
    for store in stores:
        given: Any = Prepared(store, "", {})
        running._predict_store(loud(), given, tmp_path, PredictConfig(), lambda *_: None, done, skipped)
    assert list(done) == ["r0", "r2", "r0+", "r2+", "r0++", "r2++"]
    assert [facts["file"] for facts in done.values()] == list(done)
    assert [facts["store"] for facts in done.values()] == [store.url for store in stores for _ in range(2)]
    assert skipped == {"r1": "too short"}


@pytest.mark.parametrize(
    ("there", "asked", "taken"),
    [
        (("linear", "light", "fine"), "", "linear"),
        (("scratch", "light", "fine"), "", "light"),
        (("scratch", "fine"), "", "fine"),
        (("own", "scratch"), "", "scratch"),
        (("zoo", "own"), "", "own"),
        (("linear", "light"), "light", "light"),
    ],
)
def test_the_head_that_is_taken_is_the_one_asked_for_else_the_simplest(
    there: tuple[str, ...], asked: str, taken: str, tmp_path: Path
) -> None:
    (tmp_path / "heads").mkdir()
    for name in there:
        (tmp_path / "heads" / f"{name}.safetensors").touch()
    assert _head_file("m", tmp_path, asked).stem == taken
    assert _head_file("m", tmp_path, "a/b.safetensors") == Path("a/b.safetensors")
    with pytest.raises(CheckpointError, match=f"--head none: m has {', '.join(sorted(there))}"):
        _head_file("m", tmp_path, "none")


def test_a_model_with_a_head_is_another_where_either_has_changed(tmp_path: Path) -> None:
    """Its hash is of both, and the same again; the head is the one in the file."""
    layers = [(np.ones((2, 288)), np.zeros(2))]
    found = []
    for model_seed, head_mean in ((0, 0.0), (0, 0.0), (1, 0.0), (0, 1.0)):
        place = tmp_path / str(len(found))
        place.mkdir()
        model = checkpoint(place / "m.safetensors", "light", ch_names=NAMES[:3])
        if model_seed:
            loaded = load_checkpoint(model)
            with torch.no_grad():
                next(loaded.model.parameters()).add_(1.0)
            save_checkpoint(model, loaded.model, dict(loaded.header))
        facts = {"features": "statistics", "window_s": 3.0, "scaling": "zscore", "threshold": 0.3}
        DenseHead(np.full(288, head_mean), np.ones(288), layers, ("a", "b"), facts=facts).save(
            place / "h.safetensors"
        )
        own = load_classifier(model, str(place / "h.safetensors"))
        assert own.head is not None
        assert (own.head.mean == head_mean).all()
        assert (own.name, own.classes, own.threshold) == ("h", ("a", "b"), 0.3)
        assert (own.windows.window_s, own.windows.scaling) == (3.0, "zscore")
        found.append(own.sha256)
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("any_of", [False, True])
@pytest.mark.parametrize("asked", [NAMES, NAMES[::-1], ("Fz", "Cz")])
def test_other_electrodes_are_for_networks_of_any_and_heads_of_features(
    asked: tuple[str, ...], any_of: bool, tuned: bool
) -> None:
    """The same ones in their order are for all; a fine-tuned network is for its own."""
    made: list[Any] = []
    checkpoint: Any = SimpleNamespace(
        header={"ch_names": list(NAMES)}, config=SimpleNamespace(any_electrodes=any_of),
        on_montage=lambda *given: made.append(given) or "moved",
    )  # fmt: skip
    head = None if tuned else loud().head
    network: Any = torch.nn.Identity() if tuned else None
    own = Classifier(checkpoint, ("a", "b"), {}, head, network, "linear", "0")
    if asked != NAMES and (tuned or not any_of):
        with pytest.raises(ConfigError, match=f"trained on {' '.join(NAMES)}, got {' '.join(asked)}"):
            own.on_montage(asked, "p.csv")
        return
    moved: Any = own.on_montage(asked, "p.csv")
    assert (moved.checkpoint, made) == ("moved", [(asked, "p.csv")])


@pytest.mark.parametrize(
    "wrong", [{"stride_s": 0.0}, {"stride_s": -1.0}, {"threshold": 1.5}, {"batch_size": 0}]
)
def test_options_that_mean_nothing_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PredictConfig(**wrong)


@pytest.mark.parametrize("any_of", [True, False])
def test_a_recording_is_asked_for_the_models_channels_first(any_of: bool) -> None:
    """Only a network of any electrodes takes what else is there."""
    config = SimpleNamespace(any_electrodes=any_of)
    checkpoint = SimpleNamespace(preprocessing=SimpleNamespace(channels=list(NAMES)), config=config)
    own: Any = SimpleNamespace(checkpoint=checkpoint)
    assert _channel_choices(own) == [NAMES, ()][: 1 + any_of]
