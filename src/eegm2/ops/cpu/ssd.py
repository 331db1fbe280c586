"""Mamba-2's scan on the CPU as a torch custom operator with its gradient."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from eegm2.ops.cpu.runtime import dense_last, flat, prepare, run
from eegm2.ops.cpu.ssd_kernels import SPAN, ssd_backward, ssd_forward


def _signature(dtype: torch.dtype, arrays: int, doubles: tuple[int, ...] = ()) -> tuple[Any, ...]:
    real = numba.float64 if dtype == torch.float64 else numba.float32
    types = [numba.float64[::1] if i in doubles else real[::1] for i in range(arrays)]
    return (*types, numba.int64[::1], numba.int64, numba.int64)


def _sizes(x: Tensor, dt: Tensor, B: Tensor, C: Tensor, dy: Tensor | None, skip: bool, keep: bool) -> Any:
    batch, length, heads, headdim = x.shape
    strides = [
        step
        for tensor in (x, dt, B, C, x if dy is None else dy)
        for step in (tensor.stride(0), tensor.stride(1), tensor.stride(2))
    ]
    values = [batch, length, heads, headdim, B.shape[2], B.shape[3], *strides, skip, keep]
    return np.array(values, np.int64)


@torch.library.custom_op("eegm2::ssd", mutates_args=(), device_types="cpu")
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
    y = torch.empty((batch, length, heads, headdim), dtype=x.dtype)
    state = x.new_zeros(batch, heads, headdim, d_state)
    if initial_state is not None:
        state.copy_(initial_state)
    spans = x.new_empty(batch, heads, (length - 1) // SPAN if keep else 0, d_state, headdim)
    A, D = A.contiguous(), None if D is None else D.contiguous()
    prepare(ssd_forward, _signature(x.dtype, 9))
    tensors = (x, dt, A, B, C, D, y, state, spans)
    arrays = [flat(None if t is None or t.numel() == 0 else t, x.dtype) for t in tensors]
    run(
        ssd_forward,
        (*arrays, _sizes(x, dt, B, C, None, D is not None, keep)),
        batch * heads,
        y.numel() * d_state,
    )
    return y, state, spans


@ssd_operator.register_fake
def _(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, heads, headdim = x.shape
    d_state = B.shape[3]
    y = x.new_empty(batch, length, heads, headdim)
    spans = x.new_empty(batch, heads, (length - 1) // SPAN if keep else 0, d_state, headdim)
    return y, x.new_empty(batch, heads, headdim, d_state), spans


@torch.library.custom_op("eegm2::ssd_backward", mutates_args=(), device_types="cpu")
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
    dx, ddt = torch.empty(x.shape, dtype=x.dtype), torch.empty(dt.shape, dtype=x.dtype)
    dA = torch.empty((batch, heads), dtype=torch.float64)
    dB, dC = (x.new_empty(batch, heads, length, d_state) for _ in range(2))
    dD = torch.empty_like(dA)
    dstate = dfinal.clone(memory_format=torch.contiguous_format)
    prepare(ssd_backward, _signature(x.dtype, 17, doubles=(12, 15)))
    tensors = (x, dt, A, B, C, D, dy, initial, final_state, spans, dx, ddt, dA, dB, dC, dD, dstate)
    arrays = [flat(None if t is None or t.numel() == 0 else t, x.dtype) for t in tensors]
    run(
        ssd_backward,
        (*arrays, _sizes(x, dt, B, C, dy, D is not None, True)),
        batch * heads,
        4 * dx.numel() * d_state,
    )
    dB, dC = (t.view(batch, groups, -1, length, d_state).sum(2).transpose(1, 2) for t in (dB, dC))
    return dx, ddt, dA.sum(0).to(x.dtype), dB.contiguous(), dC.contiguous(), dD.sum(0).to(x.dtype), dstate


@ssd_backward_operator.register_fake
def _(
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
    made = [t.new_empty(t.shape) for t in (x, dt, A, B, C, A, final_state)]
    return made[0], made[1], made[2], made[3], made[4], made[5], made[6]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:7], output[1], output[2])
    ctx.kept = inputs[7]


def _backward(ctx: Any, dy: Tensor, dfinal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, dt, A, B, C, D, initial, final, spans = ctx.saved_tensors
    if not ctx.kept:
        raise RuntimeError("eegm2::ssd was called with keep=False; its gradient needs keep=True")
    gradients = ssd_backward_operator(x, dt, A, B, C, D, initial, final, spans, dy, dfinal)
    dD, dinitial = None if D is None else gradients[5], None if initial is None else gradients[6]
    return *gradients[:5], dD, dinitial, None


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
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    y, state, _ = ssd_operator(*inputs, keep)
    return y, state
