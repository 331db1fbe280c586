"""The logarithm of the covariance is SciPy's, keeps distances, and is finite where nothing moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import logm

from eegm2 import log_covariance
from eegm2.model.statistics import SHRINKAGE


def representations(n: int = 3, channels: int = 6, steps: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    return mixing @ torch.randn(n, channels, steps, generator=generator, dtype=torch.float64) + 3.0


def matrices(features: torch.Tensor, channels: int) -> np.ndarray:
    """Return the symmetric matrices of which `features` are the upper triangles."""
    row, column = np.triu_indices(channels)
    out = np.zeros((len(features), channels, channels))
    out[:, row, column] = out[:, column, row] = features.numpy() / np.where(row == column, 1, np.sqrt(2))
    return out


def expected(F: torch.Tensor, shrinkage: float) -> list[np.ndarray]:
    found = []
    for window in F.numpy():
        plain = np.cov(window, bias=True)
        level = np.trace(plain) / len(plain)
        found.append(logm((1 - shrinkage) * plain + shrinkage * level * np.eye(len(plain))))
    return found


@pytest.mark.parametrize("shrinkage", [SHRINKAGE, 0.3])
def test_it_is_the_logarithm_of_the_shrunk_covariance(shrinkage: float) -> None:
    F = representations()
    found = matrices(log_covariance(F, shrinkage), 6)
    np.testing.assert_allclose(found, expected(F, shrinkage), rtol=1e-9, atol=1e-9)
    assert not np.allclose(found, expected(1.01 * F, shrinkage), rtol=1e-3, atol=1e-3)


def test_distances_of_features_are_those_of_matrices_and_a_level_is_added_once() -> None:
    F = representations()
    features = log_covariance(F)
    whole = matrices(features, 6)
    assert torch.dist(features[0], features[1]).item() == pytest.approx(np.linalg.norm(whole[0] - whole[1]))
    louder = matrices(log_covariance(10 * F), 6)
    np.testing.assert_allclose(louder - whole, np.tile(np.log(100) * np.eye(6), (3, 1, 1)), atol=1e-9)


def test_fewer_steps_than_channels_and_windows_that_do_not_move_stay_finite() -> None:
    few = log_covariance(representations(channels=20, steps=5).float())
    assert few.dtype == torch.float32
    assert few.shape == (3, 210)
    assert torch.isfinite(few).all()
    still = matrices(log_covariance(torch.ones(1, 4, 8)), 4)[0]
    assert np.isfinite(still).all()
    assert (np.diag(still) < -20).all()


@pytest.mark.parametrize("shape", [(4, 8), (1, 4, 0)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"log_covariance: got shape .*, expected \(batch, channels, steps\)"
    ):
        log_covariance(torch.zeros(shape))
    with pytest.raises(ValueError, match="shrinkage: got 2, expected 0 <= shrinkage <= 1"):
        log_covariance(torch.zeros(1, 4, 8), 2)
