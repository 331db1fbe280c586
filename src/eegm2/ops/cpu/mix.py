"""Mamba-2's mixer between its two projections on the CPU as a torch custom operator with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eegm2.ops.cpu.mix_kernels import mix_gate, mix_norm, mix_scan
from eegm2.ops.cpu.mix_slopes import ROWS_EACH, activated, conv_backward, gate_backward
from eegm2.ops.cpu.operators import operator
from eegm2.ops.cpu.runtime import dense_last, empty, launch, useful_threads
from eegm2.ops.cpu.ssd import ssd_backward_operator, ssd_operator, time_segments
from eegm2.ops.cpu.steps import SPAN


def _sizes(zxbcdt: Tensor, A: Tensor, taps: int, shape: list[int], parts: int, keep: bool) -> list[int]:
    ngroups, d_state, headdim = shape
    batch, length, _ = zxbcdt.shape
    strides = zxbcdt.stride()[:2]
    return [batch, length, A.shape[0], headdim, ngroups, d_state, taps, parts, *strides, keep]


def _scan_inputs(
    zxbcdt: Tensor,
    weight: Tensor,
    bias: Tensor,
    before: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    ssm_state: Tensor,
    sizes: list[int],
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the seven arguments of the scan, and dt before its softplus; weight is (k, channels)."""
    batch, length, heads, headdim, ngroups, d_state = sizes[:6]
    channels, inner = bias.shape[0], heads * headdim
    active = empty((batch, length, channels), zxbcdt.dtype)
    launch(activated, (zxbcdt, weight, bias, before, active), sizes, batch * length, 4 * active.numel())
    x = active[..., :inner].unflatten(-1, (heads, headdim))
    B, C = active[..., inner:].unflatten(-1, (2, ngroups, d_state)).unbind(2)
    dt = zxbcdt[..., inner + channels :] + dt_bias
    return (x, torch.nn.functional.softplus(dt), A, B, C, D, ssm_state), dt


def _tail(before: Tensor, inputs: Tensor) -> Tensor:
    """Return the last k - 1 of the inputs, those before the first counted in, as a new tensor."""
    kept = before.shape[1]
    inputs = inputs[:, max(0, inputs.shape[1] - kept) :]
    return torch.cat([before, inputs], dim=1)[:, inputs.shape[1] :].clone()


@operator("mamba2_mix")
def mix_operator(
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    conv_state: Tensor,
    ssm_state: Tensor,
    eps: float,
    shape: list[int],
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return y, both states after it and, with `keep`, the scan's states every `SPAN` steps.

    `shape` is ngroups, d_state, headdim.
    """
    _, d_state, headdim = shape
    batch, length, _ = zxbcdt.shape
    channels, taps = conv_weight.shape
    heads, inner = A.shape[0], A.shape[0] * headdim
    zxbcdt = dense_last(zxbcdt)
    before = conv_state.contiguous()
    state = ssm_state.clone(memory_format=torch.contiguous_format)
    y = empty((batch, length, inner), zxbcdt.dtype)
    squares = zxbcdt.new_empty(batch, heads, length)
    spans = zxbcdt.new_empty(batch, heads, (length - 1) // SPAN if keep else 0, d_state, headdim)
    work = y.numel() * max(16, 4 * d_state)  # activations weigh as much as a few state elements
    threads = useful_threads(work)
    parts = 1 if batch >= threads else min(heads, -(-threads // batch))
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
        spans,
    )
    sizes = _sizes(zxbcdt, A, taps, shape, parts, keep)
    if time_segments(batch * heads, length, y.numel() * d_state)[0] > 1:  # more threads than heads
        scan, _ = _scan_inputs(zxbcdt, tensors[1], tensors[2], before, dt_bias, A, D, ssm_state, sizes)
        scanned, state, spans = ssd_operator(*scan, keep)
        arrays = (scanned, zxbcdt, tensors[6], y, squares)
        launch(mix_gate, arrays, sizes, batch * length, work, scalars=(eps,))
        return y, _tail(before, zxbcdt[..., inner : inner + channels]), state, spans
    launch(mix_scan, tensors, sizes, batch * parts, work, scalars=(eps,))
    if parts > 1:
        launch(mix_norm, (y, squares, tensors[6]), sizes, batch * length, y.numel(), scalars=(eps,))
    return y, _tail(before, zxbcdt[..., inner : inner + channels]), state, spans


@mix_operator.register_fake
def _(zxbcdt: Tensor, conv_weight: Tensor, *others: Any) -> tuple[Tensor, ...]:
    conv_state, ssm_state, _, (_, d_state, headdim), keep = others[5:]
    batch, length, _ = zxbcdt.shape
    heads = ssm_state.shape[1]
    spans = zxbcdt.new_empty(batch, heads, (length - 1) // SPAN if keep else 0, d_state, headdim)
    states = (state.new_empty(state.shape) for state in (conv_state, ssm_state))
    return zxbcdt.new_empty(batch, length, heads * headdim), *states, spans


@operator("mamba2_mix_backward")
def mix_backward_operator(
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    conv_state: Tensor,
    ssm_state: Tensor,
    final_state: Tensor,
    spans: Tensor,
    dy: Tensor,
    dtail: Tensor,
    dfinal: Tensor,
    eps: float,
    shape: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the first nine arguments."""
    headdim = shape[2]
    batch, length, columns = zxbcdt.shape
    channels, taps = conv_weight.shape
    inner = A.shape[0] * headdim
    zxbcdt, before, dy = dense_last(zxbcdt), conv_state.contiguous(), dy.contiguous()
    weight, bias = conv_weight.t().contiguous(), conv_bias.contiguous()
    sizes = _sizes(zxbcdt, A, taps, shape, 1, False)
    rows, tasks = batch * length, batch * -(-length // ROWS_EACH)
    work = 4 * rows * inner

    scan, dt = _scan_inputs(zxbcdt, weight, bias, before, dt_bias, A, D, ssm_state, sizes)
    slopes = ssd_operator(*scan, False)[0]

    dzx = empty((batch, length, columns), zxbcdt.dtype)
    dnorm = zxbcdt.new_zeros(tasks, inner)
    launch(
        gate_backward, (dy, slopes, zxbcdt, norm_weight.contiguous(), dzx, dnorm), sizes, tasks, work,
        scalars=(eps,),
    )  # fmt: skip
    dx, ddt, dA, dB, dC, dD, dstate = ssd_backward_operator(*scan, final_state, spans, slopes, dfinal)
    ddt = ddt * torch.sigmoid(dt)
    dzx[..., inner + channels :] = ddt
    del slopes, scan

    dbefore = torch.empty_like(before)
    dweight, dbias = zxbcdt.new_zeros(tasks, taps, channels), zxbcdt.new_zeros(tasks, channels)
    dBC = torch.cat([dB.flatten(2), dC.flatten(2)], dim=-1)
    for gradient, first in ((dx.flatten(2), 0), (dBC, inner)):
        size = gradient.shape[-1]
        tensors = (gradient, zxbcdt, weight, bias, before, dzx, dbefore, dweight, dbias)
        launch(conv_backward, tensors, [*sizes[:10], first, size, size], tasks, 4 * rows * size)
    kept = min(length, taps - 1)
    dzx[:, length - kept :, inner : inner + channels] += dtail[:, taps - 1 - kept :]
    dbefore[:, kept:] += dtail[:, : taps - 1 - kept]
    summed = [t.sum(0) for t in (dweight, dbias)]
    return dzx, summed[0].t().contiguous(), summed[1], ddt.sum((0, 1)), dA, dD, dnorm.sum(0), dbefore, dstate


@mix_backward_operator.register_fake
def _(*inputs: Any) -> tuple[Tensor, ...]:
    return tuple(t.new_empty(t.shape) for t in inputs[:9])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:9], *output[2:])
    ctx.eps, ctx.shape, ctx.kept = inputs[9:]


def _backward(ctx: Any, dy: Tensor, dtail: Tensor, dfinal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    if not ctx.kept:
        raise RuntimeError("this mixer was called with keep=False; its gradient needs keep=True")
    slopes = mix_backward_operator(*ctx.saved_tensors, dy, dtail, dfinal, ctx.eps, ctx.shape)
    return *slopes, None, None, None


mix_operator.register_autograd(_backward, setup_context=_setup)
