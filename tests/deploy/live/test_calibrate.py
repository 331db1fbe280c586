"""A guided calibration ends in a head that streams as it was judged, or in one line that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.deploy.config import StreamConfig
from eegm2.deploy.device.calibration import Calibration
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.live.blocks import BlockWindows
from eegm2.deploy.live.calibrate import calibrate
from eegm2.deploy.live.config import CalibrateConfig
from eegm2.deploy.live.judged import choose_threshold, judge
from eegm2.deploy.live.plan import Step, rounds_of
from eegm2.deploy.trained_model import load_trained
from eegm2.errors import ConfigError, DataError
from tests.data.samples import write_edf
from tests.deploy.helpers import checkpoint

NAMES = ("Fz", "Cz", "Pz")
RATE = 250.0
#: After 2 s of contact: a baseline of 5 s (one of them spare), then a pause of 1 s before each block of 8 s.
PLAN = rounds_of([("rest", 8.0), ("task", 8.0)], 3, 1.0, baseline_s=5.0, there_and_back=True)
OPTIONS = (
    *("--cue", "rest:8", "--cue", "task:8", "--rounds", "3", "--pause-s", "1", "--baseline-s", "4"),
    *("--speed", "0", "--settle-s", "0.5"),
)


def session(task_uv: float = 25.0, seconds: float = 70.0, seed: int = 0) -> np.ndarray:
    """EEG of somebody who does what is asked: alpha in the blocks of the task."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    noise = rng.standard_normal((3, len(t))).cumsum(1)
    noise = 10 * (noise - noise.mean(1, keepdims=True)) / noise.std(1, keepdims=True)
    does = np.zeros(len(t), bool)
    for step in PLAN:
        if step.label == "task":
            does |= (t >= 2 + step.begin_s) & (t < 2 + step.end_s)
    alpha = np.sin(2 * np.pi * 10 * t) * np.where(does, task_uv, 3.0)
    return noise + alpha + 5 * rng.standard_normal((3, len(t)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    return str(checkpoint(folder / "m.safetensors", "light", ch_names=NAMES))


def run(model: str, source: Path, out: Path, *more: str) -> str:
    command = ["calibrate", "--source", str(source), "--model", model, "--out", str(out), *OPTIONS, *more]
    done = CliRunner().invoke(app, command)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_a_session_ends_in_a_head_that_streams_as_it_was_judged(model: str, tmp_path: Path) -> None:
    source = write_edf(tmp_path / "in.edf", session(), NAMES, sfreq_hz=RATE)
    out = tmp_path / "ann"
    said = run(model, source, out, "--person", "ann")
    assert "now: baseline (5 s)" in said
    assert said.count("now: task (8 s)") == 3
    assert "rest, task: fitted on 18 windows of 6 blocks" in said
    assert f"next: eegm2 stream --source {source} --person ann --model {model} --head {out}" in said
    names = sorted(path.name for path in out.iterdir())
    assert names == ["calibration.json", "head.safetensors", "recording.edf", "report.json"]
    report = json.loads((out / "report.json").read_text())
    low, high = report["validation"]["balanced_accuracy_ci95"]
    score = report["validation"]["metrics"]["balanced_accuracy"]
    assert 0.75 < score <= 1
    assert low <= score <= high
    assert f"balanced accuracy {score:.3f} [{low:.3f}, {high:.3f}] on blocks left out" in said
    labels = [span.label for span in annotation_labels(read_raw(out / "recording.edf"))]
    assert labels[:6] == ["rest", "task", "task", "rest", "rest", "task"], "every second round goes backwards"

    head = DenseHead.load(out / "head.safetensors")
    assert Calibration.load(out / "calibration.json").person == "ann"
    assert (head.facts["calibration_s"], head.facts["enter"]) == (4.0, report["threshold"]["enter"])
    lines = tmp_path / "o.jsonl"
    command = ["stream", "--source", str(out / "recording.edf"), "--model", model, "--speed", "0"]
    command += ["--head", str(out / "head.safetensors"), "--calibration", str(out / "calibration.json")]
    done = CliRunner().invoke(app, [*command, "--person", "ann", "--out", str(lines)])
    assert done.exit_code == 0, done.output
    decisions = [json.loads(line) for line in lines.read_text().splitlines() if '"decision"' in line]
    right = 0
    for step in report["given"]:
        inside = [d for d in decisions if step["begin_s"] + 2.5 <= d["time_s"] <= step["begin_s"] + 8]
        p = np.mean([d["probabilities"][head.classes.index(step["label"])] for d in inside])
        right += p > 0.5
    assert right == 6
    assert {d["calibration"] for d in decisions} == {report["calibration"]}


def test_the_features_are_those_of_the_stream(model: str, tmp_path: Path) -> None:
    """What the head is fitted on is what it meets on the stream of the same samples with the same scale."""
    from eegm2.deploy.live.blocks import streamed_features
    from eegm2.deploy.live.pipeline import Pipeline
    from eegm2.deploy.live.source import RecordingSource

    file = write_edf(tmp_path / "in.edf", session(seconds=20), NAMES, sfreq_hz=RATE)
    source, trained = RecordingSource(file, speed=0), load_trained(model)
    source.open()
    facts = {"window_s": 2.0, "features": "statistics", "scaling": "quantile95", "calibration_s": 4.0}
    config = StreamConfig(calibration=str(tmp_path / "c.json"))
    made = streamed_features(file, source, trained, config, facts, begin_s=0.0)
    rng = np.random.default_rng(0)
    layers = [(rng.standard_normal((2, 288)), np.zeros(2))]
    head = DenseHead(np.zeros(288), np.full(288, 50.0), layers, ("a", "b"), facts=facts)
    pipeline = Pipeline(trained, StreamConfig(), head)
    pipeline.connect(source)
    decided = []
    while (chunk := source.read(37, 0.0)) is not None:
        decided += pipeline.push(chunk).decisions
    decided += pipeline.finish().decisions
    assert [d["time_s"] for d in decided] == pytest.approx([w["time_s"] for w in made])
    for window, decision in zip(made, decided, strict=True):
        np.testing.assert_allclose(head(window["features"][None])[0], decision["probabilities"], atol=2e-5)


def test_bad_contact_is_refused_before_anything_is_asked(model: str, tmp_path: Path) -> None:
    x = session()
    x[1] = 3.0
    source, out = write_edf(tmp_path / "in.edf", x, NAMES, sfreq_hz=RATE), tmp_path / "ann"
    with pytest.raises(DataError, match=r"^contact: Cz flat after 6 s; mend the electrodes and begin again"):
        run(model, source, out, "--contact-s", "5")
    assert not out.exists()
    x = session()
    x[1, round(20 * RATE) :] = 3.0
    source = write_edf(tmp_path / "later.edf", x, NAMES, sfreq_hz=RATE)
    with pytest.raises(DataError, match=r"^contact: Cz bad for more than half of the session; .*kept in"):
        run(model, source, out)
    assert read_raw(out / "recording.edf").n_times > 60 * RATE
    assert sorted(path.name for path in out.iterdir()) == ["recording.edf"]
    with pytest.raises(ConfigError, match="is there already; name a new folder"):
        run(model, source, out)


def test_too_little_and_one_class_are_refused(model: str, tmp_path: Path) -> None:
    source = write_edf(tmp_path / "in.edf", session(seconds=36), NAMES, sfreq_hz=RATE)
    with pytest.raises(
        DataError, match=r"^blocks: 1 usable block of rest \(3 blocks were complete\); a head needs 2"
    ):
        run(model, source, tmp_path / "a")
    with pytest.raises(ConfigError, match=r"cue: got rest; expected two classes or more, each named once"):
        CalibrateConfig(cue=("rest:8",))
    with pytest.raises(ConfigError, match=r"cue: got rest, rest; expected two classes"):
        CalibrateConfig(cue=("rest:8", "rest:8"))
    with pytest.raises(ConfigError, match=r"rounds: got 1, expected at least 2 blocks of each class"):
        CalibrateConfig(rounds=1)
    with pytest.raises(ConfigError, match=r"cue: blocks of 2 s hold no window of 2 s after the first 0.5 s"):
        run(model, source, tmp_path / "b", "--cue", "a:2", "--cue", "b:2")
    with pytest.raises(DataError, match="missing 1 of 3 channels: Pz"):
        run(model, write_edf(tmp_path / "x.edf", session()[:2], NAMES[:2], sfreq_hz=RATE), tmp_path / "c")


def test_noise_is_said_to_be_no_better_than_guessing(model: str, tmp_path: Path) -> None:
    source = write_edf(tmp_path / "in.edf", session(task_uv=3.0), NAMES, sfreq_hz=RATE)
    said = run(model, source, tmp_path / "ann")
    report = json.loads((tmp_path / "ann" / "report.json").read_text())
    assert report["validation"]["balanced_accuracy_ci95"][0] < 0.5
    assert "no better than guessing, as far as these blocks tell" in said


def test_stopping_keeps_the_recording(model: str, tmp_path: Path) -> None:
    import threading

    from eegm2.deploy.live.source import RecordingSource

    source = RecordingSource(write_edf(tmp_path / "in.edf", session(), NAMES, sfreq_hz=RATE), speed=0)
    stop, said = threading.Event(), []

    def say(text: str) -> None:
        said.append(text)
        if "now: task" in text:
            stop.set()

    config = CalibrateConfig(cue=("rest:8", "task:8"), pause_s=1, baseline_s=4, speed=0)
    assert calibrate(source, load_trained(model), tmp_path / "ann", config, say=say, stop=stop) is None
    assert sorted(path.name for path in (tmp_path / "ann").iterdir()) == ["recording.edf"]


def windows(right: np.ndarray) -> tuple[BlockWindows, np.ndarray]:
    """Four blocks of ten windows; probabilities of the class that is there."""
    block = np.repeat(np.arange(4), 10)
    y = block % 2
    p = np.where(y == 1, right, 1 - right)
    made = BlockWindows(right[:, None], y, block, block // 2, np.ones(40, bool))
    return made, np.stack([1 - p, p], axis=1)


def test_the_threshold_is_the_lowest_that_is_right_often_enough() -> None:
    right = np.tile([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.35, 0.35], 4)
    made, p = windows(right)
    found = choose_threshold(made, p, 0.1)
    assert (found.enter, found.leave, found.reached) == (0.7, 0.6, True)
    assert (found.decided, found.wrong) == (0.8, 0.0)
    assert choose_threshold(made, p, 0.25).enter == 0.5
    never, p = windows(np.full(40, 0.3))
    assert not choose_threshold(never, p, 0.1).reached


def test_blocks_that_judge_are_not_learnt_from() -> None:
    made, _ = windows(np.full(40, 0.9))
    seen: list[set[int]] = []

    def fit(some: np.ndarray):
        seen.append(set(made.block[some].tolist()))
        return lambda features: np.full((len(features), 2), 0.5)

    judge(made, ("a", "b"), fit)
    assert seen == [{2, 3}, {0, 1}]


def test_a_plan_goes_there_and_back() -> None:
    steps = rounds_of([("a", 2.0), ("b", 3.0)], 2, 1.0, baseline_s=4.0, there_and_back=True)
    assert steps == [
        Step(0.0, 4.0, "baseline", kept=False),
        Step(5.0, 2.0, "a"),
        Step(8.0, 3.0, "b"),
        Step(12.0, 3.0, "b"),
        Step(16.0, 2.0, "a"),
    ]
