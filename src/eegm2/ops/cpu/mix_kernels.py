"""Mamba-2's mixer between its two projections, compiled: each value is touched while it is in the cache.

A task is a batch entry and a range of heads. For `BLOCK` steps at a time it convolves rows in the order in
which they lie, scans each head, then gates rows (head by head throughout took a third longer). With all heads
it also normalises; else `mix_norm` does. The mean square is summed per head and then over heads either way:
results do not depend on how the work was split.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import (
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
    SPAN,
    advance,
    block_decays,
    prefetch_row,
    prefetch_target,
    round_up,
    scaled_row,
    transposed,
)

# places in `sizes`: batch, length, heads, headdim, groups, d_state, kernel, parts per batch entry, the
# strides (batch, length) of the projection, and whether spans are to be kept


@kernel
def silu_one(value):
    """``value * sigmoid(value)`` of one number."""
    return value / (1 + math.exp(-np.float64(value)))


@kernel
def conv_lanes(zx, place, step, t, before, at_before, weight, bias, c, channels, taps, m):
    """Convolve one group of channels from ``c + m`` on at step t; arguments as `conv_row`."""
    total, w, s = load(bias, c + m), c + m, t - taps + 1
    if taps == 4 and s >= 0:  # nearly always; written out it is faster
        i = place + s * step + m
        total = multiply_add(load(weight, w), load(zx, i), total)
        total = multiply_add(load(weight, w + channels), load(zx, i + step), total)
        total = multiply_add(load(weight, w + 2 * channels), load(zx, i + 2 * step), total)
        return multiply_add(load(weight, w + 3 * channels), load(zx, i + 3 * step), total)
    for tap in range(taps):
        if s + tap >= 0:
            value = load(zx, place + (s + tap) * step + m)
        else:
            value = load(before, at_before + (t + tap) * channels + w)
        total = multiply_add(load(weight, tap * channels + w), value, total)
    return total


@kernel
def conv_row(zx, place, step, t, before, at_before, weight, bias, c, channels, taps, target, j, size):
    """Convolve `size` channels from `c` on at step t, activate, and write them to ``target[j:]``.

    `place` is where step 0 of channel c lies in zx; `before` holds the taps - 1 steps before it, row by row.
    """
    lanes = lane_count(zx)
    whole = size - size % lanes
    back = taps - 1
    for m in range(0, whole, lanes):
        total = conv_lanes(zx, place, step, t, before, at_before, weight, bias, c, channels, taps, m)
        store(target, j + m, silu(total))
    for m in range(whole, size):
        single = bias[c + m]
        for tap in range(taps):
            s = t - back + tap
            if s >= 0:
                single += weight[tap * channels + c + m] * zx[place + s * step + m]
            else:
                single += weight[tap * channels + c + m] * before[at_before + (s + back) * channels + c + m]
        target[j + m] = silu_one(single)


@kernel
def gated_row(out, vec, i, skip, zx, place, y, j, size):
    """``y[j:] = (out[i:] + skip * vec[i:]) * silu(zx[place:])``; return the sum of its squares."""
    lanes = lane_count(zx)
    whole = size - size % lanes
    squares = fill(zx.dtype.type(0))
    group = fill(skip)
    for m in range(0, whole, lanes):
        value = multiply_add(group, load(vec, i + m), load(out, i + m))
        value = multiply(value, silu(load(zx, place + m)))
        store(y, j + m, value)
        squares = multiply_add(value, value, squares)
    total = np.float64(lane_sum(squares))
    for m in range(whole, size):
        single = (out[i + m] + skip * vec[i + m]) * silu_one(zx[place + m])
        y[j + m] = single
        total += np.float64(single) * np.float64(single)
    return total


@kernel
def normed_row(y, place, squares, at_squares, step, weight, heads, headdim, groups, eps):
    """Divide one row of y by its root mean square, group by group, and multiply it by the weight."""
    lanes = lane_count(y)
    per_group = heads // groups
    size = per_group * headdim
    whole = size - size % lanes
    for g in range(groups):
        total = 0.0
        for h in range(g * per_group, (g + 1) * per_group):
            total += np.float64(squares[at_squares + h * step])
        factor = y.dtype.type(1 / math.sqrt(total / size + eps))
        group = fill(factor)
        first = g * size
        for m in range(0, whole, lanes):
            value = multiply(load(y, place + first + m), group)
            store(y, place + first + m, multiply(value, load(weight, first + m)))
        for m in range(whole, size):
            y[place + first + m] *= factor * weight[first + m]


@kernel
def mix_norm(y, squares, weight, sizes, eps, start, stop):
    """Normalise rows start … stop - 1 of all (batch x length) rows of y."""
    length, heads, headdim, groups = sizes[1], sizes[2], sizes[3], sizes[4]
    for row in range(start, stop):
        b, t = row // length, row % length
        at = b * heads * length + t
        normed_row(y, row * heads * headdim, squares, at, length, weight, heads, headdim, groups, eps)


@kernel
def mix_gate(scanned, zx, norm, y, squares, sizes, eps, start, stop):
    """Gate and normalise rows start … stop - 1 of all (batch x length) rows; squares (b h l)."""
    length, heads, headdim, groups = sizes[1], sizes[2], sizes[3], sizes[4]
    none = y.dtype.type(0)
    for row in range(start, stop):
        b, t = row // length, row % length
        for h in range(heads):
            place = (row * heads + h) * headdim
            at_z = b * sizes[8] + t * sizes[9] + h * headdim
            squares[(b * heads + h) * length + t] = gated_row(
                scanned, scanned, place, none, zx, at_z, y, place, headdim
            )
        at = b * heads * length + t
        normed_row(y, row * heads * headdim, squares, at, length, norm, heads, headdim, groups, eps)


@kernel
def mix_scan(
    zx, weight, bias, dt_bias, A, D, norm, before, state, y, squares, spans, sizes, eps, start, stop
):
    """Tasks start … stop - 1 of batch x parts; `state` (b h p n) is read as initial, written as final.

    Where asked for, spans (b h span n p) receives the states every `SPAN` steps but the first.
    """
    length, heads, headdim, groups, d_state = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    taps, parts, step = sizes[6], sizes[7], sizes[9]
    inner, n_bc = heads * headdim, 2 * groups * d_state
    channels = inner + n_bc
    width, rows = round_up(headdim, LANES), round_up(d_state, ROWS)
    matrix, kept = headdim * d_state, (length + SPAN - 1) // SPAN - 1
    real = A.dtype.type
    most_heads = (heads + parts - 1) // parts
    area = (BLOCK + 1) * width  # of one head: the odd row spreads heads over the sets of the cache
    vec, out = np.zeros(most_heads * area, A.dtype), np.zeros(most_heads * area, A.dtype)
    left, right = np.zeros(BLOCK * rows, A.dtype), np.zeros(BLOCK * rows, A.dtype)
    times, ratios, inverses = np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype)
    active = np.zeros(BLOCK * n_bc, A.dtype)
    dt = np.zeros(most_heads * BLOCK, A.dtype)
    carried = np.zeros(heads, np.float64)
    hidden = np.zeros(heads * rows * width, A.dtype)
    for task in range(start, stop):
        b, part = task // parts, task % parts
        low, high = heads * part // parts, heads * (part + 1) // parts
        at_z = b * sizes[8]
        at_x, at_dt = at_z + inner, at_z + inner + channels
        at_bc = at_x + inner
        at_before = b * (taps - 1) * channels
        for h in range(low, high):
            carried[h] = 0.0
            at, own_at = (b * heads + h) * matrix, h * rows * width
            transposed(state, at, hidden, own_at, headdim, d_state, d_state, width, real(1))
        for block in range(0, length, BLOCK):
            most = min(BLOCK, length - block)
            for u in range(most):
                s = block + u
                for h in range(low, high):
                    prefetch_row(zx, at_x + (s + 1) * step + h * headdim, headdim)
                    conv_row(
                        zx, at_x + h * headdim, step, s, before, at_before, weight, bias, h * headdim,
                        channels, taps, vec, (h - low) * area + u * width, headdim,
                    )  # fmt: skip
                    dt[(h - low) * BLOCK + u] = zx[at_dt + s * step + h] + dt_bias[h]
                conv_row(
                    zx, at_bc, step, s, before, at_before, weight, bias, inner, channels, taps,
                    active, u * n_bc, n_bc,
                )  # fmt: skip
            for i in range(0, (high - low) * BLOCK, lane_count(dt)):
                store(dt, i, softplus(load(dt, i)))
            for h in range(low, high):
                g = h // (heads // groups)
                own = hidden[h * rows * width : (h + 1) * rows * width]
                if block > 0 and block % SPAN == 0 and sizes[10]:
                    at = ((b * heads + h) * kept + block // SPAN - 1) * matrix
                    decay = real(math.exp(carried[h]))
                    for n in range(d_state):
                        scaled_row(own, n * width, spans, at + n * headdim, headdim, decay)
                t = 0
                while t < most:
                    at = (h - low) * BLOCK + t
                    steps, first, rest = block_decays(dt, at, 1, A[h], most - t, times, ratios, inverses)
                    for u in range(steps):
                        row = (t + u) * n_bc + g * d_state
                        scaled_row(active, row, left, u * rows, d_state, times[u] * inverses[u])
                        scaled_row(active, row + n_bc // 2, right, u * rows, d_state, ratios[u])
                    scale = real(math.exp(carried[h] + first))
                    now = (h - low) * area + t * width
                    advance(vec[now:], left, right, own, 0, out[now:], 0, 1, steps, width, rows, rows, scale)
                    carried[h] = rest
                    t += steps
            for u in range(most):
                s, place = block + u, (b * length + block + u) * inner
                for h in range(low, high):
                    prefetch_row(zx, at_z + (s + 1) * step + h * headdim, headdim)
                    prefetch_target(y, place + inner + h * headdim, headdim)
                    squares[(b * heads + h) * length + s] = gated_row(
                        out, vec, (h - low) * area + u * width, D[h], zx, at_z + s * step + h * headdim,
                        y, place + h * headdim, headdim,
                    )  # fmt: skip
                if parts == 1:
                    at = b * heads * length + s
                    normed_row(y, place, squares, at, length, norm, heads, headdim, groups, eps)
        for h in range(low, high):
            decay = real(math.exp(carried[h]))
            at, own_at = (b * heads + h) * matrix, h * rows * width
            transposed(hidden, own_at, state, at, d_state, headdim, width, d_state, decay)
