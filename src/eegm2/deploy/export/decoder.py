"""Microvolts of a device in, decisions out: what ``eegm2 export --head`` writes, without torch."""

from __future__ import annotations

import base64
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
from eegm2.deploy.device.scale import RunningScale
from eegm2.deploy.device.timeline import TimeLine
from eegm2.deploy.export.runtime import OnnxStream
from eegm2.errors import ConfigError, DataError


def packed(array: np.ndarray) -> dict[str, Any]:
    """Return an array of float64 as plain values for JSON."""
    plain = np.ascontiguousarray(array, "<f8")
    return {"shape": list(plain.shape), "float64": base64.b64encode(plain.tobytes()).decode("ascii")}


def unpacked(values: dict[str, Any]) -> np.ndarray:
    """Return the array of :func:`packed`."""
    data = base64.b64decode(values["float64"])
    return np.frombuffer(data, "<f8").reshape(values["shape"]).astype(float)


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
    threads : int
        Threads of ONNX Runtime.

    Attributes
    ----------
    facts : dict
        What the bundle states: ``source`` (channels in order, rate, unit), ``classes``, ``latency_ms`` …

    Raises
    ------
    ValueError
        If the file is no bundle.
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
        threads: int = 1,
    ) -> None:
        self.network = OnnxStream(path, threads=threads)
        if "bundle" not in self.network.facts:
            raise ValueError(f"{path}: holds a network and no head; write a bundle with eegm2 export --head")
        self.facts: dict[str, Any] = self.network.facts["bundle"]
        facts, source = self.facts, self.facts["source"]
        self.ch_names, self.sfreq_hz = list(source["ch_names"]), float(source["sfreq_hz"])
        self.classes = tuple(facts["classes"])
        self.matrix = unpacked(facts["matrix"])
        self.filter = BlockFilter(unpacked(facts["sos"]), unpacked(facts["settled"]))
        up, down = facts["ratio"]
        self.resampler = BlockResampler(up, down, unpacked(facts["taps"]))
        self.timeline = TimeLine(self.sfreq_hz, up, down)
        self.windows = SlidingWindows(facts["window_steps"], facts["hop_steps"])
        layers = [(unpacked(weight), unpacked(bias)) for weight, bias in facts["head"]["layers"]]
        mean, scale = unpacked(facts["head"]["mean"]), unpacked(facts["head"]["scale"])
        given = {"smooth": smooth, "enter": enter, "leave": leave}
        rule = {name: facts["rule"][name] if value is None else value for name, value in given.items()}
        self.decider = Decider(
            lambda features: dense_probabilities(features, mean, scale, layers, facts["head"]["link"]),
            self.classes,
            DecisionRule(**rule),
            StreamCentring(facts["window_steps"], facts["warm_up"]) if facts["centre"] != "none" else None,
        )
        self._path, self._whose = Path(calibration), {**facts["whose"], "person": person, "device": device}
        self.calibration = self._known() if str(calibration) else None
        self._keep = bool(str(calibration)) and self.calibration is None
        self.scale = RunningScale(
            facts["scaling"],
            facts["sfreq_hz"],
            window_s=facts["window_s"],
            calibration_s=facts["calibration_s"],
            adapt_s=facts["adapt_s"],
            known=None if self.calibration is None else self.calibration.arrays(),
        )
        self._typical: list[float] = []
        self._begin()

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
        self._prepared = self._before = self._taken = 0

    def restart(self) -> None:
        """Begin anew after a gap; scale and centre are kept."""
        for part in (self.filter, self.resampler, self.network, self.windows, self.decider, self.timeline):
            part.reset()
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
            Time of the last sample on the device's clock; without, samples are counted from 0 s.
        missing : int
            Samples that were lost before the first: few are interpolated, many begin anew.

        Returns
        -------
        list of dict
            ``time_s`` (end of the window), ``sample``, ``probabilities``, ``decided`` (a class or None) and
            ``calibration``.

        Raises
        ------
        DataError
            If the number of channels differs, a value that is used is not finite, or the baseline cannot be
            EEG in microvolts.
        """
        if x_uv.ndim != 2 or len(x_uv) != len(self.ch_names):
            raise DataError(f"push: got shape {x_uv.shape}, expected ({len(self.ch_names)}, samples)")
        if x_uv.shape[1] == 0:
            return []
        x = np.asarray(x_uv, float)
        end_s = last_s
        if missing and self._last is not None and missing / self.sfreq_hz <= self.facts["max_gap_s"]:
            share = np.arange(1, missing + 1) / (missing + 1)
            line = self._last[:, None] + (x[:, 0] - self._last)[:, None] * share
            before_s = None if end_s is None else end_s - x.shape[1] / self.sfreq_hz
            return self._take(line, before_s) + self._take(x, end_s)
        if missing:
            self.restart()
        return self._take(x, end_s)

    def flush(self) -> list[dict[str, Any]]:
        """End the stream; return the decisions that are left."""
        decisions = self._analyse(self.resampler.flush().astype(np.float32))
        if self.network.position + self.network.waiting.shape[2] >= self.network.step:
            decisions += self._decide(self.network.flush()["representation"])
        return decisions

    def _take(self, x: np.ndarray, last_s: float | None) -> list[dict[str, Any]]:
        """Mix, filter, resample and analyse consecutive samples."""
        self._last = x[:, -1]
        self._taken += x.shape[1]
        self.timeline.push(x.shape[1], (self._taken - 1) / self.sfreq_hz if last_s is None else last_s)
        used = np.abs(self.matrix).sum(0) > 0
        mixed = self.matrix[:, used] @ x[used]
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
        was_known = self.scale.calibrated
        if not was_known:
            self._typical.append(float(np.median(np.abs(prepared_uv))))
        x = self.scale.push(prepared_uv)
        self._prepared += prepared_uv.shape[1]
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

    def _decide(self, representation: np.ndarray) -> list[dict[str, Any]]:
        decisions = []
        for first, window in self.windows.push(representation):
            features = array_features(window[0], self.facts["features"], self.facts, first)
            decision = self.decider.push(features[None], first + window.shape[2])
            if decision is not None:
                sample = (first + window.shape[2]) * self.network.step
                time_s = round(self.timeline.time_s(self._before + sample), 6)
                known = None if self.calibration is None else self.calibration.id
                decisions.append({"time_s": time_s, "sample": sample, **decision, "calibration": known})
        return decisions


def refuse_order(decoder: Decoder, ch_names: list[str]) -> None:
    """Raise a ConfigError where a device's channels are not those of a bundle, in its order."""
    if list(ch_names) != decoder.ch_names:
        raise ConfigError(
            f"channels: the device has {' '.join(ch_names)}, the bundle takes {' '.join(decoder.ch_names)}; "
            "export again with --channels in the device's order"
        )
