"""Mamba-2's mixer between its projections for many small blocks: weights laid out once, no check per call."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from eegm2.ops.cpu.mix_kernels import mix_scan
from eegm2.ops.cpu.runtime import prepare


class PreparedMix:
    """`eegm2.ops.mamba2_mix` with fixed weights, float32, one group, on one thread.

    In a stream of short pushes the checks and conversions of every call take longer than its arithmetic. The
    shapes of later calls are the caller's to keep right.

    Parameters
    ----------
    weights : tuple of Tensor
        conv_weight, conv_bias, dt_bias, A, D, norm_weight as for `eegm2.ops.mamba2_mix`; copied.
    eps, d_state, headdim
        As there.
    """

    def __init__(self, weights: tuple[Tensor, ...], eps: float, d_state: int, headdim: int) -> None:
        conv_weight, conv_bias, dt_bias, A, D, norm_weight = weights
        self.channels, self.taps = conv_weight.shape
        self.heads, self.headdim, self.d_state, self.eps = A.shape[0], headdim, d_state, float(eps)
        self.inner = self.heads * headdim
        by_tap = (conv_weight.t(), conv_bias, dt_bias, A, D, norm_weight)
        self._kept = [t.detach().to(torch.float32, copy=True).contiguous() for t in by_tap]
        self._weights = tuple(t.view(-1).numpy() for t in self._kept)
        self._nothing = np.empty(0, np.float32)
        arrays = [numba.float32[::1]] * 12
        tail = (numba.int64[::1], numba.float64, numba.int64, numba.int64)
        prepare(mix_scan, (*arrays, *tail))

    def __call__(
        self, zxbcdt: Tensor, conv_state: Tensor | None, ssm_state: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take (batch, length, channels) and both states; return y, (batch, length, d_inner), and new states.

        Arguments are left as they are.
        """
        batch, length, columns = zxbcdt.shape
        back = self.taps - 1
        zxbcdt = zxbcdt.contiguous()
        if conv_state is None:
            conv_state = zxbcdt.new_zeros(batch, back, self.channels)
        if ssm_state is None:
            state = zxbcdt.new_zeros(batch, self.heads, self.headdim, self.d_state)
        else:
            state = ssm_state.clone(memory_format=torch.contiguous_format)
        y = zxbcdt.new_empty(batch, length, self.inner)
        before = conv_state.contiguous().view(-1).numpy() if back else self._nothing
        squares = np.empty(batch * self.heads * length, np.float32)
        sizes = (batch, length, self.heads, self.headdim, 1, self.d_state, self.taps, 1)
        mix_scan(
            zxbcdt.view(-1).numpy(),
            *self._weights,
            before,
            state.view(-1).numpy(),
            y.view(-1).numpy(),
            squares,
            self._nothing,
            np.array((*sizes, length * columns, columns, 0), np.int64),
            self.eps,
            0,
            batch,
        )
        fresh = zxbcdt[:, max(0, length - back) :, self.inner : self.inner + self.channels]
        kept = fresh if length >= back else torch.cat([conv_state[:, length:], fresh], dim=1)
        return y, kept.contiguous() if length < back else kept.clone(), state
