"""What segments of time add to the state of Mamba-2's scan, compiled: the first pass with many threads."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.steps import (
    BLOCK,
    LANES,
    ROWS,
    accumulate,
    block_decays,
    round_up,
    scaled_row,
    transposed,
)

# places in `sizes` as in `ssd_kernels`, then whether to go backwards in time


@kernel
def ssd_states(vecs, rows_of, dt, A, added, totals, sizes, start, stop):
    """Find what segments add to the state, (pair, segment, p, n), and their log decay, (pair, segment).

    Forwards, vecs is x and rows_of is B, for all segments but the last; backwards dy and C, for all but the
    first. A pair is a batch entry and a head.
    """
    length, heads, headdim, groups, d_state = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    segments, stride, back = sizes[23], sizes[24], sizes[25]
    width, rows = round_up(headdim, LANES), round_up(d_state, ROWS)
    one = A.dtype.type(1)
    vec, left = np.zeros(BLOCK * width, A.dtype), np.zeros(BLOCK * rows, A.dtype)
    times, ratios, inverses = np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype)
    at_vec, at_row = (18, 15) if back else (6, 12)
    for task in range(start, stop):
        pair, segment = task // (segments - 1), task % (segments - 1) + back
        b, h = pair // heads, pair % heads
        from_v = b * sizes[at_vec] + h * sizes[at_vec + 2]
        from_r = b * sizes[at_row] + h // (heads // groups) * sizes[at_row + 2]
        at_dt, step = b * sizes[9] + h * sizes[11], sizes[10]
        hidden = np.zeros(rows * width, A.dtype)
        carried, total = 0.0, 0.0
        low, high = segment * stride, min(length, segment * stride + stride)
        done = 0
        while done < high - low:
            t = high - 1 - done if back else low + done
            sign = -1 if back else 1
            most = min(BLOCK, high - low - done)
            steps, first, rest = block_decays(
                dt, at_dt + t * step, sign * step, A[h], most, times, ratios, inverses
            )
            for u in range(steps):
                s = t + sign * u
                time = one if back else times[u]
                scaled_row(vecs, from_v + s * sizes[at_vec + 1], vec, u * width, headdim, one)
                row = from_r + s * sizes[at_row + 1]
                scaled_row(rows_of, row, left, u * rows, d_state, time * inverses[u])
                total += np.float64(A[h]) * np.float64(times[u])
            accumulate(vec, left, hidden, steps, width, rows, A.dtype.type(math.exp(carried + first)))
            carried = rest
            done += steps
        place = pair * segments + segment
        totals[place] = total
        decay = A.dtype.type(math.exp(carried))
        transposed(hidden, 0, added, place * headdim * d_state, d_state, headdim, width, d_state, decay)
