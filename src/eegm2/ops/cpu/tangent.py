"""From signals to tangent vectors of running covariances, compiled: two calls in place of some forty."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from eegm2.ops.cpu.eigen import TOGETHER, WORK
from eegm2.ops.cpu.products import COLUMNS, TILE_ROWS
from eegm2.ops.cpu.runtime import empty, launch
from eegm2.ops.cpu.tangent_kernels import bank_spectra, tangents


@dataclass(frozen=True)
class BankWeights:
    """A filter bank as the kernel reads it: filters by place in a segment, padded to whole tiles; a copy."""

    filters: Tensor
    shape: tuple[int, int, int]  # samples of a segment, bands, filtered samples per band
    step: int
    stride: int

    @classmethod
    def of(cls, matrix: Tensor, step: int, stride: int) -> BankWeights:
        """Lay out (length, bands, filtered) for steps of so many samples; `stride` multiplies sums."""
        flat = matrix.detach().flatten(1)
        length, bands, taken = matrix.shape
        return cls(F.pad(flat, (0, -flat.shape[1] % TILE_ROWS)).clone(), (length, bands, taken), step, stride)

    def __call__(self, x: Tensor, before: int) -> Tensor:
        """Return products of filtered channels, summed over each step, (batch, steps, bands, n, n).

        Parameters
        ----------
        x : Tensor, shape (batch, n, before + time)
            Of any strides, and of at least one step.
        before : int
            Samples of `x` before the first step, fewer than those of a segment; earlier ones are zero.
        """
        (batch, n, time), (length, bands, taken) = x.shape, self.shape
        steps = (time - before) // self.step
        spectra = empty((batch, steps, bands, n, n), x.dtype)
        sizes = (batch, steps, n, bands, length, taken, self.step, before, *x.stride())
        work = batch * steps * self.filters.numel() * COLUMNS // 8
        launch(
            bank_spectra,
            (x, self.filters, spectra),
            sizes,
            batch * steps,
            work,
            scalars=(float(self.stride),),
        )
        return spectra


@dataclass(frozen=True)
class TangentWeights:
    """How covariances become tangent vectors.

    Attributes
    ----------
    shares : Tensor of float64, shape (bands,)
        Share of the identity in a covariance.
    window : int
        Steps of the running window; those before the first that is there are zero.
    silence : float
        Power that is added to all.
    """

    shares: Tensor
    window: int
    silence: float

    def __call__(self, spectra: Tensor, totals: Tensor) -> Tensor:
        """Return upper triangles of the logarithms, off the diagonal times √2, (batch, tokens, all bands').

        Parameters
        ----------
        spectra : Tensor, shape (batch, before + tokens, bands, n, n)
            Of the steps before the first token and of those of the tokens.
        totals : Tensor, shape (batch, tokens)
            What the sum over each running window is divided by, above zero.
        """
        (batch, steps, bands, n, _), tokens = spectra.shape, totals.shape[1]
        out = empty((batch, tokens, bands * n * (n + 1) // 2), spectra.dtype)
        count = batch * tokens * bands
        launch(
            tangents,
            (spectra.contiguous(), totals.contiguous(), self.shares, out),
            (batch, tokens, steps - tokens, self.window, bands, n),
            -(-count // TOGETHER),
            WORK * count * n * n,
            scalars=(self.silence,),
        )
        return out
