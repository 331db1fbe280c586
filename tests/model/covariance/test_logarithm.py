"""The matrix logarithm against pyriemann and spd_learn, its gradient, and the form by products alone."""

from __future__ import annotations

import pytest
import torch

from eegm2.model.covariance.logarithm import logarithm, logarithm_by_products


def spd(n: int, size: int, condition: float, seed: int = 0) -> torch.Tensor:
    """Random symmetric positive definite matrices whose eigenvalues run from 1 down to 1 / condition."""
    torch.manual_seed(seed)
    vectors = torch.linalg.qr(torch.randn(n, size, size, dtype=torch.float64))[0]
    values = condition ** -torch.linspace(0, 1, size, dtype=torch.float64)
    return (vectors * values) @ vectors.mT


def test_the_logarithm_is_pyriemanns_and_spd_learns() -> None:
    base = pytest.importorskip("pyriemann.utils.base")
    matrices = spd(5, 6, 1e3)
    expected = torch.from_numpy(base.logm(matrices.numpy()))
    torch.testing.assert_close(logarithm(matrices), expected, rtol=0, atol=1e-10)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(logarithm(1.01 * matrices), expected, rtol=0, atol=1e-3)
    modules = pytest.importorskip("spd_learn.modules")
    second = modules.LogEig(upper=False, flatten=False)(matrices)
    torch.testing.assert_close(logarithm(matrices), second, rtol=0, atol=1e-10)


def test_the_gradient_is_right_also_where_eigenvalues_are_equal() -> None:
    apart = spd(2, 4, 50.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: logarithm(0.5 * (x + x.mT)), apart)
    equal = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1) * 0.3
    equal[1, 0, 0] = 2.0  # three equal ones and another
    equal.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: logarithm(0.5 * (x + x.mT)), equal)
    single = spd(3, 5, 100.0).float().requires_grad_()
    logarithm(single).square().sum().backward()
    double = single.detach().double().requires_grad_()
    logarithm(double).square().sum().backward()
    torch.testing.assert_close(single.grad, double.grad.float(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [2, 16, 32])
@pytest.mark.parametrize("condition", [1.0, 30.0, 300.0])
def test_products_alone_agree_in_single_precision(size: int, condition: float) -> None:
    matrices = (1e-4 * spd(4, size, condition)).float()
    torch.testing.assert_close(logarithm_by_products(matrices), logarithm(matrices), rtol=0, atol=1e-4)


def test_a_matrix_that_is_not_finite_gives_nan_and_leaves_the_others() -> None:
    matrices = spd(3, 4, 10.0)
    broken = matrices.clone()
    broken[1, 0, 0] = torch.nan
    made = logarithm(broken)
    assert made[1].isnan().all()
    torch.testing.assert_close(made[[0, 2]], logarithm(matrices)[[0, 2]])
