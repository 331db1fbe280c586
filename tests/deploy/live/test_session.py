"""A long session with dropouts and lost samples: nothing crashes, nothing is invented, every gap is counted.

Samples are lost one by one (2 %) and in dropouts of 1 to 20 s, in half of which the source goes away and
comes back. The stream, the bundle and a recording of the same session must all tell of it what was lost.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.data.joins import JOIN
from eegm2.deploy.config import ExportConfig, RecordConfig, StreamConfig
from eegm2.deploy.export.run import export_model
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.live.clock import ClockTracker
from eegm2.deploy.live.pipeline import Pipeline
from eegm2.deploy.live.record import record
from eegm2.deploy.live.runner import run_stream
from eegm2.deploy.live.source import Chunk, SourceLost
from eegm2.deploy.trained_model import TrainedModel, load_trained
from tests.data.samples import eeg
from tests.deploy.helpers import checkpoint
from tests.deploy.live.test_live import RATE, Collect, Fake

Decoder: Any = pytest.importorskip("eegm2.deploy.export.decoder", exc_type=ImportError).Decoder

NAMES = ("Fz", "Cz", "Pz", "Oz")
WINDOW_S, LOST = 2.0, 0.02


@dataclass
class Session:
    """Which samples of a session arrived, and where it broke off.

    Attributes
    ----------
    x : array, shape (n_chans, n)
        Everything that the device measured.
    there : array of bool, shape (n,)
    away : list of (int, int)
        Dropouts in which the source went away; the samples of the others are just missing.
    long : list of (int, int)
        All dropouts.
    """

    x: np.ndarray
    there: np.ndarray
    away: list[tuple[int, int]]
    long: list[tuple[int, int]]


def session(seconds: float, dropouts: int, seed: int = 0) -> Session:
    rng, n = np.random.default_rng(seed), round(seconds * RATE)
    there = rng.random(n) >= LOST
    lasts = rng.uniform(1, 20 if seconds > 600 else 4, dropouts)
    starts = np.linspace(12, seconds - 30, dropouts) + rng.uniform(0, 3, dropouts)
    long = [(round(a * RATE), round((a + b) * RATE)) for a, b in zip(starts, lasts)]
    for begin, end in long:
        there[begin:end] = False
        there[[begin - 1, end]] = True  # so that a dropout is as long as it says
    there[:8] = there[-8:] = True
    return Session(eeg(len(NAMES), n, seed=seed), there, long[::2], long)


def arrivals(made: Session, *, clock: bool = False) -> list[Chunk | SourceLost]:
    """Return what a source gives: gaps by the device's counter, or by the stamps alone."""
    usual = 16 if len(made.there) < 60_000 else 160
    index, items = np.flatnonzero(made.there), []
    ends = [end for _, end in made.away]
    tracker, first, fresh = ClockTracker(RATE), 0, False
    held = np.zeros(0, int)
    while first < len(index):
        size = usual
        part = index[first : first + size]
        later = [end for end in ends if part[0] < end <= part[-1]]
        if later:
            part = part[part < later[0]]
        elif part[0] in ends:
            items.append(SourceLost("headset: lost"))
            tracker, fresh, held = ClockTracker(RATE), True, np.zeros(0, int)
        times = part / RATE
        if clock:
            gaps = tracker.push(times)
            every = np.concatenate([held, part])
            known = len(every) - tracker.undecided
            part, held = every[:known], every[known:]
        else:
            before = -1 if first == 0 else index[first - 1]
            missing = np.diff(np.concatenate([[before], part])) - 1
            missing[0] *= not fresh
            gaps = tuple((int(i), int(missing[i])) for i in np.flatnonzero(missing))
        first += min(size, len(times))
        if len(part):
            items.append(Chunk(made.x[:, part], part / RATE, gaps, fresh))
            fresh = False
    return items


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, DenseHead, Path]:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("session")
    trained = load_trained(checkpoint(folder / "m.safetensors", "light", ch_names=NAMES))
    layers = [(np.random.default_rng(0).standard_normal((2, 288)) / 20, np.zeros(2))]
    facts = {"window_s": WINDOW_S, "hop_s": 0.5, "calibration_s": 4.0, "scaling": "quantile95"}
    head = DenseHead(np.zeros(288), np.ones(288), layers, ("a", "b"), facts=facts)
    export_model(trained, folder / "device", ExportConfig(hop=32), head)
    return trained, head, folder / "device" / "bundle.onnx"


def crossing(decisions: list[dict], made: Session, tolerance_s: float = 0.0) -> list[float]:
    """Return the times of decisions on windows that hold samples of both sides of a dropout."""
    ends = np.array([decision["time_s"] for decision in decisions])
    begins = ends - WINDOW_S
    bad = np.zeros(len(ends), bool)
    for first, last in made.long:
        bad |= (begins < first / RATE - tolerance_s) & (ends > last / RATE + tolerance_s)
        bad |= (ends > first / RATE + tolerance_s + 0.5) & (ends < last / RATE - tolerance_s)
    return ends[bad].tolist()


def check_stream(made: Session, place: tuple[TrainedModel, DenseHead, Path], *, clock: bool) -> list[dict]:
    config, sink = StreamConfig(reconnect_s=2, timeout_s=5), Collect()
    source = Fake(arrivals(made, clock=clock), names=[list(NAMES)])
    statistics = run_stream(source, Pipeline(place[0], config, place[1]), [sink], config)
    decisions = [decision for o in sink.outputs for decision in o.decisions]
    times = [decision["time_s"] for decision in decisions]
    assert len(decisions) > 50
    assert all(a < b for a, b in itertools.pairwise(times)), "time goes on"
    assert all(np.isfinite(decision["probabilities"]).all() for decision in decisions)
    assert statistics["reconnects"] == len(made.away)
    arrived = int(made.there.sum())
    gone = sum(end - begin for begin, end in made.away)
    missing = len(made.there) - arrived - gone
    if clock:
        learning = 12 * (1 + len(made.away))  # in the first seconds of each connection the clock is not known
        assert statistics["missing"] == pytest.approx(missing, rel=0.01, abs=learning)
        assert not crossing(decisions, made, tolerance_s=0.1)
        return decisions
    assert statistics["missing"] == missing
    assert statistics["samples"] == arrived + statistics["interpolated"]
    assert statistics["restarts"] == len(made.long)
    runs = np.flatnonzero(np.diff(made.there.astype(int)) == -1)
    assert statistics["gaps"] + statistics["reconnects"] == len(runs)
    assert not crossing(decisions, made)
    return decisions


def check_bundle(made: Session, place: tuple[TrainedModel, DenseHead, Path], streamed: list[dict]) -> None:
    decoder, decided = Decoder(place[2]), []
    index = np.flatnonzero(made.there)
    missing = np.diff(np.concatenate([[-1], index])) - 1
    cuts = [*np.flatnonzero(missing).tolist(), len(index)]
    for first, last in zip([0, *cuts], cuts):
        if last > first:
            part = index[first:last]
            lost = int(missing[first])
            decided += decoder.push(made.x[:, part], last_s=part[-1] / RATE, missing=lost)
    decided += decoder.flush()
    counts = decoder.counts
    assert counts["missing"] == int((~made.there).sum())
    assert counts["gaps"] == len(cuts) - 1
    assert counts["restarts"] == len(made.long)
    assert counts["samples"] == int(made.there.sum()) + counts["interpolated"]
    assert not crossing(decided, made)
    theirs = {round(d["time_s"], 4): d["probabilities"] for d in streamed}
    ours = {round(d["time_s"], 4): d["probabilities"] for d in decided}
    assert set(ours) <= set(theirs)
    # before a gap a step of 32 samples may wait for some that never come
    assert len(theirs) - len(ours) <= len(made.long)
    for time_s, probabilities in ours.items():
        np.testing.assert_allclose(probabilities, theirs[time_s], atol=2e-4)


def check_recording(made: Session, path: Path) -> None:
    source = Fake(arrivals(made), names=[list(NAMES)])
    facts = record(source, path, RecordConfig(reconnect_s=2), say=lambda text: None)
    raw = read_raw(path)
    labels = [span.label for span in annotation_labels(raw)]
    assert labels.count(JOIN) == len(made.long)
    assert labels.count("BAD filled") == facts["gaps"] - (len(made.long) - len(made.away))
    assert set(labels) <= {JOIN, "BAD filled", "bad_padding"}, "nothing else was invented"
    arrived = int(made.there.sum())
    assert raw.n_times >= arrived + facts["filled"] > raw.n_times - 60 * RATE
    gone = sum(end - begin for begin, end in made.away)
    assert facts["lost"] == len(made.there) - arrived - gone


def check_everything(made: Session, place: tuple[TrainedModel, DenseHead, Path], tmp_path: Path) -> None:
    streamed = check_stream(made, place, clock=False)
    check_stream(made, place, clock=True)
    check_bundle(made, place, streamed)
    check_recording(made, tmp_path / "r.bdf")


def test_two_minutes_with_dropouts(place: tuple[TrainedModel, DenseHead, Path], tmp_path: Path) -> None:
    check_everything(session(120, 3), place, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_hour_with_ten_dropouts(place: tuple[TrainedModel, DenseHead, Path], tmp_path: Path) -> None:
    made = session(3600, 10)
    assert [1 <= (end - begin) / RATE <= 20 for begin, end in made.long] == [True] * 10
    check_everything(made, place, tmp_path)
