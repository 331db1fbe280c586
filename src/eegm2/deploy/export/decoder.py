"""Microvolts of a device in, decisions out: what ``eegm2 export --head`` writes, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.deploy.device.decisions import (
    Decider,
    DecisionRule,
    SlidingWindows,
    StreamCentring,
    dense_probabilities,
)
from eegm2.deploy.device.features import array_features
from eegm2.deploy.device.filters import BlockFilter, BlockResampler
from eegm2.deploy.device.flat import filled
from eegm2.deploy.device.flow import Flow, Made
from eegm2.deploy.device.scale import RunningScale, scaled_window
from eegm2.deploy.export.packing import unpacked
from eegm2.deploy.export.runtime import OnnxWindow, StepStream, open_network
from eegm2.errors import ConfigError, DataError

#: A time this much before the last one is of a clock that was set back.
_DEVICE_SET_BACK_S = 0.75


class Decoder(Flow):
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
    network : StepStream, optional
        What runs the bundle's network instead of ONNX Runtime.

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
        network: StepStream | None = None,
    ) -> None:
        self.network = open_network(path, threads) if network is None else network
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
        self.windows = SlidingWindows(facts["window_steps"], facts["hop_steps"])
        self.decider = self._decider({"smooth": smooth, "enter": enter, "leave": leave})
        self.windowed = isinstance(self.network, OnnxWindow)
        self.limits_uv = facts["amplitude_uv"]
        choice = flat or facts.get("flat", "flag")
        if choice not in ("flag", "refuse", "interpolate"):
            raise ConfigError(f"flat: got '{choice}', expected flag, refuse or interpolate")
        if choice == "interpolate" and not facts.get("electrodes"):
            raise ConfigError("flat: the bundle has no positions of its electrodes to interpolate with")
        super().__init__(choice, round(facts["window_s"] * facts["sfreq_hz"]), facts["max_gap_s"])
        self.counts["clock_jumps"] = 0
        self._attach(self.ch_names, np.abs(self.matrix).sum(0) > 0, self.sfreq_hz, up, down)
        self._person, self._device = person, device
        self.scale = RunningScale(
            "none" if self.windowed else facts["scaling"],
            facts["sfreq_hz"],
            window_s=facts["window_s"],
            calibration_s=facts["calibration_s"],
            adapt_s=facts["adapt_s"],
            known=self._kept_scale(str(calibration)),
        )

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

    def _whose(self) -> dict[str, Any]:
        return {**self.facts["whose"], "person": self._person, "device": self._device}

    def _begin(self) -> None:
        super()._begin()
        self._start: np.ndarray | None = None
        self._latest_s = -np.inf

    def restart(self) -> None:
        """Begin anew after a gap; scale and centre are kept."""
        self._anew(Made(), "asked for")

    def _parts(self) -> Iterable[Any]:
        parts = (self.filter, self.resampler, self.windows, self.decider)
        return parts if isinstance(self.network, OnnxWindow) else (*parts, self.network)

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
        x, total = np.asarray(x_uv, float), Made()
        first_s = None if last_s is None else last_s - (x.shape[1] - 1) / self.sfreq_hz
        if first_s is not None and first_s < self._latest_s - _DEVICE_SET_BACK_S:
            self.counts["clock_jumps"] += 1
            self.restart()
        if missing:
            self._gap(x[:, 0], missing, None if first_s is None else first_s - 1 / self.sfreq_hz, total)
        self._take(x, last_s, total)
        self._latest_s = -np.inf if last_s is None else last_s
        return total.decisions

    def flush(self) -> list[dict[str, Any]]:
        """End the stream; return the decisions that are left."""
        total = Made()
        self._network(self.resampler.flush().astype(np.float32), total)
        if not isinstance(self.network, OnnxWindow) and self._position() >= self.network.step:
            self._steps(self.network.flush()["representation"], total)
        return total.decisions

    def _without(self, flat: np.ndarray) -> None:
        known = self.facts["electrodes"]
        kernel, places = unpacked(known["kernel"]), np.array(known["places"], int)
        self._mixing = filled(self.matrix, flat, kernel, places) if flat.any() else self.matrix

    def _prepare(self, x_uv: np.ndarray) -> np.ndarray:
        used = np.abs(self._mixing).sum(0) > 0
        mixed = self._mixing[:, used] @ x_uv[used]
        if not np.isfinite(mixed).all():
            wrong = used & ~np.isfinite(x_uv).all(1)
            bad = [name for name, is_wrong in zip(self.ch_names, wrong) if is_wrong]
            raise DataError(
                f"push: {' '.join(bad)} has values that are not numbers; say that they are missing"
            )
        if self.facts["from_zero"]:
            self._start = mixed[:, :1].copy() if self._start is None else self._start
            mixed = mixed - self._start
        return self.resampler.push(self.filter.push(mixed)).astype(np.float32)

    def _position(self) -> int:
        assert not isinstance(self.network, OnnxWindow)
        return self.network.position + self.network.waiting.shape[2]

    def _run(self, x: np.ndarray, total: Made) -> None:
        if isinstance(self.network, OnnxWindow):
            self._steps(x[None], total)
        else:
            self._steps(self.network.push(x[None])["representation"], total)

    def _steps(self, steps: np.ndarray, total: Made) -> None:
        """Decide on the windows that are complete with new steps: of the representation, or samples."""
        step = 1 if isinstance(self.network, OnnxWindow) else self.network.step
        for first, window in self.windows.push(steps):
            features = self._features(window[0], first)
            self._decide(features[None], first + window.shape[2], step, total)

    def _features(self, window: np.ndarray, first: int) -> np.ndarray:
        """Return what the head takes of a window: features of the representation, or a network's scores."""
        if isinstance(self.network, OnnxWindow):
            window, first = self.network(scaled_window(window, self.facts["scaling"])), 0
            if self.facts["features"] == "scores":
                return window.astype(float)
        return array_features(window, self.facts["features"], self.facts, first)
