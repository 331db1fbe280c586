"""Pooled features less their recording's mean, while the network that makes them learns.

References
----------
Kobler et al. (2022), SPD domain-specific batch normalization to crack interpretable unsupervised domain
adaptation in EEG, NeurIPS, arXiv 2206.01323, for centring by domain inside a network; Johnson & Zhang (2013),
Accelerating stochastic gradient descent using predictive variance reduction, NeurIPS, for correcting what is
known exactly at the beginning of an epoch by what a batch says has changed since.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eegm2.data.windows.order import grouped_order
from eegm2.evaluation.config import Centre
from eegm2.evaluation.features.centring import centred, refuse_constant
from eegm2.evaluation.windows.labelled import LabelledWindows

#: Windows of a recording that are in a batch together.
TOGETHER = 8

#: Indices of windows → their features, (n, n_features).
Pooled = Callable[[NDArray[np.int64]], Tensor]


class Centring:
    """Takes the mean of its recording off what a network's head decides on.

    While learning, features of a window are ``c + d - mean of d``: `c` its centred features at the beginning
    of the epoch, by the network as it was then, `d` how far its features have moved since, and the mean is
    over the windows of the same recording in the batch. So the first step sees exactly what
    :func:`eegm2.evaluation.features.centring.centre_features` gives; a mean that was known once an epoch
    would lag behind the network, and one of the batch alone would be noise of a few windows. The gradient
    goes through the mean: moving all windows of a recording alike, which centring takes away, is no way to
    a lower loss.

    Parameters
    ----------
    data : LabelledWindows
        Where every window is from.
    centre : {"recording", "running"}
        See :func:`eegm2.evaluation.features.centring.centred`.
    batch_size : int
        Windows per step.

    Raises
    ------
    DataError
        If every recording has one target throughout, which centring would take away.
    """

    def __init__(self, data: LabelledWindows, centre: Centre, batch_size: int) -> None:
        refuse_constant(data)
        self.data, self.centre = data, centre
        _, self.groups = np.unique(data.recording, return_inverse=True)
        self.batch_size, self.together = batch_size, min(TOGETHER, batch_size)
        self._known: tuple[NDArray[np.int64], Tensor, Tensor] | None = None

    def batches(self, indices: NDArray[np.int64], generator: torch.Generator) -> list[NDArray[np.int64]]:
        """Return an epoch's batches of windows, in which those of a recording come together."""
        draw = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        order = indices[grouped_order(self.groups[indices], self.together, draw)]
        n_batches = -(-len(order) // self.batch_size)
        edges = np.linspace(0, len(order), n_batches + 1)[1:-1] / self.together
        return np.split(order, edges.round().astype(int) * self.together)

    def begin(self, pooled: Pooled, indices: NDArray[np.int64]) -> None:
        """Begin an epoch over windows with the network as it is."""
        rows = self.whole(indices)
        features = pooled(rows)
        self._known = rows, features, self._less_mean(features, rows)

    def learning(self, features: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """Return the features of a batch, (batch, n_features), centred; differentiable."""
        assert self._known is not None, "an epoch has begun"
        rows, *known = self._known
        before, centred_before = (kept[np.searchsorted(rows, indices)].to(features) for kept in known)
        moved = features - before
        group = torch.from_numpy(self.groups[indices]).to(features.device)
        alike = (group[:, None] == group).to(features)
        return centred_before + moved - (alike / alike.sum(1, keepdim=True)) @ moved

    def judging(self, pooled: Pooled, indices: NDArray[np.int64]) -> Tensor:
        """Return the features of windows, centred on all windows of their recordings."""
        rows = self.whole(indices)
        return self._less_mean(pooled(rows), rows)[np.searchsorted(rows, indices)]

    def whole(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return all windows of the recordings that some windows are from, in ascending order."""
        return np.flatnonzero(np.isin(self.groups, self.groups[indices]))

    def _less_mean(self, features: Tensor, rows: NDArray[np.int64]) -> Tensor:
        data, values = self.data, features.double().cpu().numpy()
        found = centred(values, data.recording[rows], self.centre, data.start_s[rows], data.window_s)
        return torch.from_numpy(found).to(features)
