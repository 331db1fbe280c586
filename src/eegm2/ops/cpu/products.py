"""Matrix products inside compiled kernels: rows of activations times weights that were laid out once.

A weight lies in panels of `COLUMNS` columns, each (depth, columns), so that the inner loop reads it straight
on; rows of activations are read wherever they lie, one number at a time into all lanes. A tile of results
stays in registers for the whole depth. The shape of the tile follows the processor's vector registers: 32
with AVX-512, of which it takes 16 for results, else 16, of which it takes 12.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from torch import Tensor

from eegm2.ops.cpu.runtime import kernel
from eegm2.ops.cpu.simd import Lanes, intrinsic, lanes_at, splat, vector_call

_WIDE = "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")
TILE_ROWS, COLUMNS = (8, 32) if _WIDE else (6, 16)
LOW_ROWS = TILE_ROWS // 2  # of a tile for the few rows of a push: their time is that of reading weights
_I64 = ir.IntType(64)


def packed(weight: Tensor) -> Tensor:
    """Lay weights (..., columns, depth) out in panels (..., panel, depth, `COLUMNS`), zero beyond columns."""
    weight, lacking = weight.detach(), -weight.shape[-2] % COLUMNS
    whole = F.pad(weight, (0, 0, 0, lacking)) if lacking else weight
    return whole.unflatten(-2, (-1, COLUMNS)).transpose(-1, -2).clone(memory_format=torch.contiguous_format)


def _tile(height: int) -> Any:
    """Return the product of so many rows by one panel."""

    @intrinsic
    def multiplied(typing_context, a, at_a, step_a, along_a, b, at_b, depth, c, at_c, step_c, fresh):
        """Multiply `height` rows of `a` by one panel of `b` into c, or (`fresh` = 0) add it to what c holds.

        `step_a` and `step_c` lie between rows, `along_a` between neighbours of one. Sums run over the depth
        in its order, whatever the tile.
        """
        lanes, number = Lanes(a.dtype), types.intp

        def generate(context, builder, signature, arguments):
            _emit_tile(height, lanes, context, builder, signature, arguments)
            return context.get_dummy_value()

        return types.void(a, *[number] * 3, b, *[number] * 2, c, *[number] * 3), generate

    return multiplied


def _emit_tile(height, lanes, context, builder, signature, arguments):
    """Emit the loop over the depth that keeps a tile of results in registers."""
    groups = COLUMNS // lanes.width
    vector = context.get_value_type(lanes)
    array_a, at_a, step_a, along_a, array_b, at_b, depth, array_c, at_c, step_c, fresh = arguments
    kinds = [signature.args[i] for i in (0, 4, 7)]
    a, b, c = (
        builder.gep(context.make_array(kind)(context, builder, array).data, [at])
        for kind, array, at in zip(kinds, (array_a, array_b, array_c), (at_a, at_b, at_c))
    )
    rows = [builder.mul(step_a, ir.Constant(_I64, row)) for row in range(height)]
    places = [
        builder.add(builder.mul(step_c, ir.Constant(_I64, row)), ir.Constant(_I64, g * lanes.width))
        for row in range(height)
        for g in range(groups)
    ]
    zero = ir.Constant(vector, None)
    entry, held, loop, end = (
        builder.block,
        *(builder.append_basic_block(n) for n in ("held", "loop", "end")),
    )
    builder.cbranch(builder.icmp_signed("!=", fresh, ir.Constant(_I64, 0)), loop, held)
    builder.position_at_end(held)
    before = [builder.load(lanes_at(builder, vector, c, place), align=4) for place in places]
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_I64)
    sums = [builder.phi(vector) for _ in places]
    panel, along = builder.mul(k, ir.Constant(_I64, COLUMNS)), builder.mul(k, along_a)
    columns = [
        builder.load(
            lanes_at(builder, vector, b, builder.add(panel, ir.Constant(_I64, g * lanes.width))), align=4
        )
        for g in range(groups)
    ]
    after = []
    for row, first in enumerate(rows):
        value = splat(builder, vector, builder.load(builder.gep(a, [builder.add(first, along)])))
        for g, column in enumerate(columns):
            after.append(vector_call(builder, "fmuladd", vector, value, column, sums[row * groups + g]))
    following = builder.add(k, ir.Constant(_I64, 1))
    for origin, count, values in (
        (entry, ir.Constant(_I64, 0), [zero] * len(places)),
        (held, ir.Constant(_I64, 0), before),
        (loop, following, after),
    ):
        k.add_incoming(count, origin)
        for total, value in zip(sums, values):
            total.add_incoming(value, origin)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, end)
    builder.position_at_end(end)
    for place, value in zip(places, after):
        builder.store(value, lanes_at(builder, vector, c, place), align=4)


tile, low_tile = _tile(TILE_ROWS), _tile(LOW_ROWS)


@kernel
def product(a, at_a, step_a, rows, b, at_b, depth, columns, c, at_c, step_c, fresh):
    """``c = a b``, or ``c += a b`` unless `fresh`; rows and columns are rounded up to whole tiles."""
    for n in range(0, columns, COLUMNS):
        at = at_b + n * depth
        for m in range(0, rows, TILE_ROWS):
            from_a, into = at_a + m * step_a, at_c + m * step_c + n
            if rows - m > LOW_ROWS:
                tile(a, from_a, step_a, 1, b, at, depth, c, into, step_c, fresh)
            else:
                low_tile(a, from_a, step_a, 1, b, at, depth, c, into, step_c, fresh)
