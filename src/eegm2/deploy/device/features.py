"""Features of a window of the representation with NumPy alone, as `eegm2.model.features` in torch."""

from __future__ import annotations

from typing import Any

import numpy as np

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SHRINKAGE = 0.02
_TINY = 1e-12


def array_features(window: np.ndarray, kind: str, facts: dict[str, Any], first: int = 0) -> np.ndarray:
    """Return the features of one window.

    Parameters
    ----------
    window : array, shape (channels, steps)
        Of the representation.
    kind : str
        A kind of `eegm2.model.features.KINDS`.
    facts : dict
        ``trunk_channels`` and, for networks with covariance tokens, ``tokens``: ``token_step``,
        ``window_tokens``, ``kernel_taps`` and the places ``diagonal`` in a tangent vector.
    first : int
        Index of the first step since the network began.
    """
    tokens, trunk = facts.get("tokens"), int(facts["trunk_channels"])
    if kind == "statistics":
        return _statistics(window[:trunk])
    if kind == "covariance":
        return _log_covariance(window[:trunk])
    assert tokens is not None
    length = tokens["token_step"] * tokens["window_tokens"]
    seen = (np.arange(first, first + window.shape[1]) + 1) * tokens["token_step"] - tokens["kernel_taps"] // 2
    known = (np.maximum(seen, 0) - np.maximum(seen - length, 0)) / length
    known = np.ones_like(known) if known.sum() <= 0 else known
    known = known / known.sum()
    pooled = (window * known).sum(1)
    state, tangent = pooled[:trunk], pooled[trunk:]
    if kind == "log_variance":
        return tangent[tokens["diagonal"]]
    spread = np.sqrt(((window[trunk:] - tangent[:, None]) ** 2 * known).sum(1))
    parts = {"tangent": tangent, "spread": spread, "state": state}
    return np.concatenate([parts[part] for part in kind.split("_")])


def _statistics(x: np.ndarray) -> np.ndarray:
    """Return minima, maxima, means, deviations and five quantiles of every channel."""
    ordered = np.sort(x, axis=1)
    quantiles = np.quantile(x.astype(float), _QUANTILES, axis=1)
    parts = [ordered[:, 0], ordered[:, -1], x.mean(1), x.astype(float).std(1), *quantiles]
    return np.concatenate(parts)


def _log_covariance(x: np.ndarray) -> np.ndarray:
    """Return the upper triangle of the logarithm of the channels' shrunk covariance."""
    moving = x.astype(float) - x.astype(float).mean(1, keepdims=True)
    covariance = moving @ moving.T / x.shape[1]
    level = np.trace(covariance) / len(x)
    values, vectors = np.linalg.eigh((1 - _SHRINKAGE) * covariance + _SHRINKAGE * level * np.eye(len(x)))
    logarithm = (vectors * np.log(np.maximum(values, _TINY))) @ vectors.T
    scale = np.where(np.eye(len(x), dtype=bool), 1.0, 2.0**0.5)
    result: np.ndarray = (logarithm * scale)[np.triu_indices(len(x))]
    return result
