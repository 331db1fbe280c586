"""Laws of inlets and LSL: a sample keeps its time, channel and unit from the device to who takes it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eegm2.deploy.live import brainflow, lsl, sinks, source
from eegm2.deploy.live.brainflow import BrainflowSource
from eegm2.deploy.live.lsl import LslSource
from eegm2.deploy.live.outputs import Outputs
from eegm2.deploy.live.sinks import Layout, LslSink, open_sink
from eegm2.deploy.live.source import RecordingSource
from tests.data.samples import eeg, write_edf

RATE_HZ = 100.0


class Lsl:
    """As much of pylsl as a source of one stream needs."""

    proc_clocksync = 1
    util = SimpleNamespace(TimeoutError=TimeoutError, LostError=ConnectionError, InternalError=RuntimeError)

    def __init__(self, stamps: np.ndarray) -> None:
        self.stamps, self.at = stamps, 0
        self.info = SimpleNamespace(
            name=lambda: "cap", source_id=lambda: "A1", type=lambda: "EEG", uid=lambda: "u",
            nominal_srate=lambda: RATE_HZ, channel_count=lambda: 3,
        )  # fmt: skip

    def resolve_byprop(self, *_: Any, **__: Any) -> list[Any]:
        return [self.info]

    def StreamInlet(self, info: Any, **options: Any) -> Any:
        assert options["processing_flags"] == self.proc_clocksync
        return SimpleNamespace(
            info=lambda timeout: info, open_stream=lambda timeout: None, pull_chunk=self.pull_chunk
        )

    def pull_chunk(self, timeout: float, max_samples: int) -> tuple[list[list[float]], list[float]]:
        begin, self.at = self.at, min(self.at + max_samples, len(self.stamps))
        rows = np.round((self.stamps[begin : self.at] - self.stamps[0]) * RATE_HZ)
        return [[n, 1000 + n, 2000 + n] for n in rows], self.stamps[begin : self.at].tolist()


@pytest.mark.parametrize(("given", "factors"), [("", (1e6, 1.0, 1e3)), ("nV", (1e-3, 1e-3, 1e-3))])
def test_an_lsl_sample_keeps_its_stamp_and_each_channel_its_unit(
    given: str, factors: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is kept back until it is clear whether something is missing; a unit that is given counts."""
    stamps = 40 + np.delete(np.arange(1500), np.s_[900:960]) / RATE_HZ
    fake = Lsl(stamps)
    for name in ("configured_pylsl", "load_pylsl"):
        monkeypatch.setattr(lsl, name, lambda *_: fake)
    monkeypatch.setattr(lsl, "_channels", lambda info: (["A", "B", "C"], ["V", "uV", "mV"]))
    inlet = LslSource(unit=given)
    inlet.open()
    parts, gaps, fresh, at = [], [], [], 0
    while fake.at < len(stamps):
        chunk = inlet.read(7, 0.0)
        assert chunk is not None
        gaps += [(at + index, missing) for index, missing in chunk.gaps]
        at += len(chunk.times_s)
        if len(chunk.times_s):
            parts.append(np.concatenate([chunk.times_s[None], chunk.x_uv]))
            fresh.append(chunk.fresh)
    times_s, *x = np.concatenate(parts, axis=1)
    number = np.round((times_s - 40) * RATE_HZ)
    np.testing.assert_array_equal(times_s, stamps[: len(times_s)])
    for i, row in enumerate(x):
        np.testing.assert_allclose(row, (number + 1000 * i) * factors[i])
    assert gaps == [(900, 60)]
    assert fresh == [True] + [False] * (len(fresh) - 1)
    assert max(len(part.T) for part in parts) > 7, "some were kept back"
    assert inlet.facts()["drift_ppm"] == pytest.approx(1e6 * inlet._clock._slope())
    assert inlet.facts()["jitter_ms"] == pytest.approx(1e3 * inlet._clock.jitter_s)


class Outlet:
    """Notes what would be sent."""

    made: list[Outlet]

    def __init__(self, name: str, kind: str, ch_names: list[str], sfreq_hz: float, unit: str = "") -> None:
        self.about = (kind, ch_names, sfreq_hz, unit)
        self.sent: list[tuple[list[list[float]], float]] = []
        self.made.append(self)

    def push(self, x: np.ndarray, time_s: float) -> None:
        self.sent.append((x.tolist(), time_s))


@pytest.mark.parametrize("reconstructs", [True, False])
@pytest.mark.parametrize("signal_time_s", [None, 7.25])
def test_outlets_state_their_rate_and_send_each_value_with_its_time(
    reconstructs: bool, signal_time_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a representation of one step per 16 samples the rate is a sixteenth; a decision has its own time."""
    monkeypatch.setattr(Outlet, "made", [], raising=False)
    monkeypatch.setattr(lsl, "LslOutlet", Outlet)
    layout = Layout(("Fz", "Cz"), ("a", "b"), 3, reconstructs, 128.0, step_samples=16)
    sink = LslSink(layout)
    decisions = [{"probabilities": [0.2, 0.8], "time_s": 6.5}, {"probabilities": [0.9, 0.1], "time_s": 7.0}]
    x, y = np.arange(8.0).reshape(2, 4), np.arange(3.0)[:, None]
    sink.push(Outputs(9.0, x, x, y, decisions, signal_time_s=signal_time_s))
    signal, classes = Outlet.made
    end_s = 9.0 if signal_time_s is None else signal_time_s
    if reconstructs:
        assert signal.about == ("eegm2-reconstruction", ["Fz", "Cz"], 128.0, "scaled")
        assert signal.sent == [(x.tolist(), end_s)]
    else:
        assert signal.about == ("eegm2-representation", ["f0", "f1", "f2"], 8.0, "scaled")
        assert signal.sent == [(y.tolist(), end_s)]
    assert classes.about == ("eegm2-probabilities", ["a", "b"], 0.0, "")
    assert classes.sent == [([[0.2], [0.8]], 6.5), ([[0.9], [0.1]], 7.0)]


@pytest.mark.parametrize("head", [True, False])
def test_a_network_of_windows_has_no_signal_to_send(head: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outlet, "made", [], raising=False)
    monkeypatch.setattr(lsl, "LslOutlet", Outlet)
    layout = Layout(("Fz",), ("a", "b") if head else None, 3, True, 128.0, decisions_only=True)
    LslSink(layout).push(Outputs(9.0, *[np.zeros((1, 2))] * 3))
    assert [outlet.about[0] for outlet in Outlet.made] == ["eegm2-probabilities"] * head


def test_an_lsl_chunk_goes_out_sample_by_sample_and_its_stamp_is_of_the_last() -> None:
    sent: list[tuple[np.ndarray, float]] = []
    outlet = object.__new__(lsl.LslOutlet)
    outlet._outlet = SimpleNamespace(push_chunk=lambda rows, time_s: sent.append((rows, time_s)))
    outlet.push(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), 2.5)
    outlet.push(np.zeros((2, 0)), 3.5)
    ((rows, time_s),) = sent
    assert (rows.tolist(), rows.dtype, time_s) == ([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], np.float32, 2.5)


def test_an_outlet_describes_its_channels_and_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    pylsl = pytest.importorskip("pylsl")
    made: list[Any] = []
    fake = SimpleNamespace(StreamInfo=pylsl.StreamInfo, StreamOutlet=made.append)
    monkeypatch.setattr(lsl, "load_pylsl", lambda: fake)
    lsl.LslOutlet("name", "eegm2-kind", ["Fz", "Cz"], 12.5, "scaled")
    (info,) = made
    assert (info.name(), info.type(), info.nominal_srate(), info.channel_count()) == (
        "name", "eegm2-kind", 12.5, 2,
    )  # fmt: skip
    assert lsl._channels(info) == (["Fz", "Cz"], ["scaled", "scaled"])
    assert info.source_id()


@pytest.mark.parametrize(("unit", "factor"), [("", 1.0), ("mV", 1e3), ("nV", 1e-3)])
def test_a_board_gives_its_eeg_rows_in_microvolts_with_their_stamps(unit: str, factor: float) -> None:
    """A package that is missing between two reads is a gap of the second; the first is the only fresh one."""
    board = BrainflowSource(unit=unit)
    packages = [np.arange(10), np.arange(12, 20)]

    def data(number: np.ndarray) -> np.ndarray:
        return np.stack([number, 10.0 + number, 99.0 + 0 * number, 20.0 + number, 5 + number / RATE_HZ])

    waiting = list(packages)
    board._shim = SimpleNamespace(
        get_board_data_count=lambda: len(waiting[0]), get_board_data=lambda _: data(waiting.pop(0))
    )
    board._rows, board._stamps, board._counter, board._last = [3, 1], 4, 0, None
    board._factor, board._fresh, board._error = source.unit_factor(unit, ""), True, ValueError
    board.sfreq_hz = RATE_HZ
    for number, gaps, fresh in zip(packages, ((), ((0, 2),)), (True, False)):
        chunk = board.read(4, 0.0)
        assert chunk is not None
        np.testing.assert_allclose(chunk.x_uv, factor * np.stack([20.0 + number, 10.0 + number]))
        np.testing.assert_allclose(chunk.times_s, 5 + number / RATE_HZ)
        assert (chunk.gaps, chunk.fresh) == (gaps, fresh)
    assert (brainflow.BrainflowSource.clock, LslSource.clock) == ("unix", "lsl")


@pytest.mark.parametrize("speed", [0.0, 1.0, 4.0])
def test_a_recording_comes_as_fast_as_it_is_asked_to(
    speed: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At four times the speed a second of it takes a quarter; each sample has its own time in the file."""
    now = [100.0]
    monkeypatch.setattr(
        source, "time",
        SimpleNamespace(monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s)),
    )  # fmt: skip
    x = eeg(2, 640, 128.0)
    played = RecordingSource(write_edf(tmp_path / "r.edf", x, ("Fz", "Cz"), 128.0), speed=speed)
    played.open()
    done = 0
    while (chunk := played.read(48, 0.0)) is not None:
        n = len(chunk.times_s)
        np.testing.assert_allclose(chunk.times_s, np.arange(done, done + n) / 128.0)
        np.testing.assert_allclose(chunk.x_uv, x[:, done : done + n], atol=0.05)
        done += n
        assert now[0] == pytest.approx(100 + (done / 128.0 / speed if speed else 0.0))
    assert done == 640
    closed: list[bool] = []
    monkeypatch.setattr(played._raw, "close", lambda: closed.append(True))
    played.close()
    assert closed == [True]
    RecordingSource("never opened").close()


@pytest.mark.parametrize(
    ("where", "kind"),
    [("lsl", "LslSink"), ("-", "JsonLinesSink"), ("a.jsonl", "JsonLinesSink"), ("a.csv", "CsvSink")],
)
def test_an_outlet_is_of_the_kind_that_its_name_says(
    where: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sink = open_sink(where, Layout(("Fz",), None, 2, True, 128.0))
    assert type(sink).__name__ == kind
    sink.close({})
    assert sorted(path.name for path in tmp_path.iterdir()) == [where] * ("." in where)


def test_what_is_written_says_its_units() -> None:
    """Milliseconds, seconds and samples are told apart where they are told."""
    assert sinks.UNITS_OUT["latency_ms"] == "milliseconds"
    assert sinks.UNITS_OUT["time_s"].startswith("seconds")
    assert sinks.UNITS_OUT["sample"].startswith("samples at sfreq_hz")
