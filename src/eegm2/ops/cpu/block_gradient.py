"""A sequence block with Mamba-2 for training on the CPU: the passes of inference, and one back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eegm2.ops.cpu.block import BlockWeights, Gone, matrices, sequence_block, up
from eegm2.ops.cpu.block_slopes import JOINED, block_slopes, join_slopes
from eegm2.ops.cpu.products import COLUMNS, TILE_ROWS, packed
from eegm2.ops.cpu.runtime import dense_last, empty, launch
from eegm2.ops.cpu.steps import LANES

MOST_CHUNKS = 8  # of the batch, each with sums of its own


def _total(tensor: Tensor) -> Tensor:
    """Return the sum over the first axis."""
    return tensor[0] if tensor.shape[0] == 1 else tensor.sum(0)


class TrainedBlock(torch.autograd.Function):
    """`sequence_block` from zero states, differentiable in the input and the parameters.

    The states it returns have no gradient: a block that is given a state takes the separate operations.
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, options: dict[str, Any], *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Parameters and options as for `BlockWeights.of`."""
        weights = BlockWeights.of(*parameters, **options)
        gone = Gone.through(u, weights)
        y, tail, state = sequence_block(u, weights, gone=gone)
        ctx.save_for_backward(u, gone.reduced, gone.factors, gone.spans, *weights.tensors, *parameters)
        ctx.sizes = weights.shape, weights.eps[1], weights.norm_first
        ctx.set_materialize_grads(False)
        return y, tail, state

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor | None, *states: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of the input and of the parameters."""
        if any(slope is not None for slope in states):
            raise RuntimeError(
                "states that a block returns have a gradient only if it was given one; start from zeros"
            )
        if dy is None:
            return (None,) * len(ctx.needs_input_grad)
        u, reduced, factors, spans, *saved = ctx.saved_tensors
        return _backward(dy.contiguous(), dense_last(u), Gone(reduced, factors, spans), *ctx.sizes, *saved)


def _backward(
    dy: Tensor, u: Tensor, gone: Gone, shape: tuple[int, ...], eps: float, norm_first: bool, *saved: Tensor
) -> tuple[Tensor | None, ...]:
    laid_out, (into, *_, gate_norm, out_of, norm_weight, _) = saved[:6], saved[7:]
    (batch, length, channels), (_, heads, headdim, d_state, taps) = u.shape, shape
    width, wide, n_out = up(headdim, LANES), up(d_state, LANES), up(channels, COLUMNS)
    inner, rows = heads * headdim, batch * length
    dm, pulls = empty(u.shape, u.dtype), torch.empty_like(gone.factors)
    tasks = -(-rows // JOINED)
    d_norm = u.new_empty(tasks, 2, channels)
    joined = (dy, gone.reduced, u, gone.factors, norm_weight, dm, pulls, d_norm)
    sizes = [rows, channels, inner, length, *u.stride()[:2], norm_first]
    launch(join_slopes, joined, sizes, tasks, 64 * rows * channels, scalars=(eps,))

    chunks, parts = min(batch, MOST_CHUNKS), 1 if heads == 1 else 2 if heads < 16 else 4
    both, per_head, reduced = matrices(into.detach(), out_of * gate_norm, heads, headdim, d_state)
    back = (packed(reduced.transpose(1, 2)), packed(per_head.transpose(1, 2)), packed(both.t()))
    partial = empty((parts, batch, length, n_out), u.dtype)
    high_head, high, high_shared = (up(n, TILE_ROWS) for n in (2 * width, width, 2 * wide + heads))
    d_expand, d_reduce = (u.new_zeros(chunks, heads, n, n_out) for n in (high_head, high))
    d_shared = u.new_zeros(chunks * parts, high_shared, n_out)
    d_conv = u.new_zeros(chunks, heads, taps + 1, width)
    d_filters = u.new_zeros(chunks * parts, taps + 1, 2, wide)
    d_heads = torch.zeros(chunks, heads, 3, dtype=torch.float64)
    results = (partial, d_expand, d_reduce, d_shared, d_conv, d_filters, d_heads)
    arrays = (u, dm, gone.factors, pulls, *laid_out, *back, gone.spans, *results)
    sizes = [batch, length, *shape, parts, chunks, *u.stride()[:2]]
    launch(block_slopes, arrays, sizes, chunks * parts, 12 * rows * inner * (d_state + channels))

    du = torch.add(dy if norm_first else dm, partial[0, ..., :channels])
    for part in partial[1:]:
        du += part[..., :channels]
    z, x = _total(d_expand)[:, : 2 * width, :channels].unflatten(1, (2, width))[:, :, :headdim].unbind(1)
    shared = _total(d_shared)[:, :channels]
    halves = shared[: 2 * wide].unflatten(0, (2, wide))[:, :d_state]
    d_into = torch.cat([*(t.flatten(0, 1) for t in (z, x, halves)), shared[2 * wide : 2 * wide + heads]])
    d_reduced = _total(d_reduce)[:, :headdim, :channels].flatten(0, 1).t()
    of_x = _total(d_conv)[..., :headdim].transpose(1, 2).flatten(0, 1)
    filters = torch.cat([of_x, _total(d_filters)[..., :d_state].permute(1, 2, 0).flatten(0, 1)])
    d_dt, dA, dD = _total(d_heads).to(u.dtype).unbind(1)
    d_weight, d_bias = d_norm.sum(0)
    return (
        du, None, d_into, filters[:, None, :taps], filters[:, taps], d_dt, dA * laid_out[4], dD,
        (d_reduced * out_of).sum(0), d_reduced * gate_norm, d_weight, d_bias,
    )  # fmt: skip
