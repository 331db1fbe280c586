"""Cross-spectra of a filter bank, and tangent vectors of running covariances, eight matrices side by side."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from eegm2.ops.cpu.block_kernels import moved
from eegm2.ops.cpu.eigen_kernels import diagonal, tridiagonal
from eegm2.ops.cpu.products import COLUMNS, TILE_ROWS, tile
from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import fill, lane_count, load, multiply, multiply_add, store
from eegm2.ops.cpu.steps import round_up, scaled_row, sum_row

# places in `sizes` of `bank_spectra`: batch, steps, channels, bands, samples of a segment and of what is
# filtered in it, samples of a step, samples before the first step that are there, strides of x (batch,
# channel, sample)


@kernel
def bank_spectra(x, filters, spectra, sizes, stride, start, stop):
    """Tasks start … stop - 1 of batch x steps: filter a segment and multiply what is filtered by itself.

    `filters` (length, bands * filtered samples, rounded up to `TILE_ROWS`); results (b, steps, bands, n, n)
    are multiplied by `stride`. What lies before the samples that are there is zero.
    """
    steps, n, bands, length, taken = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    real, high, panels = x.dtype.type, round_up(bands * taken, TILE_ROWS), (n + COLUMNS - 1) // COLUMNS
    segment = np.zeros(panels * length * COLUMNS, x.dtype)
    filtered = np.zeros((panels * high + TILE_ROWS) * COLUMNS, x.dtype)
    products = np.zeros((COLUMNS + TILE_ROWS) * COLUMNS, x.dtype)
    for task in range(start, stop):
        at = task // steps * sizes[8]
        first = task % steps * sizes[6] - length + sizes[6] + sizes[7]
        for t in range(length):
            for c in range(n):
                place = (c // COLUMNS * length + t) * COLUMNS + c % COLUMNS
                segment[place] = x[at + c * sizes[9] + (first + t) * sizes[10]] if first + t >= 0 else real(0)
        for panel in range(panels):
            for m in range(0, high, TILE_ROWS):
                tile(
                    filters, m, 1, high, segment, panel * length * COLUMNS, length, filtered,
                    (panel * high + m) * COLUMNS, COLUMNS, 1,
                )  # fmt: skip
        for pair in range(panels * panels * bands):
            one, other, band = pair // bands // panels, pair // bands % panels, pair % bands
            tall, wide = min(COLUMNS, n - one * COLUMNS), min(COLUMNS, n - other * COLUMNS)
            left, right = (one * high + band * taken) * COLUMNS, (other * high + band * taken) * COLUMNS
            for m in range(0, tall, TILE_ROWS):
                tile(
                    filtered, left + m, 1, COLUMNS, filtered, right, taken, products, m * COLUMNS, COLUMNS, 1
                )  # fmt: skip
            target = ((task * bands + band) * n + one * COLUMNS) * n + other * COLUMNS
            for i in range(tall):
                scaled_row(products, i * COLUMNS, spectra, target + i * n, wide, real(stride))


# places in `sizes` of `tangents`: batch, tokens, steps before the first token, steps of the window, bands,
# channels


@kernel
def running_covariance(spectra, number, total, share, sizes, silence, row, a, lane, width):
    """Write one shrunk covariance to its lane; return 1, or NaN if it is not finite, and then the identity.

    `number` counts token by token, band by band.
    """
    tokens, before, bands, n = sizes[1], sizes[2], sizes[4], sizes[5]
    step, band, whole, one = number // bands, number % bands, n * n, row.dtype.type(1)
    last = before + step % tokens
    begin = (step // tokens * (before + tokens) + last) * bands + band
    moved(spectra, begin * whole, row, 0, whole)
    for back in range(1, min(last + 1, sizes[3])):
        sum_row(row, 0, spectra, (begin - back * bands) * whole, row, 0, whole, one, one)
    known = level = 0.0
    for place in range(whole):
        known += row[place]
    for i in range(n):
        level += row[i * (n + 1)]
    fine = known - known == 0
    kept = (1 - share) / total if fine else 0.0
    for place in range(whole):
        a[place * width + lane] = kept * row[place] if fine else 0.0
    added = share * level / (n * total) + silence if fine else 1.0
    for i in range(n):
        a[i * (n + 1) * width + lane] += added
    return 1.0 if fine else math.nan


@kernel
def tangents(spectra, totals, shares, out, sizes, silence, start, stop):
    """Write the triangles of logarithms of groups start … stop - 1 of as many covariances as lanes.

    `spectra` (b, before + tokens, bands, n, n); `totals` (b, tokens) divide the sums over the window;
    `shares` (bands) are those of the identity. A matrix that is not finite gives NaN.
    """
    bands, n = sizes[4], sizes[5]
    width, count, size = lane_count(shares), sizes[0] * sizes[1] * sizes[4], n * (n + 1) // 2
    a, q, d = np.empty(n * n * width), np.empty(n * n * width), np.empty(n * width)
    e, v, w, fine, made = (
        np.empty(n * width),
        np.empty(n * width),
        np.empty(n * width),
        np.empty(width),
        np.empty(width),
    )
    row = np.zeros(n * n, spectra.dtype)
    for group in range(start, stop):
        first = group * width
        for lane in range(width):
            number = min(first + lane, count - 1)
            fine[lane] = running_covariance(
                spectra, number, totals[number // bands], shares[number % bands], sizes, silence, row, a,
                lane, width,
            )  # fmt: skip
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
                store(made, 0, multiply(total, load(fine, 0)))
                place = i * n - i * (i - 1) // 2 + j - i
                scale = 1.0 if i == j else math.sqrt(2.0)
                for lane in range(here):
                    out[(first + lane) * size + place] = scale * made[lane]
