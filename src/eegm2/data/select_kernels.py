"""Order statistics of float32 series by radix selection: the numbers that sorting would give (Numba).

The bits of a float32, read as a whole number, ascend with its value (negative ones with all bits turned
over), so the wanted rank is found by counting leading bits: the first 12, then 10 and 10 more of the few that
are left. A not-a-number comes last, as where NumPy and torch sort.
"""

from __future__ import annotations

import numpy as np

from eegm2.data.compiled import kernel

FEW = 48
"""So few candidates are sorted by insertion."""
TOP = np.uint32(0x80000000)
LARGEST = np.uint32(0xFFFFFFFF)


@kernel
def _candidates(keys, work, bins, rank):  # type: ignore[no-untyped-def]
    """Count by the first 12 bits; put the keys that share the wanted ones into `work`.

    Returns how many there are and how many keys are below them.
    """
    n = len(keys)
    lowest, highest = LARGEST, np.uint32(0)
    for i in range(n):
        lowest, highest = min(lowest, keys[i]), max(highest, keys[i])
    first, last = np.int64(lowest >> np.uint32(20)), np.int64(highest >> np.uint32(20))
    bins[first : last + 1] = 0
    for i in range(n):
        bins[keys[i] >> np.uint32(20)] += 1
    if 2 * rank < n:
        chosen, below = first, 0
        while below + bins[chosen] <= rank:
            below += bins[chosen]
            chosen += 1
    else:
        chosen, below = last, n - bins[last]
        while below > rank:
            chosen -= 1
            below -= bins[chosen]
    kept = 0
    for i in range(n):
        work[kept] = keys[i]
        kept += 1 if np.int64(keys[i] >> np.uint32(20)) == chosen else 0
    return kept, below


@kernel
def _ranked(keys, work, bins, rank):  # type: ignore[no-untyped-def]
    """Return the keys of ranks `rank` and `rank` + 1 (of the last rank twice); `work` is one longer."""
    n = len(keys)
    left, below = _candidates(keys, work, bins, rank)
    for shift in (10, 0):
        if left <= FEW:
            break
        bins[:1024] = 0
        for i in range(left):
            bins[(work[i] >> np.uint32(shift)) & np.uint32(1023)] += 1
        chosen = 0
        while below + bins[chosen] <= rank:
            below += bins[chosen]
            chosen += 1
        kept = 0
        for i in range(left):
            key = work[i]
            work[kept] = key
            kept += 1 if np.int64((key >> np.uint32(shift)) & np.uint32(1023)) == chosen else 0
        left = kept
    if left > FEW:  # all 32 bits agree
        found = work[0]
    else:
        for i in range(1, left):
            key = work[i]
            j = i
            while j > 0 and work[j - 1] > key:
                work[j] = work[j - 1]
                j -= 1
            work[j] = key
        found = work[rank - below]
    up_to, after = 0, LARGEST
    for i in range(n):
        up_to += 1 if keys[i] <= found else 0
        after = min(after, keys[i] if keys[i] > found else LARGEST)
    return found, found if up_to > rank + 1 or rank + 1 >= n else after


@kernel
def ranks(bits, rank, out):  # type: ignore[no-untyped-def]
    """Write the bits of the values of ranks `rank` and `rank` + 1 (the last one twice) of every row.

    Parameters
    ----------
    bits : ndarray of uint32, shape (n_rows, n)
        Bits of float32 values.
    rank : int
        From 0.
    out : ndarray of uint32, shape (n_rows, 2)
        Filled.
    """
    n = bits.shape[1]
    keys, work = np.empty(n, np.uint32), np.empty(n + 1, np.uint32)
    bins = np.empty(4096, np.int32)
    for row in range(len(bits)):
        for i in range(n):
            value = bits[row, i]
            keys[i] = ~value if value & TOP else value | TOP
        pair = _ranked(keys, work, bins, rank)
        for side in range(2):
            key = pair[side]
            out[row, side] = key & ~TOP if key & TOP else ~key


@kernel
def transpose(x, out):  # type: ignore[no-untyped-def]
    """Write `x` (n, n_chans) into `out` (n_chans, n), both float32, a stretch at a time."""
    n, n_chans = x.shape
    for start in range(0, n, 64):
        for c in range(n_chans):
            for t in range(start, min(start + 64, n)):
                out[c, t] = x[t, c]
