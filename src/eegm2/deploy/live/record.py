"""Record a live source into a file, with cues as labels and the signal's quality while it runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.data.files.edf_stream import GrowingEdf
from eegm2.deploy.config import RecordConfig
from eegm2.deploy.live.runner import Reader
from eegm2.deploy.live.source import Chunk, Source
from eegm2.errors import ConfigError, DataError

_QUALITY_S = 2.0


def record(
    source: Source,
    path: Path,
    config: RecordConfig,
    *,
    say: Callable[[str], None],
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Record until the cues are over, `duration_s` has passed, the source ends or `stop` is set.

    Parameters
    ----------
    source : Source
        Not opened yet.
    path : Path
        New ``.edf`` or ``.bdf`` file.
    config : RecordConfig
    say : callable
        Takes cues and lines about the signal's quality.
    stop : threading.Event, optional

    Returns
    -------
    dict
        seconds, gaps, lost, filled, clipped, dropped.

    Raises
    ------
    ConfigError
        If the file is there already or of another kind.
    DataError
        If the source sent nothing.
    """
    if path.suffix.lower() not in (".edf", ".bdf"):
        raise ConfigError(f"out: got '{path}', expected a new .edf or .bdf file")
    if path.exists():
        raise ConfigError(f"{path}: is there already; name a new file")
    stop = stop or threading.Event()
    source.open()
    reader = Reader(source, config)
    taken = _Recorder(path, list(source.ch_names), source.sfreq_hz, config, say)
    reader.start()
    try:
        while not stop.is_set() and not taken.finished:
            try:
                _, item = reader.queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                break
            if item.fresh and list(source.ch_names) != taken.ch_names:
                raise DataError(f"{source.name}: came back with other channels; record into a new file")
            taken.push(item)
    finally:
        reader.stop()
        taken.close()
    if taken.file is None:
        raise DataError(f"{source.name}: sent less than a second of signal; nothing was recorded")
    return {**taken.counts, "dropped": reader.dropped, "clipped": taken.file.clipped}


class _Recorder:
    """Fills short gaps, marks long ones, gives cues at their time and writes whole records."""

    def __init__(
        self,
        path: Path,
        ch_names: list[str],
        sfreq_hz: float,
        config: RecordConfig,
        say: Callable[[str], None],
    ) -> None:
        self.path, self.ch_names, self.sfreq_hz, self.config, self.say = path, ch_names, sfreq_hz, config, say
        self.file: GrowingEdf | None = None
        self.counts: dict[str, Any] = {"seconds": 0.0, "gaps": 0, "lost": 0, "filled": 0}
        self.finished = False
        self._x = np.zeros((len(ch_names), 0))
        self._notes: list[tuple[float, float, str]] = []
        self._taken = 0
        self._last: np.ndarray | None = None
        self._recent = np.zeros((len(ch_names), 0))
        self._due = _schedule(config)

    def push(self, chunk: Chunk) -> None:
        """Take a chunk."""
        if chunk.fresh and self._taken:
            self._note(0.0, "BAD boundary")
        begin = 0
        for index, missing in chunk.gaps:
            self._take(chunk.x_uv[:, begin:index])
            begin = index
            self.counts["gaps"] += 1
            self.counts["lost"] += missing
            if self._last is None or missing / self.sfreq_hz > self.config.max_gap_s:
                self._note(0.0, "BAD boundary")
                continue
            share = np.arange(1, missing + 1) / (missing + 1)
            self._note(missing / self.sfreq_hz, "BAD filled")
            self.counts["filled"] += missing
            line = self._last[:, None] + (chunk.x_uv[:, index] - self._last)[:, None] * share
            self._take(line)
        self._take(chunk.x_uv[:, begin:])

    def _take(self, x: np.ndarray) -> None:
        if not x.shape[1]:
            return
        if not np.isfinite(x).all():
            name = self.ch_names[int(np.flatnonzero(~np.isfinite(x).all(1))[0])]
            raise DataError(f"{name}: has values that are not numbers; check the device")
        self._last = x[:, -1]
        self._taken += x.shape[1]
        self._x = np.concatenate([self._x, x], axis=1)
        self._cue()
        self._watch(x)
        self._write()

    @property
    def now_s(self) -> float:
        """Seconds recorded, with what waits to be written."""
        return self._taken / self.sfreq_hz

    def _note(self, duration_s: float, text: str) -> None:
        if self.file is None:
            self._notes.append((self.now_s, duration_s, text))
        else:
            self.file.annotate(self.now_s, duration_s, text)

    def _cue(self) -> None:
        """Give the cues whose time has come, and end after the last."""
        while self._due and self.now_s >= self._due[0][0]:
            _, length_s, label = self._due.pop(0)
            if not label:
                self.finished = True
                return
            self.say(f"{self.now_s:7.1f} s  now: {label} ({length_s:g} s)")
            self._note(length_s, label)
        if self.config.duration_s and self.now_s >= self.config.duration_s:
            self.finished = True

    def _watch(self, x: np.ndarray) -> None:
        """Say every two seconds what is wrong with which channel."""
        self._recent = np.concatenate([self._recent, x], axis=1)
        if self._recent.shape[1] >= _QUALITY_S * self.sfreq_hz:
            found = channel_problems(self._recent, self.ch_names, self.sfreq_hz)
            self.say(f"{self.now_s:7.1f} s  " + (", ".join(found) if found else "all channels move"))
            self._recent = self._recent[:, :0]

    def _write(self) -> None:
        size = max(1, round(self.sfreq_hz))
        while self._x.shape[1] >= size:
            if self.file is None:
                middle = np.median(self._x[:, :size], axis=1)
                self.file = GrowingEdf(self.path, self.ch_names, self.sfreq_hz, middle)
                for note in self._notes:
                    self.file.annotate(*note)
            self.file.write(self._x[:, :size])
            self._x = self._x[:, size:]
            self.counts["seconds"] = round(self.file.records * self.file.record_s, 3)

    def close(self) -> None:
        """Write what waits: a last record, its end held and marked, and notes that had no room."""
        if self.file is None:
            return
        try:
            size = self.file.record
            while self._x.shape[1] or not self.file.noted:
                missing = size - self._x.shape[1]
                last = self._x[:, -1:] if self._x.shape[1] else np.asarray(self._last)[:, None]
                self.file.annotate(self.now_s, missing / self.sfreq_hz, "bad_padding")
                self.file.write(np.concatenate([self._x, np.repeat(last, missing, axis=1)], axis=1))
                self._x = self._x[:, :0]
                self._taken += missing
        finally:
            self.file.close()


def _schedule(config: RecordConfig) -> list[tuple[float, float, str]]:
    """Return (begin, length, label) of every cue, and the end with an empty label."""
    at, due = 0.0, []
    for _ in range(config.rounds):
        for label, length_s in config.cues():
            at += config.pause_s
            due.append((at, length_s, label))
            at += length_s
    return [*due, (at, 0.0, "")] if due else []


def channel_problems(x_uv: np.ndarray, ch_names: list[str], sfreq_hz: float) -> list[str]:
    """Return what is wrong with a stretch of signal: channels that are flat, clip, or carry the mains.

    Parameters
    ----------
    x_uv : array, shape (n_chans, n_times)
        A second or more, in microvolts.
    ch_names : list of str
    sfreq_hz : float
    """
    moving = x_uv - x_uv.mean(1, keepdims=True)
    power = np.abs(np.fft.rfft(moving * np.hanning(x_uv.shape[1]), axis=1)) ** 2
    frequency_hz = np.fft.rfftfreq(x_uv.shape[1], 1 / sfreq_hz)
    brain = power[:, (frequency_hz >= 2) & (frequency_hz <= 40)].sum(1)
    found = []
    for i, name in enumerate(ch_names):
        if np.ptp(x_uv[i]) < 0.5:
            found.append(f"{name} flat")
            continue
        top = max(np.mean(x_uv[i] == x_uv[i].max()), np.mean(x_uv[i] == x_uv[i].min()))
        if top > 0.05:
            found.append(f"{name} clips")
        for mains in (50.0, 60.0):
            line = power[i, np.abs(frequency_hz - mains) <= 1].sum()
            if mains < sfreq_hz / 2 and line > 4 * brain[i]:
                found.append(f"{name} {mains:g} Hz mains")
    return found
