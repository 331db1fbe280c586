"""Laws of outlets: what a stream hands on, and what an export states, is of its sample, column and unit."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import signal

from eegm2.deploy.config import ExportConfig, StreamConfig
from eegm2.deploy.export.bundle import bundle_facts
from eegm2.deploy.export.packing import unpacked
from eegm2.deploy.live.brainflow import BrainflowSource
from eegm2.deploy.live.outputs import Outputs
from eegm2.deploy.live.runner import Reader, Statistics
from eegm2.deploy.live.sinks import CsvSink, JsonLinesSink, Layout
from eegm2.deploy.live.source import Chunk
from tests.laws.test_predictions import NAMES, head_of, trained

RNG = np.random.default_rng(4)

DECISION: dict[str, Any] = {
    "time_s": 1.25, "sample": 160, "probabilities": [0.3, 0.7], "decided": "b", "latency_ms": 12.5,
    "calibration": "abc", "quality": ["flat:Cz", "interpolated"],
}  # fmt: skip


def outputs(n: int, begin: float, **more: Any) -> Outputs:
    """Return outputs whose values tell channel and sample."""
    y = begin + np.arange(n) + 100.0 * np.arange(2)[:, None]
    return Outputs(9.0, np.zeros((2, n)), y, -y[:, : n // 2], **more)


@pytest.mark.parametrize("reconstructs", [True, False])
def test_every_sample_comes_out_once_in_the_column_of_its_channel(reconstructs: bool, tmp_path: Path) -> None:
    layout = Layout(("Fz", "Cz"), None, 2, reconstructs, 128.0)
    table, lines = CsvSink(tmp_path / "a.csv", layout), JsonLinesSink(tmp_path / "a.jsonl", layout)
    for one in (outputs(4, 0.0), outputs(0, 0.0), outputs(6, 4.0, signal_time_s=3.1234567)):
        table.push(one)
        lines.push(one)
    for sink in (table, lines):
        sink.close({"x": 1})
    head, *rows = csv.reader((tmp_path / "a.csv").open())
    assert head == ["index", *(("Fz", "Cz") if reconstructs else ("f0", "f1"))]
    expected = np.arange(10.0) if reconstructs else -np.array([0.0, 1, 4, 5, 6])
    sign = 1 if reconstructs else -1
    found = np.array(rows, float)
    np.testing.assert_array_equal(
        found, np.stack([np.arange(len(expected)), expected, expected + sign * 100], 1)
    )
    told = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert (told[0]["ch_names"], told[0]["sfreq_hz"], told[-1]["x"]) == (["Fz", "Cz"], 128.0, 1)
    first, second = told[1:-1]
    assert first["type"] == ("reconstruction" if reconstructs else "representation")
    assert (first["first"], second["first"]) == (0, 4 if reconstructs else 2)
    assert (first["time_s"], second["time_s"]) == (9.0, 3.123457)
    np.testing.assert_array_equal(np.concatenate([first["values"], second["values"]], 1)[0], expected)


def test_a_decision_is_written_in_the_columns_of_its_classes(tmp_path: Path) -> None:
    layout = Layout(("Fz",), ("a", "b"), 2, True, 128.0)
    table, lines = CsvSink(tmp_path / "a.csv", layout), JsonLinesSink(tmp_path / "a.jsonl", layout)
    none = {**DECISION, "decided": None, "quality": [], "time_s": 2.0}
    made = outputs(0, 0.0, decisions=[DECISION, none], events=[{"event": "gap", "missing": 3}])
    for sink in (table, lines):
        sink.push(made)
        sink.close({})
    first, second = csv.DictReader((tmp_path / "a.csv").open())
    assert first == {
        "time_s": "1.250000", "sample": "160", "decided": "b", "p_a": "0.3", "p_b": "0.7",
        "latency_ms": "12.5", "calibration": "abc", "quality": "flat:Cz interpolated",
    }  # fmt: skip
    assert (second["decided"], second["quality"], second["time_s"]) == ("", "", "2.000000")
    told = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert told[1] == {"type": "event", "time_s": 9.0, "event": "gap", "missing": 3}
    assert told[2] == {"type": "decision", **DECISION}


def test_numbers_begin_anew_where_a_stream_does(tmp_path: Path) -> None:
    lines = JsonLinesSink(tmp_path / "a.jsonl", Layout(("Fz", "Cz"), None, 2, True, 128.0))
    for one in (outputs(4, 0.0), outputs(3, 0.0, events=[{"event": "restart", "why": "x"}]), outputs(2, 3.0)):
        lines.push(one)
    lines.close({})
    told = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["first"] for line in told if line["type"] == "reconstruction"] == [0, 0, 3]


def test_packages_of_a_board_that_are_missing_are_counted_across_reads() -> None:
    """The counter goes from 255 to 0; one that counts further says nothing."""
    source = BrainflowSource()
    source._counter, source._last = 0, None
    assert source._gaps(np.array([[250.0, 251, 254, 255, 0, 3]])) == ((2, 2), (5, 2))
    assert source._gaps(np.array([[4.0, 5]])) == ()
    assert source._gaps(np.array([[10.0, 11]])) == ((0, 4),)
    assert source._gaps(np.array([[300.0, 310]])) == ()
    source._counter = None
    assert source._gaps(np.array([[1.0, 9]])) == ()


@pytest.mark.parametrize("rate_hz", [128.0, 250.0])
def test_a_bundle_states_delays_in_milliseconds_and_windows_in_steps(rate_hz: float) -> None:
    made = bundle_facts(trained(), head_of(), ExportConfig(source_hz=rate_hz))
    assert (made["window_steps"], made["hop_steps"]) == (48, 16), "3 s and 1 s at 128 Hz, of 8 samples each"
    assert (made["sfreq_hz"], made["source"]["sfreq_hz"], made["source"]["unit"]) == (
        128.0,
        rate_hz,
        "microvolts",
    )
    assert made["source"]["ch_names"] == list(NAMES)
    around = np.array([9.9, 10.1])
    response = signal.freqz_sos(unpacked(made["sos"]), worN=around, fs=rate_hz)[1]
    delay_s = -np.diff(np.unwrap(np.angle(response)))[0] / (2 * np.pi * 0.2)
    assert made["latency_ms"]["filter"] == pytest.approx(1e3 * delay_s, abs=0.3)
    up, down = made["ratio"]
    assert up / down == pytest.approx(128 / rate_hz)
    half = (len(unpacked(made["taps"])) - 1) / 2
    assert made["latency_ms"]["resampling"] == pytest.approx(1e3 * half / up / rate_hz, abs=0.06)
    assert made["whose"]["ch_names"] == list(NAMES)
    assert (made["whose"]["method"], made["whose"]["preprocessing"]["causal"]) == ("zscore", True)
    head = head_of()
    np.testing.assert_array_equal(unpacked(made["head"]["layers"][0][0]), head.layers[0][0])
    np.testing.assert_array_equal(unpacked(made["head"]["scale"]), head.scale)
    assert (made["classes"], made["head"]["link"]) == (["a", "b"], "softmax")


def test_times_of_a_run_are_in_milliseconds_and_its_speed_is_signal_by_work() -> None:
    statistics = Statistics(dropped=7, reconnects=2, clock_jumps=1)
    waits, works = RNG.uniform(0, 0.2, 200), RNG.uniform(0, 0.05, 200)
    for wait, work in zip(waits, works):
        statistics.add(float(wait), float(work), 0.25)
    pipeline: Any = SimpleNamespace(
        counts={"samples": 5}, scale=SimpleNamespace(calibrated=True),
        latency_s=lambda: {"filter_s": 0.0123, "total_s": 0.2},
    )  # fmt: skip
    source: Any = SimpleNamespace(facts=lambda: {"jitter_ms": 1.23456})
    found = statistics.summary(pipeline, source)
    assert (found["dropped"], found["reconnects"], found["clock_jumps"], found["samples"]) == (7, 2, 1, 5)
    assert found["signal_s"] == 50.0
    assert found["real_time_factor"] == pytest.approx(50 / works.sum(), abs=0.01)
    for name, values in (("wait_ms", waits), ("work_ms", works)):
        median, p99 = np.quantile(values, (0.5, 0.99))
        expected = {"median": 1e3 * median, "p99": 1e3 * p99, "worst": 1e3 * values.max()}
        assert found[name] == pytest.approx(expected, abs=1e-3)
    assert found["latency_ms"] == {"filter": 12.3, "total": 200.0}
    assert found["jitter_ms"] == 1.235
    for _ in range(4096):  # percentiles are of the latest; what was done in all is of all
        statistics.add(0.002, 0.001, 0.25)
    later = statistics.summary(pipeline, source)
    assert later["work_ms"] == {"median": 1.0, "p99": 1.0, "worst": 1.0}
    assert later["wait_ms"] == {"median": 2.0, "p99": 2.0, "worst": 2.0}
    assert later["real_time_factor"] == pytest.approx((50 + 1024) / (works.sum() + 4.096), abs=0.01)


def reader(can_wait: bool) -> Reader:
    source: Any = SimpleNamespace(sfreq_hz=100.0, name="source", can_wait=can_wait)
    return Reader(source, StreamConfig(buffer_s=0.4, chunk_s=0.1))


def test_a_reader_ends_when_it_is_told_to() -> None:
    """Of a source that never does, which is let go of."""
    closed: list[bool] = []
    chunk = Chunk(np.zeros((1, 10)), np.arange(10) / 100)
    endless: Any = SimpleNamespace(
        sfreq_hz=100.0,
        name="s",
        can_wait=True,
        read=lambda n, timeout_s: chunk,
        close=lambda: closed.append(True),
    )
    own = Reader(endless, StreamConfig(buffer_s=0.4, chunk_s=0.1))
    own.start()
    own.stop()
    assert not own.is_alive()
    assert closed == [True]


def test_a_clock_that_is_set_back_parts_a_chunk_where_it_is() -> None:
    """Gaps stay before the samples before which they were."""
    times_s = np.concatenate([np.arange(10) / 100 + 50, np.arange(6) / 100 + 20])
    chunk = Chunk(np.arange(16.0)[None], times_s, ((3, 4), (12, 5)))
    own = reader(True)
    before, after = own._parted(chunk)
    assert (before.x_uv.shape[1], before.gaps, before.fresh) == (10, ((3, 4),), False)
    assert (after.x_uv[0].tolist(), after.gaps, after.fresh) == ([10.0, 11, 12, 13, 14, 15], ((2, 5),), True)
    np.testing.assert_array_equal(after.times_s, times_s[10:])
    assert "jumped back by 30.1 s" in after.why
    assert own.clock_jumps == 1
    (same,) = own._parted(Chunk(np.zeros((1, 3)), np.array([20.1, 20.11, 20.12])))
    assert not same.fresh


@pytest.mark.parametrize(("back_s", "jumps"), [(0.5, 0), (0.7, 0), (0.8, 1), (30.0, 1)])
def test_a_clock_is_set_back_from_three_quarters_of_a_second_on(back_s: float, jumps: int) -> None:
    """Bursts and jitter stay below; within a chunk and from one to the next."""
    times_s = 50 + np.arange(20) / 100 - back_s * (np.arange(20) >= 12)
    for cut in (0, 12):
        own = reader(True)
        parts = [part for part in (times_s[:cut], times_s[cut:]) if len(part)]
        made = [one for part in parts for one in own._parted(Chunk(np.zeros((1, len(part))), part))]
        assert own.clock_jumps == jumps
        assert [one.fresh for one in made].count(True) == jumps
        np.testing.assert_array_equal(np.concatenate([one.times_s for one in made]), times_s)


@pytest.mark.parametrize(("rate_hz", "chunk_s", "samples", "waiting"), [
    (128.0, 0.0625, 8, 160), (250.0, 0.0625, 16, 160), (1000.0, 0.5, 500, 20), (50.0, 0.001, 1, 10000),
])  # fmt: skip
def test_a_reader_takes_and_holds_seconds_of_its_source(
    rate_hz: float, chunk_s: float, samples: int, waiting: int
) -> None:
    source: Any = SimpleNamespace(sfreq_hz=rate_hz, name="source", can_wait=True)
    own = Reader(source, StreamConfig(chunk_s=chunk_s, buffer_s=10.0))
    assert (own.chunk, own.queue.maxsize) == (samples, waiting)


def test_what_is_thrown_away_is_owed_as_a_gap_of_its_length() -> None:
    own = reader(False)
    for begin in range(0, 50, 10):
        gaps = ((0, 3), (5, 2)) if begin == 20 else ()
        own._put(Chunk(np.full((1, 10), begin), np.arange(begin, begin + 10) / 100, gaps))
    assert own.dropped == 50
    own._put(Chunk(np.zeros((1, 10)), np.arange(60, 70) / 100, ((0, 4), (7, 1))))
    _, kept = own.queue.get_nowait()
    assert kept.gaps == ((0, 50 + 5 + 4), (7, 1))
