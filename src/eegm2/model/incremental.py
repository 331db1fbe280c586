"""The network's layers one block of time after another, with explicit states.

Every layer here is told its weights once and keeps nothing of the signal: ``step(state, x) -> (y, state)``
takes the next steps of its input, (batch, steps, channels), and returns the output steps that can be known
by then, as early as the mathematics allows. ``last=True`` says that no input follows: the layer then pads as
the offline network does and returns everything that is left. States are dataclasses of plain tensors and
integers. Their tensors are copies, so that a state never keeps a block alive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eegm2.model.block import SequenceBlock
from eegm2.model.mamba2 import Mamba2
from eegm2.model.state import MambaState
from eegm2.ops import mamba2_mix


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
    """Past of a sequence block: `index` inputs seen; the mixer's `mamba` state, None at the start."""

    index: int
    mamba: MambaState | None


@dataclass(frozen=True)
class UpsampleState:
    """Past of an interpolation: `index` inputs seen, `emitted` outputs given, `tail` inputs still needed."""

    index: int
    emitted: int
    tail: Tensor


@dataclass(frozen=True)
class DelayState:
    """Steps that wait for their partner, (batch, waiting, channels): of the skip, and of what rises to it."""

    index: int
    tail: Tensor
    ahead: Tensor


LayerState = ConvState | PoolState | BlockState | UpsampleState | DelayState


def _zeroed(tail: Tensor, items: list[int]) -> Tensor:
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
        ready = rows.shape[1] - self.kernel + 1
        taps = [rows[:, j : j + ready] for j in range(self.kernel)]
        return (torch.cat(taps, dim=2) if self.kernel > 1 else rows) @ self.matrix + self.bias

    def restart(self, state: ConvState, items: list[int], first: Tensor) -> ConvState:
        """Let the stream of some batch items begin with the next step: zeros in place of their past."""
        return replace(state, tail=_zeroed(state.tail, items))


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
        mamba = MambaState(*(tensor.clone() for tensor in mamba.tensors()))
        return y, BlockState(state.index + x.shape[1], mamba)

    def restart(self, state: BlockState, items: list[int], first: Tensor) -> BlockState:
        """Forget the past of some batch items."""
        if state.mamba is None:
            return state
        return replace(state, mamba=MambaState(*(_zeroed(t, items) for t in state.mamba.tensors())))


class Mamba2Block(Block):
    """A sequence block with Mamba-2, its matrices laid out for few rows at a time.

    A product of a few rows with a transposed weight takes up to three times as long as with the weight
    itself, and in a stream these products are nearly all there is to do.
    """

    def __init__(self, block: SequenceBlock) -> None:
        super().__init__(block)
        mixer = block.mixer
        assert isinstance(mixer, Mamba2)
        self.mixer = mixer
        self.into = mixer.in_proj.weight.detach().t().contiguous()
        self.out_of = mixer.out_proj.weight.detach().t().contiguous()
        self.decay = -torch.exp(mixer.A_log.detach())
        self.taps = mixer.conv1d.weight.detach().squeeze(1).contiguous()

    def step(self, state: BlockState, x: Tensor, *, last: bool = False) -> tuple[Tensor, BlockState]:
        """Take and return (batch, steps, channels), and the state."""
        if x.shape[1] == 0:
            return x, state
        mixer, mamba = self.mixer, state.mamba
        assert mixer.conv1d.bias is not None
        y, conv, ssm = mamba2_mix(
            x @ self.into,
            self.taps,
            mixer.conv1d.bias,
            mixer.dt_bias,
            self.decay,
            mixer.D,
            mixer.norm.weight,
            mixer.norm.eps,
            None if mamba is None else mamba.conv,
            None if mamba is None else mamba.ssm,
            mixer.ngroups,
            mixer.d_state,
            mixer.headdim,
        )
        y = y @ self.out_of
        y = self.block.norm(y) + x if self.block.norm_first else self.block.norm(y + x)
        return y, BlockState(state.index + x.shape[1], MambaState(conv.clone(), ssm.clone()))


def sequence_block(block: SequenceBlock) -> Block:
    """Return the incremental form of a sequence block."""
    mixer = block.mixer
    return Mamba2Block(block) if isinstance(mixer, Mamba2) else Block(block)


class Upsample:
    """Linear interpolation as ``F.interpolate(align_corners=False)`` does it, looking one input ahead.

    At twice the length ``y[2i] = x[i-1] / 4 + 3 x[i] / 4`` and ``y[2i+1] = 3 x[i] / 4 + x[i+1] / 4``, clamped
    at both ends. The offline network asks for the length of the skip connection, which is one more than twice
    if that is odd; the scale then depends on the total length, which must be known from the start.

    Parameters
    ----------
    like : Tensor
        Gives dtype and device.
    channels : int
        Channels of input and output.
    lengths : (int, int), optional
        Total input and output steps where they are known; otherwise the scale is 2 and an odd last output
        repeats the last input.
    """

    def __init__(self, like: Tensor, channels: int, lengths: tuple[int, int] | None = None) -> None:
        self.like, self.channels = like, channels
        self.stretched = lengths if lengths is not None and lengths[1] != 2 * lengths[0] else None

    def start(self, batch: int) -> UpsampleState:
        """Return the state before the first step."""
        return UpsampleState(0, 0, self.like.new_zeros(batch, 0, self.channels))

    def step(
        self, state: UpsampleState, x: Tensor, *, last: bool = False, total: int | None = None
    ) -> tuple[Tensor, UpsampleState]:
        """Take (batch, steps, channels); return (batch, ready, channels) and the state.

        With `last`, exactly `total` outputs have been given since the start.
        """
        if self.stretched is not None:
            return self._step_stretched(state, x, self.stretched)
        index = state.index + x.shape[1]
        rows = torch.cat([state.tail if state.index else x[:, :1], x], dim=1)
        y = rows[:, :0]
        if x.shape[1]:
            before, now = rows[:, :-1], rows[:, 1:]
            pairs = torch.stack([torch.lerp(before, now, 0.25), torch.lerp(before, now, 0.75)], dim=2)
            y = pairs.flatten(1, 2)[:, 0 if state.index else 1 :]
        emitted = state.emitted + y.shape[1]
        if last and total is not None and total > emitted:
            y = torch.cat([y, rows[:, -1:].expand(-1, total - emitted, -1)], dim=1)
            emitted = total
        return y, UpsampleState(index, emitted, rows[:, -1:].clone())

    def _step_stretched(
        self, state: UpsampleState, x: Tensor, lengths: tuple[int, int]
    ) -> tuple[Tensor, UpsampleState]:
        rows = torch.cat([state.tail, x], dim=1)
        index = state.index + x.shape[1]
        first = index - rows.shape[1]
        candidates = torch.arange(state.emitted, min(2 * index + 3, lengths[1]), device=x.device)
        low, weight = source_index(candidates, lengths)
        high = (low + 1).clamp(max=lengths[0] - 1)
        ready = int((high < index).sum())
        below, above = (rows[:, side[:ready] - first] for side in (low, high))
        y = torch.lerp(below, above, weight[:ready, None].to(x.dtype))
        keep = int(low[ready]) - first if ready < len(low) else rows.shape[1]
        return y, UpsampleState(index, state.emitted + ready, rows[:, max(0, keep) :].clone())

    def restart(self, state: UpsampleState, items: list[int], first: Tensor) -> UpsampleState:
        """Clamp some batch items to their first step, (batch, 1, channels), as at any start."""
        tail = state.tail.clone()
        if tail.shape[1]:
            tail[items] = first[items].expand(-1, tail.shape[1], -1)
        return replace(state, tail=tail)


def source_index(output: Tensor, lengths: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return where each output step lies in the input: the step below and the weight of the one above.

    Rounded as ``F.interpolate`` rounds for float32 signals, in single precision, which matters at a hundred
    thousand steps and more.

    Parameters
    ----------
    output : Tensor of int64, shape (steps,)
    lengths : (int, int)
        Total input and output steps.
    """
    scale = torch.tensor(lengths[0], dtype=torch.float32) / lengths[1]
    position = (scale.double() * (output.double() + 0.5) - 0.5).float().clamp(min=0)
    low = position.long().clamp(max=lengths[0] - 1)
    return low, (position - low).clamp(0, 1)


class Delay:
    """A skip connection: keeps steps until the decoder has caught up, then joins both."""

    def __init__(self, like: Tensor, skip_channels: int, up_channels: int) -> None:
        self.like, self.channels = like, (skip_channels, up_channels)

    def start(self, batch: int) -> DelayState:
        """Return the state before the first step."""
        return DelayState(0, *(self.like.new_zeros(batch, 0, channels) for channels in self.channels))

    def join(self, state: DelayState, skip: Tensor, up: Tensor) -> tuple[Tensor, DelayState]:
        """Take new steps of both sides; put the complete ones behind each other's channels, skip first."""
        skips = torch.cat([state.tail, skip], dim=1)
        ups = torch.cat([state.ahead, up], dim=1) if state.ahead.shape[1] else up
        ready = min(skips.shape[1], ups.shape[1])
        joined = torch.cat([skips[:, :ready], ups[:, :ready]], dim=2)
        index = state.index + skip.shape[1]
        return joined, DelayState(index, skips[:, ready:].clone(), ups[:, ready:].clone())
