"""Terms on pooled states: variance and covariance against collapse, and contrast within a recording."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def variance_term(z: Tensor) -> Tensor:
    """Return how far the standard deviations of (batch, size) fall below 1, in the mean.

    References
    ----------
    Bardes, Ponce, LeCun, "VICReg" (arXiv 2105.04906), Eq. 1.
    """
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def covariance_term(z: Tensor) -> Tensor:
    """Return the sum of squared covariances of different columns of (batch, size), over the columns.

    References
    ----------
    VICReg (arXiv 2105.04906), Eq. 3 and 4.
    """
    centred = z - z.mean(0)
    covariances = centred.T @ centred / max(len(z) - 1, 1)
    return (covariances.square().sum() - covariances.diagonal().square().sum()) / z.shape[1]


def contrast_term(z: Tensor, targets: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of telling each window's target from those of its own recording.

    Windows of other recordings are no negatives, so a person cannot be told by who they are. A window alone
    in its recording does not count.

    Parameters
    ----------
    z, targets : Tensor, shape (batch, size)
        Of the masked window, and of the whole one; compared by their angle.
    groups : Tensor of int, shape (batch,)
        The same number for windows of one recording.
    temperature : float
        Divides the cosines.
    """
    same = groups[:, None] == groups[None, :]
    logits = F.normalize(z.float(), dim=-1) @ F.normalize(targets.float(), dim=-1).T / temperature
    losses = -logits.masked_fill(~same, -torch.inf).log_softmax(-1).diagonal()
    counts = (same.sum(1) > 1).to(losses)
    return (losses * counts).sum() / counts.sum().clamp_min(1)
