"""Markers of other programs lie at the sample of their time, whatever order things arrive in."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eegm2.deploy.config import RecordConfig
from eegm2.deploy.live import lsl_markers
from eegm2.deploy.live.lsl_markers import LslMarkers
from eegm2.deploy.live.placing import Placing
from eegm2.deploy.live.record import record
from eegm2.deploy.live.recorder import Recorder
from eegm2.deploy.live.source import Chunk, SourceLost
from eegm2.errors import ConfigError
from tests.deploy.live.test_live import NAMES, RATE, Fake, microvolts
from tests.deploy.live.test_record import labels


def stamped(times_s: np.ndarray) -> Placing:
    placing = Placing(RATE)
    for first in range(0, len(times_s), 16):
        placing.push(first, times_s[first : first + 16])
    return placing


def test_an_event_lies_at_the_sample_of_its_time() -> None:
    true = 100 + np.arange(1280) / RATE
    placing = stamped(true + 0.003 * np.random.default_rng(0).standard_normal(1280))
    assert [placing.place(100 + k / RATE) for k in (0, 7, 640, 1279)] == pytest.approx(
        [0, 7, 640, 1279], abs=1
    )
    assert placing.place(99.0) == 0, "before the first sample"
    assert placing.place(100 + 1281 / RATE) is None, "its sample is yet to come"


def test_senders_in_bursts_do_not_move_events() -> None:
    true = 100 + np.arange(1280) / RATE
    polls = np.ceil(true / 0.2) * 0.2
    assert stamped(polls).place(100 + 700 / RATE) == pytest.approx(700, abs=2)


def test_an_event_within_a_gap_lies_at_its_end() -> None:
    placing = stamped(np.arange(320) / RATE)
    placing.join()
    placing.push(320, 10 + np.arange(64) / RATE)
    assert placing.place(5.0) == 320
    assert placing.place(10 + 20 / RATE) == 340
    assert placing.place(1.0) == 128, "it came late"


class Late:
    """Markers that come before, with and after their samples."""

    def __init__(self, *batches: list[tuple[float, str]]) -> None:
        self.batches = list(batches)

    def poll(self) -> list[tuple[float, str]]:
        return self.batches.pop(0) if self.batches else []


def test_markers_become_labels_wherever_they_come(tmp_path: Path) -> None:
    said: list[str] = []
    markers = Late([(9.5, "early"), (6.0, "soon")], [(5.25, "late")], [])
    recorder = Recorder(
        tmp_path / "m.edf", list(NAMES), RATE, max_gap_s=0.25, markers=markers, say=said.append
    )
    x, times = microvolts(640), 5 + np.arange(640) / RATE
    for first in range(0, 640, 64):
        recorder.push(Chunk(x[:, first : first + 64], times[first : first + 64]))
    recorder.close()
    found = labels(tmp_path / "m.edf")
    assert sorted(found)[:3] == [(0.25, 0.0, "late"), (1.0, 0.0, "soon"), (4.5, 0.0, "early")]
    assert recorder.counts["markers"] == 3
    assert any("marker: soon" in line for line in said)


class FakeInlet:
    def __init__(self, info: Any, processing_flags: int = 0) -> None:
        self.info, self.flags = info, processing_flags

    def open_stream(self, timeout: float) -> None: ...

    def pull_chunk(self, timeout: float) -> tuple[list, list]:
        assert self.flags == 4, "clock offsets are taken off"
        return [["go"], [7], [""]], [2.0, 1.0, 3.0]


class FakeLsl:
    proc_clocksync, StreamInlet = 4, FakeInlet

    def __init__(self, *streams: tuple[str, str]) -> None:
        self.streams = streams

    def local_clock(self) -> float:
        return 1000.0

    def resolve_byprop(self, key: str, value: str, minimum: int, timeout: float) -> list[Any]:
        found = [dict(zip(("name", "type"), stream)) for stream in self.streams]
        return [
            SimpleNamespace(uid=lambda s=s: str(s), name=lambda s=s: s["name"], type=lambda s=s: s["type"])
            for s in found
            if s[key] == value
        ]


def test_streams_are_found_by_name_or_type(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeLsl(("cues", "Markers"), ("buttons", "Markers"), ("eegm2-x", "eegm2-probabilities"))
    monkeypatch.setattr(lsl_markers, "configured_pylsl", lambda reach: fake)
    assert LslMarkers(["cues"]).names == ["cues"]
    assert LslMarkers(["Markers"]).names == ["cues", "buttons"]
    assert LslMarkers(["cues"]).poll() == [(1.0, "7"), (2.0, "go")]
    with pytest.raises(SourceLost, match="markers: no LSL stream has the name or type 'none' within 0 s"):
        LslMarkers(["none"], resolve_s=0.0)
    with pytest.raises(SourceLost, match="no LSL stream has the name or type 'eegm2-x'"):
        LslMarkers(["eegm2-x"], resolve_s=0.0)
    monkeypatch.setattr(lsl_markers.time, "time", lambda: 1_700_000_000.0)
    assert LslMarkers(["cues"], unix=True).poll()[0] == (1_699_999_001.0, "7")


def test_a_file_has_no_clock_for_markers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="markers: headset has no clock that LSL's markers could be put on"):
        record(Fake([]), tmp_path / "a.edf", RecordConfig(markers=("Markers",)), say=lambda text: None)


def test_real_streams_on_loopback(tmp_path: Path) -> None:
    pylsl = pytest.importorskip("pylsl")
    from eegm2.deploy.live.lsl import LslOutlet, LslSource, load_pylsl

    load_pylsl()
    name = f"markers-{os.getpid()}"
    eeg = LslOutlet(f"{name}-eeg", "EEG", list(NAMES), RATE, "microvolts")
    info = pylsl.StreamInfo(name, "Markers", 1, 0, "string", f"{name}-id")
    events = pylsl.StreamOutlet(info)
    began, x = pylsl.local_clock(), microvolts(512)

    def send() -> None:
        assert eeg._outlet.wait_for_consumers(60)
        assert events.wait_for_consumers(60)
        events.push_sample(["left hand"], began + 100 / RATE)
        for first in range(0, 512, 32):
            eeg.push(x[:, first : first + 32], began + (first + 31) / RATE)
            if first == 256:
                events.push_sample(["right hand"], began + 200 / RATE)
            threading.Event().wait(0.02)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    source = LslSource(f"{name}-eeg", resolve_s=60)
    config = RecordConfig(markers=(name,), duration_s=3.5, reconnect_s=0, timeout_s=60, chunk_s=0.125)
    facts = record(source, tmp_path / "m.edf", config, say=lambda text: None)
    sender.join(30)
    assert facts["markers"] == 2
    found = {label: onset for onset, _, label in labels(tmp_path / "m.edf")}
    first = float(np.abs(np.array([found["left hand"] * RATE - 100, found["right hand"] * RATE - 200])).max())
    assert first <= 2, found
