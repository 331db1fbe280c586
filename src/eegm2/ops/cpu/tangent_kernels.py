"""Running covariances to tangent vectors in one pass, eight matrices side by side."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from eegm2.ops.cpu.eigen_kernels import diagonal, tridiagonal
from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import fill, lane_count, load, multiply, multiply_add, store


@kernel
def tangents(spectra, totals, shares, out, sizes, silence):
    """Sum cross-spectra over a running window, shrink them, and write the triangles of their logarithms.

    Sizes are batch, steps ready, steps of the window, bands and channels; `spectra` holds, for each of the
    batch, the window's steps less one and those that are ready. A matrix that is not finite gives NaN.
    """
    batch, ready, window, bands, n = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    width, whole, rows = lane_count(shares), n * n, sizes[1] + sizes[2] - 1
    count, size = batch * ready * bands, n * (n + 1) // 2
    a, q = np.empty(whole * width), np.empty(whole * width)
    d, e = np.empty(n * width), np.empty(n * width)
    v, w = np.empty(n * width), np.empty(n * width)
    made, fine = np.empty(width), np.empty(width, np.bool_)
    for first in range(0, count, width):
        for lane in range(width):
            number = min(first + lane, count - 1)
            step, band = number // bands, number % bands
            begin = ((step // ready * rows + step % ready) * bands + band) * whole
            known = 0.0
            for place in range(whole):
                total = 0.0
                for k in range(window):
                    total += spectra[begin + k * bands * whole + place]
                total /= totals[step]
                a[place * width + lane] = total
                known += total
            fine[lane] = math.isfinite(known)
            level = 0.0
            for i in range(n):
                level += a[(i * n + i) * width + lane]
            share = shares[band]
            added = share * level / n + silence
            for i in range(n):
                for j in range(n):
                    place = (i * n + j) * width + lane
                    kept = (1 - share) * a[place] if fine[lane] else 0.0
                    a[place] = kept + ((added if fine[lane] else 1.0) if i == j else 0.0)
        tridiagonal(a, q, d, e, v, w, n)
        diagonal(q, d, e, n)
        for i in range(n * width):
            d[i] = math.log(max(d[i], 2.2250738585072014e-308))
        here = min(width, count - first)
        for i in range(n):
            for k in range(n):
                store(v, k * width, multiply(load(q, (i * n + k) * width), load(d, k * width)))
            for j in range(i, n):
                total = fill(0.0)
                for k in range(n):
                    total = multiply_add(load(v, k * width), load(q, (j * n + k) * width), total)
                store(made, 0, total)
                place = i * n - i * (i - 1) // 2 + j - i
                scale = 1.0 if i == j else math.sqrt(2.0)
                for lane in range(here):
                    out[(first + lane) * size + place] = scale * made[lane] if fine[lane] else math.nan
