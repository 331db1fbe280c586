"""A sequence block with Mamba-2 in two compiled passes, its products included, for inference.

`block_scan`: a task is a batch entry and a part of the heads. For `ROWS_EACH` steps at a time it projects,
convolves, scans and gates head by head and multiplies by the output weight, all in the cache: nothing of the
expanded width is ever in memory. The norm divides whole rows, so it can follow that product. What each part
has added up, `block_join` sums, normalises and adds to the input.

Heads are summed within groups, and groups in pairs: which part took which groups does not touch the result.
Widths are padded to whole lanes with weights of zero, which every step here leaves zero.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from eegm2.ops.cpu.products import COLUMNS, TILE_ROWS, product
from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import (
    add,
    fill,
    lane_count,
    lane_sum,
    load,
    multiply,
    multiply_add,
    silu,
    softplus,
    store,
)
from eegm2.ops.cpu.steps import (
    BLOCK,
    LANES,
    ROWS,
    advance,
    block_decays,
    round_up,
    scaled_row,
    sum_row,
    transposed,
)

ROWS_EACH = 96  # steps at a time: whole blocks of the scan, and whole tiles of either height
MOST_GROUPS = 8
# places in `sizes`: batch, length, channels, heads, headdim, d_state, kernel, groups, parts, strides of the
# input (batch, step), whether the norm comes before the residual, strides of the result (batch, step),
# whether to keep what a gradient needs, steps of a whole batch entry


@kernel
def filtered(source, at, step, weight, at_weight, width, taps, target, into):
    """Convolve `width` channels that end at ``source[at]`` with (taps, width), then the bias; activate."""
    lanes = lane_count(source)
    for m in range(0, width, lanes):
        total = load(weight, at_weight + taps * width + m)
        for tap in range(taps):
            value = load(source, at + (tap - taps + 1) * step + m)
            total = multiply_add(load(weight, at_weight + tap * width + m), value, total)
        store(target, into + m, silu(total))


@kernel
def gated(out, vec, i, skip, z, at_z, width):
    """``out[i:] = (out[i:] + skip * vec[i:]) * silu(z[at_z:])``; return the sum of its squares."""
    squares, group = fill(out.dtype.type(0)), fill(skip)
    for m in range(0, width, lane_count(out)):
        value = multiply_add(group, load(vec, i + m), load(out, i + m))
        value = multiply(value, silu(load(z, at_z + m)))
        store(out, i + m, value)
        squares = multiply_add(value, value, squares)
    return lane_sum(squares)


@kernel
def moved(source, i, target, j, size):
    """Copy ``source[i : i + size]`` to ``target[j:]``."""
    lanes = lane_count(target)
    whole = size - size % lanes
    for m in range(0, whole, lanes):
        store(target, j + m, load(source, i + m))
    for m in range(whole, size):
        target[j + m] = source[i + m]


@kernel
def added(source, i, target, j, size):
    """``target[j:] += source[i:]`` over whole lanes."""
    for m in range(0, size, lane_count(target)):
        store(target, j + m, add(load(target, j + m), load(source, i + m)))


@kernel
def moved_rows(source, i, step, target, j, row, count, width):
    """Copy `count` rows of `width` numbers."""
    for k in range(count):
        moved(source, i + k * step, target, j + k * row, width)


@kernel
def in_pairs(sums, depth, count, apart, size):
    """Add those of `depth` sums to each other that are of as many parts; return how many sums are left.

    `count` parts are there, the last of them as a sum of its own; sums begin `apart` from each other.
    """
    while count % 2 == 0:
        depth -= 1
        added(sums, depth * apart, sums, (depth - 1) * apart, size)
        count //= 2
    return depth


@kernel
def scan_head(
    vec, active, dt, at_dt, A, state, own, out, left, right, times, ratios, inverses, rows, width, d_state,
    wide,
):  # fmt: skip
    """Scan one head over the rows of a block; the state ``state[own:]`` goes in and out."""
    real = state.dtype.type
    lines = round_up(d_state, ROWS)
    carried = 0.0
    t = 0
    while t < rows:
        steps, first, rest = block_decays(
            dt, at_dt + t, 1, A, min(BLOCK, rows - t), times, ratios, inverses
        )  # fmt: skip
        for u in range(steps):
            row, to = (t + u) * 2 * wide, (t + u) * lines
            scaled_row(active, row, left, to, d_state, times[u] * inverses[u])
            scaled_row(active, row + wide, right, to, d_state, ratios[u])
        scale = real(math.exp(carried + first))
        advance(vec, left, right, state, own, out, t, 1, steps, width, lines, lines, scale)
        carried = rest
        t += steps
    scaled_row(state, own, state, own, lines * width, real(math.exp(carried)))


@kernel
def block_scan(
    u, shared, expand, conv, dt_bias, A, D, reduce, tail, after, state, partial, squares, spans, sizes, start,
    stop,
):  # fmt: skip
    """Tasks start … stop - 1 of batch x parts.

    shared: columns B, C (each padded to `LANES`) and dt of the input weight, packed, then taps and bias of
    the convolution of B and C; expand: per head the columns z and x, packed; conv: per head taps and bias;
    reduce: per head the output weight times that of the norm, packed. tail (b, kernel - 1, channels) is what
    the convolution saw before, after the same for the next block; state (b h p n) is read as initial and
    written as final. Results: partial (part, b, l, columns) and squares (b, h, l); where a gradient will be
    asked for also spans (block, b, h, n p), the states before each block as they lie here.
    """
    batch, length, channels, heads, headdim, d_state = (
        sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5],
    )  # fmt: skip
    taps, groups, parts = sizes[6], sizes[7], sizes[8]
    real = A.dtype.type
    width, wide, lines = round_up(headdim, LANES), round_up(d_state, LANES), round_up(d_state, ROWS)
    n_shared, n_head = round_up(2 * wide + heads, COLUMNS), round_up(2 * width, COLUMNS)
    n_out = round_up(channels, COLUMNS)
    back, every = taps - 1, heads * headdim + 2 * d_state
    most = round_up(min(ROWS_EACH, length), TILE_ROWS)
    rows_u = np.zeros(most * channels, A.dtype)
    common, zx = np.zeros((most + back) * n_shared, A.dtype), np.zeros((most + back) * n_head, A.dtype)
    active = np.zeros(most * 2 * wide, A.dtype)
    vec, out = np.zeros(most * width, A.dtype), np.zeros(most * width, A.dtype)
    dt = np.zeros(heads * most + LANES, A.dtype)
    left, right = np.zeros(most * lines, A.dtype), np.zeros(most * lines, A.dtype)
    times, ratios, inverses = np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype)
    hidden = np.zeros(heads * lines * width, A.dtype)
    kept_x, kept_bc = np.zeros(heads * back * width, A.dtype), np.zeros(back * 2 * wide, A.dtype)
    sums = np.zeros(4 * most * n_out, A.dtype)
    at_conv = n_shared * channels
    for task in range(start, stop):
        b, part = task // parts, task % parts
        low, high = groups * part // parts, groups * (part + 1) // parts
        at_tail = b * back * every
        for h in range(heads * low // groups, heads * high // groups):
            moved_rows(tail, at_tail + h * headdim, every, kept_x, h * back * width, width, back, headdim)
            transposed(
                state, (b * heads + h) * headdim * d_state, hidden, h * lines * width, headdim, d_state,
                d_state, width, real(1),
            )  # fmt: skip
        at_bc = at_tail + heads * headdim
        for half in range(2):
            moved_rows(tail, at_bc + half * d_state, every, kept_bc, half * wide, 2 * wide, back, d_state)
        for block in range(0, length, ROWS_EACH):
            rows = min(ROWS_EACH, length - block)
            for t in range(rows):
                moved(u, b * sizes[9] + (block + t) * sizes[10], rows_u, t * channels, channels)
            product(
                rows_u, 0, channels, rows, shared, 0, channels, n_shared, common, back * n_shared, n_shared, 1
            )
            moved_rows(kept_bc, 0, 2 * wide, common, 0, n_shared, back, 2 * wide)
            for t in range(rows):
                filtered(
                    common, (back + t) * n_shared, n_shared, shared, at_conv, 2 * wide, taps, active,
                    t * 2 * wide,
                )  # fmt: skip
                for h in range(heads):
                    dt[h * most + t] = common[(back + t) * n_shared + 2 * wide + h] + dt_bias[h]
            moved_rows(common, rows * n_shared, n_shared, kept_bc, 0, 2 * wide, back, 2 * wide)
            for i in range(0, heads * most, lane_count(dt)):
                store(dt, i, softplus(load(dt, i)))
            depth = 0
            for group in range(low, high):
                at_sum = depth * most * n_out
                first = heads * group // groups
                for h in range(first, heads * (group + 1) // groups):
                    at_kept, own = h * back * width, h * lines * width
                    if sizes[14]:
                        at = ((block // ROWS_EACH * batch + b) * heads + h) * lines * width
                        moved(hidden, own, spans, at, lines * width)
                    product(
                        rows_u, 0, channels, rows, expand, h * channels * n_head, channels, n_head, zx,
                        back * n_head, n_head, 1,
                    )  # fmt: skip
                    moved_rows(kept_x, at_kept, width, zx, width, n_head, back, width)
                    for t in range(rows):
                        filtered(
                            zx, (back + t) * n_head + width, n_head, conv, h * (taps + 1) * width, width,
                            taps, vec, t * width,
                        )  # fmt: skip
                    moved_rows(zx, rows * n_head + width, n_head, kept_x, at_kept, width, back, width)
                    scan_head(
                        vec, active, dt, h * most, A[h], hidden, own, out, left, right, times, ratios,
                        inverses, rows, width, d_state, wide,
                    )  # fmt: skip
                    for t in range(rows):
                        squares[(b * heads + h) * length + block + t] = gated(
                            out, vec, t * width, D[h], zx, (back + t) * n_head, width
                        )
                    product(
                        out, 0, width, rows, reduce, h * width * n_out, width, n_out, sums, at_sum, n_out,
                        int(h == first),
                    )  # fmt: skip
                depth = in_pairs(sums, depth + 1, group - low + 1, most * n_out, rows * n_out)
            moved(sums, 0, partial, ((part * batch + b) * length + block) * n_out, rows * n_out)
        for h in range(heads * low // groups, heads * high // groups):
            moved_rows(kept_x, h * back * width, width, after, at_tail + h * headdim, every, back, headdim)
            transposed(
                hidden, h * lines * width, state, (b * heads + h) * headdim * d_state, d_state, headdim,
                width, d_state, real(1),
            )  # fmt: skip
        if part == 0:
            for half in range(2):
                moved_rows(
                    kept_bc, half * wide, 2 * wide, after, at_bc + half * d_state, every, back, d_state
                )


@kernel
def normed(source, i, size, weight, bias, eps, target, j):
    """Write the layer norm of ``source[i : i + size]`` to ``target[j:]``."""
    lanes = lane_count(source)
    whole = size - size % lanes
    group = fill(source.dtype.type(0))
    for m in range(0, whole, lanes):
        group = add(group, load(source, i + m))
    total = np.float64(lane_sum(group))
    for m in range(whole, size):
        total += np.float64(source[i + m])
    mean = source.dtype.type(total / size)
    minus = fill(-mean)
    group = fill(source.dtype.type(0))
    for m in range(0, whole, lanes):
        value = add(load(source, i + m), minus)
        group = multiply_add(value, value, group)
    total = np.float64(lane_sum(group))
    for m in range(whole, size):
        total += np.float64(source[i + m] - mean) ** 2
    scale = source.dtype.type(1 / math.sqrt(total / size + eps))
    factor = fill(scale)
    for m in range(0, whole, lanes):
        value = multiply(add(load(source, i + m), minus), factor)
        store(target, j + m, multiply_add(value, load(weight, m), load(bias, m)))
    for m in range(whole, size):
        target[j + m] = (source[i + m] - mean) * scale * weight[m] + bias[m]


@kernel
def block_join(partial, squares, u, weight, bias, y, reduced, factors, sizes, eps, norm_eps, start, stop):
    """Rows start … stop - 1 of all batch x length rows: sum the parts, normalise twice, add the input.

    Where a gradient will be asked for, `reduced` (as y) is what the layer norm sees of the mixer, factors
    (b, l) the inverse of its root mean square.
    """
    batch, length, channels, heads, headdim, parts = (
        sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[8],
    )  # fmt: skip
    n_out = round_up(channels, COLUMNS)
    total, one = np.zeros(MOST_GROUPS * n_out, y.dtype), y.dtype.type(1)
    for row in range(start, stop):
        b, t = row // length, row % length
        square = 0.0
        for h in range(heads):
            square += np.float64(squares[(b * heads + h) * length + t])
        scale = y.dtype.type(1 / math.sqrt(square / (heads * headdim) + eps))
        for part in range(parts):
            moved(partial, (part * batch * length + row) * n_out, total, part * n_out, n_out)
        apart = 1
        while apart < parts:
            for part in range(0, parts, 2 * apart):
                added(total, (part + apart) * n_out, total, part * n_out, n_out)
            apart *= 2
        scaled_row(total, 0, total, 0, n_out, scale)
        at_u, at_y = b * sizes[9] + t * sizes[10], b * sizes[12] + t * sizes[13]
        if sizes[14]:
            factors[b * sizes[15] + t] = scale
            moved(total, 0, reduced, at_y, channels)
        if sizes[11]:
            normed(total, 0, channels, weight, bias, norm_eps, y, at_y)
            sum_row(y, at_y, u, at_u, y, at_y, channels, one, one)
        else:
            sum_row(total, 0, u, at_u, total, 0, channels, one, one)
            normed(total, 0, channels, weight, bias, norm_eps, y, at_y)
