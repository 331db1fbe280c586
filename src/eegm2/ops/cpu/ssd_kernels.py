"""Mamba-2's scan, compiled: one task is one (batch, head), its state stays in the first-level cache.

Backward recomputes the states of a span of `SPAN` steps from the state at its start, which is all that the
forward pass keeps, and takes three times the inner loop: for dC forwards, for dx and for dB backwards in
time. ``w[t] = <dL/dH[t], exp(dt A) H[t-1]>`` follows from the other gradients by a sum over the span alone.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.steps import (
    BLOCK,
    LANES,
    ROWS,
    SPAN,
    advance,
    block_decays,
    dot_row,
    prefetch_row,
    prefetch_target,
    round_up,
    scaled_row,
    sum_row,
    transposed,
)

FORGOTTEN = -25.0  # log decay beyond which w is zero, and only the rounding of its sum would be left
# places in `sizes`: batch, length, heads, headdim, groups, d_state, then the strides of x, dt, B, C and dy
# (three each: batch, length, head or group), then whether D is given and whether spans are to be kept


@kernel
def ssd_forward(x, dt, A, B, C, D, y, state, spans, sizes, start, stop):
    """Scan tasks start … stop - 1 of batch x heads; `state` (b h p n) goes in as initial, out as final."""
    length, heads, headdim, groups, d_state = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    width, rows = round_up(headdim, LANES), round_up(d_state, ROWS)
    kept = (length + SPAN - 1) // SPAN - 1
    one = A.dtype.type(1)
    vec = np.zeros(BLOCK * width, A.dtype)
    out = np.zeros(BLOCK * width, A.dtype)
    left = np.zeros(BLOCK * rows, A.dtype)
    right = np.zeros(BLOCK * rows, A.dtype)
    times, ratios, inverses = np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype)
    for task in range(start, stop):
        b, h = task // heads, task % heads
        g = h // (heads // groups)
        hidden = np.zeros(rows * width, A.dtype)
        at_state = task * headdim * d_state
        transposed(state, at_state, hidden, 0, headdim, d_state, d_state, width, one)
        at_x = b * sizes[6] + h * sizes[8]
        at_dt = b * sizes[9] + h * sizes[11]
        at_B = b * sizes[12] + g * sizes[14]
        at_C = b * sizes[15] + g * sizes[17]
        at_y = (b * length * heads + h) * headdim
        skip = D[h] if sizes[21] else A.dtype.type(0)
        carried = 0.0
        t = 0
        while t < length:
            if t > 0 and t % SPAN == 0 and sizes[22]:
                at_span = (task * kept + t // SPAN - 1) * headdim * d_state
                decay = A.dtype.type(math.exp(carried))
                for n in range(d_state):
                    scaled_row(hidden, n * width, spans, at_span + n * headdim, headdim, decay)
            most = min(BLOCK, length - t, SPAN - t % SPAN)
            steps, first, rest = block_decays(
                dt, at_dt + t * sizes[10], sizes[10], A[h], most, times, ratios, inverses
            )
            for u in range(steps):
                s = t + u
                prefetch_row(x, at_x + (s + BLOCK) * sizes[7], headdim)
                prefetch_target(y, at_y + s * heads * headdim, headdim)
                scaled_row(x, at_x + s * sizes[7], vec, u * width, headdim, one)
                scaled_row(B, at_B + s * sizes[13], left, u * rows, d_state, times[u] * inverses[u])
                scaled_row(C, at_C + s * sizes[16], right, u * rows, d_state, ratios[u])
            scale = A.dtype.type(math.exp(carried + first))
            advance(vec, left, right, hidden, 0, out, 0, 1, steps, width, rows, rows, scale)
            for u in range(steps):
                place = at_y + (t + u) * heads * headdim
                sum_row(out, u * width, vec, u * width, y, place, headdim, one, skip)
            carried = rest
            t += steps
        decay = A.dtype.type(math.exp(carried))
        transposed(hidden, 0, state, at_state, d_state, headdim, width, d_state, decay)


@kernel
def ssd_backward(
    x, dt, A, B, C, D, dy, initial, final, spans, dx, ddt, dA, dB, dC, dD, dstate, sizes, start, stop
):
    """Gradients of tasks start … stop - 1 of batch x heads.

    `dstate` (b h p n) is read as the gradient of the final state and written as that of the initial one; dB
    and dC are per head, (b h l n); dA and dD per task, float64.
    """
    length, heads, headdim, groups, d_state = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    wide_p, rows_n = round_up(headdim, LANES), round_up(d_state, ROWS)
    wide_n, rows_p = round_up(d_state, LANES), round_up(headdim, ROWS)
    n_spans = (length + SPAN - 1) // SPAN
    matrix = headdim * d_state
    one = A.dtype.type(1)
    vec_p, out_p = np.zeros(BLOCK * wide_p, A.dtype), np.zeros(BLOCK * wide_p, A.dtype)
    vec_n, out_n = np.zeros(BLOCK * wide_n, A.dtype), np.zeros(BLOCK * wide_n, A.dtype)
    left_n, right_n = np.zeros(BLOCK * rows_n, A.dtype), np.zeros(BLOCK * rows_n, A.dtype)
    left_p, right_p = np.zeros(BLOCK * rows_p, A.dtype), np.zeros(BLOCK * rows_p, A.dtype)
    times, ratios, inverses = np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype), np.zeros(BLOCK, A.dtype)
    dy_y = np.zeros(SPAN, np.float64)
    for task in range(start, stop):
        b, h = task // heads, task % heads
        g = h // (heads // groups)
        at_x = b * sizes[6] + h * sizes[8]
        at_dt = b * sizes[9] + h * sizes[11]
        at_B = b * sizes[12] + g * sizes[14]
        at_C = b * sizes[15] + g * sizes[17]
        at_dy = b * sizes[18] + h * sizes[20]
        at_dx = (b * length * heads + h) * headdim
        at_dn = task * length * d_state
        skip = D[h] if sizes[21] else A.dtype.type(0)
        grad_np = np.zeros(
            rows_n * wide_p, A.dtype
        )  # gradient of the state, twice: (n, p) for dx, (p, n) for dB
        grad_pn = np.zeros(rows_p * wide_n, A.dtype)
        transposed(dstate, task * matrix, grad_np, 0, headdim, d_state, d_state, wide_p, one)
        for p in range(headdim):
            scaled_row(dstate, task * matrix + p * d_state, grad_pn, p * wide_n, d_state, one)
        hidden = np.zeros(rows_p * wide_n, A.dtype)
        carried = 0.0
        sum_A, sum_D = 0.0, 0.0
        for span in range(n_spans - 1, -1, -1):
            low, high = span * SPAN, min(length, span * SPAN + SPAN)
            # w at the end of the span: the carried gradient against the last state
            w = 0.0
            decay = math.exp(carried)
            for p in range(headdim):
                for n in range(d_state):
                    if span == n_spans - 1:
                        last = final[task * matrix + p * d_state + n]
                    else:
                        last = spans[(task * (n_spans - 1) + span) * matrix + n * headdim + p]
                    w += decay * np.float64(grad_pn[p * wide_n + n]) * np.float64(last)
            # forwards: dC[t, n] = sum_p dy[t, p] H[t, p, n], and <dy, y> from it
            if span == 0:
                for p in range(headdim):
                    scaled_row(initial, task * matrix + p * d_state, hidden, p * wide_n, d_state, one)
            else:
                at_span = (task * (n_spans - 1) + span - 1) * matrix
                transposed(spans, at_span, hidden, 0, d_state, headdim, headdim, wide_n, one)
            onward = 0.0
            t = low
            while t < high:
                most = min(BLOCK, high - t)
                steps, first, rest = block_decays(
                    dt, at_dt + t * sizes[10], sizes[10], A[h], most, times, ratios, inverses
                )
                for u in range(steps):
                    s = t + u
                    prefetch_row(x, at_x + (s + BLOCK) * sizes[7], headdim)
                    prefetch_row(dy, at_dy + (s + BLOCK) * sizes[19], headdim)
                    scaled_row(B, at_B + s * sizes[13], vec_n, u * wide_n, d_state, one)
                    scaled_row(x, at_x + s * sizes[7], left_p, u * rows_p, headdim, times[u] * inverses[u])
                    scaled_row(dy, at_dy + s * sizes[19], right_p, u * rows_p, headdim, ratios[u])
                scale = A.dtype.type(math.exp(onward + first))
                advance(vec_n, left_p, right_p, hidden, 0, out_n, 0, 1, steps, wide_n, rows_p, rows_p, scale)
                for u in range(steps):
                    s = t + u
                    scaled_row(out_n, u * wide_n, dC, at_dn + s * d_state, d_state, one)
                    dy_y[s - low] = dot_row(C, at_C + s * sizes[16], out_n, u * wide_n, d_state)
                onward = rest
                t += steps
            # backwards: dx and dB from the gradient of the state, then dt and A
            t = high - 1
            while t >= low:
                most = min(BLOCK, t + 1 - low)
                steps, first, rest = block_decays(
                    dt, at_dt + t * sizes[10], -sizes[10], A[h], most, times, ratios, inverses
                )
                for u in range(steps):
                    s = t - u
                    r, i = ratios[u], inverses[u]
                    prefetch_target(dx, at_dx + s * heads * headdim, headdim)
                    scaled_row(dy, at_dy + s * sizes[19], vec_p, u * wide_p, headdim, one)
                    scaled_row(dy, at_dy + s * sizes[19], left_p, u * rows_p, headdim, i)
                    scaled_row(x, at_x + s * sizes[7], right_p, u * rows_p, headdim, r)
                    scaled_row(C, at_C + s * sizes[16], vec_n, u * wide_n, d_state, one)
                    scaled_row(C, at_C + s * sizes[16], left_n, u * rows_n, d_state, i)
                    scaled_row(B, at_B + s * sizes[13], right_n, u * rows_n, d_state, r)
                scale = A.dtype.type(math.exp(carried))
                advance(vec_p, left_n, right_n, grad_np, 0, out_p, 0, 1, steps, wide_p, rows_n, rows_n, scale)
                advance(vec_n, left_p, right_p, grad_pn, 0, out_n, 0, 1, steps, wide_n, rows_p, rows_p, scale)
                for u in range(steps):
                    s = t - u
                    time = times[u]
                    place = at_dx + s * heads * headdim
                    sum_row(out_p, u * wide_p, vec_p, u * wide_p, dx, place, headdim, time, skip)
                    scaled_row(out_n, u * wide_n, dB, at_dn + s * d_state, d_state, time)
                    x_q = dot_row(B, at_B + s * sizes[13], out_n, u * wide_n, d_state)
                    w = w + dy_y[s - low] - np.float64(time) * x_q
                    if np.float64(time) * np.float64(A[h]) < FORGOTTEN:
                        w = 0.0
                    ddt[(b * length + s) * heads + h] = np.float64(A[h]) * w + x_q
                    sum_A += np.float64(time) * w
                    if sizes[21]:
                        sum_D += dot_row(dy, at_dy + s * sizes[19], x, at_x + s * sizes[7], headdim)
                carried = rest
                t -= steps
        dA[task] = sum_A
        dD[task] = sum_D
        decay = A.dtype.type(math.exp(carried))
        for p in range(headdim):
            scaled_row(grad_pn, p * wide_n, dstate, task * matrix + p * d_state, d_state, decay)
