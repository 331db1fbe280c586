"""Filtering and resampling of time-major arrays (n_times, n_chans), all channels at each step (Numba)."""

from __future__ import annotations

import numpy as np

from eegm2.compiling import kernel

BLOCK = 32


@kernel
def cascade(x, sos, state, backwards):  # type: ignore[no-untyped-def]
    """Filter `x` in place by second-order sections, from either end.

    Parameters
    ----------
    x : ndarray of float64, shape (n_times, n_chans)
    sos : ndarray of float64, shape (n_sections, 6)
        As `scipy.signal.sosfilt` has it; the fourth column is 1.
    state : ndarray of float64, shape (n_sections, 2, n_chans)
        Transposed direct form II; changed.
    backwards : bool
        From the last sample to the first.
    """
    n_times, n_chans = x.shape
    for start in range(0, n_times, BLOCK):  # a block stays in the cache for all sections
        for s in range(len(sos)):
            b0, b1, b2, a1, a2 = sos[s, 0], sos[s, 1], sos[s, 2], sos[s, 4], sos[s, 5]
            first, second = state[s, 0], state[s, 1]
            end = min(start + BLOCK, n_times)
            for step in range(start, end - 1, 2):  # two samples for each time the state is read and written
                one = x[n_times - 1 - step if backwards else step]
                two = x[n_times - 2 - step if backwards else step + 1]
                for c in range(n_chans):
                    made = b0 * one[c] + first[c]
                    between = b1 * one[c] - a1 * made + second[c]
                    later = b2 * one[c] - a2 * made
                    one[c] = made
                    made = b0 * two[c] + between
                    first[c] = b1 * two[c] - a1 * made + later
                    second[c] = b2 * two[c] - a2 * made
                    two[c] = made
            if (end - start) % 2:
                one = x[n_times - end if backwards else end - 1]
                for c in range(n_chans):
                    made = b0 * one[c] + first[c]
                    first[c] = b1 * one[c] - a1 * made + second[c]
                    second[c] = b2 * one[c] - a2 * made
                    one[c] = made


@kernel
def resample(x, taps, up, down, offset, out):  # type: ignore[no-untyped-def]
    """Resample by up/down with an odd, centred filter; zeros beyond the ends (`scipy.signal.resample_poly`).

    Parameters
    ----------
    x : ndarray of float64, shape (n_times, n_chans)
    taps : ndarray of float64, shape (n_taps,)
        Low-pass at the rate `up` times that of `x`, times `up`.
    up, down : int
    offset : ndarray of float64, shape (n_chans,)
        Added to the result.
    out : ndarray of float32, shape (n_out, n_chans)
        Filled.
    """
    n_times, n_chans = x.shape
    row = np.empty(n_chans)
    for m in range(len(out)):
        place = m * down + len(taps) // 2
        phase, newest = place % up, place // up
        row[:] = 0.0
        oldest = max(0, newest - (len(taps) - 1 - phase) // up)
        end = min(newest, n_times - 1) + 1
        for i in range(oldest, end - 1, 2):
            weight, sample = taps[phase + (newest - i) * up], x[i]
            following, after = taps[phase + (newest - i - 1) * up], x[i + 1]
            for c in range(n_chans):
                row[c] = (row[c] + weight * sample[c]) + following * after[c]
        if (end - oldest) % 2:
            weight, sample = taps[phase + (newest - end + 1) * up], x[end - 1]
            for c in range(n_chans):
                row[c] += weight * sample[c]
        for c in range(n_chans):
            out[m, c] = np.float32(row[c] + offset[c])


@kernel
def store_less(block, offset, out):  # type: ignore[no-untyped-def]
    """Write `block - offset` (n_chans, n) of float64 time-major into `out` (n, n_chans) of float32."""
    n_chans, n = block.shape
    for start in range(0, n, 64):
        for c in range(n_chans):
            for t in range(start, min(start + 64, n)):
                out[t, c] = np.float32(block[c, t] - offset[c])


@kernel
def pick(x, columns, out):  # type: ignore[no-untyped-def]
    """Write columns of `x` (n, n_chans) into `out` (n, n_columns) of float64."""
    for t in range(len(x)):
        for k in range(len(columns)):
            out[t, k] = x[t, columns[k]]
