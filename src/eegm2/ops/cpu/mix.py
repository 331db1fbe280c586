"""Mamba-2's mixer between its two projections on the CPU, for inference."""

from __future__ import annotations

import torch
from torch import Tensor

from eegm2.ops.cpu.mix_kernels import mix_norm, mix_scan
from eegm2.ops.cpu.runtime import dense_last, launch, useful_threads


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
    sizes = [batch, length, heads, headdim, ngroups, d_state, taps, parts, *zxbcdt.stride()[:2]]
    tensors = (
        zxbcdt,
        conv_weight.t().contiguous(),
        conv_bias.contiguous(),
        dt_bias.contiguous(),
        A.contiguous(),
        D.contiguous(),
        norm_weight.contiguous(),
        before,
        state,
        y,
        squares,
    )
    launch(mix_scan, tensors, sizes, batch * parts, work, scalars=(eps,))
    if parts > 1:
        launch(mix_norm, (y, squares, tensors[6]), sizes, batch * length, y.numel(), scalars=(eps,))
    inputs = zxbcdt[:, max(0, length - taps + 1) :, inner : inner + channels]
    return y, torch.cat([before, inputs], dim=1)[:, inputs.shape[1] :], state
