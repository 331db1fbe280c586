"""A sequence block with Mamba-1 in three compiled passes, its products included, for inference.

`selective_inputs` projects, convolves and activates blocks of time, each on its own, and multiplies by the
weight that gives B, C and dt of a step from all of its channels. `selective_scan_block` then scans groups of
channels, with the products around the scan: a task is a batch entry and a part of the groups. What each part
has added up, `block_kernels.block_join` sums, normalises and adds to the input.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from eegm2.ops.cpu.block_kernels import ROWS_EACH, filtered, in_pairs, moved, moved_rows
from eegm2.ops.cpu.products import COLUMNS, TILE_ROWS, product
from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import (
    LOG2_E,
    fill,
    lane_count,
    load,
    multiply,
    multiply_add,
    power_of_two,
    silu,
    softplus,
    spread,
    store,
)
from eegm2.ops.cpu.simd import add as plus
from eegm2.ops.cpu.steps import round_up

# places in `sizes`: batch, steps, channels, inner channels, channels of a group, groups, d_state, rank of dt,
# kernel, bundles of groups, parts, strides of the input (batch, step), first step of the piece


@kernel
def selective_inputs(u, into, conv, to_steps, tail, after, active, given, sizes, start, stop):
    """Tasks start … stop - 1 of batch x blocks of a piece of `u`.

    into: per group the columns x of the input weight, conv: taps and bias, to_steps: columns B, C and dt from
    the group's channels, all packed. Results: active (b, step, group, width), the scan's x, and given (b,
    step, columns); the last task writes what the convolution saw last to `after`.
    """
    steps, channels, inner, width, groups = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    d_state, rank, taps, first = sizes[6], sizes[7], sizes[8], sizes[13]
    n_group, n_steps, back = round_up(width, COLUMNS), round_up(2 * d_state + rank, COLUMNS), taps - 1
    most = round_up(min(ROWS_EACH, steps) + back, TILE_ROWS)
    blocks = (steps + ROWS_EACH - 1) // ROWS_EACH
    rows_u, x = np.zeros(most * channels, u.dtype), np.zeros((most + back) * n_group, u.dtype)
    vec, sums = np.zeros(most * width, u.dtype), np.zeros(most * n_steps, u.dtype)
    for task in range(start, stop):
        b, block = task // blocks, task % blocks
        begin = block * ROWS_EACH
        rows, lead = min(ROWS_EACH, steps - begin), min(first + begin, back)
        at_u, at_row = b * sizes[11] + (first + begin - lead) * sizes[12], b * steps + begin
        moved_rows(u, at_u, sizes[12], rows_u, 0, channels, lead + rows, channels)
        for g in range(groups):
            own = min(width, inner - g * width)
            at_tail = b * back * inner + g * width
            product(
                rows_u, 0, channels, lead + rows, into, g * channels * n_group, channels, n_group, x,
                (back - lead) * n_group, n_group, 1,
            )  # fmt: skip
            moved_rows(tail, at_tail + lead * inner, inner, x, 0, n_group, back - lead, own)
            for t in range(rows):
                filtered(
                    x, (back + t) * n_group, n_group, conv, g * (taps + 1) * width, width, taps, vec, t *
                    width,
                )  # fmt: skip
            product(
                vec, 0, width, rows, to_steps, g * width * n_steps, width, n_steps, sums, 0, n_steps, int(g ==
                0),
            )  # fmt: skip
            moved_rows(vec, 0, width, active, (at_row * groups + g) * width, groups * width, rows, width)
            if block == blocks - 1:
                moved_rows(x, rows * n_group, n_group, after, at_tail, inner, back, own)
        moved(sums, 0, given, at_row * n_steps, rows * n_steps)


@kernel
def scan_group(
    x, at_x, row_x, dt, row_dt, rates, at_rates, given, at_given, row, D, at_D, state, own, y, rows, width,
    d_state,
):  # fmt: skip
    """Scan `width` channels; B and C of a step lie in a row of `given`, the state is (n, width)."""
    lanes = lane_count(y)
    halving = fill(y.dtype.type(LOG2_E))
    for k in range(0, width, lanes):
        skip = load(D, at_D + k)
        for t in range(rows):
            value, time = load(x, at_x + t * row_x + k), load(dt, t * row_dt + k)
            push, halvings, total = multiply(value, time), multiply(time, halving), multiply(value, skip)
            at = at_given + t * row
            for n in range(d_state):
                i = n * width + k
                decay = power_of_two(multiply(halvings, load(rates, at_rates + i)))
                now = multiply_add(decay, load(state, own + i), multiply(push, spread(given, at + n)))
                store(state, own + i, now)
                total = multiply_add(now, spread(given, at + d_state + n), total)
            store(y, t * width + k, total)


@kernel
def selective_scan_block(
    u, gate, to_dt, dt_bias, rates, D, reduce, active, given, state, partial, sizes, start, stop
):
    """Tasks start … stop - 1 of batch x parts of the groups, over a piece of time.

    gate: per group the columns z of the input weight, to_dt and reduce: the weights to dt and of the output,
    all packed; rates (group, n, width) is A. state (b, group, n, width) goes in and out. Results: partial
    (part, b, step, columns).
    """
    batch, steps, channels, width, groups = sizes[0], sizes[1], sizes[2], sizes[4], sizes[5]
    d_state, rank, bundles, parts = sizes[6], sizes[7], sizes[9], sizes[10]
    n_group, n_steps, n_out = (
        round_up(width, COLUMNS),
        round_up(2 * d_state + rank, COLUMNS),
        round_up(channels, COLUMNS),
    )
    most, matrix = round_up(min(ROWS_EACH, steps), TILE_ROWS), d_state * width
    rows_u, rows_given = np.zeros(most * channels, u.dtype), np.zeros(most * n_steps, u.dtype)
    z, dt = np.zeros(most * n_group, u.dtype), np.zeros(most * n_group, u.dtype)
    y, sums = np.zeros(most * width, u.dtype), np.zeros(4 * most * n_out, u.dtype)
    lanes = lane_count(u)
    for task in range(start, stop):
        b, part = task // parts, task % parts
        low, high = bundles * part // parts, bundles * (part + 1) // parts
        for begin in range(0, steps, ROWS_EACH):
            rows = min(ROWS_EACH, steps - begin)
            at_row = b * steps + begin
            at_u = b * sizes[11] + (sizes[13] + begin) * sizes[12]
            moved_rows(u, at_u, sizes[12], rows_u, 0, channels, rows, channels)
            moved(given, at_row * n_steps, rows_given, 0, rows * n_steps)
            depth = 0
            for bundle in range(low, high):
                at_sum = depth * most * n_out
                first = groups * bundle // bundles
                for g in range(first, groups * (bundle + 1) // bundles):
                    product(
                        rows_u, 0, channels, rows, gate, g * channels * n_group, channels, n_group, z, 0,
                        n_group, 1,
                    )  # fmt: skip
                    product(
                        rows_given, 2 * d_state, n_steps, rows, to_dt, g * rank * n_group, rank, n_group, dt,
                        0, n_group, 1,
                    )  # fmt: skip
                    for t in range(rows):
                        for k in range(0, width, lanes):
                            i = t * n_group + k
                            store(dt, i, softplus(plus(load(dt, i), load(dt_bias, g * width + k))))
                    scan_group(
                        active, (at_row * groups + g) * width, groups * width, dt, n_group, rates, g * matrix,
                        rows_given, 0, n_steps, D, g * width, state, (b * groups + g) * matrix, y, rows,
                        width, d_state,
                    )  # fmt: skip
                    for t in range(rows):
                        for k in range(0, width, lanes):
                            value = multiply(load(y, t * width + k), silu(load(z, t * n_group + k)))
                            store(y, t * width + k, value)
                    product(
                        y, 0, width, rows, reduce, g * width * n_out, width, n_out, sums, at_sum, n_out,
                        int(g == first),
                    )  # fmt: skip
                depth = in_pairs(sums, depth + 1, bundle - low + 1, most * n_out, rows * n_out)
            moved(sums, 0, partial, (part * batch * steps + at_row) * n_out, rows * n_out)
