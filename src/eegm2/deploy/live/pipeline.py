"""From raw chunks to outputs: gaps, causal preprocessing, scale, network, head and decisions."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig
from eegm2.data.signal.preprocessing import AMPLITUDE_LIMITS_UV
from eegm2.deploy.config import StreamConfig
from eegm2.deploy.device.calibration import Calibration
from eegm2.deploy.device.decisions import Decider, DecisionRule, StreamCentring
from eegm2.deploy.device.scale import RunningScale
from eegm2.deploy.device.timeline import TimeLine
from eegm2.deploy.heads.decisions import SlidingFeatures
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.live.source import Chunk, Source
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import DataError
from eegm2.evaluation.features.centring import WARM_UP_WINDOWS


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
        ``time_s`` and ``sample`` (end of the window), ``probabilities``, ``decided``, ``calibration``,
        ``quality``.
    events : list of dict
        ``event`` (gap, restart, calibrated) and its facts.
    time_s : float
        Time of the chunk's last sample on the source's clock.
    signal_time_s : float, optional
        Time of the last sample (or end of the last step) that comes out, on the source's clock.
    """

    time_s: float
    x: np.ndarray
    reconstruction: np.ndarray
    representation: np.ndarray
    decisions: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    signal_time_s: float | None = None


@dataclass(frozen=True)
class Scaled:
    """How the stream scales and centres: the options where given, else as the head was fitted.

    Attributes
    ----------
    method : str
    window_s, calibration_s, adapt_s, hop_s : float
    features : str
    """

    method: str
    window_s: float
    calibration_s: float
    adapt_s: float
    hop_s: float
    features: str


def scaled(trained: TrainedModel, config: StreamConfig, head: DenseHead | None) -> Scaled:
    """Return how a stream of a model (with a head) scales."""
    facts = head.facts if head is not None else {}
    given = config.calibration_s, config.adapt_s
    return Scaled(
        str(facts.get("scaling", trained.scaling)),
        float(facts.get("window_s", trained.window_s or 4.0)),
        float(facts.get("calibration_s", 60.0)) if given[0] is None else given[0],
        float(facts.get("adapt_s", 0.0)) if given[1] is None else given[1],
        config.hop_s,
        str(facts.get("features", "statistics")),
    )


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
        self.how = scaled(trained, config, head)
        self.person, self.device = config.person, ""
        self.step = trained.config.step_samples
        self.features: SlidingFeatures | None = None
        self.decider: Decider | None = None
        if head is not None:
            window = max(1, round(self.how.window_s * trained.sfreq_hz / self.step))
            hop = max(1, round(config.hop_s * trained.sfreq_hz / self.step))
            self.features = SlidingFeatures(window, hop, self.how.features, trained.config)
            rule = DecisionRule(smooth=config.smooth, enter=config.enter, leave=config.leave)
            self.decider = Decider(head, head.classes, rule, centring(config, head, window))
        self.counts = {"samples": 0, "interpolated": 0, "gaps": 0, "restarts": 0, "decisions": 0}
        self.calibration: Calibration | None = None
        self._uncalibrated()
        self._started, self._time_s = False, 0.0
        self._last: np.ndarray | None = None
        self._forget_position()

    def _uncalibrated(self) -> None:
        """Begin without a scale: from the file if there is one, else with a baseline."""
        known, path = None, Path(self.config.calibration)
        if self.config.calibration and path.exists():
            self.calibration = Calibration.load(path)
            self.calibration.refuse_other(path, **self._whose())
            known = self.calibration.arrays()
        self.scale = RunningScale(
            self.how.method,
            self.trained.sfreq_hz,
            window_s=self.how.window_s,
            calibration_s=self.how.calibration_s,
            adapt_s=self.how.adapt_s,
            scale_uv=self.config.scale_uv,
            known=known,
        )
        self._typical: list[float] = []

    def _whose(self) -> dict[str, Any]:
        return {
            "person": self.person,
            "device": self.device,
            "method": self.how.method,
            "ch_names": self.trained.ch_names,
            "preprocessing": {
                name: value
                for name, value in to_dict(self.trained.preprocessing).items()
                if name in ("reference", "offset", "l_freq_hz", "h_freq_hz", "notch_hz", "sfreq_hz", "scale")
            }
            | {"causal": self.config.causal},
        }

    def _forget_position(self) -> None:
        #: Prepared samples since the preprocessor began, and those of them before the network's first.
        self._prepared = self._before = 0
        #: Prepared samples up to which something in a window was filled in.
        self._filled: deque[int] = deque(maxlen=64)
        self._given = [0, 0]

    def connect(self, source: Source) -> None:
        """Match the source's channels and rate to the model's, at the start and when it came back.

        Raises
        ------
        DataError, ConfigError
            If channels are missing or the rate does not fit.
        """
        device = getattr(source, "device", "")
        if self._started and self.device != device:
            self.drop_calibration()
        self.device = device
        if self.calibration is not None:
            self.calibration.refuse_other(self.config.calibration, **self._whose())
        declared = self.trained.preprocessing
        declared = replace(declared, aliases=(*declared.aliases, *self.config.aliases))
        if not self.config.causal:
            declared = PreprocessingConfig(
                l_freq_hz=0, h_freq_hz=0, sfreq_hz=self.trained.sfreq_hz, aliases=declared.aliases
            )
        declared = replace(declared, aliases=(*declared.aliases, *self.config.aliases))
        self.preprocessor = CausalPreprocessor(
            source.ch_names, source.sfreq_hz, declared, self.trained.ch_names, where=source.name
        )
        resampler = self.preprocessor.resampler
        self.timeline = TimeLine(source.sfreq_hz, resampler.up, resampler.down)
        self.source_sfreq_hz = source.sfreq_hz
        self._last = None
        self._forget_position()
        self._used = np.abs(self.preprocessor.matrix).sum(0) > 0
        self._names, self._still = list(source.ch_names), np.zeros(len(source.ch_names))

    def drop_calibration(self) -> None:
        """Forget the scale, and the centre with it: another device or person is there."""
        if self.config.calibration:
            raise DataError(
                f"{self.config.calibration}: was measured on another device than the one that is there now; "
                "start again with another --calibration file"
            )
        self.calibration = None
        self._uncalibrated()
        if self.decider is not None and self.head is not None:
            assert self.features is not None
            window = self.features.windows.window_steps
            self.decider.centring = centring(self.config, self.head, window)

    def push(self, chunk: Chunk) -> Outputs:
        """Take a chunk; short gaps are interpolated, after long ones everything begins anew."""
        if len(chunk.times_s):
            self._time_s = float(chunk.times_s[-1])
        end = self._time_s
        total = Outputs(end, *self._empty())
        if chunk.fresh and self._started:
            self._restart(total, "the source came back")
        begin = 0
        for index, missing in chunk.gaps:
            if index > begin:
                self._take(chunk.x_uv[:, begin:index], float(chunk.times_s[index - 1]), total)
            begin = index
            before_s = float(chunk.times_s[index]) - 1 / self.source_sfreq_hz
            self._gap(chunk.x_uv[:, index], missing, before_s, total)
        self._take(chunk.x_uv[:, begin:], end, total)
        return total

    def finish(self) -> Outputs:
        """End the stream: everything that is left."""
        total = Outputs(self.timeline.last_s, *self._empty())
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

    def _gap(self, after: np.ndarray, missing: int, before_s: float, total: Outputs) -> None:
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
        self._take(self._last[:, None] + (after - self._last)[:, None] * share, before_s, total)
        self._filled.append(self._prepared)

    def _restart(self, total: Outputs, why: str) -> None:
        """Begin anew, keeping the scale: filter, network, window and decision would mix two stretches."""
        self.counts["restarts"] += 1
        total.events.append({"event": "restart", "why": why})
        self.preprocessor.reset()
        self.stream.reset()
        if self.decider is not None:
            self.decider.reset()
        if self.features is not None:
            self.features.reset()
        self._last = None
        self.timeline.reset()
        self._forget_position()

    def _take(self, x_uv: np.ndarray, last_s: float, total: Outputs) -> None:
        """Preprocess, scale and analyse consecutive samples, the last of which has the stamp `last_s`."""
        if x_uv.shape[1] == 0:
            return
        self.timeline.push(x_uv.shape[1], last_s)
        self._watch_flat(x_uv)
        self._started = True
        self._last = x_uv[:, -1]
        self.counts["samples"] += x_uv.shape[1]
        self._network(self.preprocessor.push(x_uv), total)

    def _watch_flat(self, x_uv: np.ndarray) -> None:
        """Count for how many samples each channel has not moved."""
        before = x_uv[:, :1] if self._last is None else self._last[:, None]
        moves = np.diff(np.concatenate([before, x_uv], axis=1), axis=1) != 0
        still = moves[:, ::-1].argmax(1)
        self._still = np.where(moves.any(1), still, self._still + x_uv.shape[1])
        self._still[~self._used] = 0

    def _network(self, prepared_uv: np.ndarray, total: Outputs) -> None:
        if prepared_uv.shape[1] == 0:
            return
        calibrated = self.scale.calibrated
        if not calibrated:
            self._typical.append(float(np.median(np.abs(prepared_uv))))
        x = self.scale.push(prepared_uv)
        self._prepared += prepared_uv.shape[1]
        if not calibrated and self.scale.calibrated:
            self._calibrated(total)
        if self.stream.position == 0:
            self._before = self._prepared - x.shape[1]
        total.x = np.concatenate([total.x, x], axis=1)
        self._collect(*self.stream.advance(x[None]), total)

    def _calibrated(self, total: Outputs) -> None:
        """Check the baseline, keep what it showed, and say so."""
        self._check_amplitude()
        assert self.scale.scale is not None
        assert self.scale.offset is not None
        self.calibration = Calibration(
            **self._whose(),
            baseline_s=self.scale.baseline_s[1],
            offset_uv=tuple(self.scale.offset.ravel().tolist()),
            scale_uv=tuple(self.scale.scale.ravel().tolist()),
        )
        if self.config.calibration:
            self.calibration.save(self.config.calibration)
        scale = self.scale.scale.ravel().round(3).tolist()
        total.events.append({"event": "calibrated", "calibration": self.calibration.id, "scale_uv": scale})

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
        self._given[0] += representation.shape[2]
        self._given[1] += reconstruction.shape[2]
        given = self._given[1] if self.trained.config.decoder else self._given[0] * self.step
        if given:  # of a step its end, of a sample its own time
            last = given - 1 if self.trained.config.decoder else given
            total.signal_time_s = self.timeline.time_s(self._before + last)
        if self.features is None or self.decider is None:
            return
        for end, features in self.features.push(representation):
            decision = self.decider.push(features.cpu().numpy(), end)
            if decision is None:
                continue
            self.counts["decisions"] += 1
            place = self._before + end * self.step
            total.decisions.append(
                {"time_s": round(self.timeline.time_s(place), 6), "sample": end * self.step, **decision}
                | {"calibration": self.calibration.id if self.calibration is not None else None}
                | {"quality": self._flags(place)}
            )

    def _flags(self, end: int) -> list[str]:
        """Return what should be known of the window that ends before a prepared sample."""
        first = end - round(self.how.window_s * self.trained.sfreq_hz)
        flags = ["interpolated"] if any(first < filled for filled in self._filled) else []
        return flags + [f"flat:{name}" for name in self._flat()]

    def _flat(self) -> list[str]:
        """Return the channels of the source that have not moved for a second."""
        return [name for name, since in zip(self._names, self._still) if since >= self.source_sfreq_hz]


def centring(config: StreamConfig, head: DenseHead, window_steps: int) -> StreamCentring | None:
    """Return what takes the running mean off a head's features, None where nothing is taken off."""
    centre = config.centre
    if centre == "as fitted":
        centre = "none" if head.facts.get("centre", "none") == "none" else "running"
    fitted = int(head.facts.get("warm_up", WARM_UP_WINDOWS))
    warm_up = fitted if config.warm_up is None else config.warm_up
    return StreamCentring(window_steps, warm_up) if centre == "running" else None
