"""Laws of sessions: a head of one person is judged block by block, and what is told of it is of that."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli import calibrate as command
from eegm2.data.config import PreprocessingConfig
from eegm2.deploy.config import StreamConfig
from eegm2.deploy.device.calibration import Calibration
from eegm2.deploy.heads.as_streamed import StreamedAs
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.live import calibrate as live
from eegm2.deploy.live.blocks import BlockWindows, streamed_features
from eegm2.deploy.live.calibrate import _refuse_bad_channels, _refuse_few_blocks, _report
from eegm2.deploy.live.config import CalibrateConfig
from eegm2.deploy.live.judged import Judged, Threshold, by_block, choose_threshold, judge
from eegm2.deploy.live.plan import Step
from eegm2.deploy.live.recorder import Contact
from eegm2.deploy.live.source import RecordingSource
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import DataError
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.evaluation.scores.resampling import interval
from eegm2.evaluation.scores.weighted_metrics import TestPart
from tests.data.samples import eeg, write_edf
from tests.deploy.helpers import network

CLASSES = ("rest", "task", "song")


def windows() -> BlockWindows:
    """Return nine blocks of unlike lengths, three of each class, whose features are their own numbers."""
    block = np.repeat(np.arange(9), [4, 7, 5, 6, 3, 8, 5, 4, 6])
    y = np.array([0, 1, 2, 2, 1, 0, 0, 1, 2])[block]
    number = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])[block]
    return BlockWindows(np.arange(len(block))[:, None] * 1.0, y, block, number, np.ones(len(block), bool))


def scores(n: int) -> np.ndarray:
    return np.random.default_rng(2).dirichlet(np.ones(3), n)


def test_every_window_is_judged_once_and_people_is_said_of_blocks() -> None:
    """The how-manieth block of each class is left out together; blocks are resampled for the interval."""
    all_of, made = windows(), scores(48)
    left_out: list[np.ndarray] = []

    def fit(taken: np.ndarray) -> Any:
        left_out.append(~taken)
        return lambda features: made[features[:, 0].astype(int)]

    judged = judge(all_of, CLASSES, fit, seed=3)
    assert [sorted(set(all_of.number[out].tolist())) for out in left_out] == [[0], [1], [2]]
    assert (np.sum(left_out, 0) == 1).all()
    np.testing.assert_array_equal(judged.probabilities, made)
    assert judged.metrics == classification_metrics(all_of.y, made).plain()
    part = TestPart(all_of.y, made, all_of.block.astype(str))
    assert judged.ci == interval([[part]], "balanced_accuracy", level=0.95, seed=3)
    assert judged.ci != interval([[part]], "balanced_accuracy", level=0.95, seed=4)
    assert judged.chance == pytest.approx(1 / 3)


def test_a_block_tells_its_class_and_the_share_that_was_right() -> None:
    all_of, made = windows(), scores(48)
    for row in by_block(all_of, made, CLASSES):
        mine = all_of.block == row["block"]
        assert row["label"] == CLASSES[int(all_of.y[mine][0])]
        assert row["n_windows"] == mine.sum()
        assert row["right"] == pytest.approx(np.mean(made[mine].argmax(1) == all_of.y[mine]), abs=5e-4)
    assert len(by_block(all_of, made, CLASSES)) == 9


def session(tmp_path: Path) -> tuple[dict[str, Any], Judged, Threshold]:
    known = Calibration("p", "", "zscore", ("Fz",), {}, 5.0, (0.0,), (10.0,))
    known.save(tmp_path / live.SCALE)
    judged = Judged({"balanced_accuracy": 0.625}, (0.51234, 0.71236), 1 / 3, scores(48))
    cut = Threshold(0.8, 0.7, 0.456, 0.123, False)
    taken: Any = SimpleNamespace(given=[Step(1.0, 2.0, "rest")], bad_s={"Fz": 3.14})
    source: Any = SimpleNamespace(name="lsl", ch_names=["EEG Fz"])
    made = _report(tmp_path, source, taken, {"gaps": 1}, windows(), judged, cut, CLASSES)
    return made, judged, cut


def test_a_report_is_of_the_blocks_that_were_left_out(tmp_path: Path) -> None:
    made, judged, _ = session(tmp_path)
    ends = made["validation"]
    assert (ends["n_windows"], ends["n_blocks"], ends["chance"]) == (48, 9, 1 / 3)
    assert ends["balanced_accuracy_ci95"] == [0.5123, 0.7124]
    assert ends["metrics"] == judged.metrics
    assert made["threshold"] == {
        "enter": 0.8,
        "leave": 0.7,
        "decided": 0.456,
        "wrong": 0.123,
        "reached": False,
    }
    assert (made["person"], made["device"], made["bad_s"]) == ("p", "lsl", {"Fz": 3.1})
    assert made["given"] == [{"begin_s": 1.0, "length_s": 2.0, "label": "rest", "kept": True}]
    json.dumps(made)


@pytest.mark.parametrize("low", [0.3, 0.4])
def test_what_a_session_says_in_the_end_is_its_report(
    low: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, judged, cut = session(tmp_path)
    judged = Judged(judged.metrics, (low, 0.7), 1 / 3, judged.probabilities)
    head = SimpleNamespace(classes=CLASSES, facts={"n_windows": 40})
    calibrated = SimpleNamespace(head=head, judged=judged, threshold=cut, report=made)
    monkeypatch.setattr("eegm2.deploy.trained_model.load_trained", lambda *_: None)
    monkeypatch.setattr(command, "open_source", lambda *_: None)
    monkeypatch.setattr(live, "calibrate", lambda *_, **__: calibrated)
    from eegm2.cli.main import app

    out = ["--out", str(tmp_path / "out"), "--wrong", "0.05", "--port", "0"]
    said = CliRunner().invoke(app, ["calibrate", "--source", "lsl", "--model", "m", *out]).output
    assert "rest, task, song: fitted on 40 windows of 9 blocks" in said
    assert f"balanced accuracy 0.625 [{low:.3f}, 0.700] on blocks left out (guessing: 0.333), 48" in said
    assert ("no better than guessing" in said) == (low < 1 / 3)
    assert "threshold 0.8, kept above 0.7: decides on 46 % of the windows, 12 % of these wrong (no" in said
    assert "no threshold comes to the 5 % aimed at" in said
    first = next(row for row in made["validation"]["blocks"])
    assert f"{100 * first['right']:3.0f} % of 4 decisions right" in said


@pytest.mark.parametrize(("bad_s", "refused"), [(9.9, False), (10.1, True)])
def test_a_channel_that_was_bad_for_most_of_the_session_ends_it(bad_s: float, refused: bool) -> None:
    """The session lasts from where the contact was good."""
    taken: Any = SimpleNamespace(began_s=5.0, now_s=25.0, bad_s={"Fz": bad_s, "Cz": 20.0})
    config: Any = SimpleNamespace(contact="refuse")
    if refused:
        with pytest.raises(DataError, match="contact: Fz bad"):
            _refuse_bad_channels(taken, ["Fz", "Pz"], config)
    _refuse_bad_channels(taken, ["Fz"] * (not refused), config)
    _refuse_bad_channels(taken, ["Fz", "Cz"], SimpleNamespace(contact="warn"))  # type: ignore[arg-type]


def test_each_class_needs_as_many_blocks() -> None:
    some = windows()
    _refuse_few_blocks(some, [], CLASSES)
    keep = ~((some.y == 1) & (some.number > 0))
    few = BlockWindows(*(getattr(some, name)[keep] for name in ("features", "y", "block", "number", "apart")))
    with pytest.raises(DataError, match=r"1 usable block of task \(4 blocks were complete\)"):
        _refuse_few_blocks(few, [Step(0.0, 1.0, "x")] * 4, CLASSES)
    assert CalibrateConfig().wrong < 0.5


STEPS = [Step(4.0 + 9 * i, 6.0, label) for i, label in enumerate(["b", "a", "a", "b", "b", "a"])]


@pytest.mark.parametrize("settle_s", [0.0, 1.0])
def test_a_head_is_fitted_on_what_a_session_asked_for(
    settle_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows in their block once it has settled, side by side; blocks of a class are left out in turn."""
    ends = np.arange(2.0, 60.0, 0.5)
    every = [{"time_s": t, "features": np.array([t, -t]), "quality": []} for t in ends]
    asked: dict[str, Any] = {}
    fits: list[tuple[Any, ...]] = []

    def stream(recording: Path, source: Any, trained: Any, config: Any, facts: Any, *, begin_s: float) -> Any:
        Calibration("p", "cap", "zscore", ("Fz",), {}, 5.0, (0.0,), (10.0,)).save(config.calibration)
        asked.update(recording=recording, begin_s=begin_s, config=config, facts=dict(facts))
        return every

    def fit(*given: Any) -> DenseHead:
        fits.append(given)
        layers = [(np.ones((2, 2)) * [[1.0], [-1.0]], np.zeros(2))]
        return DenseHead(np.zeros(2), np.ones(2), layers, given[3], facts={"c": 2.0})

    monkeypatch.setattr(live, "streamed_features", stream)
    monkeypatch.setattr(live, "fit_dense", fit)
    monkeypatch.setattr(live, "_needed", lambda *_: ["Fz"])
    aims: list[float] = []
    monkeypatch.setattr(
        live, "choose_threshold", lambda *given: (aims.append(given[2]), choose_threshold(*given))[1]
    )
    config = CalibrateConfig(
        cue=("a:6", "b:6"),
        rounds=3,
        settle_s=settle_s,
        hop_s=0.5,
        person="p",
        seed=9,
        wrong=0.2,
        aliases=("X=Fz",),
    )
    how = StreamedAs("statistics", "zscore", 2.0, 0.5, 5.0)
    model: Any = network("light", n_chans=1)
    trained = TrainedModel(model, ("Fz",), 128.0, "quantile95", 2.0, PreprocessingConfig(), "m", "0", "feed")
    taken: Any = SimpleNamespace(began_s=3.0, now_s=60.0, given=STEPS, bad_s={})
    source: Any = SimpleNamespace(name="cap", ch_names=["Fz"])
    made = live.fit_session(tmp_path, source, trained, taken, config, how, {"gaps": 1})
    assert made is not None

    assert (asked["recording"], asked["begin_s"]) == (tmp_path / live.RECORDING, 3.0)
    streaming = asked["config"]
    assert (streaming.person, streaming.hop_s, streaming.aliases) == ("p", 0.5, ("X=Fz",))
    blocks = {
        number: [t for t in ends if t - 2 >= step.begin_s + settle_s and t <= step.end_s]
        for number, step in enumerate(STEPS)
    }
    apart = {number: [t for t in found if (t - found[0]) % 2 == 0] for number, found in blocks.items()}
    turns = [[0, 1], [3, 2], [4, 5]]  # the first, second and third block of each class
    assert len(fits) == 4
    for given, left_out in zip(fits, [*turns, []]):
        features, y, groups, classes, protocol, kind, views, seed = given
        learnt = [(t, number) for number in apart if number not in left_out for t in apart[number]]
        assert features.tolist() == [[t, -t] for t, _ in learnt]
        assert y.tolist() == [0 if STEPS[number].label == "a" else 1 for _, number in learnt]
        how_manieth = {number: str(i) for i, turn in enumerate(turns) for number in turn}
        assert groups.tolist() == [how_manieth[number] for _, number in learnt]
        assert (classes, protocol, kind, views, seed) == (("a", "b"), "linear", "statistics", {}, 9)

    n_windows = sum(map(len, blocks.values()))
    assert made.report["validation"]["n_windows"] == len(made.judged.probabilities) == n_windows
    assert made.report["recorded"] == {"gaps": 1}
    facts = DenseHead.load(tmp_path / live.HEAD).facts
    expected = {
        "features": "statistics", "scaling": "zscore", "window_s": 2.0, "hop_s": 0.5, "calibration_s": 5.0,
        "target": "blocks", "protocol": "linear", "person": "p", "ch_names": ["Fz"], "model_sha256": "feed",
        "enter": made.threshold.enter, "leave": made.threshold.leave, "n_subjects": 1, "c": 2.0,
    }  # fmt: skip
    assert {name: facts[name] for name in expected} == expected
    assert asked["facts"].items() <= facts.items(), "the stream that was judged is the one that is kept"
    assert facts["validation"] == json.loads((tmp_path / live.REPORT).read_text())["validation"]
    assert aims == [0.2]


@pytest.mark.parametrize("begin_s", [0.0, 1.5, 4.25])
def test_the_baseline_of_a_session_begins_with_the_session(
    begin_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded before the contact was good is not heard; and nobody waits for what is there."""
    monkeypatch.setattr("eegm2.deploy.live.source.time.sleep", lambda s: pytest.fail(f"waits {s} s"))
    names, rate_hz = ("Fz", "Cz", "Pz"), 128.0
    x = eeg(3, 128 * 12)
    x[:, : round(begin_s * rate_hz)] *= 30
    model = network("light")
    trained = TrainedModel(
        model, names, rate_hz, "zscore", 1.0, PreprocessingConfig(channels=names), "m", "0"
    )
    facts = {"window_s": 1.0, "features": "statistics", "scaling": "zscore", "calibration_s": 3.0}
    found = []
    for number, (signal, begin) in enumerate(((x, begin_s), (x[:, round(begin_s * rate_hz) :], 0.0))):
        file = write_edf(tmp_path / f"{number}.edf", signal[:, : signal.shape[1] // 128 * 128], names)
        source = RecordingSource(file, speed=0.0)
        source.open()
        config = StreamConfig(calibration=str(tmp_path / f"{number}.json"))
        found.append(streamed_features(file, source, trained, config, facts, begin_s=begin))
        source.close()
    assert found[0][0]["time_s"] == pytest.approx(begin_s + found[1][0]["time_s"], abs=1e-6)
    assert len(found[1]) > 5
    for one, other in zip(found[0], found[1][:-2]):  # the last are of a stream that ends
        np.testing.assert_allclose(one["features"], other["features"], atol=5e-3)
    scales = [Calibration.load(tmp_path / f"{number}.json") for number in (0, 1)]
    np.testing.assert_allclose(scales[0].scale_uv, scales[1].scale_uv, rtol=0.01)
    assert [scale.baseline_s for scale in scales] == [3.0, 3.0]


ASKED: dict[str, Any] = {"features": "covariance", "scaling": "robust", "window_s": 1.5, "hop_s": 0.25}


@pytest.mark.parametrize("given", [(), *((name,) for name in ASKED), tuple(ASKED)], ids=" ".join)
def test_a_session_is_streamed_as_it_is_asked_else_as_the_model_was_trained(given: tuple[str, ...]) -> None:
    model: Any = network("light")
    own = TrainedModel(model, ("Fz", "Cz", "Pz"), 128.0, "zscore", 3.0, PreprocessingConfig(), "m", "0")
    config = CalibrateConfig(baseline_s=7.0, **{name: ASKED[name] for name in given})
    how = live._how(own, config)
    usual = {"features": "statistics", "scaling": "zscore", "window_s": 3.0, "hop_s": 0.5}
    expected = usual | {name: ASKED[name] for name in given} | {"calibration_s": 7.0}
    assert {name: getattr(how, name) for name in expected} == expected
    assert (how.adapt_s, how.centre) == (0.0, "none")


@pytest.mark.parametrize("contact", ["refuse", "warn"])
def test_a_session_waits_for_the_channels_that_the_model_needs(
    contact: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And asks for its cues there and back, after a baseline a second longer than what is measured."""
    kept: list[Any] = []
    stop = SimpleNamespace(is_set=lambda: True)
    monkeypatch.setattr(live, "run_recorder", lambda *given: kept.extend(given))
    model: Any = network("light", n_chans=2)
    config = PreprocessingConfig(channels=("Fz", "Pz"))
    own = TrainedModel(model, ("Fz", "Pz"), 128.0, "zscore", 2.0, config, "m", "0")
    source: Any = SimpleNamespace(
        name="cap",
        ch_names=["Pz", "extra", "EEG Fz", "Cz"],
        sfreq_hz=256.0,
        open=lambda: None,
        close=lambda: None,
    )
    asked = CalibrateConfig(
        cue=("a:6", "b:5"),
        rounds=2,
        pause_s=1.0,
        baseline_s=8.0,
        contact=contact,
        contact_s=12.0,
        max_gap_s=0.5,
    )
    assert live.calibrate(source, own, tmp_path, asked, say=print, stop=stop) is None  # type: ignore[arg-type]
    taken = kept[1]
    assert taken.contact == Contact(["Pz", "EEG Fz"], 12.0, contact == "refuse")
    assert (taken.max_gap_s, taken.sfreq_hz, taken.ch_names) == (0.5, 256.0, source.ch_names)
    steps = [(step.begin_s, step.length_s, step.label, step.kept) for step in taken._steps]
    assert steps == [
        (0.0, 9.0, "baseline", False), (10.0, 6.0, "a", True), (17.0, 5.0, "b", True), (23.0, 5.0, "b", True),
        (29.0, 6.0, "a", True),
    ]  # fmt: skip
