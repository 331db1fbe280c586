"""Eigenvalues and vectors of many small symmetric matrices, one in each lane.

A library takes matrices of 16 rows one by one, and most of its time goes into what is not arithmetic. Here
eight lie side by side: reflections make them tridiagonal, and sweeps of rotations with Wilkinson's shift make
them diagonal, the same for all lanes until the last one has converged; a sweep too many does no harm.

References
----------
Golub and Van Loan, "Matrix Computations", 4th edition, sections 8.3.1 (reflections) and 8.3.4 (shifted QR).
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import (
    add,
    divide,
    fill,
    lane_count,
    lane_sum,
    load,
    magnitude,
    multiply,
    multiply_add,
    square_root,
    store,
    subtract,
    where_above,
)

#: Off-diagonal elements below this share of their neighbours are zero.
EPSILON = 2.3e-16
#: Sweeps per eigenvalue at most; two or three are usual.
SWEEPS = 40


@kernel
def eigen_groups(matrices, values, vectors, sizes, start, stop):
    """Decompose groups of matrices from `start` to `stop`; sizes are their number and their rows."""
    count, n = sizes[0], sizes[1]
    width = lane_count(matrices)
    a = np.empty(n * n * width)
    q = np.empty(n * n * width)
    d = np.empty(n * width)
    e = np.empty(n * width)
    v = np.empty(n * width)
    w = np.empty(n * width)
    for group in range(start, stop):
        first = group * width
        for lane in range(width):
            source = min(first + lane, count - 1) * n * n
            for place in range(n * n):
                a[place * width + lane] = matrices[source + place]
        tridiagonal(a, q, d, e, v, w, n)
        diagonal(q, d, e, n)
        for lane in range(min(width, count - first)):
            for i in range(n):
                values[(first + lane) * n + i] = d[i * width + lane]
            target = (first + lane) * n * n
            for place in range(n * n):
                vectors[target + place] = q[place * width + lane]


@kernel
def tridiagonal(a, q, d, e, v, w, n):
    """Reflect `a` to tridiagonal form: d and e of it, and q with ``a = q T qᵀ``."""
    width = lane_count(a)
    zero, one, two = fill(0.0), fill(1.0), fill(2.0)
    for i in range(n):
        for j in range(n):
            store(q, (i * n + j) * width, one if i == j else zero)
    for k in range(n - 2):
        square = zero
        for i in range(k + 1, n):
            x = load(a, (i * n + k) * width)
            store(v, i * width, x)
            square = multiply_add(x, x, square)
        head = load(v, (k + 1) * width)
        length = square_root(square)
        alpha = where_above(head, zero, subtract(zero, length), length)
        # v = x - alpha e1, and v v = 2 (square - alpha x1)
        store(v, (k + 1) * width, subtract(head, alpha))
        norm = multiply(two, subtract(square, multiply(alpha, head)))
        beta = where_above(norm, zero, divide(two, norm), zero)
        store(d, k * width, load(a, (k * n + k) * width))
        store(e, k * width, where_above(norm, zero, alpha, head))
        total = zero
        for i in range(k + 1, n):
            p = zero
            for j in range(k + 1, n):
                p = multiply_add(load(a, (i * n + j) * width), load(v, j * width), p)
            p = multiply(beta, p)
            store(w, i * width, p)
            total = multiply_add(p, load(v, i * width), total)
        share = multiply(multiply(fill(-0.5), beta), total)
        for i in range(k + 1, n):
            store(w, i * width, multiply_add(share, load(v, i * width), load(w, i * width)))
        for i in range(k + 1, n):
            vi, wi = subtract(zero, load(v, i * width)), subtract(zero, load(w, i * width))
            for j in range(k + 1, n):
                place = (i * n + j) * width
                x = multiply_add(vi, load(w, j * width), load(a, place))
                store(a, place, multiply_add(wi, load(v, j * width), x))
        for i in range(n):
            p = zero
            for j in range(k + 1, n):
                p = multiply_add(load(q, (i * n + j) * width), load(v, j * width), p)
            p = subtract(zero, multiply(beta, p))
            for j in range(k + 1, n):
                place = (i * n + j) * width
                store(q, place, multiply_add(p, load(v, j * width), load(q, place)))
    for k in range(max(0, n - 2), n):
        store(d, k * width, load(a, (k * n + k) * width))
    if n > 1:
        store(e, (n - 2) * width, load(a, ((n - 1) * n + n - 2) * width))


@kernel
def diagonal(q, d, e, n):
    """Rotate a tridiagonal matrix to its eigenvalues, left in d, and q along."""
    width = lane_count(q)
    zero, one, half = fill(0.0), fill(1.0), fill(0.5)
    for last in range(n - 1, 0, -1):
        for _ in range(SWEEPS):
            for k in range(last):
                beside = add(magnitude(load(d, k * width)), magnitude(load(d, (k + 1) * width)))
                off = load(e, k * width)
                store(e, k * width, where_above(magnitude(off), multiply(fill(EPSILON), beside), off, zero))
            off = load(e, (last - 1) * width)
            if not lane_sum(where_above(magnitude(off), zero, one, zero)) > 0:
                break
            end = load(d, last * width)
            delta = multiply(half, subtract(load(d, (last - 1) * width), end))
            reach = square_root(multiply_add(delta, delta, multiply(off, off)))
            below = where_above(zero, delta, subtract(delta, reach), add(delta, reach))
            step = divide(multiply(off, off), below)
            shift = where_above(magnitude(below), zero, subtract(end, step), end)
            x, z = subtract(load(d, 0), shift), load(e, 0)
            for k in range(last):
                if k > 0:  # behind a zero nothing of the shift arrives: begin anew there
                    coupled = add(magnitude(x), magnitude(z))
                    x = where_above(coupled, zero, x, subtract(load(d, k * width), shift))
                    z = where_above(coupled, zero, z, load(e, k * width))
                    alone = where_above(coupled, zero, zero, one)
                else:
                    alone = one
                r = square_root(multiply_add(x, x, multiply(z, z)))
                c = where_above(r, zero, divide(x, r), one)
                s = where_above(r, zero, divide(z, r), zero)
                if k > 0:
                    place = (k - 1) * width
                    store(e, place, where_above(alone, zero, load(e, place), r))
                d0, d1, e0 = load(d, k * width), load(d, (k + 1) * width), load(e, k * width)
                cc, ss, cs = multiply(c, c), multiply(s, s), multiply(c, s)
                both = multiply(add(cs, cs), e0)
                store(d, k * width, add(multiply_add(cc, d0, both), multiply(ss, d1)))
                store(d, (k + 1) * width, add(multiply_add(ss, d0, multiply(cc, d1)), subtract(zero, both)))
                off = multiply_add(cs, subtract(d1, d0), multiply(subtract(cc, ss), e0))
                store(e, k * width, off)
                if k < last - 1:
                    after = load(e, (k + 1) * width)
                    x, z = off, multiply(s, after)
                    store(e, (k + 1) * width, multiply(c, after))
                opposite = subtract(zero, s)
                for i in range(n):
                    place = (i * n + k) * width
                    t, u = load(q, place), load(q, place + width)
                    store(q, place, multiply_add(c, t, multiply(s, u)))
                    store(q, place + width, multiply_add(opposite, t, multiply(c, u)))
