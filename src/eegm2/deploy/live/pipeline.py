"""From raw chunks to outputs: gaps, causal preprocessing, scale, network, head and decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig
from eegm2.data.signal.preprocessing import AMPLITUDE_LIMITS_UV
from eegm2.deploy.config import StreamConfig
from eegm2.deploy.device.decisions import Decider, DecisionRule, StreamCentring
from eegm2.deploy.device.flow import Flow
from eegm2.deploy.device.scale import RunningScale
from eegm2.deploy.heads.decisions import SlidingFeatures, rule_of
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.windowed import WindowedFeatures, WindowedHead
from eegm2.deploy.live.outputs import Outputs
from eegm2.deploy.live.source import Chunk, Source
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import DataError
from eegm2.evaluation.features.centring import WARM_UP_WINDOWS

#: Unit in which a signal is shown that has no scale of its own, in microvolts.
_SHOWN_UV = 50.0


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


def scaled(trained: TrainedModel, config: StreamConfig, head: DenseHead | WindowedHead | None) -> Scaled:
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


class Pipeline(Flow):
    """Everything between a source and the sinks.

    Parameters
    ----------
    trained : TrainedModel
    config : StreamConfig
    head : DenseHead or WindowedHead, optional
        A classifier head: of a stream, or of separate windows; with the latter only decisions come out.
    decider : Decider, optional
        Instead of the head's own: what is made of the features.
    """

    unit_advice = "correct the unit that the source states"
    flat_advice = ", or go on with --flat flag or --flat interpolate"

    def __init__(
        self,
        trained: TrainedModel,
        config: StreamConfig,
        head: DenseHead | WindowedHead | None = None,
        decider: Decider | None = None,
    ) -> None:
        self.trained, self.config, self.head = trained, config, head
        self.how = scaled(trained, config, head)
        self.person, self.device = config.person, ""
        self.step, self.windowed = trained.config.step_samples, isinstance(head, WindowedHead)
        super().__init__(config.flat, round(self.how.window_s * trained.sfreq_hz), config.max_gap_s)
        if trained.preprocessing.amplitude == "microvolts":
            self.limits_uv = AMPLITUDE_LIMITS_UV
        if not self.windowed:
            self.stream = StreamingEEGM2(trained.model)
            self.stream.push(np.zeros((1, trained.config.n_chans, 64)))  # compiles before anything is waiting
            self.stream.reset()
        self.features = self._features()
        self.decider = decider or self._decider()
        self._uncalibrated()

    def _features(self) -> SlidingFeatures | WindowedFeatures | None:
        """Return what makes features of the windows that the head takes."""
        rate_hz = self.trained.sfreq_hz
        if isinstance(self.head, WindowedHead):
            return WindowedFeatures(self.head, max(1, round(self.config.hop_s * rate_hz)))
        if self.head is None:
            return None
        window = max(1, round(self.how.window_s * rate_hz / self.step))
        hop = max(1, round(self.config.hop_s * rate_hz / self.step))
        return SlidingFeatures(window, hop, self.how.features, self.trained.config)

    def _decider(self) -> Decider | None:
        """Return what decides on them."""
        if self.head is None or self.features is None:
            return None
        rule = DecisionRule(**rule_of(self.head.facts, self.config))  # type: ignore[arg-type]
        centre = centring(self.config, self.head, self.features.windows.window_steps)
        return Decider(self.head, self.head.classes, rule, centre)

    def _uncalibrated(self) -> None:
        """Begin without a scale: from the file if there is one, else with a baseline."""
        if self.windowed:
            self.scale = RunningScale("none", self.trained.sfreq_hz)
            return
        self._typical = []
        self.scale = RunningScale(
            self.how.method,
            self.trained.sfreq_hz,
            window_s=self.how.window_s,
            calibration_s=self.how.calibration_s,
            adapt_s=self.how.adapt_s,
            scale_uv=self.config.scale_uv,
            known=self._kept_scale(self.config.calibration),
        )

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

    def _begin(self) -> None:
        super()._begin()
        self._given = [0, 0]

    def connect(self, source: Source) -> None:
        """Match the source's channels and rate to the model's, at the start and when it came back.

        Raises
        ------
        DataError, ConfigError
            If channels are missing or the rate does not fit.
        """
        device = getattr(source, "device", "")
        if self.counts["samples"] and self.device != device:
            self.drop_calibration()
        self.device = device
        if self.calibration is not None:
            self.calibration.refuse_other(self.config.calibration, **self._whose())
        declared = self.trained.preprocessing
        if not self.config.causal:
            declared = PreprocessingConfig(
                l_freq_hz=0, h_freq_hz=0, sfreq_hz=self.trained.sfreq_hz, aliases=declared.aliases
            )
        declared = replace(declared, aliases=(*declared.aliases, *self.config.aliases))
        self.preprocessor = CausalPreprocessor(
            source.ch_names, source.sfreq_hz, declared, self.trained.ch_names, where=source.name
        )
        if self.config.flat == "interpolate":
            self.preprocessor.refuse_unknown_electrodes()
        self.where, ratio = source.name, self.preprocessor.resampler
        self.baseline = f"{source.name}: typical amplitude of the baseline"
        self._attach(source.ch_names, self.preprocessor.used, source.sfreq_hz, ratio.up, ratio.down)

    def drop_calibration(self) -> None:
        """Forget the scale, and the centre with it: another device or person is there."""
        if self.config.calibration:
            raise DataError(
                f"{self.config.calibration}: was measured on another device than the one that is there now; "
                "start again with another --calibration file"
            )
        self.calibration = None
        self._uncalibrated()
        if self.decider is not None and self.head is not None and self.features is not None:
            self.decider.centring = centring(self.config, self.head, self.features.windows.window_steps)

    def push(self, chunk: Chunk) -> Outputs:
        """Take a chunk; short gaps are interpolated, after long ones everything begins anew."""
        end = float(chunk.times_s[-1]) if len(chunk.times_s) else 0.0
        total = Outputs(end, *self._empty())
        if chunk.fresh and self.counts["samples"]:
            self._anew(total, chunk.why or "the source came back")
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
        if self.counts["samples"] and self.scale.calibrated:
            self._network(self.preprocessor.flush(), total)
            if not self.windowed and self.stream.position >= self.step:
                self._collect(*self.stream.finish(), total)
        return total

    def latency_s(self) -> dict[str, float]:
        """Return the fixed delays in seconds: filter at 10 Hz, resampling, network, and their sum."""
        filtering, resampling = self.preprocessor.filter.delay_s(), self.preprocessor.resampler.delay_s
        network = 0.0 if self.windowed else self.stream.latency_s(self.trained.sfreq_hz)
        return {
            "filter_s": filtering,
            "resampling_s": resampling,
            "network_s": network,
            "total_s": filtering + resampling + network,
        }

    def _empty(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n_chans, features = self.trained.config.n_chans, self.trained.config.representation_channels
        return np.zeros((n_chans, 0)), np.zeros((n_chans, 0)), np.zeros((features, 0))

    def _parts(self) -> Iterable[Any]:
        network = [] if self.windowed else [self.stream]
        return [self.preprocessor, *network, *filter(None, (self.decider, self.features))]

    def _without(self, flat: np.ndarray) -> None:
        self.preprocessor.without(flat)

    def _prepare(self, x_uv: np.ndarray) -> np.ndarray:
        return self.preprocessor.push(x_uv)

    def _position(self) -> int:
        return self.stream.position

    def _run(self, x: np.ndarray, total: Outputs) -> None:
        shown = x / _SHOWN_UV if self.windowed else x
        total.x = np.concatenate([total.x, shown], axis=1)
        if isinstance(self.features, WindowedFeatures):
            for end, features in self.features.push(x):
                self._decide(features, end, 1, total)
        else:
            self._collect(*self.stream.advance(x[None]), total)

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
        if isinstance(self.features, SlidingFeatures):
            for end, features in self.features.push(representation):
                self._decide(features.cpu().numpy(), end, self.step, total)


def centring(
    config: StreamConfig, head: DenseHead | WindowedHead, window_steps: int
) -> StreamCentring | None:
    """Return what takes the running mean off a head's features, None where nothing is taken off."""
    centre = config.centre
    if centre == "as fitted":
        centre = "none" if head.facts.get("centre", "none") == "none" else "running"
    fitted = int(head.facts.get("warm_up", WARM_UP_WINDOWS))
    warm_up = fitted if config.warm_up is None else config.warm_up
    return StreamCentring(window_steps, warm_up) if centre == "running" else None
