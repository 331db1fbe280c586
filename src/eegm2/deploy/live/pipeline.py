"""From raw chunks to outputs: gaps, causal preprocessing, scale, network, head and decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eegm2.data.config import PreprocessingConfig
from eegm2.data.signal.preprocessing import AMPLITUDE_LIMITS_UV
from eegm2.deploy.config import StreamConfig
from eegm2.deploy.heads.decisions import SlidingFeatures, StreamCentring
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.live.source import Chunk, Source
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.deploy.stream.scale import DecisionRule, RunningScale
from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import DataError


@dataclass
class Outputs:
    """What one chunk brought forth.

    Attributes
    ----------
    x : array, shape (n_chans, k)
        Scaled input of the network.
    reconstruction : array, shape (n_chans, m)
    representation : array, shape (4w, steps)
    decisions : list of dict
        ``time_s``, ``sample`` (end of the window), ``probabilities``, ``decided``.
    events : list of dict
        ``event`` (gap, restart, calibrated) and its facts.
    time_s : float
        Time of the chunk's last sample on the source's clock.
    """

    time_s: float
    x: np.ndarray
    reconstruction: np.ndarray
    representation: np.ndarray
    decisions: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


class Pipeline:
    """Everything between a source and the sinks.

    Parameters
    ----------
    trained : TrainedModel
    config : StreamConfig
    head : DenseHead, optional
        A classifier head.
    """

    def __init__(self, trained: TrainedModel, config: StreamConfig, head: DenseHead | None = None) -> None:
        self.trained, self.config, self.head = trained, config, head
        self.stream = StreamingEEGM2(trained.model)
        self.stream.push(np.zeros((1, trained.config.n_chans, 64)))  # compiles before anything is waiting
        self.stream.reset()
        self.rule = DecisionRule(smooth=config.smooth, enter=config.enter, leave=config.leave)
        self.scale = RunningScale(
            trained.scaling if head is None else str(head.facts.get("scaling", trained.scaling)),
            trained.sfreq_hz,
            window_s=trained.window_s or 4.0,
            calibration_s=config.calibration_s,
            adapt_s=config.adapt_s,
            scale_uv=config.scale_uv,
        )
        self.step = trained.config.step_samples
        self.features: SlidingFeatures | None = None
        self.centring: StreamCentring | None = None
        if head is not None:
            window_s = float(head.facts.get("window_s", trained.window_s or 4.0))
            window = max(1, round(window_s * trained.sfreq_hz / self.step))
            hop = max(1, round(config.hop_s * trained.sfreq_hz / self.step))
            kind = head.facts.get("features", "statistics")
            self.features = SlidingFeatures(window, hop, kind, trained.config)
            self.centring = centring(config, head, window)
        self.counts = {"samples": 0, "interpolated": 0, "gaps": 0, "restarts": 0, "decisions": 0}
        self._started = False
        self._last: np.ndarray | None = None
        self._typical: list[float] = []

    def connect(self, source: Source) -> None:
        """Match the source's channels and rate to the model's, at the start and when it came back.

        Raises
        ------
        DataError, ConfigError
            If channels are missing or the rate does not fit.
        """
        declared = self.trained.preprocessing
        if not self.config.causal:
            declared = PreprocessingConfig(
                l_freq_hz=0, h_freq_hz=0, sfreq_hz=self.trained.sfreq_hz, aliases=declared.aliases
            )
        self.preprocessor = CausalPreprocessor(
            source.ch_names, source.sfreq_hz, declared, self.trained.ch_names, where=source.name
        )
        self.source_sfreq_hz = source.sfreq_hz
        self._last = None

    def push(self, chunk: Chunk) -> Outputs:
        """Take a chunk; short gaps are interpolated, after long ones everything begins anew."""
        end = float(chunk.times_s[-1]) if len(chunk.times_s) else 0.0
        total = Outputs(end, *self._empty())
        if chunk.fresh and self._started:
            self._restart(total, "the source came back")
        begin = 0
        for index, missing in chunk.gaps:
            self._take(chunk.x_uv[:, begin:index], total)
            begin = index
            self._gap(chunk.x_uv[:, index], missing, total)
        self._take(chunk.x_uv[:, begin:], total)
        return total

    def finish(self) -> Outputs:
        """End the stream: everything that is left."""
        total = Outputs(0.0, *self._empty())
        if self._started and self.scale.calibrated:
            self._network(self.preprocessor.flush(), total)
            if self.stream.position >= self.step:
                self._collect(*self.stream.finish(), total)
        return total

    def latency_s(self) -> dict[str, float]:
        """Return the fixed delays in seconds: filter at 10 Hz, resampling, network, and their sum."""
        filtering, resampling = self.preprocessor.filter.delay_s(), self.preprocessor.resampler.delay_s
        network = self.stream.latency_s(self.trained.sfreq_hz)
        return {
            "filter_s": filtering,
            "resampling_s": resampling,
            "network_s": network,
            "total_s": filtering + resampling + network,
        }

    def _empty(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n_chans, features = self.trained.config.n_chans, self.trained.config.representation_channels
        return np.zeros((n_chans, 0)), np.zeros((n_chans, 0)), np.zeros((features, 0))

    def _gap(self, after: np.ndarray, missing: int, total: Outputs) -> None:
        """Fill a short gap by a straight line, begin anew after a long one."""
        self.counts["gaps"] += 1
        seconds = missing / self.source_sfreq_hz
        if self._last is None or seconds > self.config.max_gap_s:
            total.events.append({"event": "gap", "missing": missing, "filled": False})
            self._restart(total, f"{seconds:.3f} s are missing")
            return
        total.events.append({"event": "gap", "missing": missing, "filled": True})
        self.counts["interpolated"] += missing
        share = np.arange(1, missing + 1) / (missing + 1)
        self._take(self._last[:, None] + (after - self._last)[:, None] * share, total)

    def _restart(self, total: Outputs, why: str) -> None:
        """Begin anew, keeping the scale: filter, network, window and decision would mix two stretches."""
        self.counts["restarts"] += 1
        total.events.append({"event": "restart", "why": why})
        self.preprocessor.reset()
        self.stream.reset()
        self.rule.reset()
        if self.features is not None:
            self.features.reset()
        if self.centring is not None:
            self.centring.restart()
        self._last = None

    def _take(self, x_uv: np.ndarray, total: Outputs) -> None:
        """Preprocess, scale and analyse consecutive samples."""
        if x_uv.shape[1] == 0:
            return
        self._started = True
        self._last = x_uv[:, -1]
        self.counts["samples"] += x_uv.shape[1]
        self._network(self.preprocessor.push(x_uv), total)

    def _network(self, prepared_uv: np.ndarray, total: Outputs) -> None:
        if prepared_uv.shape[1] == 0:
            return
        calibrated = self.scale.calibrated
        if not calibrated:
            self._typical.append(float(np.median(np.abs(prepared_uv))))
        x = self.scale.push(prepared_uv)
        if not calibrated and self.scale.calibrated:
            self._check_amplitude()
            scale = [] if self.scale.scale is None else self.scale.scale.ravel().round(3).tolist()
            total.events.append({"event": "calibrated", "scale_uv": scale})
        total.x = np.concatenate([total.x, x], axis=1)
        self._collect(*self.stream.advance(x[None]), total)

    def _check_amplitude(self) -> None:
        """Refuse a baseline that cannot be EEG in microvolts."""
        low, high = AMPLITUDE_LIMITS_UV
        typical = float(np.median(self._typical))
        if self.trained.preprocessing.amplitude == "microvolts" and not low <= typical <= high:
            raise DataError(
                f"{self.preprocessor.where}: typical amplitude of the baseline is {typical:.3g} µV, EEG has "
                f"{low:g} to {high:g}; correct the unit that the source states"
            )

    def _collect(self, representation: Any, reconstruction: Any, total: Outputs) -> None:
        """Keep new outputs and decide on the windows that are complete."""
        total.representation = np.concatenate([total.representation, representation[0].cpu().numpy()], axis=1)
        total.reconstruction = np.concatenate([total.reconstruction, reconstruction[0].cpu().numpy()], axis=1)
        if self.features is None or self.head is None:
            return
        for end, made in self.features.push(representation):
            features: np.ndarray | None = made.cpu().numpy()
            if self.centring is not None:
                features = self.centring.take(made.cpu().numpy(), end)
            if features is None:
                continue
            self.rule.push(self.head(features)[0])
            assert self.rule.probabilities is not None
            decided = self.rule.decided
            self.counts["decisions"] += 1
            total.decisions.append(
                {
                    "time_s": total.time_s,
                    "sample": end * self.step,
                    "probabilities": [round(float(p), 6) for p in self.rule.probabilities],
                    "decided": None if decided is None else self.head.classes[decided],
                }
            )


def centring(config: StreamConfig, head: DenseHead, window_steps: int) -> StreamCentring | None:
    """Return what takes the running mean off a head's features, None where nothing is taken off."""
    centre = config.centre
    if centre == "as fitted":
        centre = "none" if head.facts.get("centre", "none") == "none" else "running"
    return StreamCentring(window_steps, config.warm_up) if centre == "running" else None
