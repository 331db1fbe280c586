"""What turns a representation into features: nine time statistics, or how its channels vary together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from eegm2.ops import needs_gradient

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SHRINKAGE = 0.02  # keeps the logarithm of a covariance of few steps finite
_TINY = 1e-12
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
    _check(representation, "time_statistics")
    ordered = _sorted(representation)
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


def log_covariance(representation: Tensor, shrinkage: float = SHRINKAGE) -> Tensor:
    """Return the matrix logarithm of every window's covariance between the representation's channels.

    Time statistics see each channel by itself; this sees which channels rise and fall together. It is not in
    the paper. The logarithm makes differences ratios and lets a linear model treat covariances as vectors.

    Parameters
    ----------
    representation : Tensor, shape (batch, channels, steps)
        Encoder output F, at least one step. Computed in float64.
    shrinkage : float
        Share of a multiple of the identity with the same trace, between 0 and 1; above 0 where there are
        fewer steps than channels.

    Returns
    -------
    features : Tensor, shape (batch, channels * (channels + 1) / 2)
        Upper triangle row by row, off the diagonal times the square root of 2, so that the Euclidean distance
        of two rows is that of the matrices. In the dtype of `representation`. A window that does not move has
        the logarithm of a tiny number on the diagonal.

    Raises
    ------
    ValueError
        If the input is not three-dimensional or has no step, or `shrinkage` is not between 0 and 1.

    References
    ----------
    Arsigny, Fillard, Pennec & Ayache (2007), SIAM J. Matrix Anal. Appl. 29:328-347, doi:10.1137/050637996,
    for the distance; Barachant et al. (2012), IEEE Trans. Biomed. Eng. 59:920-928, for features of EEG.
    """
    _check(representation, "log_covariance")
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"log_covariance: shrinkage: got {shrinkage}, expected 0 <= shrinkage <= 1")
    moving = representation.double()
    moving = moving - moving.mean(dim=-1, keepdim=True)
    channels, steps = moving.shape[1:]
    covariance = moving @ moving.mT / steps
    level = covariance.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    identity = torch.eye(channels, dtype=moving.dtype, device=moving.device)
    covariance = (1 - shrinkage) * covariance + shrinkage * level[:, None, None] * identity
    values, vectors = torch.linalg.eigh(covariance)
    logarithm = (vectors * values.clamp_min(_TINY).log()[:, None, :]) @ vectors.mT
    row, column = torch.triu_indices(channels, channels, device=moving.device)
    scale = torch.full_like(logarithm[0], 2.0**0.5).fill_diagonal_(1.0)
    return (logarithm * scale)[:, row, column].to(representation.dtype)


def _check(representation: Tensor, name: str) -> None:
    if representation.dim() != 3 or representation.shape[-1] == 0:
        raise ValueError(
            f"{name}: got shape {tuple(representation.shape)}, "
            "expected (batch, channels, steps) with steps >= 1"
        )


def _plain(x: Tensor) -> bool:
    """Return whether values may be taken past torch: on a CPU, without gradient or graph."""
    traced = torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing()
    return (
        not traced
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not needs_gradient(x)
    )


def _sorted(x: Tensor) -> Tensor:
    """Return the values in order along the last axis; NumPy's sort takes a tenth of torch's time."""
    if not _plain(x):
        return x.sort(dim=-1).values
    copied = x.detach().clone(memory_format=torch.contiguous_format)
    copied.numpy().sort(axis=-1)
    return copied


def _std(x: Tensor) -> Tensor:
    """Return the population deviation over the last axis; 0, with a zero gradient, where constant.

    torch's variance reads an axis whose steps lie apart one by one; sums over all channels at once do not.
    """
    if not _plain(x):
        return root(x.var(dim=-1, correction=0))
    moved = x - x[..., :1]  # from the first step on, what is constant is exactly zero
    return root((moved - moved.mean(dim=-1, keepdim=True)).square_().mean(dim=-1))


def root(variance: Tensor) -> Tensor:
    """Return square roots of what is not below 0; of 0 it is 0, with a zero gradient."""
    moves = variance > 0
    return torch.where(moves, variance, torch.ones_like(variance)).sqrt() * moves


#: What a probe, a head or an embedding makes of a window's representation, by name.
FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "statistics": time_statistics,
    "covariance": log_covariance,
}
