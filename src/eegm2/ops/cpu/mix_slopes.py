"""Gradients of what surrounds the scan in Mamba-2's mixer, compiled: convolution and SiLU, gate and norm.

Everything is computed again from the projection: of the forward pass only that and some states are kept.
A task is a range of `ROWS_EACH` steps of a batch entry; sums over time are left per task, so that no result
depends on how many threads there are.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from eegm2.ops.cpu.mix_kernels import conv_lanes, conv_row
from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import (
    add,
    divide,
    exponential,
    fill,
    lane_count,
    lane_sum,
    load,
    multiply,
    multiply_add,
    store,
)

ROWS_EACH = 128
# places in `sizes` as in `mix_kernels`; for `conv_backward` then the first channel of its range, their number
# and the length of a row of the gradient


@kernel
def activated(zx, weight, bias, before, target, sizes, start, stop):
    """Convolve and activate rows start … stop - 1 of all (batch x length) rows: target (b l channels)."""
    length, taps, step = sizes[1], sizes[6], sizes[9]
    inner = sizes[2] * sizes[3]
    channels = inner + 2 * sizes[4] * sizes[5]
    for row in range(start, stop):
        b, t = row // length, row % length
        conv_row(
            zx, b * sizes[8] + inner, step, t, before, b * (taps - 1) * channels, weight, bias, 0, channels,
            taps, target, row * channels, channels,
        )  # fmt: skip


@kernel
def gate_backward(dy, y, zx, norm, dzx, dnorm, sizes, eps, start, stop):
    """Gradients of ``h = y silu(z)``, ``out = h / sqrt(mean(h²) + eps) * norm``, for tasks start … stop - 1.

    The gradient of y replaces it, that of z goes into the first columns of dzx, that of the weight into dnorm
    (task, d_inner).
    """
    length, heads, headdim, groups = sizes[1], sizes[2], sizes[3], sizes[4]
    inner = heads * headdim
    columns = 2 * inner + 2 * groups * sizes[5] + heads
    size = inner // groups
    lanes = lane_count(y)
    whole = size - size % lanes
    one, minus = fill(y.dtype.type(1)), fill(y.dtype.type(-1))
    parts = (length + ROWS_EACH - 1) // ROWS_EACH
    gates, gated = np.zeros(size + lanes, y.dtype), np.zeros(size + lanes, y.dtype)
    for task in range(start, stop):
        b, low = task // parts, task % parts * ROWS_EACH
        for t in range(low, min(length, low + ROWS_EACH)):
            for g in range(groups):
                at_y = (b * length + t) * inner + g * size
                at_z = b * sizes[8] + t * sizes[9] + g * size
                at_d = (b * length + t) * columns + g * size
                at_w, at_n = g * size, task * inner + g * size
                squares, products = fill(y.dtype.type(0)), fill(y.dtype.type(0))
                for m in range(0, whole, lanes):
                    z = load(zx, at_z + m)
                    gate = divide(one, add(one, exponential(multiply(minus, z))))
                    h = multiply(load(y, at_y + m), multiply(gate, z))
                    store(gates, m, gate)
                    store(gated, m, h)
                    squares = multiply_add(h, h, squares)
                    products = multiply_add(multiply(load(dy, at_y + m), load(norm, at_w + m)), h, products)
                total, product = np.float64(lane_sum(squares)), np.float64(lane_sum(products))
                for m in range(whole, size):
                    gates[m] = 1 / (1 + math.exp(-np.float64(zx[at_z + m])))
                    gated[m] = y[at_y + m] * gates[m] * zx[at_z + m]
                    total += np.float64(gated[m]) * np.float64(gated[m])
                    product += np.float64(dy[at_y + m]) * np.float64(norm[at_w + m]) * np.float64(gated[m])
                factor = 1 / math.sqrt(total / size + eps)
                scale = y.dtype.type(factor)
                pull = y.dtype.type(-product * factor * factor * factor / size)
                scales, pulls = fill(scale), fill(pull)
                for m in range(0, whole, lanes):
                    z, gate, h = load(zx, at_z + m), load(gates, m), load(gated, m)
                    slope = multiply(load(dy, at_y + m), scales)
                    store(dnorm, at_n + m, multiply_add(slope, h, load(dnorm, at_n + m)))
                    slope = multiply_add(slope, load(norm, at_w + m), multiply(h, pulls))
                    rest = multiply_add(multiply(minus, gate), z, add(z, one))  # 1 + z (1 - gate)
                    store(dzx, at_d + m, multiply(multiply(slope, load(y, at_y + m)), multiply(gate, rest)))
                    store(y, at_y + m, multiply(slope, multiply(gate, z)))
                for m in range(whole, size):
                    z, gate, h = zx[at_z + m], gates[m], gated[m]
                    slope1 = dy[at_y + m] * scale
                    dnorm[at_n + m] += slope1 * h
                    slope1 = slope1 * norm[at_w + m] + h * pull
                    dzx[at_d + m] = slope1 * y[at_y + m] * gate * (1 + z * (1 - gate))
                    y[at_y + m] = slope1 * gate * z


@kernel
def conv_slopes(
    grad, at, zx, place, step, t, before, at_before, weight, bias, c, channels, taps, target, j, size
):
    """``target[j:] = grad[at:] * silu'(conv)`` at step t for `size` channels from `c` on, as `conv_row`."""
    lanes = lane_count(zx)
    whole = size - size % lanes
    back = taps - 1
    one, minus = fill(zx.dtype.type(1)), fill(zx.dtype.type(-1))
    for m in range(0, whole, lanes):
        total = conv_lanes(zx, place, step, t, before, at_before, weight, bias, c, channels, taps, m)
        gate = divide(one, add(one, exponential(multiply(minus, total))))
        rest = multiply_add(multiply(minus, gate), total, add(total, one))
        store(target, j + m, multiply(load(grad, at + m), multiply(gate, rest)))
    for m in range(whole, size):
        single = bias[c + m]
        for tap in range(taps):
            s = t - back + tap
            if s >= 0:
                single += weight[tap * channels + c + m] * zx[place + s * step + m]
            else:
                single += weight[tap * channels + c + m] * before[at_before + (s + back) * channels + c + m]
        gate1 = 1 / (1 + math.exp(-np.float64(single)))
        target[j + m] = grad[at + m] * gate1 * (1 + single * (1 - gate1))


@kernel
def add_products(first, i, second, j, target, k, size):
    """``target[k:] += first[i:] * second[j:]`` over `size` elements."""
    lanes = lane_count(target)
    whole = size - size % lanes
    for m in range(0, whole, lanes):
        store(target, k + m, multiply_add(load(first, i + m), load(second, j + m), load(target, k + m)))
    for m in range(whole, size):
        target[k + m] += first[i + m] * second[j + m]


@kernel
def put_products(first, i, second, j, target, k, size):
    """``target[k:] = first[i:] * second[j:]`` over `size` elements."""
    lanes = lane_count(target)
    whole = size - size % lanes
    for m in range(0, whole, lanes):
        store(target, k + m, multiply(load(first, i + m), load(second, j + m)))
    for m in range(whole, size):
        target[k + m] = first[i + m] * second[j + m]


@kernel
def conv_backward(grad, zx, weight, bias, before, dzx, dbefore, dweight, dbias, sizes, start, stop):
    """Gradients of convolution and SiLU for tasks start … stop - 1 and one range of channels.

    `grad` (b l row) belongs to the activated channels. That of the inputs goes into its columns of dzx, that
    of those before the first into dbefore (b, taps - 1, channels), the others into dweight (task, taps,
    channels) and dbias (task, channels), both zero before.
    """
    length, heads, headdim, groups, d_state, taps = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6]
    first, size, row = sizes[10], sizes[11], sizes[12]
    inner, back = heads * headdim, taps - 1
    channels = inner + 2 * groups * d_state
    columns = inner + channels + heads
    parts = (length + ROWS_EACH - 1) // ROWS_EACH
    ring = np.zeros(taps * size + lane_count(zx), zx.dtype)
    ones = np.ones(size + lane_count(zx), zx.dtype)
    for task in range(start, stop):
        b, low = task // parts, task % parts * ROWS_EACH
        high = min(length, low + ROWS_EACH)
        place, at_before = b * sizes[8] + inner + first, b * back * channels
        at_weight, at_bias = task * taps * channels + first, task * channels + first
        for t in range(low, high + back):
            now = t % taps * size
            if t < length:
                conv_slopes(
                    grad, (b * length + t) * row, zx, place, sizes[9], t, before, at_before, weight, bias,
                    first, channels, taps, ring, now, size,
                )  # fmt: skip
            else:
                ring[now : now + size] = 0
            if t < high:
                add_products(ring, now, ones, 0, dbias, at_bias, size)
                for tap in range(taps):
                    s = t - back + tap
                    k = at_weight + tap * channels
                    if s >= 0:
                        add_products(ring, now, zx, place + s * sizes[9], dweight, k, size)
                    else:
                        at = at_before + (s + back) * channels + first
                        add_products(ring, now, before, at, dweight, k, size)
            s = t - back  # the input whose last use is step t
            if (s < low and low > 0) or s >= high:
                continue
            for tap in range(taps):
                used = s + back - tap
                if used < 0:
                    continue
                into = dzx if s >= 0 else dbefore
                if s >= 0:
                    target = (b * length + s) * columns + inner + first
                else:
                    target = at_before + (s + back) * channels + first
                if tap == 0:
                    put_products(ring, used % taps * size, weight, first, into, target, size)
                else:
                    k = tap * channels + first
                    add_products(ring, used % taps * size, weight, k, into, target, size)
