"""A sequence block with Mamba-2 for inference on the CPU: weights laid out once, then two compiled passes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eegm2.ops.cpu.block_kernels import MOST_GROUPS, block_join, block_scan
from eegm2.ops.cpu.products import COLUMNS, packed
from eegm2.ops.cpu.runtime import dense_last, empty, launch, useful_threads
from eegm2.ops.cpu.steps import LANES

ROOM = 8 << 20  # bytes of sums that wait for the second pass: they stay in the last-level cache
STEPS = 96 * 8  # a piece of time is a multiple of this: it begins where a block of the kernel does


def _padded(weight: Tensor, width: int) -> Tensor:
    """Return the tensor with zeros behind its last axis up to a width."""
    return F.pad(weight, (0, width - weight.shape[-1]))


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


@dataclass(frozen=True)
class BlockWeights:
    """The weights of a sequence block as the kernels read them; copies, none is shared.

    Parameters of `of` are those of the mixer (in_proj, out_proj weights and as for `eegm2.ops.mamba2_mix`)
    and of the layer norm behind it.
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
        A: Tensor,
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
        heads, channels, taps = A.shape[0], into.shape[1], conv_weight.shape[1]
        width, wide = _up(headdim, LANES), _up(d_state, LANES)
        inner = heads * headdim
        z, x, B, C, dt = into.split([inner, inner, d_state, d_state, heads])
        halves = [F.pad(part, (0, 0, 0, wide - d_state)) for part in (B, C)]
        filters = torch.cat([conv_weight.t(), conv_bias[None]])  # (taps + 1, channels of the convolution)
        xs, Bs, Cs = filters.split([inner, d_state, d_state], dim=1)
        shared = [packed(torch.cat([*halves, dt])), _padded(Bs, wide), _padded(Cs, wide)]
        common = torch.cat([shared[0].flatten(), torch.cat(shared[1:], dim=1).flatten()])
        per_head = torch.stack([z.view(heads, headdim, -1), x.view(heads, headdim, -1)], dim=1)
        per_head = F.pad(per_head, (0, 0, 0, width - headdim)).flatten(1, 2)
        reduced = (out_of * gate_norm).view(channels, heads, headdim).transpose(0, 1)
        tensors = (
            common,
            torch.stack([packed(head) for head in per_head]),
            _padded(xs.view(taps + 1, heads, headdim).transpose(0, 1), width).contiguous(),
            dt_bias.clone(),
            A.clone(),
            D.clone(),
            torch.stack([packed(head) for head in _padded(reduced, width)]),
        )
        norm = (norm_weight.clone(), norm_bias.clone())
        return cls(tensors, norm, (channels, heads, headdim, d_state, taps), eps, norm_first)


def sequence_block(
    u: Tensor, weights: BlockWeights, tail: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``norm(mixer(u)) + u``, or ``norm(mixer(u) + u)``, and both states of the mixer after it.

    Parameters
    ----------
    u : Tensor, shape (batch, length, channels)
    weights : BlockWeights
        Of the dtype of `u`.
    tail, state : Tensor, optional
        As conv_state and ssm_state of `eegm2.ops.mamba2_mix`; zeros if absent, not written to.
    """
    u = dense_last(u)
    batch, length, channels = u.shape
    _, heads, headdim, d_state, taps = weights.shape
    every = heads * headdim + 2 * d_state
    tail = u.new_zeros(batch, taps - 1, every) if tail is None else tail.contiguous()
    state = u.new_zeros(batch, heads, headdim, d_state) if state is None else state.contiguous().clone()
    y, after = empty((batch, length, channels), u.dtype), torch.empty_like(tail)
    columns = _up(channels, COLUMNS)
    groups = 1 << (min(MOST_GROUPS, heads).bit_length() - 1)
    work = 4 * heads * headdim * (d_state + channels)  # per step
    parts = _parts(batch, groups, useful_threads(batch * length * work))
    steps = max(STEPS, ROOM // (u.element_size() * parts * columns * batch) // STEPS * STEPS)
    room = empty((parts, batch, min(steps, length), columns), u.dtype)
    squares = empty((batch, heads, min(steps, length)), u.dtype)
    for begin in range(0, length, steps):
        here, target = u[:, begin : begin + steps], y[:, begin : begin + steps]
        now = here.shape[1]
        strides = here.stride()[:2]
        sizes = [
            batch,
            now,
            *weights.shape,
            groups,
            parts,
            *strides,
            weights.norm_first,
            *target.stride()[:2],
        ]
        passes = (here, *weights.tensors, tail, after, state, room, squares)
        launch(block_scan, passes, sizes, batch * parts, batch * now * work)
        joined = (room, squares, here, *weights.norm, target)
        rows = batch * now
        launch(block_join, joined, sizes, rows, 64 * rows * channels, scalars=weights.eps)
        tail, after = after, tail if begin else torch.empty_like(tail)
    return y, tail, state


def _parts(batch: int, groups: int, threads: int) -> int:
    """Return in how many parts the heads of an entry are taken, a power of two: enough for even shares."""
    parts = 1
    while parts < groups and (
        batch * parts < threads or (batch * parts % threads and batch * parts < 4 * threads)
    ):
        parts *= 2
    return parts
