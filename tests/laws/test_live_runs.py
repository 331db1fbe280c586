"""Laws of a live run: what is recorded, told and measured is of its sample, its second and its window."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.deploy.config import RecordConfig, StreamConfig
from eegm2.deploy.live import record as recording
from eegm2.deploy.live import runner
from eegm2.deploy.live.outputs import Outputs
from eegm2.deploy.live.plan import Step
from eegm2.deploy.live.recorder import Contact, Recorder
from eegm2.deploy.live.source import Chunk
from eegm2.deploy.live.view import TerminalView
from eegm2.errors import DataError

RATE_HZ = 64.0
NAMES = ["Cz", "Pz"]


class Events:
    """Markers that are there from the beginning."""

    def __init__(self, *events: tuple[float, str]) -> None:
        self.events = list(events)

    def poll(self) -> list[tuple[float, str]]:
        events, self.events = self.events, []
        return events


def labels(path: Path) -> list[tuple[float, float, str]]:
    return [(span.onset_s, span.duration_s, span.label) for span in annotation_labels(read_raw(path))]


@pytest.mark.parametrize("begin_s", [0.0, 1000.5])
def test_what_is_filled_has_the_times_at_which_it_would_have_been_taken(
    begin_s: float, tmp_path: Path
) -> None:
    """Of 200 samples 10 came, then 150 were lost: events among the lost lie where they were."""
    number = np.arange(200)
    there = (number < 10) | (number >= 160)
    times_s = begin_s + number / RATE_HZ
    at = (3, 10, 11, 80, 158, 159, 160, 170)
    markers = Events(*((float(times_s[sample]), f"at {sample}") for sample in at))
    x = np.stack([number * 1.0, 300.0 - 2 * number])
    recorder = Recorder(
        tmp_path / "r.edf", NAMES, RATE_HZ, max_gap_s=150 / RATE_HZ, markers=markers, say=lambda _: None
    )
    recorder.push(Chunk(x[:, there], times_s[there], ((10, 150),)))
    recorder.close()
    found = labels(tmp_path / "r.edf")
    for sample in at:
        (onset_s,) = (onset_s for onset_s, _, text in found if text == f"at {sample}")
        assert onset_s * RATE_HZ == pytest.approx(sample, abs=0.01)
    assert [span for span in found if span[2] == "BAD filled"] == [
        (10 / RATE_HZ, 150 / RATE_HZ, "BAD filled")
    ]
    np.testing.assert_allclose(read_raw(tmp_path / "r.edf").get_data()[:, :200] * 1e6, x, atol=0.06)
    assert recorder.counts | {"seconds": 0} == {
        "seconds": 0,
        "gaps": 1,
        "lost": 150,
        "filled": 150,
        "markers": 8,
    }


@pytest.mark.parametrize("back_s", [0.0, 500.0])
def test_events_after_a_join_are_placed_by_what_came_after_it(back_s: float, tmp_path: Path) -> None:
    """A device is away for three seconds, or its clock has begun anew; an event is told late, after it."""
    times_s = 600 + np.arange(256) / RATE_HZ + np.where(np.arange(256) < 128, 0.0, 3.0 - back_s)
    at = (5, 100, 128, 140, 250)
    said: list[str] = []
    recorder = Recorder(tmp_path / "r.edf", NAMES, RATE_HZ, max_gap_s=0.25, say=said.append)
    x = np.stack([np.arange(256.0), np.zeros(256)])
    for part, fresh in ((slice(0, 128), False), (slice(128, 160), True), (slice(160, 256), False)):
        late = {} if back_s else {100: 250}  # of a clock that was set back it would be yet to come
        some = [sample for sample in at if part.start <= late.get(sample, sample) < part.stop]
        recorder.markers = Events(*((float(times_s[sample]), f"at {sample}") for sample in some))
        recorder.push(Chunk(x[:, part], times_s[part], fresh=fresh))
    recorder.close()
    found = {text: onset_s for onset_s, _, text in labels(tmp_path / "r.edf")}
    told = dict(line.split(" s  marker: ")[::-1] for line in said if "marker: " in line)
    assert told == {f"at {sample}": f"{sample / RATE_HZ:7.1f}" for sample in at}
    for sample in at:
        assert found[f"at {sample}"] * RATE_HZ == pytest.approx(sample, abs=0.01)
    assert found["BAD boundary"] == 2.0


@pytest.mark.parametrize("missing", [15, 16, 17])
def test_a_gap_is_filled_up_to_the_length_that_it_may_have(missing: int, tmp_path: Path) -> None:
    """A quarter of a second of 64 Hz are 16 samples; a longer one is a join, and nothing is made up."""
    recorder = Recorder(tmp_path / "r.edf", NAMES, RATE_HZ, max_gap_s=0.25, say=lambda _: None)
    x = np.stack([np.arange(128.0), np.zeros(128)])
    recorder.push(Chunk(x, np.arange(128) / RATE_HZ, ((40, missing),)))
    recorder.push(Chunk(x, 10 + np.arange(128) / RATE_HZ, fresh=True))
    recorder.close()
    filled = missing if missing <= 16 else 0
    found = labels(tmp_path / "r.edf")
    joins = [round(onset_s * RATE_HZ) for onset_s, _, text in found if text == "BAD boundary"]
    assert joins == ([] if filled else [40]) + [128 + filled]
    assert (recorder.counts["gaps"], recorder.counts["lost"], recorder.counts["filled"]) == (
        1,
        missing,
        filled,
    )
    padding = [span for span in found if span[2] == "bad_padding"]
    assert [(round(on * RATE_HZ), round(long * RATE_HZ)) for on, long, _ in padding] == (
        [(256 + filled, 64 - filled)] if filled else []
    )


@pytest.mark.parametrize("duration_s", [0.0, 1.5, 2.0])
def test_a_recording_ends_when_its_time_is_over_or_its_last_step(duration_s: float, tmp_path: Path) -> None:
    steps = [] if duration_s else [Step(0.5, 1.25, "a")]
    recorder = Recorder(
        tmp_path / "r.edf",
        NAMES,
        RATE_HZ,
        max_gap_s=0.25,
        duration_s=duration_s,
        steps=steps,
        say=lambda _: None,
    )
    for begin in range(0, 192, 16):
        recorder.push(Chunk(np.zeros((2, 16)), (begin + np.arange(16)) / RATE_HZ))
        assert recorder.finished == ((begin + 16) / RATE_HZ >= (duration_s or 1.75))


def test_a_channel_with_values_that_are_no_numbers_is_named(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r.edf", NAMES, RATE_HZ, max_gap_s=0.25, say=lambda _: None)
    x = np.zeros((2, 16))
    x[1, 5] = np.nan
    with pytest.raises(DataError, match=r"^Pz: has values that are not numbers"):
        recorder.push(Chunk(x, np.arange(16) / RATE_HZ))


@pytest.mark.parametrize("clock", ["lsl", "unix"])
def test_markers_are_put_on_the_clock_of_the_source(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(
        "eegm2.deploy.live.lsl_markers.LslMarkers", lambda *given, **options: made.append((given, options))
    )
    config = RecordConfig(markers=("a,b", "c"), lsl="network", timeout_s=2.5)
    recording._markers(SimpleNamespace(name="cap", clock=clock), config)  # type: ignore[arg-type]
    ((given, options),) = made
    assert list(given[0]) == ["a", "b", "c"]
    assert options == {"unix": clock == "unix", "reach": "network", "resolve_s": 2.5}


def test_what_was_recorded_is_told_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that were dropped, values that were clipped, markers; and cues as often as there are rounds."""
    x = np.zeros((2, 256))
    x[0] = np.linspace(-20, 20, 256)
    x[1, 200:203] = 1e9
    opened: list[Any] = []

    class Reader:
        dropped = 77

        def __init__(self, source: Any, config: Any) -> None:
            opened.append(config)

        def start(self) -> None: ...

        stop = start

        def chunks(self, stop: Any) -> Any:
            yield 0.0, Chunk(x, np.arange(256) / RATE_HZ)

    monkeypatch.setattr(recording, "Reader", Reader)
    source: Any = SimpleNamespace(
        name="cap", ch_names=NAMES, sfreq_hz=RATE_HZ, open=lambda: None, close=lambda: None
    )
    said: list[str] = []
    config = RecordConfig(cue=("a:0.5", "b:0.25"), rounds=2, pause_s=0.25)
    found = recording.record(source, tmp_path / "r.edf", config, say=said.append)
    assert (found["dropped"], found["clipped"], found["seconds"], found["gaps"]) == (77, 3, 4.0, 0)
    assert opened == [config]
    assert [line.split("now: ")[1] for line in said if "now:" in line] == ["a (0.5 s)", "b (0.25 s)"] * 2


def test_a_page_is_told_what_is_to_be_done_and_for_how_long(tmp_path: Path) -> None:
    """Between steps the next one and the time to it; of blocks, those that become labels."""
    steps = [Step(0.0, 1.0, "baseline", kept=False), Step(2.0, 2.0, "a"), Step(5.0, 1.5, "b")]
    recorder = Recorder(tmp_path / "r.edf", NAMES, RATE_HZ, max_gap_s=0.25, steps=steps, say=lambda _: None)
    x = 20 * np.random.default_rng(0).standard_normal((2, 16 * 28))
    for begin in range(0, x.shape[1], 16):
        recorder.push(Chunk(x[:, begin : begin + 16], (begin + np.arange(16)) / RATE_HZ))
        now_s = (begin + 16) / RATE_HZ
        state = recorder.state()
        doing = next((step for step in steps if step.begin_s <= now_s < step.end_s), None)
        later = [step for step in steps if step.begin_s > now_s]
        until_s = doing.end_s if doing else later[0].begin_s if later else now_s
        assert state["now_s"] == now_s
        assert state["doing"] == (doing.label if doing else "")
        assert state["length_s"] == (doing.length_s if doing else 0.0)
        assert state["left_s"] == pytest.approx(until_s - now_s)
        assert state["next"] == (later[0].label if later else "")
        assert state["blocks"] == [sum(step.kept and step.end_s <= now_s for step in steps), 2]
        assert state["finished"] == (now_s >= 6.5)


def test_each_channel_has_its_own_bad_seconds_and_those_that_are_needed_are_waited_for(
    tmp_path: Path,
) -> None:
    """Looked at every 2 s: one that is not needed holds nothing up, and is counted from the beginning on."""
    names = ["Cz", "Pz", "Oz"]
    x = 20 * np.random.default_rng(0).standard_normal((3, 64 * 12))
    x[0, : 64 * 4] = 5.0
    x[1, 64 * 8 : 64 * 10] = 5.0
    x[2] = 5.0
    recorder = Recorder(
        tmp_path / "r.edf",
        names,
        RATE_HZ,
        max_gap_s=0.25,
        contact=Contact(["Cz", "Pz"], 9.0),
        say=lambda _: None,
    )
    for begin in range(0, x.shape[1], 32):
        recorder.push(Chunk(x[:, begin : begin + 32], (begin + np.arange(32)) / RATE_HZ))
    assert recorder.began_s == 6.0
    assert recorder.bad_s == {"Pz": 2.0, "Oz": 6.0}


STATISTICS: dict[str, Any] = {
    "signal_s": 12.34, "dropped": 3, "gaps": 4, "restarts": 5, "calibrated": False,
    "work_ms": {"median": 1.11, "p99": 2.22, "worst": 3.33},
    "wait_ms": {"median": 4.44, "p99": 5.55, "worst": 6.66},
    "latency_ms": {"filter": 70.0, "total": 777.0}, "drift_ppm": 88.0, "jitter_ms": 9.99,
}  # fmt: skip
DECISION = {"decided": "b", "probabilities": [0.62, 0.38]}


def test_a_terminal_shows_each_figure_under_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    view = TerminalView("title", ("a", "b"))
    view._said = -np.inf
    empty = np.zeros((1, 0))
    view.push(Outputs(1.0, empty, empty, empty, [{"decided": "a"}, DECISION]), STATISTICS)
    assert capsys.readouterr().err == (
        "12.3 s of signal, 1.11 ms a chunk (99 %: 2.22), 3 dropped, 4 gaps, decided b\n"
    )
    console = Console(width=100)
    with console.capture() as shown:
        console.print(view._table(STATISTICS))
    rows = [
        [cell.strip() for cell in line.split("│")[1:3]] for line in shown.get().splitlines() if "│" in line
    ]
    assert [row for row in rows if row[0] not in ("a", "b")] == [
        ["signal", "12.3 s (measuring the baseline)"],
        ["work per chunk", "1.11 ms, 99 % 2.22 ms"],
        ["wait in queue", "4.44 ms, worst 6.66 ms"],
        ["fixed delay", "777 ms"],
        ["dropped, gaps, restarts", "3, 4, 5"],
        ["clock", "drift 88 ppm, jitter 9.99 ms"],
    ]
    told = {name: text for name, text in rows if name in ("a", "b")}
    assert (told["a"][:4], told["a"].count("█"), "decided" in told["a"]) == ("0.62", 12, False)
    assert (told["b"][:4], told["b"].count("█"), "decided" in told["b"]) == ("0.38", 8, True)


@pytest.mark.parametrize(("classes", "decided"), [(None, True), (("a", "b"), False), (None, False)])
def test_a_terminal_shows_no_classes_where_none_are_decided(classes: Any, decided: bool) -> None:
    view = TerminalView("title", classes)
    view._decision = DECISION if decided else None
    assert len(view._table(STATISTICS).rows) == 6
    assert ("decided" in view._line(STATISTICS)) == decided


class Clock:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("duration_s", [0.0, 0.75])
def test_a_decision_is_as_late_as_what_it_had_to_wait_for(
    duration_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples after its window, queue and work; every sink has it, and what is left at the end."""
    clock, config = Clock(), StreamConfig(duration_s=duration_s)
    monkeypatch.setattr(runner, "time", clock)
    empty, sinks = np.zeros((1, 0)), [Sink(), Sink()]
    waits, works = [0.2, 0.05, 0.4, 0.1], [0.03, 0.3, 0.02, 0.01]
    behind = [0.5, 0.125, 0.0, 0.25]

    class Reader:
        dropped, reconnects, clock_jumps = 7, 8, 9

        def __init__(self, *_: Any) -> None: ...

        def start(self) -> None: ...

        stop = start

        def chunks(self, stop: Any) -> Any:
            for i, wait in enumerate(waits):
                clock.now += 1.0
                yield clock.now - wait, Chunk(np.zeros((1, 16)), 30 + i / 4 + np.arange(16) / 64)

    class Pipeline:
        counts: dict[str, int] = {"samples": 3}
        scale = SimpleNamespace(calibrated=True)

        def connect(self, _: Any) -> None: ...

        def push(self, chunk: Chunk) -> Outputs:
            i = round(4 * (chunk.times_s[0] - 30))
            clock.now += works[i]
            end_s = float(chunk.times_s[-1])
            return Outputs(end_s, empty, empty, empty, [{"time_s": end_s - behind[i]}])

        def finish(self) -> Outputs:
            return Outputs(99.0, empty, empty, empty)

        def latency_s(self) -> dict[str, float]:
            return {"total_s": 0.1}

    monkeypatch.setattr(runner, "Reader", Reader)
    source: Any = SimpleNamespace(
        open=lambda: None, ch_names=["Cz"], sfreq_hz=64.0, facts=lambda: {"drift_ppm": 2.0}
    )
    found = runner.run_stream(source, Pipeline(), sinks, config)  # type: ignore[arg-type]
    n = 3 if duration_s else 4
    expected = [round(1e3 * sum(parts), 3) for parts in zip(behind, waits, works)][:n]
    for sink in sinks:
        assert [one["latency_ms"] for one in sink.decisions] == pytest.approx(expected)
        assert (sink.times[-1], sink.statistics["signal_s"]) == (99.0, n / 4)
    assert (found["signal_s"], found["dropped"], found["reconnects"], found["clock_jumps"]) == (
        n / 4,
        7,
        8,
        9,
    )
    assert found["wait_ms"]["worst"] == pytest.approx(400)
    assert found["work_ms"]["worst"] == pytest.approx(300)
    assert found["real_time_factor"] == pytest.approx(n / 4 / sum(works[:n]), abs=0.01)
    assert found["drift_ppm"] == 2.0


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.decisions: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.statistics: dict[str, Any] = {}

    def push(self, outputs: Outputs) -> None:
        self.decisions += outputs.decisions
        self.times.append(outputs.time_s)

    def close(self, statistics: dict[str, Any]) -> None:
        self.statistics = statistics
