"""The nine time statistics that turn a representation into features."""

from __future__ import annotations

import torch
from torch import Tensor

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
STATISTICS = ("min", "max", "mean", "std", *(f"q{int(100 * q):02d}" for q in QUANTILES))


def time_statistics(representation: Tensor) -> Tensor:
    """Summarise every channel of a representation over time by nine numbers.

    Parameters
    ----------
    representation : Tensor, shape (batch, channels, steps)
        Encoder output F, at least one step.

    Returns
    -------
    features : Tensor, shape (batch, 9 * channels)
        Minima of all channels first, then maxima, means, standard deviations (population, so that one step
        gives 0) and the quantiles 0.05, 0.25, 0.5, 0.75, 0.95 (linear interpolation), see ``STATISTICS``.

    Raises
    ------
    ValueError
        If the input is not three-dimensional or has no step; the message gives its shape.

    References
    ----------
    EEGM2, arXiv 2502.17873, section 4.3.
    """
    if representation.dim() != 3 or representation.shape[-1] == 0:
        raise ValueError(
            f"time_statistics: got shape {tuple(representation.shape)}, "
            "expected (batch, channels, steps) with steps >= 1"
        )
    ordered = representation.sort(dim=-1).values
    last = ordered.shape[-1] - 1
    parts = [
        ordered[..., 0],
        ordered[..., -1],
        representation.mean(dim=-1),
        _std(representation),
    ]
    for q in QUANTILES:
        low = int(q * last)
        parts.append(torch.lerp(ordered[..., low], ordered[..., min(low + 1, last)], q * last - low))
    return torch.cat(parts, dim=-1)


def _std(x: Tensor) -> Tensor:
    """Return the population deviation over the last axis; 0, with a zero gradient, where constant."""
    variance = x.var(dim=-1, correction=0)
    moves = variance > 0
    return torch.where(moves, variance, torch.ones_like(variance)).sqrt() * moves
