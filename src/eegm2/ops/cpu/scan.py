"""Mamba-1's selective scan on the CPU as a torch custom operator with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eegm2.ops.checks import needs_gradient
from eegm2.ops.cpu.operators import operator
from eegm2.ops.cpu.runtime import dense_last, empty, launch, scan_gradients
from eegm2.ops.cpu.scan_kernels import LANES, SPAN, scan_backward, scan_forward


def _groups(channels: int) -> int:
    return -(-channels // LANES)


def _sizes(x: Tensor, A: Tensor, others: tuple[Tensor, ...], skip: bool, keep: bool) -> list[int]:
    strides = [tensor.stride(axis) for tensor in (x, *others) for axis in (0, 1)]
    return [*x.shape, A.shape[1], _groups(x.shape[2]), *strides, skip, keep]


@operator("selective_scan")
def scan_operator(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the final state and, with `keep`, those every `SPAN` steps (b, group, span, n, LANES)."""
    batch, length, channels = x.shape
    d_state = A.shape[1]
    groups = _groups(channels)
    x, dt, B, C = (dense_last(tensor) for tensor in (x, dt, B, C))
    y = empty((batch, length, channels), x.dtype)
    state = x.new_zeros(batch, d_state, channels)
    if initial_state is not None:
        state.copy_(initial_state.transpose(1, 2))
    spans = x.new_empty(batch, groups, (length - 1) // SPAN if keep else 0, d_state, LANES)
    tensors = (x, dt, A.t().contiguous(), B, C, None if D is None else D.contiguous(), y, state, spans)
    sizes = _sizes(x, A, (dt, B, C, x), D is not None, keep)
    launch(scan_forward, tensors, sizes, batch * groups, 8 * y.numel() * d_state)
    return y, state.transpose(1, 2).contiguous(), spans


@scan_operator.register_fake
def _(x: Tensor, dt: Tensor, A: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, channels = x.shape
    d_state = A.shape[1]
    spans = x.new_empty(batch, _groups(channels), (length - 1) // SPAN if others[-1] else 0, d_state, LANES)
    return x.new_empty(batch, length, channels), x.new_empty(batch, channels, d_state), spans


@operator("selective_scan_backward")
def scan_backward_operator(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    spans: Tensor,
    dy: Tensor,
    dfinal: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, dt, A, B, C, D and the initial state."""
    batch, length, channels = x.shape
    d_state, groups = A.shape[1], _groups(x.shape[2])
    x, dt, B, C, dy = (dense_last(tensor) for tensor in (x, dt, B, C, dy))
    dstate = dfinal.transpose(1, 2).clone(memory_format=torch.contiguous_format)
    initial = torch.zeros_like(dstate)
    if initial_state is not None:
        initial.copy_(initial_state.transpose(1, 2))
    dx, ddt = (empty((batch, length, channels), x.dtype) for _ in range(2))
    dA, dD = x.new_empty(batch, d_state, channels), x.new_empty(batch, channels)
    dB, dC = (empty((batch, groups, length, d_state), x.dtype) for _ in range(2))
    skip = None if D is None else D.contiguous()
    tensors = (x, dt, A.t().contiguous(), B, C, skip, dy, initial, spans, dx, ddt, dA, dB, dC, dD, dstate)
    sizes = _sizes(x, A, (dt, B, C, dy), D is not None, True)
    launch(scan_backward, tensors, sizes, batch * groups, 32 * dx.numel() * d_state)
    dinitial = dstate.transpose(1, 2).contiguous()
    return dx, ddt, dA.sum(0).t().contiguous(), dB.sum(1), dC.sum(1), dD.sum(0), dinitial


@scan_backward_operator.register_fake
def _(*inputs: Any) -> tuple[Tensor, ...]:
    x, dt, A, B, C = inputs[:5]
    made = [t.new_empty(t.shape) for t in (x, dt, A, B, C)]
    return *made, x.new_empty(x.shape[2]), x.new_empty(x.shape[0], x.shape[2], A.shape[1])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:7], output[2])
    ctx.kept = inputs[7]


def _backward(ctx: Any, dy: Tensor, dfinal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return scan_gradients(ctx, scan_backward_operator, dy, dfinal)


scan_operator.register_autograd(_backward, setup_context=_setup)


def selective_scan_numba(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mamba-1's selective scan, compiled; arguments as `selective_scan_recurrence`, already checked."""
    inputs = (x, dt, A, B, C, D, initial_state)
    y, state, _ = scan_operator(*inputs, needs_gradient(*inputs))
    return y, state
