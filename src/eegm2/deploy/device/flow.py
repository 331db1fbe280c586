"""From samples to decisions, what a live stream and a device do alike: gaps, flat channels, baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.deploy.device.calibration import Calibration
from eegm2.deploy.device.decisions import Decider
from eegm2.deploy.device.flags import WindowFlags
from eegm2.deploy.device.flat import FlatWatch
from eegm2.deploy.device.scale import RunningScale
from eegm2.deploy.device.timeline import TimeLine
from eegm2.errors import DataError

_COUNTED = ("samples", "interpolated", "gaps", "missing", "restarts", "flat", "decisions")


@dataclass
class Made:
    """What some samples brought forth: decisions, and events (gap, restart, flat, calibrated)."""

    decisions: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


class Flow:
    """Samples on their way; a subclass prepares them, runs a network on them and keeps the scale in `scale`.

    Parameters
    ----------
    flat : {"flag", "refuse", "interpolate"}
        What to do where a channel does not move for a second.
    window : int
        Prepared samples of a window.
    max_gap_s : float
        Shorter gaps are filled by a straight line, after longer ones everything begins anew.

    Attributes
    ----------
    counts : dict
        samples, interpolated, gaps, missing (samples in gaps), restarts, flat, decisions.
    calibration : Calibration or None
        Whose scale it is, once that is known.
    """

    #: In messages: whose samples these are, what the baseline is called, and what helps.
    where, baseline, unit_advice, flat_advice = "push", "baseline: typical amplitude", "give microvolts", ""
    #: Typical amplitudes that EEG can have, in microvolts; empty: any.
    limits_uv: Sequence[float] = ()
    #: Whether the network sees one window at a time, each scaled by itself.
    windowed = False
    scale: RunningScale
    decider: Decider | None

    def __init__(self, flat: str, window: int, max_gap_s: float) -> None:
        self.flat, self.max_gap_s = flat, max_gap_s
        self.counts = dict.fromkeys(_COUNTED, 0)
        self.calibration: Calibration | None = None
        self.calibration_path = ""
        self._flags = WindowFlags(window, "filled" if flat == "interpolate" else "flat")
        self._typical: list[float] = []
        self._taken = 0  # samples since the first, those in long gaps too
        self._begin()

    def _attach(self, ch_names: Sequence[str], used: np.ndarray, sfreq_hz: float, up: int, down: int) -> None:
        """Begin with a device: its channels, which of them count, its rate, the network's ratio to it."""
        self._names, self.source_sfreq_hz = list(ch_names), sfreq_hz
        self.timeline = TimeLine(sfreq_hz, up, down)
        self._watch, self._flat_now = FlatWatch(used, sfreq_hz), list[str]()
        self._begin()

    def _begin(self) -> None:
        self._last: np.ndarray | None = None
        #: Prepared samples since the preparation began, and those of them before the network's first.
        self._prepared = self._before = 0
        self._flags.reset()

    def _prepare(self, x_uv: np.ndarray) -> np.ndarray:
        """Return consecutive samples mixed, filtered and resampled."""
        raise NotImplementedError

    def _run(self, x: np.ndarray, total: Any) -> None:
        """Run the network on scaled samples (windowed: microvolts) and decide."""
        raise NotImplementedError

    def _position(self) -> int:
        """Return how many samples the network has taken since it began."""
        raise NotImplementedError

    def _without(self, flat: np.ndarray) -> None:
        """Take other channels instead of flat ones from here on."""
        raise NotImplementedError

    def _parts(self) -> Iterable[Any]:
        """Return what remembers samples, to be reset where everything begins anew."""
        raise NotImplementedError

    def _whose(self) -> dict[str, Any]:
        """Return what a calibration must be of."""
        raise NotImplementedError

    def _kept_scale(self, path: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return offset and scale of the calibration file, None where the baseline makes it."""
        self.calibration_path = path
        if not path or not Path(path).exists():
            return None
        self.calibration = Calibration.load(path)
        self.calibration.refuse_other(path, **self._whose())
        return self.calibration.arrays()

    def _anew(self, total: Any, why: str) -> None:
        """Begin anew, flat channels counted anew as well: samples are missing, or of another time."""
        self._watch.reset()
        self._restart(total, why)

    def _restart(self, total: Any, why: str) -> None:
        """Begin anew, keeping the scale: filter, network, window and decision would mix two stretches."""
        self.counts["restarts"] += 1
        total.events.append({"event": "restart", "why": why})
        for part in (*self._parts(), self.timeline):
            part.reset()
        self._begin()

    def _gap(self, after: np.ndarray, missing: int, before_s: float | None, total: Any) -> None:
        """Fill a short gap by a straight line, begin anew after a long one."""
        self.counts["gaps"] += 1
        self.counts["missing"] += missing
        seconds = missing / self.source_sfreq_hz
        last = self._last if seconds <= self.max_gap_s else None
        total.events.append({"event": "gap", "missing": missing, "filled": last is not None})
        if last is None:
            self._taken += missing
            self._anew(total, f"{seconds:.3f} s are missing")
            return
        self.counts["interpolated"] += missing
        share = np.arange(1, missing + 1) / (missing + 1)
        self._flags.filling(self._prepared)
        self._take(last[:, None] + (after - last)[:, None] * share, before_s, total)
        self._flags.fill(self._prepared)

    def _take(self, x_uv: np.ndarray, last_s: float | None, total: Any) -> None:
        """Analyse consecutive samples, the last with the stamp `last_s`, parted where one goes flat."""
        begin, n = 0, x_uv.shape[1]
        for index, flat in self._watch.push(x_uv):
            at_s = None if last_s is None else last_s - (n - index) / self.source_sfreq_hz
            self._analyse(x_uv[:, begin:index], at_s, total)
            self._mind_flat(flat, total)
            begin = index
        self._analyse(x_uv[:, begin:], last_s, total)

    def _mind_flat(self, flat: np.ndarray, total: Any) -> None:
        """Do what was chosen where channels have become flat, or move again."""
        names = [name for name, still in zip(self._names, flat) if still]
        self.counts["flat"] += len(set(names) - set(self._flat_now))
        if names and self.flat == "refuse":
            raise DataError(
                f"{self.where}: {' '.join(names)} has been flat for a second; check its electrode and begin "
                f"again{self.flat_advice}"
            )
        self._flat_now = names
        total.events.append({"event": "flat", "channels": names})
        if self.flat == "interpolate":
            self._without(flat)
            now = f"{' '.join(names)} flat, taken from the others" if names else "no channel is flat any more"
            self._restart(total, now)

    def _analyse(self, x_uv: np.ndarray, last_s: float | None, total: Any) -> None:
        """Prepare, scale and analyse consecutive samples; without a stamp they are counted."""
        k = x_uv.shape[1]
        if k == 0:
            return
        self._last = x_uv[:, -1]
        self._taken += k
        self.counts["samples"] += k
        self.timeline.push(k, (self._taken - 1) / self.source_sfreq_hz if last_s is None else last_s)
        self._network(self._prepare(x_uv), total)

    def _network(self, prepared_uv: np.ndarray, total: Any) -> None:
        if prepared_uv.size == 0:
            return
        self._prepared += prepared_uv.shape[1]
        self._flags.flat(self._flat_now, self._prepared)
        x = prepared_uv if self.windowed else self._scaled(prepared_uv, total)
        if not self.windowed and self._position() == 0:
            self._before = self._prepared - x.shape[1]
        self._run(x, total)

    def _scaled(self, prepared_uv: np.ndarray, total: Any) -> np.ndarray:
        """Return samples scaled, none while the baseline is measured; check that and keep what it showed."""
        if self.scale.calibrated:
            return self.scale.push(prepared_uv)
        self._typical.append(float(np.median(np.abs(prepared_uv))))
        x = self.scale.push(prepared_uv)
        if self.scale.scale is None or self.scale.offset is None:
            return x
        typical, (low, high) = float(np.median(self._typical)), self.limits_uv or (0.0, np.inf)
        if not low <= typical <= high:
            raise DataError(
                f"{self.baseline} is {typical:.3g} µV, EEG has {low:g} to {high:g}; {self.unit_advice}"
            )
        self.calibration = Calibration(
            **self._whose(),
            baseline_s=self.scale.baseline_s[1],
            offset_uv=tuple(self.scale.offset.ravel().tolist()),
            scale_uv=tuple(self.scale.scale.ravel().tolist()),
        )
        if self.calibration_path:
            self.calibration.save(self.calibration_path)
        told = {"calibration": self.calibration.id, "scale_uv": self.scale.scale.ravel().round(3).tolist()}
        total.events.append({"event": "calibrated", **told})
        return x

    def _decide(self, features: np.ndarray, end: int, step: int, total: Any) -> None:
        """Decide on a window that ends at a step of so many samples."""
        assert self.decider is not None
        decision = self.decider.push(features, end)
        if decision is None:
            return
        self.counts["decisions"] += 1
        place = self._before + end * step
        total.decisions.append(
            {"time_s": round(self.timeline.time_s(place), 6), "sample": end * step, **decision}
            | {"calibration": self.calibration.id if self.calibration is not None else None}
            | {"quality": self._flags.of(place)}
        )
