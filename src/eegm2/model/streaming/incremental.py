"""The encoder's layers one block of time after another, with explicit states.

Every layer here is told its weights once and keeps nothing of the signal: ``step(state, x) -> (y, state)``
takes the next steps of its input, (batch, steps, channels), and returns the output steps that can be known
by then, as early as the mathematics allows. ``last=True`` says that no input follows: the layer then pads as
the offline network does and returns everything that is left. States are dataclasses of plain tensors and
integers. Their tensors are copies, so that a state never keeps a block alive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eegm2.model.block import SequenceBlock
from eegm2.model.state import MambaState, map_state

if TYPE_CHECKING:
    from eegm2.model.block import Compiled


@dataclass(frozen=True)
class ConvState:
    """Past of a convolution: `index` inputs seen; `tail`, the last up to k - 1 of them and zero padding."""

    index: int
    tail: Tensor


@dataclass(frozen=True)
class PoolState:
    """Past of a pooling: `index` inputs seen; `tail`, the sample that waits for its pair, or none."""

    index: int
    tail: Tensor


@dataclass(frozen=True)
class BlockState:
    """Past of a sequence block: `index` inputs seen; the mixer's state `mamba`, None at the start."""

    index: int
    mamba: Any


def zeroed(tail: Tensor, items: list[int]) -> Tensor:
    """Return a copy with zeros in place of some batch items."""
    tail = tail.clone()
    tail[items] = 0
    return tail


class SameConv:
    """Convolution that keeps the length (zero padding at the true start and end), looking (k - 1) / 2 ahead.

    One matrix product over rows of k neighbouring steps: at the small blocks of a stream this avoids the
    weight reordering that a convolution routine repeats in every call.

    Parameters
    ----------
    weight : Tensor, shape (channels out, channels in, k)
        k odd.
    bias : Tensor, shape (channels out,)
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.kernel = weight.shape[2]
        self.channels = weight.shape[1]
        self.matrix = weight.permute(2, 1, 0).reshape(-1, weight.shape[0]).contiguous()
        self.bias = bias

    @property
    def look_ahead(self) -> int:
        """Input steps after t that output t needs."""
        return self.kernel // 2

    def start(self, batch: int) -> ConvState:
        """Return the state before the first step: the zero padding."""
        return ConvState(0, self.matrix.new_zeros(batch, self.look_ahead, self.channels))

    def step(self, state: ConvState, x: Tensor, *, last: bool = False) -> tuple[Tensor, ConvState]:
        """Take (batch, steps, channels in); return the outputs (batch, ready, channels out) and the state."""
        parts = [state.tail, x]
        if last:
            parts.append(x.new_zeros(x.shape[0], self.look_ahead, self.channels))
        rows = torch.cat(parts, dim=1)
        ready = max(0, rows.shape[1] - self.kernel + 1)
        y = self.apply(rows) if ready else x.new_zeros(x.shape[0], 0, self.matrix.shape[1])
        return y, ConvState(state.index + x.shape[1], rows[:, ready:].clone())

    def apply(self, rows: Tensor) -> Tensor:
        """Convolve without padding: (batch, steps, channels in) to (batch, steps - k + 1, channels out)."""
        batch, steps, channels = rows.shape
        ready, rows = steps - self.kernel + 1, rows.contiguous()
        taps = rows.as_strided((batch, ready, self.kernel * channels), (steps * channels, channels, 1))
        return torch.addmm(self.bias, taps.flatten(0, 1), self.matrix).unflatten(0, (batch, ready))

    def restart(self, state: ConvState, items: list[int], first: Tensor) -> ConvState:
        """Let the stream of some batch items begin with the next step: zeros in place of their past."""
        return replace(state, tail=zeroed(state.tail, items))


class Pool:
    """Maximum of pairs; an odd step at the end is dropped."""

    def __init__(self, like: Tensor, channels: int) -> None:
        self.like, self.channels = like, channels

    def start(self, batch: int) -> PoolState:
        """Return the state before the first step."""
        return PoolState(0, self.like.new_zeros(batch, 0, self.channels))

    def step(self, state: PoolState, x: Tensor, *, last: bool = False) -> tuple[Tensor, PoolState]:
        """Take (batch, steps, channels); return (batch, complete pairs, channels) and the state."""
        rows = torch.cat([state.tail, x], dim=1) if state.tail.shape[1] else x
        even = rows.shape[1] // 2 * 2
        y = torch.maximum(rows[:, 0:even:2], rows[:, 1:even:2])
        return y, PoolState(state.index + x.shape[1], rows[:, even:].clone())

    def restart(self, state: PoolState, items: list[int], first: Tensor) -> PoolState:
        """Return the state unchanged: streams begin at whole pairs."""
        return state


class Block:
    """A sequence block; causal, so every output is ready at once."""

    def __init__(self, block: SequenceBlock) -> None:
        self.block = block

    def start(self, batch: int) -> BlockState:
        """Return the state before the first step."""
        return BlockState(0, None)

    def step(self, state: BlockState, x: Tensor, *, last: bool = False) -> tuple[Tensor, BlockState]:
        """Take and return (batch, steps, channels), and the state."""
        if x.shape[1] == 0:
            return x, state
        y, mamba = self.block(x, state.mamba)
        mamba = map_state(torch.clone, mamba)
        return y, BlockState(state.index + x.shape[1], mamba)

    def restart(self, state: BlockState, items: list[int], first: Tensor) -> BlockState:
        """Forget the past of some batch items."""
        if state.mamba is None:
            return state
        return replace(state, mamba=map_state(lambda tensor: zeroed(tensor, items), state.mamba))


class CompiledBlock(Block):
    """A sequence block on a CPU: its weights are laid out once and never looked at again."""

    def __init__(self, block: SequenceBlock, weights: Compiled) -> None:
        super().__init__(block)
        self.weights = weights

    def step(self, state: BlockState, x: Tensor, *, last: bool = False) -> tuple[Tensor, BlockState]:
        """Take and return (batch, steps, channels), and the state."""
        if x.shape[1] == 0:
            return x, state
        y, *mamba = self.weights(x, *(state.mamba.tensors() if state.mamba else ()))
        return y, BlockState(state.index + x.shape[1], MambaState(*mamba))


def incremental_block(block: SequenceBlock) -> Block:
    """Return the incremental form of a sequence block; called without gradients."""
    weight = block.norm.weight
    weights = block.compiled(weight.detach().new_zeros(1, 1, weight.shape[0]))
    return Block(block) if weights is None else CompiledBlock(block, weights)
