"""What a decoder adds to the layers of `incremental`: interpolation and skip connections."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eegm2.model.layers import source_index
from eegm2.model.streaming.incremental import BlockState, ConvState, PoolState
from eegm2.model.streaming.incremental_covariance import CovarianceState


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


LayerState = ConvState | PoolState | BlockState | UpsampleState | DelayState | CovarianceState


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
