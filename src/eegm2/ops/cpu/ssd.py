"""Mamba-2's scan on the CPU as a torch custom operator with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eegm2.ops.checks import needs_gradient
from eegm2.ops.cpu.operators import operator
from eegm2.ops.cpu.runtime import dense_last, empty, launch, scan_gradients
from eegm2.ops.cpu.ssd_kernels import SPAN, ssd_backward, ssd_forward


def _sizes(x: Tensor, B: Tensor, others: tuple[Tensor, ...], skip: bool, keep: bool) -> list[int]:
    strides = [step for tensor in (x, *others) for step in tensor.stride()[:3]]
    return [*x.shape, *B.shape[2:], *strides, skip, keep]


@operator("ssd")
def ssd_operator(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the final state and, with `keep`, the states every `SPAN` steps (b, h, spans - 1, n, p)."""
    batch, length, heads, headdim = x.shape
    d_state = B.shape[3]
    x, B, C = dense_last(x), dense_last(B), dense_last(C)
    y = empty((batch, length, heads, headdim), x.dtype)
    state = x.new_zeros(batch, heads, headdim, d_state)
    if initial_state is not None:
        state.copy_(initial_state)
    spans = x.new_empty(batch, heads, (length - 1) // SPAN if keep else 0, d_state, headdim)
    A, D = A.contiguous(), None if D is None else D.contiguous()
    sizes = _sizes(x, B, (dt, B, C, x), D is not None, keep)
    launch(ssd_forward, (x, dt, A, B, C, D, y, state, spans), sizes, batch * heads, y.numel() * d_state)
    return y, state, spans


@ssd_operator.register_fake
def _(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, heads, headdim = x.shape
    d_state = B.shape[3]
    y = x.new_empty(batch, length, heads, headdim)
    spans = x.new_empty(batch, heads, (length - 1) // SPAN if others[-1] else 0, d_state, headdim)
    return y, x.new_empty(batch, heads, headdim, d_state), spans


@operator("ssd_backward")
def ssd_backward_operator(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    final_state: Tensor,
    spans: Tensor,
    dy: Tensor,
    dfinal: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, dt, A, B, C, D and the initial state."""
    batch, length, heads = dt.shape
    groups, d_state = B.shape[2:]
    x, B, C, dy = dense_last(x), dense_last(B), dense_last(C), dense_last(dy)
    A, D = A.contiguous(), None if D is None else D.contiguous()
    initial = torch.zeros_like(final_state) if initial_state is None else initial_state.contiguous()
    dx, ddt = empty(x.shape, x.dtype), empty(dt.shape, x.dtype)
    dA = torch.empty((batch, heads), dtype=torch.float64)
    dB, dC = (empty((batch, heads, length, d_state), x.dtype) for _ in range(2))
    dD = torch.empty_like(dA)
    sizes = _sizes(x, B, (dt, B, C, dy), D is not None, True)
    dstate = dfinal.clone(memory_format=torch.contiguous_format)
    tensors = (x, dt, A, B, C, D, dy, initial, final_state, spans, dx, ddt, dA, dB, dC, dD, dstate)
    launch(ssd_backward, tensors, sizes, batch * heads, 4 * dx.numel() * d_state)
    dB, dC = (t.view(batch, groups, -1, length, d_state).sum(2).transpose(1, 2) for t in (dB, dC))
    dA, dD = (t.sum(0).to(x.dtype) for t in (dA, dD))
    return dx, ddt, dA, dB.contiguous(), dC.contiguous(), dD, dstate


@ssd_backward_operator.register_fake
def _(*inputs: Any) -> tuple[Tensor, ...]:
    x, dt, A, B, C, _, _, final_state = inputs[:8]
    return tuple(t.new_empty(t.shape) for t in (x, dt, A, B, C, A, final_state))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:7], output[1], output[2])
    ctx.kept = inputs[7]


def _backward(ctx: Any, dy: Tensor, dfinal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return scan_gradients(ctx, ssd_backward_operator, dy, dfinal)


ssd_operator.register_autograd(_backward, setup_context=_setup)


def ssd_numba(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mamba-2's SSD layer, compiled; arguments as `eegm2.ops.recurrence.ssd_recurrence`, already checked."""
    inputs = (x, dt, A, B, C, D, initial_state)
    y, state, _ = ssd_operator(*inputs, needs_gradient(*inputs))
    return y, state
