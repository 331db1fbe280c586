"""Layers over stretches of time: each takes the next steps of its input and gives what can be known by then.

Every layer is the network's own. A convolution or an interpolation of a stretch also gives steps next to a
cut, which miss what lies beyond it; these are left out, and computed with the next stretch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from eegm2.model.block import SequenceBlock
from eegm2.model.fused import join_and_convolve
from eegm2.model.layers import TimeConv, source_index
from eegm2.ops import Kept

#: Steps after which the kernel of sequence blocks stores its state: cut there, it computes the same.
WHOLE = 96


class Rows:
    """Steps of a signal that are still needed, (batch, steps, channels), and their place in it.

    Attributes
    ----------
    first, stop : int
        Of the steps that are held.
    seam : int
        First of the steps that came last: from here on, stretches are read where they lie.
    """

    def __init__(self) -> None:
        self.first = self.seam = self.stop = 0
        self._older: Tensor | None = None
        self._newer: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """Put the next steps behind those that are held."""
        if self._newer is not None:
            self._older = self.between(self.first, self.stop)
        self._newer, self.seam = rows, self.stop
        self.stop += rows.shape[1]

    def between(self, first: int, stop: int) -> Tensor:
        """Return some of the steps that are held."""
        assert self._newer is not None
        older, newer = self._older, self._newer[:, max(first - self.seam, 0) : max(stop - self.seam, 0)]
        if older is None or first >= self.seam:
            return newer
        older = older[:, first - self.first : stop - self.first]
        return torch.cat([older, newer], dim=1) if newer.shape[1] else older

    def take(self, stop: int) -> Tensor:
        """Return the steps before one, and forget them."""
        rows = self.between(self.first, stop)
        self.drop(stop)
        return rows

    def drop(self, first: int) -> None:
        """Forget the steps before one."""
        first = min(max(first, self.first), self.stop)
        if self._older is not None:
            self._older = self._older[:, first - self.first :] if first < self.seam else None
        if self._newer is not None and first > self.seam:
            self._newer, self.seam = self._newer[:, first - self.seam :], first
        self.first = first


class Blocks:
    """Sequence blocks in a row, each with its state and with the steps that wait to be a whole number."""

    def __init__(self, *blocks: Any) -> None:
        self.blocks: tuple[SequenceBlock, ...] = blocks
        self.waiting = [Rows() for _ in blocks]
        self.states: list[Any] = [None for _ in blocks]

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """Take the next steps and return those that are ready."""
        for place, (block, waiting) in enumerate(zip(self.blocks, self.waiting)):
            waiting.add(rows)
            rows = waiting.take(waiting.stop if last else waiting.stop // WHOLE * WHOLE)
            if rows.shape[1]:
                rows, self.states[place] = block(rows, self.states[place])
        return rows


def over_pairs(
    source: Rows, layer: Callable[[Tensor], Tensor], side: int, done: int, last: bool
) -> Iterator[Tensor]:
    """Yield what a layer makes of pairs of steps, from its step `done` on to the last that is known.

    Steps around the seam are taken apart from the others, so that none but them are copied.

    Parameters
    ----------
    layer : callable
        Maps (batch, channels, 2 n) to (batch, channels, n), and looks `side` steps of the latter around.
    """
    known = source.stop // 2
    ready, after = known if last else known - side, (source.seam + 1) // 2 + side
    cut = after if done - side < after - side and source.first < source.seam else done
    for begin, end in ((done, min(cut, ready)), (max(cut, done), ready)):
        if begin < end:
            low, high = max(begin - side, 0), min(end + side, known)
            rows = layer(source.between(2 * low, 2 * high).transpose(1, 2)).transpose(1, 2)
            yield rows[:, begin - low : end - low]


class Join:
    """Interpolation to the steps of a skip connection, and the convolution of both.

    Parameters
    ----------
    skip : Rows
        Of the skip connection; filled by somebody else, who may drop what lies before `needs`.
    lengths : (int, int)
        Steps of the whole signal below, and of the skip.
    kept, conv, output
        As of `eegm2.model.fused.join_and_convolve`.
    """

    def __init__(
        self,
        skip: Rows,
        lengths: tuple[int, int],
        kept: Kept,
        conv: TimeConv,
        output: TimeConv | None = None,
    ) -> None:
        self.skip, self.lengths = skip, lengths
        self.kept, self.conv, self.output = kept, conv, output
        self.low, self.done = Rows(), 0

    @property
    def needs(self) -> int:
        """First step of the skip that is still needed."""
        return max(self.done - 3, 0)

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """Take the next steps from below and return the steps that are ready."""
        self.low.add(rows)
        if not rows.shape[1]:
            channels = (self.conv if self.output is None else self.output).out_channels
            return rows.new_empty(rows.shape[0], 0, channels)
        doubles = self.lengths[1] == 2 * self.lengths[0]
        y = self._doubled(last) if doubles else self._stretched(last)
        self.done += y.shape[1]
        return y

    def _doubled(self, last: bool) -> Tensor:
        first, known = max(self.done // 2 - 1, 0), self.low.stop
        ready = 2 * known if last else max(2 * known - 2, self.done)
        below, skip = self.low.between(first, known), self.skip.between(2 * first, 2 * known)
        y = join_and_convolve(
            skip.transpose(1, 2), below.transpose(1, 2), self.kept, self.conv, self.output
        ).transpose(1, 2)[:, self.done - 2 * first : ready - 2 * first]
        self.low.drop(max(ready // 2 - 1, 0))
        return y

    def _stretched(self, last: bool) -> Tensor:
        """Interpolate where the length does not double: the places depend on the length of the whole."""
        (short, long), first = self.lengths, max(self.done - 1, 0)
        places, share = source_index(torch.arange(first, min(2 * self.low.stop + 3, long)), self.lengths)
        after = (places + 1).clamp(max=short - 1)
        known = int((after < self.low.stop).sum())
        known = min(known, self.skip.stop - first)
        before, behind = (
            self.low.between(self.low.first, self.low.stop)[:, index[:known] - self.low.first]
            for index in (places, after)
        )
        share = share[:known, None].to(before.dtype)
        raised = ((1 - share).double() * before + (behind * share).double()).to(
            before.dtype
        )  # as torch rounds
        ready = first + known if last else max(first + known - 1, self.done)
        joined = torch.cat([self.skip.between(first, first + known), raised], dim=2)
        y = self.conv(joined.transpose(1, 2))
        y = (y if self.output is None else self.output(y)).transpose(1, 2)
        self.low.drop(int(source_index(torch.tensor([max(ready - 1, 0)]), self.lengths)[0]))
        return y[:, self.done - first : ready - first]
