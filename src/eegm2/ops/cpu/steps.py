"""The inner loop shared by every SSD kernel, forward and backward, with the decays and rows it works on.

Within a block of steps the state is kept free of its decay: with ``r[t] = exp(sum of log decay up to t)``,
``H[t] = r[t] S[t]`` and ``S[t] = S[t-1] + (left[t] / r[t]) ⊗ vec[t]``, so that a step costs two multiply-adds
per state element and none for the decay. A block ends after `BLOCK` steps, or earlier where r would leave
``exp(±LIMIT)``; its first decay goes into `scale`, so that any single decay, also to zero, is exact.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import (
    add,
    exponential,
    fill,
    lane_count,
    lane_sum,
    load,
    multiply,
    multiply_add,
    prefetch,
    spread,
    store,
    turn,
)

BLOCK = 32
SPAN = 256  # steps between the states that are kept for a gradient, a multiple of BLOCK
LIMIT = 50.0
LANES = 16  # vectors are padded to this: one group of float32, two of float64
ROWS = 4  # rows of the state that stay in registers together


@kernel
def round_up(size, multiple):
    """Return `size` rounded up to a multiple."""
    return (size + multiple - 1) // multiple * multiple


@kernel
def block_decays(dt, place, step, A, most, times, ratios, inverses):
    """Fill dt, r and 1 / r of one block; return (steps, log decay of its first step, of all others).

    Step u of the block has its dt at ``dt[place + u * step]``. Forwards in time (step > 0)
    ``r[u] = exp(A sum_{0 < s <= u} dt[s])``: what a state has decayed since the first step. Backwards, where
    the gradient of a state meets the decay of the step after it, ``r[u] = exp(A sum_{0 <= s < u} dt[s])``,
    the first decay is 0 and the others are all of the block's. The sums are taken in float64 and what their
    rounding to float32 loses is given back to r.
    """
    rate = np.float64(A)
    total = 0.0
    count = 0
    while count < most:
        time = dt[place + count * step]
        if count > 0:
            after = total + rate * np.float64(time if step > 0 else times[count - 1])
            if not abs(after) <= LIMIT:
                break
            total = after
        times[count] = time
        ratios[count] = total
        inverses[count] = total - np.float64(ratios[count])
        count += 1
    one = fill(times.dtype.type(1))
    for i in range(0, count, lane_count(times)):
        store(ratios, i, multiply(exponential(load(ratios, i)), add(one, load(inverses, i))))
    for i in range(count):
        inverses[i] = 1 / ratios[i]
    if step > 0:
        return count, rate * np.float64(times[0]), total
    return count, 0.0, total + rate * np.float64(times[count - 1])


@kernel
def advance(vec, left, right, state, own, out, first, way, steps, width, row, rows, scale):
    """Take `steps` steps, forwards (`way` = 1) or backwards (-1) from the one at `first` on.

    ``S[r] += left[t, r] vec[t]``, ``out[t] = sum_r right[t, r] S[r]``. vec and out are (steps, width), left
    and right (steps, row), the state is (rows, width) from `own` on, all flat; width is a multiple of
    `LANES`, rows of `ROWS`. The state is multiplied by `scale` before the first step.
    """
    lanes = lane_count(vec)
    factor = fill(scale)
    for v in range(0, width, lanes):
        for r in range(0, rows, ROWS):
            place = own + r * width + v
            s0 = multiply(factor, load(state, place))
            s1 = multiply(factor, load(state, place + width))
            s2 = multiply(factor, load(state, place + 2 * width))
            s3 = multiply(factor, load(state, place + 3 * width))
            i, k = first * width + v, first * row + r
            for _ in range(steps):
                value = load(vec, i)
                s0 = multiply_add(spread(left, k), value, s0)
                s1 = multiply_add(spread(left, k + 1), value, s1)
                s2 = multiply_add(spread(left, k + 2), value, s2)
                s3 = multiply_add(spread(left, k + 3), value, s3)
                total = multiply(spread(right, k), s0)
                if r > 0:
                    total = add(total, load(out, i))
                total = multiply_add(spread(right, k + 1), s1, total)
                total = multiply_add(spread(right, k + 2), s2, total)
                total = multiply_add(spread(right, k + 3), s3, total)
                store(out, i, total)
                i += way * width
                k += way * row
            store(state, place, s0)
            store(state, place + width, s1)
            store(state, place + 2 * width, s2)
            store(state, place + 3 * width, s3)


@kernel
def prefetch_row(source, i, size):
    """Ask for a row that will be read one block later."""
    for k in range(0, size, lane_count(source)):
        prefetch(source, i + k, 0)


@kernel
def prefetch_target(target, i, size):
    """Ask for a row that will be written one block later."""
    for k in range(0, size, lane_count(target)):
        prefetch(target, i + k, 1)


@kernel
def scaled_row(source, i, target, j, size, factor):
    """``target[j : j + size] = factor * source[i : i + size]``."""
    lanes = lane_count(source)
    whole = size - size % lanes
    group = fill(factor)
    for k in range(0, whole, lanes):
        store(target, j + k, multiply(group, load(source, i + k)))
    for k in range(whole, size):
        target[j + k] = factor * source[i + k]


@kernel
def sum_row(first, i, second, j, target, k, size, factor, other):
    """``target[k:] = factor * first[i:] + other * second[j:]`` over `size` elements."""
    lanes = lane_count(first)
    whole = size - size % lanes
    group, groups = fill(factor), fill(other)
    for m in range(0, whole, lanes):
        store(target, k + m, multiply_add(group, load(first, i + m), multiply(groups, load(second, j + m))))
    for m in range(whole, size):
        target[k + m] = factor * first[i + m] + other * second[j + m]


@kernel
def dot_row(first, i, second, j, size):
    """Return the sum of products of two rows."""
    lanes = lane_count(first)
    whole = size - size % lanes
    total = np.float64(0)
    if whole:
        group = multiply(load(first, i), load(second, j))
        for k in range(lanes, whole, lanes):
            group = multiply_add(load(first, i + k), load(second, j + k), group)
        total += lane_sum(group)
    for k in range(whole, size):
        total += np.float64(first[i + k]) * np.float64(second[j + k])
    return total


@kernel
def transposed(source, i, target, j, rows, columns, source_width, target_width, factor):
    """Write a (rows, columns) matrix as (columns, rows), with the row lengths of both given."""
    lanes = lane_count(source)
    whole, aside = rows - rows % lanes, columns - columns % lanes
    for row in range(0, whole, lanes):
        for column in range(0, aside, lanes):
            turn(
                source, i + row * source_width + column, source_width, target,
                j + column * target_width + row, target_width, factor,
            )  # fmt: skip
    for row in range(rows):
        for column in range(aside if row < whole else 0, columns):
            target[j + column * target_width + row] = factor * source[i + row * source_width + column]
