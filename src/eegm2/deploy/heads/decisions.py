"""A trained classifier head on the stream: decisions from a sliding window of the representation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eegm2.deploy.config import ENTER, LEAVE, ExportConfig, StreamConfig
from eegm2.deploy.device.decisions import SlidingWindows, StreamCentring
from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.errors import ConfigError
from eegm2.evaluation.features.centring import WARM_UP_WINDOWS
from eegm2.model.config import EEGM2Config
from eegm2.model.features import refuse_kind, window_features

#: Maps features (windows, n_features) to class probabilities (windows, n_classes).
Head = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Decision:
    """Class probabilities of one window.

    Attributes
    ----------
    end_sample : int
        First sample after the window, counted from the start of the stream.
    probabilities : array, shape (batch, n_classes)
    features : array, shape (batch, n_features)
        Of the representation in the window.
    """

    end_sample: int
    probabilities: np.ndarray
    features: np.ndarray


class SlidingFeatures:
    """Features of the last `window_steps` steps of a representation, every `hop_steps` steps.

    Parameters
    ----------
    window_steps, hop_steps : int
        Steps of the representation, ``config.step_samples`` samples each.
    features : str
        See :func:`eegm2.model.features.window_features`.
    config : EEGM2Config, optional
        Of the network; needed for features that only the covariance embedding has.
    """

    def __init__(
        self,
        window_steps: int,
        hop_steps: int,
        features: str = "statistics",
        config: EEGM2Config | None = None,
    ) -> None:
        self.kind, self.config = features, config or EEGM2Config()
        refuse_kind(self.kind, self.config)
        self.windows = SlidingWindows(window_steps, hop_steps)

    def reset(self) -> None:
        """Forget the past."""
        self.windows.reset()

    def push(self, representation: Tensor) -> list[tuple[int, Tensor]]:
        """Take (batch, channels, steps); return (end step, features) of the windows now complete.

        Windows end at step window_steps, window_steps + hop_steps, …; features are (batch, n_features).
        """
        complete = self.windows.push(representation.detach().cpu().numpy())
        return [
            (
                start + window.shape[2],
                window_features(
                    torch.from_numpy(np.ascontiguousarray(window)), self.kind, self.config, start
                ),
            )
            for start, window in complete
        ]


class StreamingClassifier:
    """Encoder in the stream, sliding features and a head that gives probabilities.

    The features equal those of the same steps of the representation computed over the whole
    stream. A head trained on separate windows saw the encoder begin anew in each of them; its features agree
    closely but not exactly with those of a running stream.

    Parameters
    ----------
    model : EEGM2
        Any model that :class:`StreamingEEGM2` takes.
    head : callable
        Features (windows, n_features) to probabilities (windows, n_classes), see :class:`TorchHead`; the
        ``predict_proba`` of a fitted scikit-learn pipeline fits.
    sfreq_hz : float
        Sampling rate of the stream in hertz.
    window_s, hop_s : float
        Length of a window and the time between two decisions, in seconds; whole steps of the representation.
    output : {"representation", "reconstruction"}
        "reconstruction" also runs the decoder, see :attr:`stream`.
    features : str
        What the head was fitted on, see :func:`eegm2.model.features.window_features`.
    centre : {"none", "running"}
        Take the running mean off the features first, for a head that was fitted on centred ones.
    warm_up : int
        Windows, side by side, before the running mean is known; no decision comes before.
    """

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        *,
        sfreq_hz: float = 128.0,
        window_s: float = 4.0,
        hop_s: float = 0.5,
        output: str = "representation",
        features: str = "statistics",
        centre: str = "none",
        warm_up: int = WARM_UP_WINDOWS,
    ) -> None:
        if centre not in ("none", "running"):
            raise ConfigError(
                f"centre: got '{centre}', expected none or running: a stream has no whole recording"
            )
        self.stream = StreamingEEGM2(model, output=output)  # type: ignore[arg-type]
        self.head = head
        config = self.stream.network.config
        self.step = config.step_samples
        self.features = SlidingFeatures(
            steps_of("window_s", window_s, sfreq_hz, self.step),
            steps_of("hop_s", hop_s, sfreq_hz, self.step),
            features,
            config,
        )
        self.warm_up, self.centre = warm_up, centre
        self.centring = self._centring()

    def push(self, x: Tensor | np.ndarray) -> list[Decision]:
        """Take (batch, n_chans, k) samples; return the decisions of the windows that are complete."""
        return self.decide(self.stream.advance(x)[0])

    def flush(self) -> list[Decision]:
        """End the stream; return the decisions that are left."""
        return self.decide(self.stream.finish()[0])

    def reset(self) -> None:
        """Forget the past."""
        self.stream.reset()
        self.features.reset()
        self.centring = self._centring()

    def _centring(self) -> StreamCentring | None:
        return (
            StreamCentring(self.features.windows.window_steps, self.warm_up)
            if self.centre == "running"
            else None
        )

    def decide(self, representation: Tensor) -> list[Decision]:
        """Take new steps of the representation, (batch, 4w, steps); return the decisions they complete."""
        decisions = []
        for end, features in self.features.push(representation):
            array: np.ndarray | None = features.detach().cpu().numpy()
            if self.centring is not None:
                array = self.centring.take(features.detach().cpu().numpy(), end)
            if array is None:
                continue
            decisions.append(Decision(end * self.step, np.asarray(self.head(array)), array))
        return decisions


class TorchHead:
    """A torch head as a function of arrays: softmax of its logits, in evaluation mode."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval()

    @torch.no_grad()
    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Map features (windows, n_features) to probabilities (windows, n_classes)."""
        like = next(self.module.parameters())
        return self.module(torch.from_numpy(features).to(like)).softmax(dim=-1).cpu().numpy()


def steps_of(name: str, seconds: float, sfreq_hz: float, step: int) -> int:
    """Return a duration in representation steps of `step` samples, refusing parts of steps."""
    samples = seconds * sfreq_hz
    if not samples >= step or abs(samples / step - round(samples / step)) > 1e-6:
        raise ConfigError(
            f"{name}: got {seconds} s ({samples:g} samples at {sfreq_hz:g} Hz), "
            f"expected a positive multiple of {step / sfreq_hz:g} s"
        )
    return round(samples / step)


def rule_of(facts: dict[str, Any], config: StreamConfig | ExportConfig) -> dict[str, float | None]:
    """Return the numbers of a head's :class:`DecisionRule`: the options where given, else the head's own."""
    own = {name: facts[name] for name in ("enter", "leave") if name in facts}
    asked = config.enter is not None or config.leave is not None
    enter = float(own.get("enter", ENTER)) if config.enter is None else config.enter
    leave = config.leave
    if leave is None:
        leave = float(own.get("leave", LEAVE))
        leave = min(leave, enter) if own else leave
    threshold = facts.get("threshold")
    return {
        "smooth": config.smooth,
        "enter": enter,
        "leave": leave,
        "threshold": None if threshold is None or asked or own else float(threshold),
    }
