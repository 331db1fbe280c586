"""Statistics of time-major arrays (n_times, n_chans), all channels in one pass (Numba)."""

from __future__ import annotations

import numpy as np

from eegm2.compiling import kernel


@kernel
def extremes(x, low, high):  # type: ignore[no-untyped-def]
    """Fill `low` and `high` (n_chans,) with every channel's extremes; return whether all is finite."""
    wrong = np.zeros(x.shape[1], np.float32)
    for c in range(x.shape[1]):
        low[c] = high[c] = x[0, c]
    for t in range(len(x)):
        row = x[t]
        for c in range(len(row)):
            value = row[c]
            low[c] = min(low[c], value)
            high[c] = max(high[c], value)
            wrong[c] += value - value  # not a number unless finite
    total = np.float32(0)
    for c in range(x.shape[1]):
        total += wrong[c]
    return total == 0


@kernel
def clipped(x, low, high, counts):  # type: ignore[no-untyped-def]
    """Fill `counts` (n_chans,) with the samples that stay at an extreme for three or more."""
    run = np.zeros(x.shape[1], np.int32)
    counts[:] = 0
    for t in range(len(x)):
        row, before = x[t], x[max(t - 1, 0)]
        for c in range(len(row)):
            value = row[c]
            if value == low[c] or value == high[c]:
                run[c] = run[c] + 1 if value == before[c] and t else 1
                counts[c] += 3 if run[c] == 3 else np.int32(run[c] > 3)
            else:
                run[c] = 0


@kernel
def moments(x, total, squares):  # type: ignore[no-untyped-def]
    """Add every channel's sum and sum of squares to `total` and `squares` (n_chans,) of float64."""
    for t in range(len(x)):
        row = x[t]
        for c in range(len(row)):
            value = np.float64(row[c])
            total[c] += value
            squares[c] += value * value
