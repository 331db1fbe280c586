"""Mamba-1's selective scan, compiled: one task is a batch entry and a group of neighbouring channels.

Channels lie in the lanes, so that decay, state and output need no sum across lanes. Backward recomputes the
states of a span of `SPAN` steps from the one at its start, which is all that the forward pass keeps.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import (
    LOG2_E,
    add,
    fill,
    lane_count,
    lane_sum,
    load,
    multiply,
    multiply_add,
    power_of_two,
    spread,
    store,
)

SPAN = 64
LANES = 16  # channels of a task
# places in `sizes`: batch, length, channels, d_state, groups of channels, then the strides (batch, length) of
# x, dt, B, C and dy, then whether D is given and whether spans are kept


@kernel
def gather(source, i, target, size):
    """Copy a row of at most `LANES` numbers; what lies beyond stays as it is."""
    if size == LANES:
        for k in range(0, LANES, lane_count(target)):
            store(target, k, load(source, i + k))
    else:
        for k in range(size):
            target[k] = source[i + k]


@kernel
def scan_forward(x, dt, A, B, C, D, y, state, spans, sizes, start, stop):
    """Scan tasks start … stop - 1; `state` (b n d) is read as initial and written as final state.

    Tasks of a batch entry go through time together, `SPAN` steps at a time: what they read lies side by side.
    """
    length, channels, d_state, groups = sizes[1], sizes[2], sizes[3], sizes[4]
    kept, wide = (length + SPAN - 1) // SPAN - 1, d_state * LANES
    lanes = lane_count(A)
    row_x, row_dt, row_y = np.zeros(LANES, A.dtype), np.zeros(LANES, A.dtype), np.zeros(LANES, A.dtype)
    most = min(groups, stop - start)
    hidden, rates = np.zeros(most * wide, A.dtype), np.zeros(most * wide, A.dtype)
    skip = np.zeros(most * LANES, A.dtype)
    task = start
    while task < stop:
        b, low = task // groups, task % groups
        count = min(stop - task, groups - low)
        hidden[:], rates[:], skip[:] = 0, 0, 0
        for c in range(low * LANES, min(channels, (low + count) * LANES)):
            at, k = (c // LANES - low) * wide, c % LANES
            for n in range(d_state):
                hidden[at + n * LANES + k] = state[(b * d_state + n) * channels + c]
                rates[at + n * LANES + k] = A[n * channels + c]
            skip[c - low * LANES] = D[c] if sizes[15] else 0
        for begin in range(0, length, SPAN):
            for group in range(count):
                first, own = (low + group) * LANES, group * wide
                size = min(LANES, channels - first)
                row_x[:], row_dt[:] = 0, 0
                if begin > 0 and sizes[16]:
                    place = ((task + group) * kept + begin // SPAN - 1) * wide
                    for k in range(0, wide, lanes):
                        store(spans, place + k, load(hidden, own + k))
                for t in range(begin, min(length, begin + SPAN)):
                    gather(x, b * sizes[5] + t * sizes[6] + first, row_x, size)
                    gather(dt, b * sizes[7] + t * sizes[8] + first, row_dt, size)
                    at_B, at_C = b * sizes[9] + t * sizes[10], b * sizes[11] + t * sizes[12]
                    for k in range(0, LANES, lanes):
                        value, time = load(row_x, k), load(row_dt, k)
                        push, halvings = multiply(value, time), multiply(time, fill(A.dtype.type(LOG2_E)))
                        total = multiply(value, load(skip, group * LANES + k))
                        for n in range(d_state):
                            i = own + n * LANES + k
                            decay = power_of_two(multiply(halvings, load(rates, i)))
                            now = multiply_add(decay, load(hidden, i), multiply(push, spread(B, at_B + n)))
                            store(hidden, i, now)
                            total = multiply_add(now, spread(C, at_C + n), total)
                        store(row_y, k, total)
                    place = (b * length + t) * channels + first
                    if size == LANES:
                        for k in range(0, LANES, lanes):
                            store(y, place + k, load(row_y, k))
                    else:
                        for k in range(size):
                            y[place + k] = row_y[k]
        for c in range(low * LANES, min(channels, (low + count) * LANES)):
            at = (c // LANES - low) * wide + c % LANES
            for n in range(d_state):
                state[(b * d_state + n) * channels + c] = hidden[at + n * LANES]
        task += count


@kernel
def scan_backward(x, dt, A, B, C, D, dy, initial, spans, dx, ddt, dA, dB, dC, dD, dstate, sizes, start, stop):
    """Gradients of tasks start … stop - 1.

    `dstate` (b n d) is read as the gradient of the final state and written as that of the initial one; dB and
    dC are per group of channels, (b group l n), dA (b n d) and dD (b d) per batch entry.
    """
    length, channels, d_state, groups = sizes[1], sizes[2], sizes[3], sizes[4]
    n_spans = (length + SPAN - 1) // SPAN
    lanes = lane_count(A)
    wide = d_state * LANES
    row_x, row_dt, row_dy = np.zeros(LANES, A.dtype), np.zeros(LANES, A.dtype), np.zeros(LANES, A.dtype)
    row_dx, row_ddt, skip = np.zeros(LANES, A.dtype), np.zeros(LANES, A.dtype), np.zeros(LANES, A.dtype)
    rates, grad, sum_A = np.zeros(wide, A.dtype), np.zeros(wide, A.dtype), np.zeros(wide, A.dtype)
    sum_D = np.zeros(LANES, A.dtype)
    states, decays = np.zeros((SPAN + 1) * wide, A.dtype), np.zeros(SPAN * wide, A.dtype)
    for task in range(start, stop):
        b, first = task // groups, task % groups * LANES
        size = min(LANES, channels - first)
        grad[:], rates[:], sum_A[:], sum_D[:] = 0, 0, 0, 0
        for n in range(d_state):
            for k in range(size):
                grad[n * LANES + k] = dstate[(b * d_state + n) * channels + first + k]
                rates[n * LANES + k] = A[n * channels + first + k]
        for k in range(size):
            skip[k] = D[first + k] if sizes[15] else 0
        row_x[:], row_dt[:], row_dy[:], states[:wide] = 0, 0, 0, 0
        for span in range(n_spans - 1, -1, -1):
            low, high = span * SPAN, min(length, span * SPAN + SPAN)
            if span == 0:
                states[:wide] = 0
                for n in range(d_state):
                    for k in range(size):
                        states[n * LANES + k] = initial[(b * d_state + n) * channels + first + k]
            else:
                place = (task * (n_spans - 1) + span - 1) * wide
                for k in range(0, wide, lanes):
                    store(states, k, load(spans, place + k))
            for t in range(low, high):  # states again, each step's at its place
                gather(x, b * sizes[5] + t * sizes[6] + first, row_x, size)
                gather(dt, b * sizes[7] + t * sizes[8] + first, row_dt, size)
                at_B, at = b * sizes[9] + t * sizes[10], (t - low) * wide
                for k in range(0, LANES, lanes):
                    time = load(row_dt, k)
                    push, halvings = (
                        multiply(load(row_x, k), time),
                        multiply(time, fill(A.dtype.type(LOG2_E))),
                    )
                    for n in range(d_state):
                        i = n * LANES + k
                        decay = power_of_two(multiply(halvings, load(rates, i)))
                        store(decays, at + i, decay)
                        now = multiply_add(decay, load(states, at + i), multiply(push, spread(B, at_B + n)))
                        store(states, at + wide + i, now)
            for t in range(high - 1, low - 1, -1):
                gather(x, b * sizes[5] + t * sizes[6] + first, row_x, size)
                gather(dt, b * sizes[7] + t * sizes[8] + first, row_dt, size)
                gather(dy, b * sizes[13] + t * sizes[14] + first, row_dy, size)
                at_B, at_C = b * sizes[9] + t * sizes[10], b * sizes[11] + t * sizes[12]
                at, at_n = (t - low) * wide, (task * length + t) * d_state
                for k in range(0, LANES, lanes):
                    value, time, slope = load(row_x, k), load(row_dt, k), load(row_dy, k)
                    push = multiply(value, time)
                    fed = fill(A.dtype.type(0))  # sum over n of gradient times B
                    faded = fill(A.dtype.type(0))  # sum over n of A w, w = gradient times decayed state
                    for n in range(d_state):
                        i = n * LANES + k
                        g = multiply_add(slope, spread(C, at_C + n), load(grad, i))
                        part_B, part_C = (
                            lane_sum(multiply(g, push)),
                            lane_sum(multiply(slope, load(states, at + wide + i))),
                        )
                        if k == 0:
                            dB[at_n + n], dC[at_n + n] = part_B, part_C
                        else:
                            dB[at_n + n] += part_B
                            dC[at_n + n] += part_C
                        fed = multiply_add(g, spread(B, at_B + n), fed)
                        g = multiply(g, load(decays, at + i))
                        store(grad, i, g)
                        w = multiply(g, load(states, at + i))
                        faded = multiply_add(w, load(rates, i), faded)
                        store(sum_A, i, multiply_add(w, time, load(sum_A, i)))
                    store(row_dx, k, multiply_add(fed, time, multiply(slope, load(skip, k))))
                    store(row_ddt, k, multiply_add(fed, value, faded))
                    store(sum_D, k, add(load(sum_D, k), multiply(slope, value)))
                for k in range(size):
                    dx[(b * length + t) * channels + first + k] = row_dx[k]
                    ddt[(b * length + t) * channels + first + k] = row_ddt[k]
        for k in range(size):
            dD[b * channels + first + k] = sum_D[k]
            for n in range(d_state):
                dA[(b * d_state + n) * channels + first + k] = sum_A[n * LANES + k]
                dstate[(b * d_state + n) * channels + first + k] = grad[n * LANES + k]
