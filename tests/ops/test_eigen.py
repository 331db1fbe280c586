"""Eigenvalues by the compiled kernel: LAPACK's, whatever lies side by side in its lanes."""

from __future__ import annotations

import pytest
import torch

from eegm2.ops import choose_backend, symmetric_eigen

pytestmark = pytest.mark.skipif(choose_backend("auto", torch.device("cpu")) != "numba", reason="no Numba")


def random_matrices(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(count, size, size + 3, dtype=torch.float64, generator=generator)
    return x @ x.mT


def check(matrices: torch.Tensor) -> None:
    values, vectors = symmetric_eigen(matrices)
    size = matrices.abs().amax((-2, -1), keepdim=True).clamp_min(1e-300)
    torch.testing.assert_close(
        (vectors * values[..., None, :]) @ vectors.mT / size, matrices / size, atol=1e-13, rtol=0
    )
    identity = torch.eye(matrices.shape[-1], dtype=torch.float64).expand_as(matrices)
    torch.testing.assert_close(vectors.mT @ vectors, identity, atol=1e-13, rtol=0)
    expected = torch.linalg.eigvalsh(matrices)
    torch.testing.assert_close(
        values.sort().values / size[..., 0], expected / size[..., 0], atol=1e-13, rtol=0
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 33])
@pytest.mark.parametrize("count", [1, 8, 13])
def test_random_matrices(count: int, size: int) -> None:
    check(random_matrices(count, size))


def test_axes_before_the_last_two_are_kept() -> None:
    values, vectors = symmetric_eigen(random_matrices(6, 4).view(2, 3, 4, 4))
    assert (values.shape, vectors.shape) == ((2, 3, 4), (2, 3, 4, 4))
    assert symmetric_eigen(torch.zeros(0, 4, 4, dtype=torch.float64))[0].shape == (0, 4)


def test_equal_eigenvalues_zeros_and_far_sizes_side_by_side() -> None:
    identity = torch.eye(16, dtype=torch.float64)
    one = torch.randn(16, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pair = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    check(
        torch.stack(
            [
                identity,
                one @ one.mT + 0.1 * identity,
                torch.zeros_like(identity),
                torch.diag(torch.arange(16.0, dtype=torch.float64)),
                1e-12 * random_matrices(1, 16)[0],
                1e12 * random_matrices(1, 16)[0],
                torch.block_diag(*[pair] * 8),
                torch.ones_like(identity),
                -one @ one.mT,
            ]
        )
    )


def test_what_is_not_finite_ends_and_stays_in_its_lane() -> None:
    matrices = random_matrices(4, 5)
    broken = matrices.clone()
    broken[1, 2, 3] = torch.nan
    values, _ = symmetric_eigen(broken)
    torch.testing.assert_close(values[[0, 2, 3]], symmetric_eigen(matrices)[0][[0, 2, 3]])
