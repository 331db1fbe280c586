"""Mamba-2's mixer between its two projections on the CPU, for inference."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from eegm2.ops.cpu.mix_kernels import mix_norm, mix_scan
from eegm2.ops.cpu.runtime import dense_last, flat, prepare, run, useful_threads


def mamba2_mix_numba(
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    conv_state: Tensor,
    ssm_state: Tensor,
    ngroups: int,
    d_state: int,
    headdim: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compiled form of `eegm2.ops.mamba2_mix`; arguments already checked, all of one float dtype."""
    batch, length, _ = zxbcdt.shape
    channels, taps = conv_weight.shape
    heads, dtype = A.shape[0], zxbcdt.dtype
    inner = heads * headdim
    zxbcdt = dense_last(zxbcdt)
    before = conv_state.contiguous()
    state = ssm_state.clone(memory_format=torch.contiguous_format)
    y = torch.empty((batch, length, inner), dtype=dtype)
    squares = torch.empty((batch, heads, length), dtype=dtype)
    work = y.numel() * max(16, 4 * d_state)  # activations weigh as much as a few state elements
    threads = useful_threads(work)
    parts = 1 if batch >= threads else min(heads, -(-threads // batch))
    strides = [zxbcdt.stride(0), zxbcdt.stride(1)]
    sizes = np.array([batch, length, heads, headdim, ngroups, d_state, taps, parts, *strides], np.int64)
    tensors = (
        zxbcdt,
        conv_weight.t().contiguous(),
        conv_bias.contiguous(),
        dt_bias.contiguous(),
        A.contiguous(),
        D.contiguous(),
        norm_weight.contiguous(),
        before if taps > 1 else None,
        state,
        y,
        squares,
    )
    real = numba.float64 if dtype == torch.float64 else numba.float32
    tail: tuple[Any, ...] = (numba.int64[::1], numba.float64, numba.int64, numba.int64)
    prepare(mix_scan, (*[real[::1]] * len(tensors), *tail))
    arrays = [flat(tensor, dtype) for tensor in tensors]
    run(mix_scan, (*arrays, sizes, eps), batch * parts, work)
    if parts > 1:
        prepare(mix_norm, (*[real[::1]] * 3, *tail))
        run(mix_norm, (arrays[9], arrays[10], arrays[6], sizes, eps), batch * length, y.numel())
    inputs = zxbcdt[:, max(0, length - taps + 1) :, inner : inner + channels]
    return y, torch.cat([before, inputs], dim=1)[:, inputs.shape[1] :], state
