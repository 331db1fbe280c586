"""Tangent vectors of running covariances for the few tokens of a push: one call in place of some thirty."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from eegm2.ops.cpu.runtime import prepare
from eegm2.ops.cpu.tangent_kernels import tangents

#: Rows up to which the compiled form is the faster one.
SMALL = 64


class PreparedTangent:
    """`CovarianceTokens.tangent` of running sums with fixed shrinkage, float32, on one thread.

    Parameters
    ----------
    shares : Tensor, shape (n_bands,)
        Share of the identity in each band's covariance.
    channels, window : int
        Rows of a matrix, and steps of the running window.
    silence : float
        Power added to all.
    """

    def __init__(self, shares: Tensor, channels: int, window: int, silence: float) -> None:
        self.channels, self.window, self.silence = channels, window, silence
        self.shares = shares.detach().double().numpy().copy()
        arrays = (numba.float32[::1], numba.float32[::1], numba.float64[::1], numba.float32[::1])
        prepare(tangents, (*arrays, numba.int64[::1], numba.float64))

    def __call__(self, spectra: Tensor, totals: Tensor) -> Tensor:
        """Return the tangent vectors, (batch, ready, tangent size).

        Parameters
        ----------
        spectra : Tensor, shape (batch, window - 1 + ready, n_bands * channels²)
            Cross-spectra of the steps.
        totals : Tensor, shape (batch, ready)
            Samples that each running window knows, above 0.
        """
        batch, ready = totals.shape
        bands, n = len(self.shares), self.channels
        out = torch.empty(batch, ready, bands * n * (n + 1) // 2)
        tangents(
            spectra.contiguous().view(-1).numpy(),
            totals.contiguous().view(-1).numpy(),
            self.shares,
            out.view(-1).numpy(),
            np.array((batch, ready, self.window, bands, n), np.int64),
            self.silence,
        )
        return out
