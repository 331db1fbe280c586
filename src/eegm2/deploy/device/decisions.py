"""From a representation to decisions: sliding windows, centring, a dense head, smoothing; NumPy alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eegm2.errors import ConfigError
from eegm2.evaluation.features.centring import WARM_UP_WINDOWS, RunningMean


class SlidingWindows:
    """The last `window_steps` steps of a representation, every `hop_steps` steps.

    Parameters
    ----------
    window_steps, hop_steps : int
        Steps of the representation.
    """

    def __init__(self, window_steps: int, hop_steps: int) -> None:
        if window_steps < 1 or hop_steps < 1:
            raise ConfigError(f"window: got {window_steps} steps every {hop_steps}, expected at least 1")
        self.window_steps, self.hop_steps = window_steps, hop_steps
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._held: np.ndarray | None = None
        self._end = 0

    def push(self, representation: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Take (batch, channels, steps); return (first step, window) of the windows now complete.

        Windows end at step window_steps, window_steps + hop_steps, …
        """
        if self._held is None:
            self._held = representation[..., :0]
        held = np.concatenate([self._held, representation], axis=2)
        first = self._end + representation.shape[2] - held.shape[2]
        before, self._end = self._end, self._end + representation.shape[2]
        earliest = -(-first // self.hop_steps) * self.hop_steps
        starts = range(earliest, self._end - self.window_steps + 1, self.hop_steps)
        complete = [
            (start, held[..., start - first : start - first + self.window_steps])
            for start in starts
            if start + self.window_steps > before
        ]
        self._held = held[..., max(0, held.shape[2] - self.window_steps) :].copy()
        return complete


class StreamCentring:
    """Takes the running mean off a stream's features; windows side by side count for it.

    Equals ``centred(..., "running")`` of the same features once the mean is known.

    Parameters
    ----------
    window_steps : int
        Length of a window in steps of the representation.
    warm_up : int
        Windows before the mean counts as known.
    """

    def __init__(self, window_steps: int, warm_up: int = WARM_UP_WINDOWS) -> None:
        self.window_steps = window_steps
        self.mean = RunningMean(warm_up)
        self.restart()

    def restart(self) -> None:
        """Begin to count steps anew, keeping the mean: the recording goes on after a gap."""
        self._counted = 0

    def take(self, features: np.ndarray, end: int) -> np.ndarray | None:
        """Return the features (batch, n_features) of the window that ends at a step, centred; or None yet."""
        if end - self.window_steps >= self._counted:
            self.mean.push(features)
            self._counted = end
        return features - self.mean.mean if self.mean.known else None


def dense_scores(
    features: np.ndarray, mean: np.ndarray, scale: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Map features (windows, n_features) to scores: standardise, dense layers with ReLU between them."""
    h = (features - mean) / scale
    for i, (weight, bias) in enumerate(layers):
        h = h @ weight.T + bias
        if i < len(layers) - 1:
            h = np.maximum(h, 0)
    return h


def dense_probabilities(
    features: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    layers: list[tuple[np.ndarray, np.ndarray]],
    link: str,
) -> np.ndarray:
    """Map features (windows, n_features) to class probabilities: standardise, dense layers with ReLU, link.

    ``softmax`` of the scores, or ``one-vs-rest``: a sigmoid of each, divided by their sum (a single score is
    that of the second of two classes).
    """
    h = dense_scores(features, mean, scale, layers)
    if link == "softmax":
        e = np.exp(h - h.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    p = 0.5 * (1 + np.tanh(h / 2))
    if p.shape[1] == 1:
        return np.concatenate([1 - p, p], axis=1)
    return p / p.sum(axis=1, keepdims=True)


class DecisionRule:
    """Smoothed probabilities with hysteresis, so that a decision does not flicker.

    Parameters
    ----------
    smooth : float
        Weight of the past in ``p = smooth * p + (1 - smooth) * new``.
    enter, leave : float
        A class is decided when its smoothed probability reaches `enter`, until it falls below `leave`.
    threshold : float, optional
        Of two classes the second is decided from this probability on, else the first; `enter` and `leave`
        do not count then.
    """

    def __init__(
        self, *, smooth: float = 0.0, enter: float = 0.6, leave: float = 0.5, threshold: float | None = None
    ) -> None:
        if not (0 <= smooth < 1 and 0 <= leave <= enter <= 1):
            raise ConfigError(
                f"smooth, enter, leave: got {smooth}, {enter}, {leave}; "
                "expected 0 <= smooth < 1 and 0 <= leave <= enter <= 1"
            )
        self.smooth, self.enter, self.leave, self.threshold = smooth, enter, leave, threshold
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self.probabilities: np.ndarray | None = None
        self.decided: int | None = None

    def push(self, probabilities: np.ndarray) -> int | None:
        """Take class probabilities, (n_classes,); return the decided class or None."""
        new = np.asarray(probabilities, float)
        past = new if self.probabilities is None else self.probabilities
        self.probabilities = self.smooth * past + (1 - self.smooth) * new
        best = int(self.probabilities.argmax())
        if self.threshold is not None and len(new) == 2:
            self.decided = int(self.probabilities[1] >= self.threshold)
            return self.decided
        if self.decided is not None and self.probabilities[self.decided] < self.leave:
            self.decided = None
        if self.probabilities[best] >= self.enter and (
            self.decided is None or self.probabilities[best] > self.probabilities[self.decided]
        ):
            self.decided = best
        return self.decided


class Decider:
    """Features of one window after another to decisions.

    Parameters
    ----------
    head : callable
        Features (windows, n_features) to probabilities (windows, n_classes).
    classes : sequence of str
    rule : DecisionRule
    centring : StreamCentring, optional
    """

    def __init__(
        self,
        head: Callable[[np.ndarray], np.ndarray],
        classes: tuple[str, ...],
        rule: DecisionRule,
        centring: StreamCentring | None = None,
    ) -> None:
        self.head, self.classes, self.rule, self.centring = head, tuple(classes), rule, centring

    def reset(self) -> None:
        """Begin anew after a gap; what the features are centred on is the person's and stays."""
        self.rule.reset()
        if self.centring is not None:
            self.centring.restart()

    def push(self, features: np.ndarray, end: int) -> dict[str, Any] | None:
        """Take (1, n_features) of the window that ends at a step.

        Returns ``probabilities`` (smoothed) and ``decided``, None while the running mean is not known.
        """
        known = features if self.centring is None else self.centring.take(features, end)
        if known is None:
            return None
        decided = self.rule.push(self.head(known)[0])
        assert self.rule.probabilities is not None
        return {
            "probabilities": [round(float(p), 6) for p in self.rule.probabilities],
            "decided": None if decided is None else self.classes[decided],
        }
