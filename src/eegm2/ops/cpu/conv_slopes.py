"""The gradient of a convolution's weight, compiled: a product over all steps of output slopes and inputs.

A task is a block of output channels and one of input channels. Both are laid out in panels for some steps
at a time, and what they give is added up in the order of time: who does which task does not touch the result.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from eegm2.ops.cpu.block_kernels import ROWS_EACH, moved
from eegm2.ops.cpu.products import COLUMNS, TILE_ROWS, tile
from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.steps import LANES, round_up

PANEL = LANES if LANES % TILE_ROWS == 0 else LANES * TILE_ROWS // 2  # whole tiles and whole lanes

# places in `sizes`: batch, steps, input channels, output channels, kernel, strides of the input (batch, step)
# and of the output's slope, output and input channels of a task


@kernel
def in_panels(source, at, step, steps, first, count, low, high, width, target):
    """Copy channels low … high - 1 of `count` steps from `first` on into panels, (panel, step, width).

    Steps before the first and behind the last of `steps`, and channels that fill a panel, are zero.
    """
    for k in range(count):
        t = first + k
        for panel in range((high - low + width - 1) // width):
            begin, place = low + panel * width, (panel * count + k) * width
            size = min(width, high - begin)
            if size < width or t < 0 or t >= steps:
                target[place : place + width] = 0
            if 0 <= t < steps:
                moved(source, at + t * step + begin, target, place, size)


@kernel
def weight_slopes(dy, x, dweight, sizes, start, stop):
    """Tasks start … stop - 1 of blocks of output x blocks of input channels; dweight (out, k, in)."""
    steps, inputs, outputs, kernel = sizes[1], sizes[2], sizes[3], sizes[4]
    high_out, high_in = sizes[9], sizes[10]
    blocks = (inputs + high_in - 1) // high_in
    wide = round_up(min(high_in, inputs), COLUMNS)
    tall = round_up(min(high_out, outputs), PANEL)
    slopes = np.zeros(tall * ROWS_EACH, dy.dtype)
    rows = np.zeros(wide * (ROWS_EACH + kernel - 1), dy.dtype)
    sums = np.zeros(tall * kernel * wide, dy.dtype)
    for task in range(start, stop):
        low_out, low_in = task // blocks * high_out, task % blocks * high_in
        end_out, end_in = min(outputs, low_out + high_out), min(inputs, low_in + high_in)
        sums[:] = 0
        for b in range(sizes[0]):
            for first in range(0, steps, ROWS_EACH):
                count = min(ROWS_EACH, steps - first)
                longer = count + kernel - 1
                in_panels(dy, b * sizes[7], sizes[8], steps, first, count, low_out, end_out, PANEL, slopes)
                in_panels(
                    x, b * sizes[5], sizes[6], steps, first - kernel // 2, longer, low_in, end_in, COLUMNS,
                    rows,
                )  # fmt: skip
                for n in range(0, end_in - low_in, COLUMNS):
                    for tap in range(kernel):
                        at = (n // COLUMNS * longer + tap) * COLUMNS
                        for m in range(0, end_out - low_out, TILE_ROWS):
                            tile(
                                slopes, m // PANEL * count * PANEL + m % PANEL, 1, PANEL, rows, at, count,
                                sums, (m * kernel + tap) * wide + n, kernel * wide, 0,
                            )  # fmt: skip
        for m in range(end_out - low_out):
            for tap in range(kernel):
                place = ((low_out + m) * kernel + tap) * inputs + low_in
                moved(sums, (m * kernel + tap) * wide, dweight, place, end_in - low_in)
