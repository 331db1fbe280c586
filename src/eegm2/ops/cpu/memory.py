"""Memory for results: taken again once nobody holds it, large ones in large pages where the system has them.

The C library returns freed memory of this size to the system, and every first touch of a page that it then
asks for anew is a fault: a fifth of a forward pass. What a pass needs once it needs each time, so a few
blocks per thread are kept. A block is free when no tensor lies in it any more, results that were given to
somebody included. NumPy asks for pages of 2 MB where a block is large, a few hundred faults fewer.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SMALL, KEPT = 64 << 10, 32 << 20  # bytes: what the C library keeps by itself; what a thread keeps at most
ALIGNED = 64  # bytes of a cache line
_UNUSED = 3  # references to a block: the list's, the loop's and that of the question


class _Blocks(threading.local):
    """The blocks of a thread, the newest at the end."""

    def __init__(self) -> None:
        self.all: list[np.ndarray] = []

    def take(self, size: int) -> np.ndarray:
        """Return a block of at least `size` bytes that nobody uses."""
        for block in self.all:
            if size <= block.size <= 2 * size and sys.getrefcount(block) == _UNUSED:
                return block
        whole = np.empty(size + ALIGNED, np.uint8)
        begin = -whole.ctypes.data % ALIGNED
        made = whole[begin : begin + size]
        room = KEPT - size
        if room >= 0:
            self.all = self._within(room)
            self.all.append(made)
        return made

    def _within(self, room: int) -> list[np.ndarray]:
        """Return the newest blocks that take no more than so many bytes."""
        kept: list[np.ndarray] = []
        for block in reversed(self.all):
            room -= block.size
            if room < 0:
                break
            kept.insert(0, block)
        return kept


_blocks = _Blocks()


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return memory for a result on the CPU, with values of no meaning."""
    size = math.prod(shape) * dtype.itemsize
    if size < SMALL:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(_blocks.take(size))[:size].view(dtype).view(shape)
