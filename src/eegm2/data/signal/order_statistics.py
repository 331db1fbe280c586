"""Order statistics along the last axis, compiled or not: the numbers that sorting would give."""

from __future__ import annotations

import numpy as np

from eegm2.data.signal.compiled import kernels


def neighbours(x: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of ranks `rank` and `rank` + 1 (of the last rank twice), from 0.

    Parameters
    ----------
    x : ndarray, shape (..., n)
        A not-a-number counts as the largest.
    rank : int

    Returns
    -------
    below, above : ndarray, shape (..., 1)
    """
    following = min(rank + 1, x.shape[-1] - 1)
    compiled = kernels("select_kernels") if x.dtype == np.float32 else None
    if compiled is None:
        ordered = np.partition(x, following, axis=-1)
        if following == rank:
            return ordered[..., rank, None], ordered[..., rank, None]
        return ordered[..., :following].max(-1, keepdims=True), ordered[..., following, None]
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    found = np.empty((len(rows), 2), np.float32)
    compiled.ranks(rows.view(np.int32), rank, found.view(np.int32))
    pairs = found.reshape(*x.shape[:-1], 2)
    return pairs[..., :1], pairs[..., 1:]


def medians(x: np.ndarray) -> np.ndarray:
    """Return the medians over the last axis, shape (..., 1)."""
    below, above = neighbours(x, (x.shape[-1] - 1) // 2)
    return below if x.shape[-1] % 2 else (below + above) / 2
