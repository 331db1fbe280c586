"""Mamba-2's scan on the CPU as a torch custom operator with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eegm2.ops.checks import needs_gradient
from eegm2.ops.cpu.operators import operator
from eegm2.ops.cpu.runtime import dense_last, empty, launch, scan_gradients, useful_threads
from eegm2.ops.cpu.ssd_kernels import SPAN, ssd_backward, ssd_forward
from eegm2.ops.cpu.ssd_states import ssd_states


def time_segments(pairs: int, length: int, work: int) -> tuple[int, int]:
    """Return in how many segments time is cut, and their length, a multiple of `SPAN`.

    One, unless there are at least twice as many threads as (batch, head) pairs: the second pass over time
    that segments need takes two thirds as long as the scan. Only then does the number of threads show in
    the result, in its last bits.
    """
    threads = useful_threads(work)
    wanted = min(threads // pairs, -(-length // SPAN))
    if wanted < 2:
        return 1, -(-length // SPAN) * SPAN
    steps = -(-length // (wanted * SPAN)) * SPAN
    return -(-length // steps), steps


def _sizes(
    x: Tensor, B: Tensor, others: tuple[Tensor, ...], skip: bool, keep: bool, cut: tuple[int, int]
) -> list[int]:
    strides = [step for tensor in (x, *others) for step in tensor.stride()[:3]]
    return [*x.shape, *B.shape[2:], *strides, skip, keep, *cut]


def _starts(
    edge: Tensor, sizes: list[int], vecs: Tensor, rows: Tensor, dt: Tensor, A: Tensor, back: bool
) -> Tensor:
    """Return the state before each segment (b h segment p n), or its gradient after each, from the `edge`."""
    batch, heads, segments = edge.shape[0], edge.shape[1], sizes[23]
    if segments == 1:
        return edge.unsqueeze(2).clone(memory_format=torch.contiguous_format)
    added = edge.new_zeros(batch, heads, segments, *edge.shape[2:])
    totals = torch.zeros(batch, heads, segments, dtype=torch.float64)
    tensors, tasks = (vecs, rows, dt, A, added, totals), batch * heads * (segments - 1)
    launch(ssd_states, tensors, [*sizes, back], tasks, vecs.numel() * rows.shape[-1])
    decay = torch.exp(totals).to(edge.dtype)[..., None, None]
    states = [edge]
    for segment in range(segments - 1, 0, -1) if back else range(segments - 1):
        states.append(decay[:, :, segment] * states[-1] + added[:, :, segment])
    return torch.stack(states[::-1] if back else states, dim=2)


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
    edge = x.new_zeros(batch, heads, headdim, d_state) if initial_state is None else initial_state
    spans = x.new_empty(batch, heads, (length - 1) // SPAN if keep else 0, d_state, headdim)
    A, D = A.contiguous(), None if D is None else D.contiguous()
    work = y.numel() * d_state
    cut = time_segments(batch * heads, length, work)
    sizes = _sizes(x, B, (dt, B, C, x), D is not None, keep, cut)
    states = _starts(edge, sizes, x, B, dt, A, back=False)
    launch(ssd_forward, (x, dt, A, B, C, D, y, states, spans), sizes, batch * heads * cut[0], work)
    return y, states[:, :, -1].clone(), spans


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
    work = 4 * dx.numel() * d_state
    cut = time_segments(batch * heads, length, work)
    dA = torch.empty((batch, heads, cut[0]), dtype=torch.float64)
    dB, dC = (empty((batch, heads, length, d_state), x.dtype) for _ in range(2))
    dD = torch.empty_like(dA)
    sizes = _sizes(x, B, (dt, B, C, dy), D is not None, True, cut)
    dstate = _starts(dfinal, sizes, dy, C, dt, A, back=True)
    tensors = (x, dt, A, B, C, D, dy, initial, final_state, spans, dx, ddt, dA, dB, dC, dD, dstate)
    launch(ssd_backward, tensors, sizes, batch * heads * cut[0], work)
    dB, dC = (t.view(batch, groups, -1, length, d_state).sum(2).transpose(1, 2) for t in (dB, dC))
    dA, dD = (t.sum((0, 2)).to(x.dtype) for t in (dA, dD))
    return dx, ddt, dA, dB.contiguous(), dC.contiguous(), dD, dstate[:, :, 0].clone()


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
