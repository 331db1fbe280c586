"""Chunks of a source into a file that grows: gaps filled or marked, cues given, markers placed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eegm2.data.files.edf_stream import GrowingEdf
from eegm2.data.joins import JOIN
from eegm2.deploy.live.placing import Placing
from eegm2.deploy.live.plan import Step
from eegm2.deploy.live.quality import ChannelQuality, channel_quality, problems
from eegm2.deploy.live.source import Chunk
from eegm2.errors import DataError

_QUALITY_S = 2.0
#: Least time between two states shown, by the computer's clock.
_SHOWN_S = 0.2

Say = Callable[[str], None]
Show = Callable[[dict[str, Any]], None]


class Markers(Protocol):
    """Events of other programs, on the source's clock."""

    def poll(self) -> list[tuple[float, str]]:
        """Return (time in seconds, text) of what has come since the last call."""


@dataclass(frozen=True)
class Contact:
    """What a session waits for before it begins.

    Attributes
    ----------
    needed : collection of str
        Channels of the source that must be good.
    patience_s : float
        Signal after which bad ones are refused.
    refuse : bool
        Or only said.
    """

    needed: Collection[str]
    patience_s: float
    refuse: bool = True


class Recorder:
    """Writes whole records of a second, in the order in which chunks come.

    Parameters
    ----------
    path : Path
        New file.
    ch_names : list of str
    sfreq_hz : float
    max_gap_s : float
        Shorter gaps are filled by a straight line, longer ones are joins.
    duration_s : float
        0: until the steps are over, or for ever.
    steps : list of Step
        Of the session, which begins at once or when contact is good.
    contact : Contact, optional
    markers : Markers, optional
    say, show : callable
        Take lines for a terminal, and states for a page.

    Attributes
    ----------
    given : list of Step
        The labelled steps that were there from begin to end, in seconds of the recording.
    began_s : float or None
        When the session began.
    """

    def __init__(
        self,
        path: Path,
        ch_names: list[str],
        sfreq_hz: float,
        *,
        max_gap_s: float,
        duration_s: float = 0.0,
        steps: list[Step] | None = None,
        contact: Contact | None = None,
        markers: Markers | None = None,
        say: Say,
        show: Show | None = None,
    ) -> None:
        self.path, self.ch_names, self.sfreq_hz, self.say = path, ch_names, sfreq_hz, say
        self.max_gap_s, self.duration_s, self.show = max_gap_s, duration_s, show
        self.contact, self.markers = contact, markers
        self.file: GrowingEdf | None = None
        self.counts: dict[str, Any] = {"seconds": 0.0, "gaps": 0, "lost": 0, "filled": 0, "markers": 0}
        self.finished, self.began_s = False, None if contact else 0.0
        self.given: list[Step] = []
        self.quality: list[ChannelQuality] = []
        self.bad_s: dict[str, float] = {}
        self._steps, self._at = list(steps or []), -1
        self._begun_s: float | None = None
        self._x = np.zeros((len(ch_names), 0))
        self._recent = np.zeros((len(ch_names), 0))
        self._notes: list[tuple[float, float, str]] = []
        self._taken, self._shown, self._failed = 0, 0.0, False
        self._last: np.ndarray | None = None
        self._placing = Placing(sfreq_hz)
        self._unplaced: list[tuple[float, str]] = []

    @property
    def now_s(self) -> float:
        """Seconds recorded, with what waits to be written."""
        return self._taken / self.sfreq_hz

    @property
    def step(self) -> Step | None:
        """The step that was begun last."""
        return self._steps[self._at] if self._at >= 0 else None

    def push(self, chunk: Chunk) -> None:
        """Take a chunk."""
        if chunk.fresh and self._taken:
            self._join()
        begin = 0
        for index, missing in chunk.gaps:
            self._take(chunk.x_uv[:, begin:index], chunk.times_s[begin:index])
            begin = index
            self.counts["gaps"] += 1
            self.counts["lost"] += missing
            if self._last is None or missing / self.sfreq_hz > self.max_gap_s:
                self._join()
                continue
            share = np.arange(1, missing + 1) / (missing + 1)
            self._note(missing / self.sfreq_hz, "BAD filled")
            self.counts["filled"] += missing
            line = self._last[:, None] + (chunk.x_uv[:, index] - self._last)[:, None] * share
            self._take(line, chunk.times_s[index] - np.arange(missing, 0, -1) / self.sfreq_hz)
        self._take(chunk.x_uv[:, begin:], chunk.times_s[begin:])
        self._place_markers()

    def _join(self) -> None:
        self._note(0.0, JOIN)
        self._placing.join()

    def _take(self, x: np.ndarray, times_s: np.ndarray) -> None:
        if not x.shape[1]:
            return
        if not np.isfinite(x).all():
            name = self.ch_names[int(np.flatnonzero(~np.isfinite(x).all(1))[0])]
            raise DataError(f"{name}: has values that are not numbers; check the device")
        self._placing.push(self._taken, times_s)
        self._last = x[:, -1]
        self._taken += x.shape[1]
        self._x = np.concatenate([self._x, x], axis=1)
        self._watch(x)
        self._go_on()
        self._write()

    def _note(self, duration_s: float, text: str, onset_s: float | None = None) -> None:
        onset_s = self.now_s if onset_s is None else onset_s
        if self.file is None:
            self._notes.append((onset_s, duration_s, text))
        else:
            self.file.annotate(onset_s, duration_s, text)

    def _go_on(self) -> None:
        """Begin the steps whose time has come, and end after the last."""
        if self.began_s is not None:
            since = self.now_s - self.began_s
            self._complete(since)
            while self._at + 1 < len(self._steps) and since >= self._steps[self._at + 1].begin_s:
                self._at += 1
                step = self._steps[self._at]
                self.say(f"{self.now_s:7.1f} s  now: {step.label} ({step.length_s:g} s)")
                if step.kept:
                    self._note(step.length_s, step.label)
                self._begun_s = self.now_s
                self._complete(since)
            if self._steps and since >= self._steps[-1].end_s:
                self.finished = True
        if self.duration_s and self.now_s >= self.duration_s:
            self.finished = True
        self._tell()

    def _complete(self, since: float) -> None:
        """Keep the step that has ended, with the time at which it began."""
        step = self.step
        if step is not None and self._begun_s is not None and since >= step.end_s - 1e-9:
            if step.kept:
                self.given.append(Step(self._begun_s, step.length_s, step.label))
            self._begun_s = None

    def _watch(self, x: np.ndarray) -> None:
        """Every two seconds look at the channels, and begin the session when they are good."""
        self._recent = np.concatenate([self._recent, x], axis=1)
        if self._recent.shape[1] < _QUALITY_S * self.sfreq_hz:
            return
        self.quality = channel_quality(self._recent, self.ch_names, self.sfreq_hz)
        found, looked_s = problems(self.quality), self._recent.shape[1] / self.sfreq_hz
        self._recent = self._recent[:, :0]
        self.say(f"{self.now_s:7.1f} s  " + (", ".join(found) if found else "all channels are good"))
        if self.began_s is not None:
            for channel in self.quality:
                if channel.problems:
                    self.bad_s[channel.name] = self.bad_s.get(channel.name, 0.0) + looked_s
            return
        assert self.contact is not None
        needed = [channel for channel in self.quality if channel.name in self.contact.needed]
        bad = problems(needed)
        if not bad or not self.contact.refuse:
            self.began_s = self.now_s
        elif self.now_s >= self.contact.patience_s:
            raise DataError(
                f"contact: {', '.join(bad)} after {self.now_s:.0f} s; mend the electrodes and begin again, "
                "or go on with --contact warn"
            )

    def _tell(self) -> None:
        """Show the state of the session, five times a second at most."""
        if self.show is None or (time.monotonic() - self._shown < _SHOWN_S and not self.finished):
            return
        self._shown = time.monotonic()
        self.show(self.state())

    def state(self) -> dict[str, Any]:
        """Return what a page shows."""
        since = self.now_s - self.began_s if self.began_s is not None else 0.0
        step, more = self.step, self._steps[self._at + 1 :]
        running = step is not None and since < step.end_s
        doing = "contact" if self.began_s is None else step.label if step and running else ""
        left_s = step.end_s - since if step and running else more[0].begin_s - since if more else 0.0
        return {
            "now_s": round(self.now_s, 2),
            "doing": doing,
            "left_s": round(left_s, 2),
            "length_s": step.length_s if step and running else 0.0,
            "next": more[0].label if more else "",
            "blocks": [len(self.given), sum(s.kept for s in self._steps)],
            "finished": self.finished,
            "channels": [channel.plain() for channel in self.quality],
            "lost": self.counts["lost"],
            "markers": self.counts["markers"],
        }

    def _place_markers(self, *, last: bool = False) -> None:
        """Write the markers whose samples are there; the others wait for them."""
        if self.markers is None or not self._taken:
            return
        waiting, self._unplaced = [*self._unplaced, *self.markers.poll()], []
        for time_s, text in waiting:
            place = self._placing.place(time_s)
            if place is None and not last:
                self._unplaced.append((time_s, text))
                continue
            place = self._taken if place is None else place
            self.counts["markers"] += 1
            self._note(0.0, text, place / self.sfreq_hz)
            self.say(f"{place / self.sfreq_hz:7.1f} s  marker: {text[:80]}")

    def _write(self) -> None:
        size = max(1, round(self.sfreq_hz))
        while self._x.shape[1] >= size:
            try:
                if self.file is None:
                    middle = np.median(self._x[:, :size], axis=1)
                    self.file = GrowingEdf(self.path, self.ch_names, self.sfreq_hz, middle)
                    for note in self._notes:
                        self.file.annotate(*note)
                self.file.write(self._x[:, :size])
            except BaseException:
                self._failed = True
                raise
            self._x = self._x[:, size:]
            self.counts["seconds"] = round(self.file.records * self.file.record_s, 3)

    def close(self) -> None:
        """Write what waits: a last record, its end held and marked, and notes that had no room."""
        if self.file is None:
            return
        with contextlib.closing(self.file):
            if self._failed:
                return
            self._place_markers(last=True)
            self.file.end_annotations(self.now_s)
            size = self.file.record
            while self._x.shape[1] or not self.file.noted:
                missing = size - self._x.shape[1]
                last = self._x[:, -1:] if self._x.shape[1] else np.asarray(self._last)[:, None]
                self.file.annotate(self.now_s, missing / self.sfreq_hz, "bad_padding")
                self.file.write(np.concatenate([self._x, np.repeat(last, missing, axis=1)], axis=1))
                self._x = self._x[:, :0]
                self._taken += missing
