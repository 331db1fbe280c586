"""A trained classifier head on the stream: decisions from a sliding window of the representation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.errors import ConfigError
from eegm2.model.statistics import FEATURES
from eegm2.model.streaming.stream import STEP

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
        Of the representation in the window: 9 * 4w time statistics, or its covariance.
    """

    end_sample: int
    probabilities: np.ndarray
    features: np.ndarray


class SlidingFeatures:
    """Features of the last `window_steps` steps of a representation, every `hop_steps` steps.

    Parameters
    ----------
    window_steps, hop_steps : int
        Steps of the representation, 8 samples each.
    features : {"statistics", "covariance"}
        See :func:`eegm2.time_statistics` and :func:`eegm2.log_covariance`.
    """

    def __init__(self, window_steps: int, hop_steps: int, features: str = "statistics") -> None:
        if features not in FEATURES:
            raise ConfigError(f"features: got '{features}', expected one of {', '.join(FEATURES)}")
        self._features = FEATURES[features]
        if window_steps < 1 or hop_steps < 1:
            raise ConfigError(f"window: got {window_steps} steps every {hop_steps}, expected at least 1")
        self.window_steps, self.hop_steps = window_steps, hop_steps
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._held: Tensor | None = None
        self._end = 0

    def push(self, representation: Tensor) -> list[tuple[int, Tensor]]:
        """Take (batch, channels, steps); return (end step, features) of the windows now complete.

        Windows end at step window_steps, window_steps + hop_steps, …; features are (batch, n_features).
        """
        if self._held is None:
            self._held = representation[..., :0]
        held = torch.cat([self._held, representation], dim=2)
        first = self._end + representation.shape[2] - held.shape[2]
        self._end += representation.shape[2]
        complete = []
        earliest = -(-first // self.hop_steps) * self.hop_steps
        for start in range(earliest, self._end - self.window_steps + 1, self.hop_steps):
            if start + self.window_steps > self._end - representation.shape[2]:
                window = held[..., start - first : start - first + self.window_steps]
                complete.append((start + self.window_steps, self._features(window)))
        self._held = held[..., max(0, held.shape[2] - self.window_steps) :].clone()
        return complete


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
        Length of a window and the time between two decisions, in seconds; whole multiples of 8 samples.
    output : {"representation", "reconstruction"}
        "reconstruction" also runs the decoder, see :attr:`stream`.
    features : {"statistics", "covariance"}
        What the head was fitted on.
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
    ) -> None:
        self.stream = StreamingEEGM2(model, output=output)  # type: ignore[arg-type]
        self.head = head
        self.features = SlidingFeatures(
            _steps("window_s", window_s, sfreq_hz), _steps("hop_s", hop_s, sfreq_hz), features
        )

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

    def decide(self, representation: Tensor) -> list[Decision]:
        """Take new steps of the representation, (batch, 4w, steps); return the decisions they complete."""
        decisions = []
        for end, features in self.features.push(representation):
            array = features.detach().cpu().numpy()
            decisions.append(Decision(end * STEP, np.asarray(self.head(array)), array))
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


def _steps(name: str, seconds: float, sfreq_hz: float) -> int:
    """Return a duration in representation steps, refusing parts of steps."""
    samples = seconds * sfreq_hz
    if not samples >= STEP or abs(samples / STEP - round(samples / STEP)) > 1e-6:
        raise ConfigError(
            f"{name}: got {seconds} s ({samples:g} samples at {sfreq_hz:g} Hz), "
            f"expected a positive multiple of {STEP / sfreq_hz:g} s"
        )
    return round(samples / STEP)
