"""The loop: a thread reads the source into a bounded queue, the caller's thread analyses and hands on."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from eegm2.deploy.config import SourceConfig, StreamConfig
from eegm2.deploy.live.clock import SET_BACK_S
from eegm2.deploy.live.outputs import Outputs
from eegm2.deploy.live.pipeline import Pipeline
from eegm2.deploy.live.sinks import Sink
from eegm2.deploy.live.source import Chunk, Source, SourceLost

#: Processing times kept for the percentiles.
_KEPT = 4096
#: How long one read may take, so that the reader can be stopped soon.
_PATIENCE_S = 0.25


@dataclass
class Statistics:
    """Counts and times of a run.

    Attributes
    ----------
    dropped : int
        Source samples thrown away because the analysis fell behind.
    waits_s, works_s : list of float
        Per chunk: time in the queue, and time to analyse it (the latest 4096).
    """

    dropped: int = 0
    reconnects: int = 0
    clock_jumps: int = 0
    waits_s: list[float] = field(default_factory=list)
    works_s: list[float] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    worked_s: float = 0.0
    signal_s: float = 0.0

    def add(self, wait_s: float, work_s: float, signal_s: float) -> None:
        """Count one chunk."""
        for values, value in ((self.waits_s, wait_s), (self.works_s, work_s)):
            values.append(value)
            del values[:-_KEPT]
        self.worked_s += work_s
        self.signal_s += signal_s

    def summary(self, pipeline: Pipeline, source: Source) -> dict[str, Any]:
        """Return everything as plain values, milliseconds for times of a chunk."""
        result: dict[str, Any] = {
            **pipeline.counts,
            "dropped": self.dropped,
            "reconnects": self.reconnects,
            "clock_jumps": self.clock_jumps,
            "signal_s": round(self.signal_s, 3),
            "elapsed_s": round(time.monotonic() - self.began_s, 3),
            "real_time_factor": round(self.signal_s / self.worked_s, 2) if self.worked_s else None,
            "calibrated": pipeline.scale.calibrated,
        }
        for name, values in (("wait_ms", self.waits_s), ("work_ms", self.works_s)):
            if values:
                median, p99 = np.quantile(values, (0.5, 0.99))
                result[name] = {
                    "median": round(1e3 * median, 3),
                    "p99": round(1e3 * p99, 3),
                    "worst": round(1e3 * max(values), 3),
                }
        result["latency_ms"] = {k[:-2]: round(1e3 * v, 1) for k, v in pipeline.latency_s().items()}
        return result | {k: round(v, 3) for k, v in source.facts().items()}


class Reader(threading.Thread):
    """Reads a source into a queue that holds at most `buffer_s` of signal.

    A source that can wait is not read while the queue is full; of others the oldest chunks are dropped and
    counted, and the next one is marked as following a gap. A source that is lost is opened again for
    `reconnect_s`; whatever ends reading is handed to the other side.
    """

    def __init__(self, source: Source, config: SourceConfig) -> None:
        super().__init__(daemon=True, name="eegm2-reader")
        self.source, self.config = source, config
        self.chunk = max(1, round(config.chunk_s * source.sfreq_hz))
        self.queue: queue.Queue[tuple[float, Chunk | BaseException | None]] = queue.Queue(
            max(2, round(config.buffer_s / config.chunk_s))
        )
        self.stopping = threading.Event()
        self.dropped = self.reconnects = self.clock_jumps = 0
        self._owed = 0
        self._latest_s = -np.inf

    def run(self) -> None:
        """Read until the end, an error or :meth:`stop`."""
        try:
            heard_s = time.monotonic()
            while not self.stopping.is_set():
                try:
                    chunk = self.source.read(self.chunk, _PATIENCE_S)
                    if chunk is None:
                        break
                    if chunk.x_uv.shape[1]:
                        for part in self._parted(chunk):
                            self._put(part)
                        heard_s = time.monotonic()
                    elif time.monotonic() - heard_s > self.config.timeout_s:
                        raise SourceLost(f"{self.source.name}: no sample for {self.config.timeout_s:g} s")
                except SourceLost as error:
                    self._reconnect(error)
                    heard_s = time.monotonic()
            self._final(None)
        except BaseException as error:
            self._final(error)

    def chunks(self, stop: threading.Event) -> Iterator[tuple[float, Chunk]]:
        """Give what was read and when it was put, until the end or `stop`; raise what ended reading."""
        while not stop.is_set():
            try:
                put_s, item = self.queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield put_s, item

    def _parted(self, chunk: Chunk) -> list[Chunk]:
        """Part a chunk where the clock of the source jumps back: what follows begins anew."""
        if chunk.fresh:
            self._latest_s = -np.inf
        latest = np.maximum.accumulate(np.concatenate([[self._latest_s], chunk.times_s]))
        back = np.flatnonzero(chunk.times_s < latest[:-1] - SET_BACK_S)
        if not len(back):
            self._latest_s = float(latest[-1])
            return [chunk]
        first = int(back[0])
        jump_s = float(latest[first] - chunk.times_s[first])
        self.clock_jumps += 1
        self._latest_s = -np.inf
        before = Chunk(
            chunk.x_uv[:, :first],
            chunk.times_s[:first],
            tuple(gap for gap in chunk.gaps if gap[0] < first),
            chunk.fresh,
            chunk.why,
        )
        after = Chunk(
            chunk.x_uv[:, first:],
            chunk.times_s[first:],
            tuple((index - first, missing) for index, missing in chunk.gaps if index > first),
        )
        parts = [before] if first else []
        more = self._parted(after)
        why = f"the clock of the source jumped back by {jump_s:.3g} s"
        return [*parts, replace(more[0], fresh=True, why=why), *more[1:]]

    def _put(self, chunk: Chunk) -> None:
        if self._owed:
            gaps = (
                (0, self._owed + sum(n for i, n in chunk.gaps if i == 0)),
                *(g for g in chunk.gaps if g[0]),
            )
            chunk, self._owed = replace(chunk, gaps=gaps), 0
        while not self.stopping.is_set():
            try:
                self.queue.put((time.monotonic(), chunk), timeout=0.2 if self.source.can_wait else 0)
                return
            except queue.Full:
                if not self.source.can_wait:
                    self._drop(chunk)
                    return

    def _drop(self, chunk: Chunk) -> None:
        """Throw everything that waits away and owe the analysis a gap of that length."""
        lost = [chunk]
        with contextlib.suppress(queue.Empty):
            while True:
                _, old = self.queue.get_nowait()
                if isinstance(old, Chunk):
                    lost.append(old)
        samples = sum(old.x_uv.shape[1] for old in lost)
        self.dropped += samples
        self._owed += samples + sum(missing for old in lost for _, missing in old.gaps)

    def _reconnect(self, error: SourceLost) -> None:
        """Try to open the source again, or give up with the error."""
        self.source.close()
        deadline = time.monotonic() + self.config.reconnect_s
        while not self.stopping.is_set():
            if time.monotonic() >= deadline:
                raise error
            try:
                self.source.open()
            except SourceLost:
                self.stopping.wait(0.2)
                continue
            self.reconnects += 1
            return

    def _final(self, ending: BaseException | None) -> None:
        while not self.stopping.is_set():
            with contextlib.suppress(queue.Full):
                self.queue.put((time.monotonic(), ending), timeout=0.2)
                return

    def stop(self) -> None:
        """End reading and let go of the source."""
        self.stopping.set()
        self.join(timeout=10)
        self.source.close()


def run_stream(
    source: Source,
    pipeline: Pipeline,
    sinks: Iterable[Sink],
    config: StreamConfig,
    *,
    watch: Callable[[Outputs, dict[str, Any]], None] | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Run until the source ends, `duration_s` is over or `stop` is set; return the statistics.

    Parameters
    ----------
    source : Source
        Not opened yet.
    pipeline : Pipeline
    sinks : iterable of Sink
        Closed at the end, whatever ends the run.
    config : StreamConfig
    watch : callable, optional
        Called after every chunk with the outputs and the statistics so far (at most five times a second).
    stop : threading.Event, optional

    Raises
    ------
    SourceLost, DataError, ConfigError
        What ended the run, after the sinks have been closed, or discarded where it had not begun.
    """
    sinks, stop = list(sinks), stop or threading.Event()
    reader: Reader | None = None
    statistics = Statistics()
    try:
        source.open()
        pipeline.connect(source)
        known = _identity(source)
        reader = Reader(source, config)
        reader.start()
        shown = 0.0
        for put_s, item in reader.chunks(stop):
            if item.fresh and _identity(source) != known:
                known = _identity(source)
                pipeline.connect(source)
            began = time.monotonic()
            outputs = pipeline.push(item)
            done = time.monotonic()
            statistics.add(began - put_s, done - began, item.x_uv.shape[1] / source.sfreq_hz)
            for decision in outputs.decisions:  # what had to come after the window, and what it took since
                behind_s = outputs.time_s - decision["time_s"] + done - put_s
                decision["latency_ms"] = round(1e3 * behind_s, 3)
            statistics.dropped, statistics.reconnects = reader.dropped, reader.reconnects
            statistics.clock_jumps = reader.clock_jumps
            for sink in sinks:
                sink.push(outputs)
            if watch is not None:
                due = done - shown >= 0.2
                shown = done if due else shown
                watch(outputs, statistics.summary(pipeline, source) if due else {})
            if config.duration_s and statistics.signal_s >= config.duration_s:
                break
        last = pipeline.finish()
        for sink in sinks:
            sink.push(last)
        if watch is not None:
            watch(last, statistics.summary(pipeline, source))
        return statistics.summary(pipeline, source)
    finally:
        summary = statistics.summary(pipeline, source) if reader is not None else {}
        if reader is not None:
            reader.stop()
        else:
            source.close()
        for sink in sinks:
            if reader is None and hasattr(sink, "discard"):
                sink.discard()
            else:
                sink.close(summary)


def _identity(source: Source) -> tuple[list[str], float, str]:
    """Return what a source must be matched again for: channels in their order, rate and device."""
    return list(source.ch_names), source.sfreq_hz, getattr(source, "device", "")
