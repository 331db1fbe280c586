"""Eigenvalues of many small symmetric matrices: compiled for the CPU, torch's own elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from eegm2.ops.backends import choose_backend

#: Rows up to which the compiled form is the faster one.
SMALL = 64


def symmetric_eigen(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, (..., n), and eigenvectors as columns, (..., n, n); no gradient.

    Parameters
    ----------
    matrices : Tensor, shape (..., n, n)
        Symmetric and finite; float64 for the compiled form.

    Returns
    -------
    values, vectors : Tensor
        In an order of their own.
    """
    size = matrices.shape[-1]
    compiled = matrices.dtype == torch.float64 and choose_backend("auto", matrices.device) == "numba"
    if not compiled or size > SMALL:
        values, vectors = torch.linalg.eigh(matrices)
        return values, vectors
    from eegm2.ops.cpu.eigen import eigen_operator

    values, vectors = eigen_operator(matrices.reshape(-1, size, size))
    return values.view(matrices.shape[:-1]), vectors.view(matrices.shape)
