"""Microvolts of a device in, decisions out: what ``eegm2 export --head`` writes, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.deploy.device.calibration import Calibration
from eegm2.deploy.device.decisions import (
    Decider,
    DecisionRule,
    SlidingWindows,
    StreamCentring,
    dense_probabilities,
)
from eegm2.deploy.device.features import array_features
from eegm2.deploy.device.filters import BlockFilter, BlockResampler
from eegm2.deploy.device.flags import WindowFlags
from eegm2.deploy.device.flat import FlatWatch, filled
from eegm2.deploy.device.scale import RunningScale, scaled_window
from eegm2.deploy.device.timeline import TimeLine
from eegm2.deploy.export.packing import unpacked
from eegm2.deploy.export.runtime import OnnxWindow, open_network
from eegm2.errors import ConfigError, DataError

#: A time this much before the last one is of a clock that was set back.
_DEVICE_SET_BACK_S = 0.75


class Decoder:
    """Everything from a device's samples to decisions, as ``eegm2 stream --head`` does it.

    Parameters
    ----------
    path : str or Path
        Bundle, ``bundle.onnx``.
    calibration : str or Path, optional
        Calibration file: taken instead of a baseline if it is there, written after the baseline if not.
    person, device : str
        Kept with the calibration; another's is refused.
    smooth, enter, leave : float, optional
        Other values than the bundle's, see :class:`DecisionRule`.
    flat : {"flag", "refuse", "interpolate"}, optional
        What to do where a channel does not move for a second, if not as the bundle says.
    ch_names : sequence of str, optional
        The device's channels in its order; another order than the bundle's is refused.
    threads : int
        Threads of ONNX Runtime.

    Attributes
    ----------
    facts : dict
        What the bundle states: ``source`` (channels in order, rate, unit), ``classes``, ``latency_ms`` …
    counts : dict
        samples, interpolated, gaps, missing (samples in gaps), restarts, flat, clock_jumps, decisions.

    Raises
    ------
    ValueError
        If the file is no bundle.
    ConfigError, DataError
        If the channels, the calibration or an option do not fit.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        calibration: str | Path = "",
        person: str = "",
        device: str = "",
        smooth: float | None = None,
        enter: float | None = None,
        leave: float | None = None,
        flat: str = "",
        ch_names: Sequence[str] = (),
        threads: int = 1,
    ) -> None:
        self.network = open_network(path, threads)
        if "bundle" not in self.network.facts:
            raise ValueError(f"{path}: holds a network and no head; write a bundle with eegm2 export --head")
        self.facts: dict[str, Any] = self.network.facts["bundle"]
        facts, source = self.facts, self.facts["source"]
        self.ch_names, self.sfreq_hz = list(source["ch_names"]), float(source["sfreq_hz"])
        if ch_names and list(ch_names) != self.ch_names:
            raise ConfigError(
                f"channels: the device has {' '.join(ch_names)}, the bundle takes {' '.join(self.ch_names)}; "
                "export again with --channels in the device's order"
            )
        self.classes = tuple(facts["classes"])
        self.matrix = self._mixing = unpacked(facts["matrix"])
        self.filter = BlockFilter(unpacked(facts["sos"]), unpacked(facts["settled"]))
        up, down = facts["ratio"]
        self.resampler = BlockResampler(up, down, unpacked(facts["taps"]))
        self.timeline = TimeLine(self.sfreq_hz, up, down)
        self.windows = SlidingWindows(facts["window_steps"], facts["hop_steps"])
        self.decider = self._decider({"smooth": smooth, "enter": enter, "leave": leave})
        self._path, self._whose = Path(calibration), {**facts["whose"], "person": person, "device": device}
        self.calibration = self._known() if str(calibration) else None
        self._keep = bool(str(calibration)) and self.calibration is None
        windowed = isinstance(self.network, OnnxWindow)
        self.scale = RunningScale(
            "none" if windowed else facts["scaling"],
            facts["sfreq_hz"],
            window_s=facts["window_s"],
            calibration_s=facts["calibration_s"],
            adapt_s=facts["adapt_s"],
            known=None if self.calibration is None else self.calibration.arrays(),
        )
        self._typical: list[float] = []
        self._choose_flat(flat or facts.get("flat", "flag"))
        names = ("samples", "interpolated", "gaps", "missing", "restarts", "flat", "clock_jumps", "decisions")
        self.counts = dict.fromkeys(names, 0)
        self._taken = 0  # samples since the first, those in long gaps too
        self._begin()

    def _decider(self, given: dict[str, float | None]) -> Decider:
        """Return what maps features to decisions."""
        facts, head = self.facts, self.facts["head"]
        rule = {name: facts["rule"][name] if value is None else value for name, value in given.items()}
        asked = given["enter"] is not None or given["leave"] is not None
        layers = [(unpacked(weight), unpacked(bias)) for weight, bias in head["layers"]]
        mean, scale, link = unpacked(head["mean"]), unpacked(head["scale"]), head["link"]
        return Decider(
            lambda features: dense_probabilities(features, mean, scale, layers, link),
            self.classes,
            DecisionRule(**rule, threshold=None if asked else facts["rule"].get("threshold")),
            StreamCentring(facts["window_steps"], facts["warm_up"]) if facts["centre"] != "none" else None,
        )

    def _choose_flat(self, choice: str) -> None:
        """Prepare for channels that go flat."""
        if choice not in ("flag", "refuse", "interpolate"):
            raise ConfigError(f"flat: got '{choice}', expected flag, refuse or interpolate")
        if choice == "interpolate" and not self.facts.get("electrodes"):
            raise ConfigError("flat: the bundle has no positions of its electrodes to interpolate with")
        self._choice, self._flat_now = choice, list[str]()
        self._watch = FlatWatch(np.abs(self.matrix).sum(0) > 0, self.sfreq_hz)
        length = round(self.facts["window_s"] * self.facts["sfreq_hz"])
        self._flags = WindowFlags(length, "filled" if choice == "interpolate" else "flat")

    def _known(self) -> Calibration | None:
        """Return the calibration of the file, None if it is to be measured."""
        if not self._path.exists():
            return None
        known = Calibration.load(self._path)
        known.refuse_other(self._path, **self._whose)
        return known

    def _begin(self) -> None:
        self._start: np.ndarray | None = None
        self._last: np.ndarray | None = None
        self._latest_s = -np.inf
        self._prepared = self._before = 0
        self._flags.reset()

    def restart(self) -> None:
        """Begin anew after a gap; scale and centre are kept."""
        self._watch.reset()
        self._restart()

    def _restart(self) -> None:
        self.counts["restarts"] += 1
        for part in (self.filter, self.resampler, self.windows, self.decider, self.timeline):
            part.reset()
        if not isinstance(self.network, OnnxWindow):
            self.network.reset()
        self._begin()

    def push(
        self, x_uv: np.ndarray, *, last_s: float | None = None, missing: int = 0
    ) -> list[dict[str, Any]]:
        """Take samples; return the decisions of the windows that are complete.

        Parameters
        ----------
        x_uv : array, shape (n_source_chans, k)
            Microvolts, channels in the order of ``ch_names``, any k.
        last_s : float, optional
            Time of the last sample on the device's clock; without, samples are counted from 0 s, the missing
            ones with them. Where it
            jumps back everything begins anew.
        missing : int
            Samples that were lost before the first: few are interpolated, many begin anew.

        Returns
        -------
        list of dict
            ``time_s`` (end of the window), ``sample``, ``probabilities``, ``decided`` (a class or None),
            ``calibration`` and ``quality``.

        Raises
        ------
        DataError
            If the number of channels differs, a value that is used is not finite, the baseline cannot be
            EEG in microvolts, or a channel is flat and that is to be refused.
        """
        if x_uv.ndim != 2 or len(x_uv) != len(self.ch_names):
            raise DataError(f"push: got shape {x_uv.shape}, expected ({len(self.ch_names)}, samples)")
        if missing < 0:
            raise DataError(f"push: got missing={missing}, expected 0 or more samples")
        if x_uv.shape[1] == 0:
            return []
        x = np.asarray(x_uv, float)
        first_s = None if last_s is None else last_s - (x.shape[1] - 1) / self.sfreq_hz
        if first_s is not None and first_s < self._latest_s - _DEVICE_SET_BACK_S:
            self.counts["clock_jumps"] += 1
            self.restart()
        decisions = self._gap(x[:, 0], missing, first_s) if missing else []
        decisions += self._take(x, last_s)
        self._latest_s = -np.inf if last_s is None else last_s
        return decisions

    def _gap(self, after: np.ndarray, missing: int, first_s: float | None) -> list[dict[str, Any]]:
        """Fill a short gap by a straight line, begin anew after a long one."""
        self.counts["gaps"] += 1
        self.counts["missing"] += missing
        if self._last is None or missing / self.sfreq_hz > self.facts["max_gap_s"]:
            self._taken += missing
            self.restart()
            return []
        self.counts["interpolated"] += missing
        share = np.arange(1, missing + 1) / (missing + 1)
        line = self._last[:, None] + (after - self._last)[:, None] * share
        decisions = self._take(line, None if first_s is None else first_s - 1 / self.sfreq_hz)
        self._flags.fill(self._prepared)
        return decisions

    def flush(self) -> list[dict[str, Any]]:
        """End the stream; return the decisions that are left."""
        decisions = self._analyse(self.resampler.flush().astype(np.float32))
        if isinstance(self.network, OnnxWindow):
            return decisions
        if self.network.position + self.network.waiting.shape[2] >= self.network.step:
            decisions += self._decide(self.network.flush()["representation"])
        return decisions

    def _take(self, x: np.ndarray, last_s: float | None) -> list[dict[str, Any]]:
        """Analyse consecutive samples, parted where a channel goes flat."""
        decisions, begin, n = [], 0, x.shape[1]
        for index, flat in self._watch.push(x):
            at_s = None if last_s is None else last_s - (n - index) / self.sfreq_hz
            decisions += self._mix(x[:, begin:index], at_s)
            self._flat(flat)
            begin = index
        return decisions + self._mix(x[:, begin:], last_s)

    def _flat(self, flat: np.ndarray) -> None:
        """Do what was chosen where channels have become flat, or move again."""
        names = [name for name, still in zip(self.ch_names, flat) if still]
        self.counts["flat"] += len(set(names) - set(self._flat_now))
        if names and self._choice == "refuse":
            raise DataError(
                f"push: {' '.join(names)} has been flat for a second; check its electrode and begin again"
            )
        self._flat_now = names
        if self._choice == "interpolate":
            known = self.facts["electrodes"]
            kernel, places = unpacked(known["kernel"]), np.array(known["places"], int)
            self._mixing = filled(self.matrix, flat, kernel, places) if names else self.matrix
            self._restart()

    def _mix(self, x: np.ndarray, last_s: float | None) -> list[dict[str, Any]]:
        """Mix, filter, resample and analyse consecutive samples."""
        if x.shape[1] == 0:
            return []
        self._last = x[:, -1]
        self._taken += x.shape[1]
        self.counts["samples"] += x.shape[1]
        self.timeline.push(x.shape[1], (self._taken - 1) / self.sfreq_hz if last_s is None else last_s)
        used = np.abs(self._mixing).sum(0) > 0
        mixed = self._mixing[:, used] @ x[used]
        if not np.isfinite(mixed).all():
            bad = [
                name
                for name, row, in_use in zip(self.ch_names, x, used)
                if in_use and not np.isfinite(row).all()
            ]
            raise DataError(
                f"push: {' '.join(bad)} has values that are not numbers; say that they are missing"
            )
        if self.facts["from_zero"]:
            self._start = mixed[:, :1].copy() if self._start is None else self._start
            mixed = mixed - self._start
        return self._analyse(self.resampler.push(self.filter.push(mixed)).astype(np.float32))

    def _analyse(self, prepared_uv: np.ndarray) -> list[dict[str, Any]]:
        """Scale prepared samples, run the network and decide."""
        if prepared_uv.size == 0:
            return []
        self._prepared += prepared_uv.shape[1]
        self._flags.flat(self._flat_now, self._prepared)
        if isinstance(self.network, OnnxWindow):
            return self._decide(prepared_uv[None])
        was_known = self.scale.calibrated
        if not was_known:
            self._typical.append(float(np.median(np.abs(prepared_uv))))
        x = self.scale.push(prepared_uv)
        if not was_known and self.scale.calibrated:
            self._calibrated()
        if self.network.position + self.network.waiting.shape[2] == 0:
            self._before = self._prepared - x.shape[1]
        return self._decide(self.network.push(x[None])["representation"])

    def _calibrated(self) -> None:
        """Check the baseline and keep what it showed."""
        limits, typical = self.facts["amplitude_uv"], float(np.median(self._typical))
        if limits and not limits[0] <= typical <= limits[1]:
            raise DataError(
                f"baseline: typical amplitude is {typical:.3g} µV, EEG has {limits[0]:g} to {limits[1]:g}; "
                "give microvolts"
            )
        assert self.scale.offset is not None
        assert self.scale.scale is not None
        self.calibration = Calibration(
            **self._whose,
            baseline_s=self.scale.baseline_s[1],
            offset_uv=tuple(self.scale.offset.ravel().tolist()),
            scale_uv=tuple(self.scale.scale.ravel().tolist()),
        )
        if self._keep:
            self.calibration.save(self._path)

    def _decide(self, steps: np.ndarray) -> list[dict[str, Any]]:
        """Decide on the windows that are complete with new steps: of the representation, or samples."""
        decisions = []
        for first, window in self.windows.push(steps):
            end = first + window.shape[2]
            decision = self.decider.push(self._features(window[0], first)[None], end)
            if decision is None:
                continue
            self.counts["decisions"] += 1
            sample = end * (1 if isinstance(self.network, OnnxWindow) else self.network.step)
            place = self._before + sample
            known = None if self.calibration is None else self.calibration.id
            told = {"time_s": round(self.timeline.time_s(place), 6), "sample": sample, **decision}
            decisions.append({**told, "calibration": known, "quality": self._flags.of(place)})
        return decisions

    def _features(self, window: np.ndarray, first: int) -> np.ndarray:
        """Return what the head takes of a window: features of the representation, or a network's scores."""
        if isinstance(self.network, OnnxWindow):
            window, first = self.network(scaled_window(window, self.facts["scaling"])), 0
            if self.facts["features"] == "scores":
                return window.astype(float)
        return array_features(window, self.facts["features"], self.facts, first)
