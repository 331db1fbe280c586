"""Order statistics of float32 series by counting, not sorting: the numbers that sorting would give (Numba).

The bits of a float32, read as a whole number, ascend with its value once the lower 31 bits of negative ones
are turned over. So a threshold is narrowed down between whole numbers until just as many values as wanted lie
at or below it: some ten passes that only count, each of a few instructions per eight values. A not-a-number
comes last, as where NumPy and torch sort.
"""

from __future__ import annotations

import numpy as np

from eegm2.compiling import kernel

SMALLEST, LARGEST = np.int32(-0x80000000), np.int32(0x7FFFFFFF)
TWO_OCTAVES = 1 << 24


@kernel
def _up_to(keys, limit):  # type: ignore[no-untyped-def]
    """Return how many keys are at most `limit`."""
    count = np.int32(0)
    for i in range(len(keys)):
        count = np.int32(count + np.int32(1 if keys[i] <= limit else 0))
    return np.int64(count)


@kernel
def _ranked(keys, lowest, highest, rank):  # type: ignore[no-untyped-def]
    """Return the keys of ranks `rank` and `rank` + 1 (of the last rank twice).

    `low` and `high` enclose the first of them: `at_low` ≤ rank keys are at most `low`, `at_high` > rank at
    most `high`. The first threshold is a quarter of the largest value; then in turn where a straight line
    through the counts reaches the rank, and half-way, so that nothing takes more than some 60 passes.
    """
    low, high, at_low, at_high = np.int64(lowest) - 1, np.int64(highest), 0, len(keys)
    step = 0
    while at_high != rank + 1 and high - low > 1:
        if step == 0 and high - low > 2 * TWO_OCTAVES:
            middle = high - TWO_OCTAVES
        elif step % 2:
            share = (rank + 0.5 - at_low) / (at_high - at_low)
            middle = min(max(low + np.int64((high - low) * share), low + 1), high - 1)
        else:
            middle = (low + high) >> 1
        count = _up_to(keys, np.int32(middle))
        if count > rank:
            high, at_high = middle, count
        else:
            low, at_low = middle, count
        step += 1
    below, above = SMALLEST, LARGEST
    for i in range(len(keys)):
        key = keys[i]
        below = max(below, key if key <= high else SMALLEST)
        above = min(above, key if key > high else LARGEST)
    return below, below if at_high > rank + 1 or rank + 1 >= len(keys) else above


@kernel
def ranks(bits, rank, out):  # type: ignore[no-untyped-def]
    """Write the bits of the values of ranks `rank` and `rank` + 1 (the last one twice) of every row.

    Parameters
    ----------
    bits : ndarray of int32, shape (n_rows, n)
        Bits of float32 values.
    rank : int
        From 0.
    out : ndarray of int32, shape (n_rows, 2)
        Filled.
    """
    keys = np.empty(bits.shape[1], np.int32)
    for row in range(len(bits)):
        lowest, highest = LARGEST, SMALLEST
        for i in range(len(keys)):
            key = bits[row, i]
            key = key ^ ((key >> 31) & LARGEST)
            keys[i] = key
            lowest, highest = min(lowest, keys[i]), max(highest, keys[i])
        below, above = _ranked(keys, lowest, highest, rank)
        out[row, 0] = below ^ ((below >> 31) & LARGEST)
        out[row, 1] = above ^ ((above >> 31) & LARGEST)


@kernel
def scale_by_quantile(x, rank, fraction, epsilon, out, bits):  # type: ignore[no-untyped-def]
    """Write every channel of `x` over the quantile of its absolute value into `out`.

    Parameters
    ----------
    x : ndarray of float32, shape (n_times, n_chans)
        A window as it is stored.
    rank, fraction : int, float32
        The quantile: so far from the value of `rank` to that of `rank` + 1.
    epsilon : float32
        Added to the quantile.
    out : ndarray of float32, shape (n_chans, n_times)
    bits : ndarray of int32, shape (n_chans, n_times)
        The memory of `out`.
    """
    n, n_chans = x.shape
    keys, pair = np.empty(n, np.int32), np.empty(2, np.int32)
    values = pair.view(np.float32)
    for start in range(0, n, 64):  # few enough rows to stay in the cache for all channels
        for c in range(n_chans):
            for t in range(start, min(start + 64, n)):
                out[c, t] = x[t, c]
    for c in range(n_chans):
        lowest, highest = LARGEST, SMALLEST
        for t in range(n):
            keys[t] = bits[c, t] & LARGEST  # of the absolute value
            lowest, highest = min(lowest, keys[t]), max(highest, keys[t])
        pair[0], pair[1] = _ranked(keys, lowest, highest, rank)
        gain = (values[0] + (values[1] - values[0]) * fraction) + epsilon
        row = out[c]
        for t in range(n):
            row[t] = row[t] / gain
