"""Eigenvalues and vectors of small symmetric matrices by the compiled kernel."""

from __future__ import annotations

from torch import Tensor

from eegm2.ops.cpu.eigen_kernels import eigen_groups
from eegm2.ops.cpu.operators import operator
from eegm2.ops.cpu.runtime import launch

#: Matrices side by side: lanes of float64.
TOGETHER = 8
#: State elements, as the kernels' threads are counted in, per element of a matrix.
WORK = 75


@operator("symmetric_eigen")
def eigen_operator(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (count, n), in no order, and vectors (count, n, n), as columns.

    Parameters
    ----------
    matrices : Tensor of float64, shape (count, n, n)
        Symmetric and finite.
    """
    count, n = matrices.shape[0], matrices.shape[-1]
    values, vectors = matrices.new_empty(count, n), matrices.new_empty(count, n, n)
    if count:
        groups = -(-count // TOGETHER)
        launch(
            eigen_groups,
            (matrices.contiguous(), values, vectors),
            (count, n),
            groups,
            WORK * matrices.numel(),
        )
    return values, vectors


@eigen_operator.register_fake
def _(matrices: Tensor) -> tuple[Tensor, Tensor]:
    return matrices.new_empty(matrices.shape[:-1]), matrices.new_empty(matrices.shape)
