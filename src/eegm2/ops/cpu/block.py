"""A sequence block with Mamba-2 for inference on the CPU: weights laid out once, then two compiled passes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eegm2.ops.cpu.block_kernels import MOST_GROUPS, ROWS_EACH, block_join, block_scan
from eegm2.ops.cpu.products import COLUMNS, packed
from eegm2.ops.cpu.runtime import dense_last, empty, launch, useful_threads
from eegm2.ops.cpu.steps import LANES, ROWS

ROOM = 8 << 20  # bytes of sums that wait for the second pass: they stay in the last-level cache
STEPS = ROWS_EACH * 8  # a piece of time is a multiple of this: it begins where a block of the kernel does


def padded(weight: Tensor, width: int) -> Tensor:
    """Return the tensor with zeros behind its last axis up to a width."""
    lacking = width - weight.shape[-1]
    return F.pad(weight, (0, lacking)) if lacking else weight


def up(size: int, multiple: int) -> int:
    """Return `size` rounded up to a multiple."""
    return -(-size // multiple) * multiple


@dataclass(frozen=True)
class BlockWeights:
    """The weights of a sequence block as the kernels read them; copies, none is shared.

    Parameters of `of` are those of `eegm2.model.mamba2.Mamba2` and of the layer norm behind it.
    """

    tensors: tuple[Tensor, ...]
    norm: tuple[Tensor, Tensor]
    shape: tuple[int, ...]  # channels, heads, headdim, d_state, kernel
    eps: tuple[float, float]
    norm_first: bool

    @classmethod
    def of(
        cls,
        into: Tensor,
        conv_weight: Tensor,
        conv_bias: Tensor,
        dt_bias: Tensor,
        A_log: Tensor,
        D: Tensor,
        gate_norm: Tensor,
        out_of: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        *,
        d_state: int,
        headdim: int,
        eps: tuple[float, float],
        norm_first: bool,
    ) -> BlockWeights:
        """Lay the weights out."""
        channels, taps = into.shape[1], conv_weight.shape[2]
        heads, inner = D.shape[0], D.shape[0] * headdim
        width, wide = up(headdim, LANES), up(d_state, LANES)
        both, per_head, reduced = matrices(into, out_of * gate_norm, heads, headdim, d_state)
        filters = torch.cat(
            [conv_weight[:, 0].t(), conv_bias[None]]
        )  # (taps + 1, channels of the convolution)
        xs, Bs, Cs = filters.split([inner, d_state, d_state], dim=1)
        shared = [packed(both), torch.cat([padded(Bs, wide), padded(Cs, wide)], dim=1)]
        tensors = (
            torch.cat([tensor.flatten() for tensor in shared]),
            packed(per_head),
            padded(xs.view(taps + 1, heads, headdim).transpose(0, 1), width).contiguous(),
            dt_bias.clone(),
            -torch.exp(A_log),
            D.clone(),
            packed(reduced),
        )
        norm = (norm_weight.clone(), norm_bias.clone())
        return cls(tensors, norm, (channels, heads, headdim, d_state, taps), eps, norm_first)

    def __call__(
        self, u: Tensor, tail: Tensor | None = None, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return `sequence_block` with these weights."""
        return sequence_block(u, self, tail, state)


def matrices(
    into: Tensor, reduced: Tensor, heads: int, headdim: int, d_state: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights of products, padded: of B, C and dt; per head of z and x; and per head of output.

    Shapes (2 wide + heads, channels), (heads, 2 width, channels), (heads, channels, width).
    """
    width, wide, inner = up(headdim, LANES), up(d_state, LANES), heads * headdim
    zx, BC, dt = into.split([2 * inner, 2 * d_state, heads])
    BC = padded(BC.unflatten(0, (2, d_state)).transpose(1, 2), wide).transpose(1, 2).flatten(0, 1)
    per_head = zx.unflatten(0, (2, heads, headdim)).transpose(0, 1)
    per_head = padded(per_head.transpose(2, 3), width).transpose(2, 3).flatten(1, 2)
    return (
        torch.cat([BC, dt]),
        per_head,
        padded(reduced.unflatten(1, (heads, headdim)).transpose(0, 1), width),
    )


@dataclass(frozen=True)
class Gone:
    """What the gradient needs of a forward pass."""

    reduced: Tensor
    factors: Tensor
    spans: Tensor

    @classmethod
    def through(cls, u: Tensor, weights: BlockWeights) -> Gone:
        """Return memory for the pass over an input."""
        (batch, length, _), (_, heads, headdim, d_state, _) = u.shape, weights.shape
        matrix = up(d_state, ROWS) * up(headdim, LANES)
        spans = empty((-(-length // ROWS_EACH), batch, heads, matrix), u.dtype)
        return cls(empty(u.shape, u.dtype), u.new_empty(batch, length), spans)


def sequence_block(
    u: Tensor,
    weights: BlockWeights,
    tail: Tensor | None = None,
    state: Tensor | None = None,
    gone: Gone | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``norm(mixer(u)) + u``, or ``norm(mixer(u) + u)``, and both states of the mixer after it.

    Parameters
    ----------
    u : Tensor, shape (batch, length, channels)
    weights : BlockWeights
        Of the dtype of `u`.
    tail, state : Tensor, optional
        As conv_state and ssm_state of `eegm2.ops.mamba2_mix`; zeros if absent, not written to.
    gone : Gone, optional
        Receives what the gradient needs.
    """
    u = dense_last(u)
    batch, length, channels = u.shape
    _, heads, headdim, d_state, taps = weights.shape
    every = heads * headdim + 2 * d_state
    tail = u.new_zeros(batch, taps - 1, every) if tail is None else tail.contiguous()
    state = u.new_zeros(batch, heads, headdim, d_state) if state is None else state.contiguous().clone()
    y, after = empty((batch, length, channels), u.dtype), torch.empty_like(tail)
    columns = up(channels, COLUMNS)
    groups = 1 << (min(MOST_GROUPS, heads).bit_length() - 1)
    work = 4 * heads * headdim * (d_state + channels)  # per step
    parts = even_parts(batch, groups, useful_threads(batch * length * work))
    steps = max(STEPS, ROOM // (u.element_size() * parts * columns * batch) // STEPS * STEPS)
    room = empty((parts, batch, min(steps, length), columns), u.dtype)
    squares = empty((batch, heads, min(steps, length)), u.dtype)
    for begin in range(0, length, steps):
        here, target = u[:, begin : begin + steps], y[:, begin : begin + steps]
        now = here.shape[1]
        strides = [*here.stride()[:2], weights.norm_first, *target.stride()[:2], gone is not None, length]
        sizes = [batch, now, *weights.shape, groups, parts, *strides]
        spans = reduced = factors = None
        if gone is not None:
            spans = gone.spans[begin // ROWS_EACH :]
            reduced, factors = gone.reduced[:, begin:], gone.factors[:, begin:]
        passes = (here, *weights.tensors, tail, after, state, room, squares, spans)
        launch(block_scan, passes, sizes, batch * parts, batch * now * work)
        joined = (room, squares, here, *weights.norm, target, reduced, factors)
        rows = batch * now
        launch(block_join, joined, sizes, rows, 64 * rows * channels, scalars=weights.eps)
        tail, after = after, tail if begin else torch.empty_like(tail)
    return y, tail, state


def even_parts(batch: int, groups: int, threads: int) -> int:
    """Return in how many parts the heads of an entry are taken, a power of two: enough for even shares."""
    parts = 1
    while parts < groups and (
        batch * parts < threads or (batch * parts % threads and batch * parts < 4 * threads)
    ):
        parts *= 2
    return parts
