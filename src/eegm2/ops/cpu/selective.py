"""A sequence block with Mamba-1 for inference on the CPU: weights laid out once, then compiled passes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eegm2.ops.cpu.block import even_parts, padded, up
from eegm2.ops.cpu.block_kernels import MOST_GROUPS, ROWS_EACH, block_join
from eegm2.ops.cpu.products import COLUMNS, packed
from eegm2.ops.cpu.runtime import dense_last, empty, launch, useful_threads
from eegm2.ops.cpu.selective_kernels import selective_inputs, selective_scan_block
from eegm2.ops.cpu.steps import LANES

ROOM = 8 << 20  # bytes of the scan's input that wait for it: they stay in the last-level cache
GROUP = 64  # channels that are scanned together


@dataclass(frozen=True)
class SelectiveWeights:
    """The weights of a sequence block with Mamba-1 as the kernels read them; copies, none is shared."""

    inputs: tuple[Tensor, ...]
    scan: tuple[Tensor, ...]
    norm: tuple[Tensor, Tensor]
    #: Channels, inner channels, channels and number of groups, d_state, dt's rank, kernel.
    shape: tuple[int, ...]
    eps: float
    norm_first: bool

    @classmethod
    def of(
        cls,
        into: Tensor,
        conv_weight: Tensor,
        conv_bias: Tensor,
        to_steps: Tensor,
        to_dt: Tensor,
        dt_bias: Tensor,
        A_log: Tensor,
        D: Tensor,
        out_of: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        *,
        eps: float,
        norm_first: bool,
    ) -> SelectiveWeights:
        """Lay the weights out: of the mixer (x_proj is `to_steps`, dt_proj `to_dt`) and the layer norm."""
        (inner, d_state), channels, taps = A_log.shape, into.shape[1], conv_weight.shape[2]
        rank, width = to_dt.shape[1], min(GROUP, up(inner, LANES))
        groups = -(-inner // width)

        def grouped(tensor: Tensor) -> Tensor:
            """Cut the last axis, the inner channels, into groups that come first."""
            return padded(tensor, groups * width).unflatten(-1, (groups, width)).movedim(-2, 0)

        x, z = (grouped(half.t()).transpose(1, 2) for half in into.chunk(2))
        filters = torch.cat([conv_weight[:, 0].t(), conv_bias[None]])
        dt_and_rest = to_steps.split([rank, 2 * d_state])
        dense = torch.contiguous_format
        inputs = (packed(x), grouped(filters).contiguous(), packed(grouped(torch.cat(dt_and_rest[::-1]))))
        scan = (
            packed(z),
            packed(grouped(to_dt.t()).transpose(1, 2)),
            *(grouped(tensor).clone(memory_format=dense) for tensor in (dt_bias, -torch.exp(A_log).t(), D)),
            packed(grouped(out_of)),
        )
        norm = (norm_weight.clone(), norm_bias.clone())
        return cls(inputs, scan, norm, (channels, inner, width, groups, d_state, rank, taps), eps, norm_first)

    def __call__(
        self, u: Tensor, tail: Tensor | None = None, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``norm(mixer(u)) + u``, or ``norm(mixer(u) + u)``, and both states of the mixer after it.

        Parameters
        ----------
        u : Tensor, shape (batch, length, channels)
        tail : Tensor, shape (batch, kernel - 1, inner channels), optional
            What the convolution saw before; zeros if absent, not written to.
        state : Tensor, shape (batch, inner channels, d_state), optional
            As tail.
        """
        u = dense_last(u)
        batch, length, channels = u.shape
        _, inner, width, groups, d_state, rank, taps = self.shape
        tail = u.new_zeros(batch, taps - 1, inner) if tail is None else tail.contiguous()
        hidden = u.new_zeros(batch, groups * width, d_state)
        if state is not None:
            hidden[:, :inner] = state
        hidden = hidden.view(batch, groups, width, d_state).transpose(2, 3).contiguous()
        y, after = empty((batch, length, channels), u.dtype), torch.empty_like(tail)
        columns, bundles = up(channels, COLUMNS), 1 << (min(MOST_GROUPS, groups).bit_length() - 1)
        work = inner * (4 * d_state + 3 * channels)  # per step
        parts = even_parts(batch, bundles, useful_threads(batch * length * work))
        most = ROOM // (u.element_size() * batch * groups * width) // ROWS_EACH * ROWS_EACH
        most = min(max(most, ROWS_EACH), length)
        active = u.new_empty(batch * most * groups * width)
        given = u.new_empty(batch * most * up(2 * d_state + rank, COLUMNS))
        room, ones = u.new_empty(parts * batch * most * columns), u.new_ones(batch, most)
        for begin in range(0, length, most):
            target = y[:, begin : begin + most]
            now = target.shape[1]
            sizes = [batch, now, *self.shape, bundles, parts, *u.stride()[:2], begin]
            arrays = (u, *self.inputs, tail, after, active, given)
            launch(selective_inputs, arrays, sizes, batch * -(-now // ROWS_EACH), batch * now * work)
            scanned = (u, *self.scan, active, given, hidden, room)
            launch(selective_scan_block, scanned, sizes, batch * parts, batch * now * work)
            here, rows = u[:, begin : begin + most], batch * now
            joined = [batch, now, channels, 1, 1, d_state, taps, bundles, parts, *u.stride()[:2]]
            joined += [self.norm_first, *target.stride()[:2], 0, length]
            last = (room, ones, here, *self.norm, target, None, None)
            launch(block_join, last, joined, rows, 64 * rows * channels, scalars=(0.0, self.eps))
        return y, after, hidden.transpose(2, 3).flatten(1, 2)[:, :inner].contiguous()
