"""The gradient of a sequence block with Mamba-2 in two compiled passes, its products included.

`join_slopes` goes back through layer norm and root mean square. `block_slopes` takes `ROWS_EACH` steps at a
time, the last ones first: projection, convolution, scan and gate are computed again from the input, head by
head, and every gradient is taken while they are in the cache. Nothing of the expanded width is ever in
memory; of the forward pass nothing is kept but the states between blocks.

A task is some batch entries and a part of the heads. Both follow from the sizes alone, and each task adds up
sums of its own: no result depends on how many threads there are.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from eegm2.ops.cpu.block_kernels import ROWS_EACH, added, moved, moved_rows
from eegm2.ops.cpu.conv_slopes import in_panels
from eegm2.ops.cpu.products import COLUMNS, TILE_ROWS, product, tile
from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import (
    add,
    fill,
    lane_count,
    lane_sum,
    load,
    multiply,
    multiply_add,
    sigmoid,
    softplus,
    store,
    subtract,
)
from eegm2.ops.cpu.ssd_kernels import FORGOTTEN
from eegm2.ops.cpu.steps import (
    BLOCK,
    LANES,
    ROWS,
    advance,
    block_decays,
    dot_row,
    round_up,
    scaled_row,
    transposed,
)

JOINED = 64  # rows of a task of `join_slopes`
# places in `sizes`: batch, length, channels, heads, headdim, d_state, kernel, parts of the heads, chunks of
# the batch, strides of the input (batch, step)


@kernel
def activated(source, at, step, weight, at_weight, row, width, taps, target, slopes, into):
    """Convolve `width` channels that end at ``source[at]`` with (taps, row); write SiLU and its slope."""
    lanes = lane_count(source)
    one = fill(source.dtype.type(1))
    for m in range(0, width, lanes):
        total = load(weight, at_weight + taps * row + m)
        for tap in range(taps):
            value = load(source, at + (tap - taps + 1) * step + m)
            total = multiply_add(load(weight, at_weight + tap * row + m), value, total)
        gate = sigmoid(total)
        value = multiply(total, gate)
        store(target, into + m, value)
        store(slopes, into + m, multiply_add(value, subtract(one, gate), gate))


@kernel
def gate_slopes(out, vec, i, skip, zx, at_z, slope, at_slope, factor, pull, dzx, at_d, dys, gated, width):
    """Go back through ``h = (out + skip * vec) * silu(z)`` of one row, and through its norm.

    `slope` belongs to the normed row. Writes the gradient of z, that of the scan's output, and the normed h.
    """
    one, skips = fill(out.dtype.type(1)), fill(skip)
    factors, pulls = fill(factor), fill(pull)
    for m in range(0, width, lane_count(out)):
        z = load(zx, at_z + m)
        gate = sigmoid(z)
        y = multiply_add(skips, load(vec, i + m), load(out, i + m))
        active = multiply(z, gate)
        h = multiply(y, active)
        back = multiply_add(load(slope, at_slope + m), factors, multiply(h, pulls))
        store(gated, i + m, multiply(h, factors))
        store(dys, i + m, multiply(back, active))
        store(dzx, at_d + m, multiply(multiply(back, y), multiply_add(active, subtract(one, gate), gate)))


@kernel
def scan_again(
    vec, B, C, dt, at_dt, A, D, state, own, turned, out, zx, at_z, n_head, slope, n_slope, factors, pulls,
    at_row, dzx, dys, gated, dC, dy_y, scaled_B, scaled_C, out_n, times, ratios, inverses, rows, width, wide,
    lines,
):  # fmt: skip
    """Scan one head forwards, with `state` (n p) for its output and `turned` (p n) for the gradient of C.

    Returns the log decay that is not yet in the states. dy_y receives ``<dy[t], y[t]>`` of the scan alone.
    """
    real = state.dtype.type
    carried = 0.0
    t = 0
    while t < rows:
        steps, first, rest = block_decays(dt, at_dt + t, 1, A, min(BLOCK, rows - t), times, ratios, inverses)
        for u in range(steps):
            at = (t + u) * wide
            scaled_row(B, at, scaled_B, at, wide, times[u] * inverses[u])
            scaled_row(C, at, scaled_C, at, wide, ratios[u])
        scale = real(math.exp(carried + first))
        advance(vec, scaled_B, scaled_C, state, own, out, t, 1, steps, width, wide, lines, scale)
        for u in range(steps):
            s = t + u
            gate_slopes(
                out, vec, s * width, D, zx, at_z + s * n_head, slope, s * n_slope, factors[at_row + s],
                pulls[at_row + s], dzx, s * n_head, dys, gated, width,
            )  # fmt: skip
        advance(scaled_B, vec, dys, turned, 0, out_n, t, 1, steps, wide, width, width, scale)
        for u in range(steps):
            at = (t + u) * wide
            dy_y[t + u] = np.float64(ratios[u]) * dot_row(C, at, out_n, at, wide)
            scaled_row(out_n, at, out_n, at, wide, ratios[u])
            added(out_n, at, dC, at, wide)
        carried = rest
        t += steps
    return carried


@kernel
def scan_back(
    vec, B, C, dt, at_dt, A, grad, own, turned, own_turned, dys, dx, dB, dy_y, w, scaled_B, scaled_C, out_n,
    times, ratios, inverses, rows, width, wide, lines,
):  # fmt: skip
    """Scan one head backwards with the gradient of the state, (n p) for that of x and (p n) for that of B.

    `w` is ``<dL/dH, H>`` behind the last step. That of dt replaces dt; that of A is returned.
    """
    real = grad.dtype.type
    rate = np.float64(A)
    carried, sum_A = 0.0, 0.0
    t = rows - 1
    while t >= 0:
        steps, _, rest = block_decays(dt, at_dt + t, -1, A, min(BLOCK, t + 1), times, ratios, inverses)
        for u in range(steps):
            at = (t - u) * wide
            scaled_row(C, at, scaled_C, at, wide, inverses[u])
            scaled_row(B, at, scaled_B, at, wide, ratios[u])
        scale = real(math.exp(carried))
        advance(dys, scaled_C, scaled_B, grad, own, dx, t, -1, steps, width, wide, lines, scale)
        advance(scaled_C, dys, vec, turned, own_turned, out_n, t, -1, steps, wide, width, width, scale)
        for u in range(steps):
            s, at, time = t - u, (t - u) * wide, times[u]
            x_q = np.float64(ratios[u]) * dot_row(B, at, out_n, at, wide)
            scaled_row(out_n, at, out_n, at, wide, ratios[u] * time)
            added(out_n, at, dB, at, wide)
            scaled_row(dx, s * width, dx, s * width, width, time)
            w = w + dy_y[s] - np.float64(time) * x_q
            if np.float64(time) * rate < FORGOTTEN:
                w = 0.0
            sum_A += np.float64(time) * w
            dt[at_dt + s] = rate * w + x_q
        carried = rest
        t -= steps
    decay = real(math.exp(carried))
    scaled_row(grad, own, grad, own, lines * width, decay)
    scaled_row(turned, own_turned, turned, own_turned, width * wide, decay)
    return sum_A


@kernel
def filter_slopes(
    dc, width, source, n_source, weight, at_weight, taps, rows, target, n_target, dweight, at_dw
):
    """Go back through a convolution: `dc` has its output's slopes, the next block's first ones behind them.

    Row t of `source` (its inputs) and of `dc` lie so that output t sees rows t … t + taps - 1. The gradient
    of the inputs at the steps of the block goes to `target`, those of taps and bias are added to `dweight`.
    """
    lanes, back = lane_count(dc), taps - 1
    for m in range(0, width, lanes):
        total = load(dweight, at_dw + taps * width + m)
        for t in range(rows):
            total = add(total, load(dc, t * width + m))
        store(dweight, at_dw + taps * width + m, total)
        for tap in range(taps):
            total = load(dweight, at_dw + tap * width + m)
            factor = load(weight, at_weight + tap * width + m)
            for t in range(rows):
                value = load(source, (t + tap) * n_source + m)
                total = multiply_add(load(dc, t * width + m), value, total)
                slope = multiply(factor, load(dc, (t + back - tap) * width + m))
                if tap > 0:
                    slope = add(slope, load(target, t * n_target + m))
                store(target, t * n_target + m, slope)
            store(dweight, at_dw + tap * width + m, total)


@kernel
def slopes_of_row(dx, dys, slope, i, skip, width):
    """``dx[i:] = (dx[i:] + skip * dys[i:]) * slope[i:]``."""
    skips = fill(skip)
    for m in range(i, i + width, lane_count(dx)):
        store(dx, m, multiply(multiply_add(skips, load(dys, m), load(dx, m)), load(slope, m)))


@kernel
def scaled_by(first, second, i, target, j, size):
    """``target[j:] = first[i:] * second[i:]`` over whole lanes."""
    for m in range(0, size, lane_count(first)):
        store(target, j + m, multiply(load(first, i + m), load(second, i + m)))


@kernel
def add_products(a, step_a, panels, rows, high, columns, c, at_c):
    """``c[j] += sum_t a[t, j] b[t]`` for j < high: `panels` hold b, (panel, rows, `COLUMNS`)."""
    for n in range(0, columns, COLUMNS):
        for m in range(0, high, TILE_ROWS):
            tile(a, m, 1, step_a, panels, n * rows, rows, c, at_c + m * columns + n, columns, 0)


@kernel
def block_slopes(
    u, dm, factors, pulls, shared, expand, conv, dt_bias, A, D, reduce_back, expand_back, shared_back, spans,
    partial, d_expand, d_reduce, d_shared, d_conv, d_filters, d_heads, sizes, start, stop,
):  # fmt: skip
    """Tasks start … stop - 1 of chunks of the batch x parts of the heads.

    The first weights are those of `block_kernels.block_scan`, those for going back are packed with channels
    as depth (reduce) or as columns. spans (block, b, h, n p) are the states before each block; dm, factors,
    pulls are as `join_slopes` leaves them. Results: partial (part, b, l, columns), the gradient of the input;
    per chunk those of the weights, transposed, of zero before: d_expand and d_reduce per head, d_shared per
    part, d_conv (taps and bias) per head, d_filters (those of B and C) per part, d_heads (h, 3) of dt_bias, A
    and D.
    """
    batch, length, channels, heads, headdim, d_state = (
        sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5],
    )  # fmt: skip
    taps, parts, chunks = sizes[6], sizes[7], sizes[8]
    real = A.dtype.type
    width, wide, lines = round_up(headdim, LANES), round_up(d_state, LANES), round_up(d_state, ROWS)
    n_shared, n_head = round_up(2 * wide + heads, COLUMNS), round_up(2 * width, COLUMNS)
    n_out, n_slope, back = round_up(channels, COLUMNS), round_up(width, COLUMNS), taps - 1
    high_head, high_width = round_up(2 * width, TILE_ROWS), round_up(width, TILE_ROWS)
    high_shared = round_up(2 * wide + heads, TILE_ROWS)
    most = round_up(min(ROWS_EACH, length) + back, TILE_ROWS)
    blocks, matrix = (length + ROWS_EACH - 1) // ROWS_EACH, lines * width
    rows_u, rows_m = np.zeros(most * channels, A.dtype), np.zeros(most * channels, A.dtype)
    panels_u, panels_m = np.zeros(most * n_out, A.dtype), np.zeros(most * n_out, A.dtype)
    common, zx = np.zeros((most + back) * n_shared, A.dtype), np.zeros((most + back) * n_head, A.dtype)
    d_common, dzx = np.zeros((most + 1) * n_shared, A.dtype), np.zeros((most + 1) * n_head, A.dtype)
    slope = np.zeros(most * n_slope, A.dtype)
    B, C = np.zeros(most * wide, A.dtype), np.zeros(most * wide, A.dtype)
    slope_B, slope_C = np.zeros(most * wide, A.dtype), np.zeros(most * wide, A.dtype)
    scaled_B, scaled_C = np.zeros(most * wide, A.dtype), np.zeros(most * wide, A.dtype)
    dB, dC, out_n = (
        np.zeros(most * wide, A.dtype),
        np.zeros(most * wide, A.dtype),
        np.zeros(most * wide, A.dtype),
    )
    vec, slope_x = np.zeros(most * width, A.dtype), np.zeros(most * width, A.dtype)
    out, dys = np.zeros(most * width, A.dtype), np.zeros(most * width, A.dtype)
    gated = np.zeros((most + 1) * width, A.dtype)
    dx, d_bc = np.zeros((most + back) * width, A.dtype), np.zeros((most + back) * 2 * wide, A.dtype)
    dt, dt_slope = np.zeros(heads * most + LANES, A.dtype), np.zeros(heads * most + LANES, A.dtype)
    dy_y = np.zeros(most, np.float64)
    times, ratios, inverses = np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype)
    hidden, turned = np.zeros(matrix, A.dtype), np.zeros(width * wide, A.dtype)
    grad, grad_turned = np.zeros(heads * matrix, A.dtype), np.zeros(heads * width * wide, A.dtype)
    kept_x, kept_bc = np.zeros(heads * back * width, A.dtype), np.zeros(back * 2 * wide, A.dtype)
    sums = np.zeros(most * n_out, A.dtype)
    at_conv, at_filters = n_shared * channels, (taps + 1) * 2 * wide
    for task in range(start, stop):
        chunk, part = task // parts, task % parts
        low, high = heads * part // parts, heads * (part + 1) // parts
        own_part = chunk * parts + part
        for b in range(batch * chunk // chunks, batch * (chunk + 1) // chunks):
            grad[:], grad_turned[:], kept_x[:], kept_bc[:] = 0, 0, 0, 0
            for block in range(blocks - 1, -1, -1):
                begin = block * ROWS_EACH
                rows, lead = min(ROWS_EACH, length - begin), min(begin, back)
                at_row = b * length + begin
                at_u = b * sizes[9] + begin * sizes[10]
                moved_rows(u, at_u - lead * sizes[10], sizes[10], rows_u, 0, channels, lead + rows, channels)
                in_panels(
                    u, b * sizes[9], sizes[10], length, begin, rows, 0, channels, COLUMNS, panels_u
                )  # fmt: skip
                moved_rows(dm, at_row * channels, channels, rows_m, 0, channels, rows, channels)
                in_panels(
                    dm, b * length * channels, channels, length, begin, rows, 0, channels, COLUMNS, panels_m
                )
                common[: (back - lead) * n_shared] = 0
                product(
                    rows_u, 0, channels, lead + rows, shared, 0, channels, n_shared, common,
                    (back - lead) * n_shared, n_shared, 1,
                )  # fmt: skip
                for t in range(rows):
                    at = (back + t) * n_shared
                    for h in range(low, high):
                        dt[h * most + t] = common[at + 2 * wide + h] + dt_bias[h]
                    activated(
                        common, at, n_shared, shared, at_conv, 2 * wide, wide, taps, B, slope_B, t * wide
                    )  # fmt: skip
                    activated(
                        common, at + wide, n_shared, shared, at_conv + wide, 2 * wide, wide, taps, C, slope_C,
                        t * wide,
                    )  # fmt: skip
                for i in range(low * most, high * most, lane_count(dt)):
                    raw = load(dt, i)
                    store(dt_slope, i, sigmoid(raw))
                    store(dt, i, softplus(raw))
                dB[:], dC[:], d_common[:] = 0, 0, 0
                for h in range(low, high):
                    product(
                        rows_u, 0, channels, lead + rows, expand, h * channels * n_head, channels, n_head, zx,
                        (back - lead) * n_head, n_head, 1,
                    )  # fmt: skip
                    zx[: (back - lead) * n_head] = 0
                    at_filter = h * (taps + 1) * width
                    for t in range(rows):
                        activated(
                            zx, (back + t) * n_head + width, n_head, conv, at_filter, width, width, taps, vec,
                            slope_x, t * width,
                        )  # fmt: skip
                    product(
                        rows_m, 0, channels, rows, reduce_back, h * channels * n_slope, channels, n_slope,
                        slope, 0, n_slope, 1,
                    )  # fmt: skip
                    moved(spans, ((block * batch + b) * heads + h) * matrix, hidden, 0, matrix)
                    transposed(hidden, 0, turned, 0, lines, width, width, wide, real(1))
                    carried = scan_again(
                        vec, B, C, dt, h * most, A[h], D[h], hidden, 0, turned, out, zx, back * n_head,
                        n_head, slope, n_slope, factors, pulls, at_row, dzx, dys, gated, dC, dy_y, scaled_B,
                        scaled_C, out_n, times, ratios, inverses, rows, width, wide, lines,
                    )  # fmt: skip
                    w = math.exp(carried) * dot_row(hidden, 0, grad, h * matrix, matrix)
                    sum_A = scan_back(
                        vec, B, C, dt, h * most, A[h], grad, h * matrix, grad_turned, h * width * wide, dys,
                        dx, dB, dy_y, w, scaled_B, scaled_C, out_n, times, ratios, inverses, rows, width,
                        wide, lines,
                    )  # fmt: skip
                    for t in range(rows):
                        i = t * width
                        slopes_of_row(dx, dys, slope_x, i, D[h], width)
                        slope_dt = dt[h * most + t] * dt_slope[h * most + t]
                        d_common[t * n_shared + 2 * wide + h] = slope_dt
                        d_heads[(chunk * heads + h) * 3] += slope_dt
                    d_heads[(chunk * heads + h) * 3 + 1] += sum_A
                    d_heads[(chunk * heads + h) * 3 + 2] += dot_row(dys, 0, vec, 0, rows * width)
                    moved(kept_x, h * back * width, dx, rows * width, back * width)
                    own = chunk * heads + h
                    filter_slopes(
                        dx, width, zx[width:], n_head, conv, at_filter, taps, rows, dzx[width:], n_head,
                        d_conv, own * (taps + 1) * width,
                    )  # fmt: skip
                    moved(dx, 0, kept_x, h * back * width, back * width)
                    product(
                        dzx, 0, n_head, rows, expand_back, h * 2 * width * n_out, 2 * width, n_out, sums, 0,
                        n_out, int(h == low),
                    )  # fmt: skip
                    add_products(
                        dzx, n_head, panels_u, rows, 2 * width, n_out, d_expand, own * high_head * n_out
                    )
                    add_products(
                        gated, width, panels_m, rows, width, n_out, d_reduce, own * high_width * n_out
                    )
                for t in range(rows):
                    scaled_by(dB, slope_B, t * wide, d_bc, t * 2 * wide, wide)
                    scaled_by(dC, slope_C, t * wide, d_bc, t * 2 * wide + wide, wide)
                moved(kept_bc, 0, d_bc, rows * 2 * wide, back * 2 * wide)
                filter_slopes(
                    d_bc, 2 * wide, common, n_shared, shared[at_conv:], 0, taps, rows, d_common, n_shared,
                    d_filters, own_part * at_filters,
                )  # fmt: skip
                moved(d_bc, 0, kept_bc, 0, back * 2 * wide)
                product(
                    d_common, 0, n_shared, rows, shared_back, 0, 2 * wide + heads, n_out, sums, 0, n_out, 0
                )  # fmt: skip
                add_products(
                    d_common, n_shared, panels_u, rows, 2 * wide + heads, n_out, d_shared,
                    own_part * high_shared * n_out,
                )  # fmt: skip
                moved(sums, 0, partial, ((part * batch + b) * length + begin) * n_out, rows * n_out)


# places in `sizes` of `join_slopes`: rows, channels, inner channels, steps of a batch entry, strides of the
# input (batch, step), whether the norm came before the residual


@kernel
def join_slopes(dy, m, u, factors, weight, dm, pulls, d_norm, sizes, norm_eps, start, stop):
    """Tasks start … stop - 1 of `JOINED` rows each: back through layer norm and root mean square.

    dm is the gradient of what was normed, `m` or ``m + u``; pulls is what the root mean square adds to that
    of the gated signal, as a factor of it; d_norm (task, 2, channels) of the norm's weight and bias.
    """
    rows, channels, inner, length = sizes[0], sizes[1], sizes[2], sizes[3]
    lanes = lane_count(dy)
    size = round_up(channels, lanes)
    real = dy.dtype.type
    own, slope, normal = np.zeros(size, dy.dtype), np.zeros(size, dy.dtype), np.zeros(size, dy.dtype)
    scale, inside = np.zeros(size, dy.dtype), np.zeros(size, dy.dtype)
    sums, biases = np.zeros(size, dy.dtype), np.zeros(size, dy.dtype)
    moved(weight, 0, scale, 0, channels)
    inside[:channels] = 1
    zero = fill(real(0))
    for task in range(start, stop):
        sums[:], biases[:] = 0, 0
        for row in range(task * JOINED, min(rows, task * JOINED + JOINED)):
            at = row * channels
            moved(m, at, own, 0, channels)
            moved(dy, at, slope, 0, channels)
            moved(own, 0, normal, 0, size)
            if not sizes[6]:
                at_u = row // length * sizes[4] + row % length * sizes[5]
                for c in range(channels):
                    normal[c] += u[at_u + c]
            total = zero
            for c in range(0, size, lanes):
                total = add(total, load(normal, c))
            mean = fill(real(lane_sum(total) / channels))
            total = zero
            for c in range(0, size, lanes):
                value = multiply(subtract(load(normal, c), mean), load(inside, c))
                store(normal, c, value)
                total = multiply_add(value, value, total)
            deviation = real(1 / math.sqrt(np.float64(lane_sum(total)) / channels + norm_eps))
            factor, first, second = fill(deviation), zero, zero
            for c in range(0, size, lanes):
                value, given = multiply(load(normal, c), factor), load(slope, c)
                store(normal, c, value)
                store(sums, c, multiply_add(value, given, load(sums, c)))
                store(biases, c, add(given, load(biases, c)))
                given = multiply(given, load(scale, c))
                store(slope, c, given)
                first, second = add(first, given), multiply_add(given, value, second)
            level, tilt = fill(real(-lane_sum(first) / channels)), fill(real(-lane_sum(second) / channels))
            total = zero
            for c in range(0, size, lanes):
                value = multiply_add(load(normal, c), tilt, add(load(slope, c), level))
                value = multiply(value, factor)
                store(slope, c, value)
                total = multiply_add(value, load(own, c), total)
            moved(slope, 0, dm, at, channels)
            pulls[row] = -factors[row] * factors[row] * lane_sum(total) / inner
        moved(sums, 0, d_norm, task * 2 * channels, channels)
        moved(biases, 0, d_norm, (task * 2 + 1) * channels, channels)
