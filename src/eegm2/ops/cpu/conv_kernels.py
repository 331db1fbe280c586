"""Convolution over time as a product of neighbouring rows, compiled, with what stands around it.

Rows that lie behind each other in memory are the rows of a wider matrix: nothing is unfolded. The input may
be pooled by pairs on its way in. A decoder's convolution sees a skip connection beside a signal at half the
rate: the products of the latter are taken at the lower rate, before it is interpolated, which is linear too.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from eegm2.ops.cpu.block_kernels import ROWS_EACH, moved
from eegm2.ops.cpu.products import COLUMNS, TILE_ROWS, product
from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import add, fill, lane_count, larger, load, multiply, multiply_add, store
from eegm2.ops.cpu.steps import round_up

# places in `sizes`: batch, steps of the output, input channels, output channels, kernel, strides of the input
# (batch, step, channel), whether to pool it, steps of the raised signal (0: none), strides of the output


@kernel
def gathered(x, at, steps, channels, stride, apart, pooled, first, count, rows):
    """Write steps first … first + count - 1 of one batch entry to `rows`, zeros where there are none."""
    size = count * channels
    if first < 0 or first + count > steps:
        rows[:size] = 0
    low, high = max(first, 0), min(first + count, steps)
    if apart != 1:  # channel by channel: neighbouring steps are read together
        for c in range(channels):
            for t in range(low, high):
                source = at + c * apart + (2 * t if pooled else t) * stride
                value = x[source]
                if pooled:
                    other = x[source + stride]
                    value = other if other > value or other != other else value
                rows[(t - first) * channels + c] = value
        return
    lanes = lane_count(x)
    whole = channels - channels % lanes if pooled else 0
    for t in range(low, high):
        target = (t - first) * channels
        if not pooled:
            moved(x, at + t * stride, rows, target, channels)
            continue
        source = at + 2 * t * stride
        for m in range(0, whole, lanes):
            store(rows, target + m, larger(load(x, source + m), load(x, source + stride + m)))
        for m in range(whole, channels):
            value, other = x[source + m], x[source + stride + m]
            rows[target + m] = other if other > value or other != other else value


@kernel
def raise_into(raised, at, half, first, count, kernel, width, sums):
    """Add to row t of `sums`, for each tap, what the signal at half the rate gives at step t + tap - side.

    A row of `raised` has a part of `width` per tap. Between steps it is interpolated at quarters, clamped at
    both ends; outside it is zero, as the padding of a convolution is.
    """
    row, lanes = kernel * width, lane_count(sums)
    near, far = fill(sums.dtype.type(0.75)), fill(sums.dtype.type(0.25))
    for t in range(first, first + count):
        for tap in range(kernel):
            s = t + tap - kernel // 2
            if s < 0 or s >= 2 * half:
                continue
            own = s // 2
            other = min(max(own - 1 + s % 2 * 2, 0), half - 1)
            i, j, k = at + own * row + tap * width, at + other * row + tap * width, (t - first) * width
            for m in range(0, width, lanes):
                value = multiply_add(near, load(raised, i + m), multiply(far, load(raised, j + m)))
                store(sums, k + m, add(load(sums, k + m), value))


@kernel
def convolve(x, weight, bias, raised, y, sizes, start, stop):
    """Tasks start … stop - 1 of batch x blocks of `ROWS_EACH` steps.

    `weight` is packed, its depth (kernel, input channels); `bias` padded to `COLUMNS`; `raised`
    (b, steps / 2, kernel, padded output channels) belongs to the part of the input at half the rate.
    """
    steps, channels, outputs, kernel = sizes[1], sizes[2], sizes[3], sizes[4]
    width, depth, side = round_up(outputs, COLUMNS), kernel * channels, kernel // 2
    blocks = (steps + ROWS_EACH - 1) // ROWS_EACH
    most = round_up(min(ROWS_EACH, steps), TILE_ROWS)
    rows = np.zeros((most + kernel - 1) * channels, y.dtype)
    sums = np.zeros(most * width, y.dtype)
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * ROWS_EACH
        count = min(ROWS_EACH, steps - first)
        gathered(
            x, b * sizes[5], steps, channels, sizes[6], sizes[7], sizes[8], first - side, count + kernel - 1,
            rows,
        )  # fmt: skip
        for t in range(count):
            moved(bias, 0, sums, t * width, width)
        if sizes[9]:
            raise_into(raised, b * sizes[9] * kernel * width, sizes[9], first, count, kernel, width, sums)
        product(rows, 0, channels, count, weight, 0, depth, width, sums, 0, width, 0)
        for t in range(count):
            moved(sums, t * width, y, b * sizes[10] + (first + t) * sizes[11], outputs)
