"""The logarithm of symmetric positive definite matrices: by eigenvalues, or by products alone for export.

References
----------
Higham, "Functions of Matrices" (SIAM 2008): theorem 3.11 (Daleckii and Krein) for the derivative, sections
6.3 and 11.5 for square roots by Newton's iteration and the logarithm by inverse scaling and squaring.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from eegm2.ops import needs_gradient, symmetric_eigen

#: Smallest eigenvalue, in shares of the trace, for which the form by products is laid out.
SMALLEST_SHARE = 1e-4
#: Square roots that are taken before the series, and the terms of it.
ROOTS, SERIES_TERMS = 4, 9


def logarithm(matrices: Tensor) -> Tensor:
    """Return the logarithm of symmetric positive definite matrices, (..., n, n).

    Eigenvalues are found in float64 where the device has it. A matrix with a value that is not finite gives
    NaN. Graphs that are exported hold products only, see :func:`logarithm_by_products`.

    Parameters
    ----------
    matrices : Tensor, shape (..., n, n)
        Symmetric, with eigenvalues above zero.
    """
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return logarithm_by_products(matrices)
    if not needs_gradient(matrices):
        return _by_eigenvalues(matrices)[0]
    result: Tensor = _Logarithm.apply(matrices)
    return result


def _by_eigenvalues(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logarithms, and the eigenvalues and vectors that they are made of."""
    wide = matrices if matrices.device.type == "mps" else matrices.double()
    fine = torch.isfinite(wide.sum((-2, -1)))[..., None, None]
    all_fine = bool(fine.all())
    if not all_fine:
        identity = torch.eye(wide.shape[-1], dtype=wide.dtype, device=wide.device)
        wide = torch.where(fine, wide, identity)
    values, vectors = symmetric_eigen(wide)
    values = values.clamp_min(torch.finfo(values.dtype).tiny)
    narrow, logs = vectors.to(matrices.dtype), values.log().to(matrices.dtype)
    made = (narrow * logs[..., None, :]) @ narrow.mT
    return made if all_fine else torch.where(fine, made, torch.nan), values, vectors


class _Logarithm(torch.autograd.Function):
    """Logarithm by eigenvalues with the divided differences of Daleckii and Krein as derivative."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        made, values, vectors = _by_eigenvalues(matrices)
        ctx.save_for_backward(values, vectors)
        ctx.dtype = matrices.dtype
        return made

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        slope = slope.to(values.dtype)
        inner = vectors.mT @ (0.5 * (slope + slope.mT)) @ vectors
        return (vectors @ (_differences(values) * inner) @ vectors.mT).to(ctx.dtype)


def _differences(values: Tensor) -> Tensor:
    """Return ``(log a - log b) / (a - b)`` of all pairs, 1 / a where they are equal.

    With r = (a - b) / (a + b) this is ``2 atanh(r) / r / (a + b)``: nothing is lost where a and b are close.
    """
    a, b = values[..., :, None], values[..., None, :]
    r = (a - b) / (a + b)
    small = r.abs() < 1e-4
    safe = torch.where(small, 0.5, r.clamp(-1 + 1e-15, 1 - 1e-15))
    return 2 / (a + b) * torch.where(small, 1 + r.square() / 3, torch.atanh(safe) / safe)


def logarithm_by_products(matrices: Tensor) -> Tensor:
    """Return the logarithm by matrix products alone, as runtimes without eigenvalues can compute it.

    Each matrix is divided by its trace, four square roots bring the eigenvalues near 1 (Newton's iteration in
    the product form of Schulz), and the series of the logarithm does the rest. In float32 it agrees with
    eigenvalues to 1e-4 where the smallest eigenvalue is at least 1e-4 of the trace.

    Parameters
    ----------
    matrices : Tensor, shape (..., n, n)
        Symmetric, with eigenvalues above zero.
    """
    size = matrices.shape[-1]
    flat = matrices.reshape(-1, size, size)  # one axis of matrices: few operations in the graph
    identity = torch.eye(size, dtype=matrices.dtype, device=matrices.device)
    trace = (flat * identity).sum((-2, -1), keepdim=True)
    root, smallest = flat / trace, SMALLEST_SHARE
    for _ in range(ROOTS):
        root = _square_root(root, identity, smallest**0.5)
        smallest **= 0.5
    middle = (1 + smallest) / 2
    away = identity - root / middle  # eigenvalues around 0: log(1 - away) = -sum of powers of away / k
    total, power = away, away
    for k in range(2, SERIES_TERMS + 1):
        power = torch.bmm(power, away)
        total = total + power / k
    made = identity * (trace.log() + 2**ROOTS * math.log(middle)) - 2**ROOTS * total
    return made.reshape_as(matrices)


def _square_root(matrices: Tensor, identity: Tensor, smallest: float) -> Tensor:
    """Return the square root of matrices whose roots have eigenvalues from `smallest` to 1.

    References
    ----------
    Chen & Chow (2014), "A stable scaling of Newton-Schulz for improving the sign function computation",
    Argonne preprint ANL/MCS-P5059-0114, for the factors that make small eigenvalues grow faster.
    """
    root, inverse = matrices, identity.expand_as(matrices)
    while 1 - smallest > 1e-7:
        factor = math.sqrt(3 / (1 + smallest + smallest**2))
        half = 1.5 * factor * identity - 0.5 * factor**3 * torch.bmm(inverse, root)
        root, inverse = torch.bmm(root, half), torch.bmm(half, inverse)
        smallest = 0.5 * factor * smallest * (3 - (factor * smallest) ** 2)
    return root
