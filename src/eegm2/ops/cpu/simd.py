"""Explicit vectors for Numba: one 64-byte group of lanes that LLVM keeps in registers on any processor.

Numba's own loops are vectorised only after checks for overlapping arrays, and their running sums go through
memory; with these few operations a kernel states what stays in registers. A group is 16 float32 or 8
float64, which LLVM splits into what the processor has (two AVX2 registers, four NEON ones).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, register_model

intrinsic: Any = extending.intrinsic  # its own annotations do not fit how kernels call the result
BYTES = 64
_I32 = ir.IntType(32)
LOG2_E = 1.4426950408889634
LN_2_HIGH, LN_2_LOW = 0.693145751953125, 1.4286068202862268e-06  # their sum is ln 2; k * LN_2_HIGH is exact
# e^r = 1 + r + r² q(r) for |r| <= ln(2) / 2, highest power first
Q = (0.0013757901033386588, 0.00836884044110775, 0.04166940599679947, 0.1666651964187622, 0.49999988079071045)
# 2^r for |r| <= 1 / 2, highest power first; 1.5 * 2^23 + 127, which rounds what is added to it to integers
POWERS = (
    0.001326472731307149,
    0.009671512991189957,
    0.05550733581185341,
    0.24022242426872253,
    0.6931470036506653,
    1.0,
)
LN_2, ROUNDING = 0.6931471805599453, 12583039.0
# artanh(s) = s p(s²) for s <= 1 / 3
ARTANH = (0.1408732831478119, 0.1398070901632309, 0.20012426376342773, 0.3333315849304199, 1.0)


class Lanes(types.Type):
    """Numba type of a group of lanes of one float type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.width = BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        element = ir.FloatType() if fe_type.dtype == types.float32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.width))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def lanes_at(builder: Any, vector: Any, start: Any, index: Any) -> Any:
    """Emit the address of the lanes that begin at an index behind `start`."""
    return builder.bitcast(builder.gep(start, [index]), vector.as_pointer())


def splat(builder: Any, vector: Any, value: Any) -> Any:
    """Emit a number in every lane."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, vector.count), None)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def vector_call(builder: Any, name: str, vector: Any, *arguments: Any) -> Any:
    """Emit a call of LLVM's function of this name on lanes."""
    suffix = "f32" if isinstance(vector.element, ir.FloatType) else "f64"
    signature = ir.FunctionType(vector, [vector] * len(arguments))
    function = cgutils.get_or_insert_function(
        builder.module, signature, f"llvm.{name}.v{vector.count}{suffix}"
    )
    return builder.call(function, arguments)


@intrinsic
def lane_count(typing_context: Any, array: Any) -> Any:
    """Return the number of lanes of a group of this array's dtype, a constant to the compiler."""
    width = BYTES * 8 // array.dtype.bitwidth
    return types.intp(array), lambda *_: ir.Constant(ir.IntType(64), width)


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """Return ``array[index : index + width]`` of a contiguous array as lanes; no bounds check."""
    lanes = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(lanes)
        pointer = _pointer(context, builder, signature.args[0], *arguments)
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=array.dtype.bitwidth // 8)

    return lanes(array, types.intp), generate


@intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Set ``array[index : index + width] = value`` in a contiguous array; no bounds check."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(value)
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
        align = array.dtype.bitwidth // 8
        builder.store(arguments[2], builder.bitcast(pointer, vector.as_pointer()), align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic(prefer_literal=True)
def prefetch(typing_context: Any, array: Any, index: Any, write: Any) -> Any:
    """Ask for the cache line of ``array[index]``, to read or (write = 1) to write; any index is harmless."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        flag = ir.Constant(_I32, int(write.literal_value))
        builder.call(
            function, [builder.bitcast(pointer, byte), flag, ir.Constant(_I32, 3), ir.Constant(_I32, 1)]
        )
        return context.get_dummy_value()

    if not isinstance(write, types.Literal):
        return None
    return types.void(array, types.intp, write), generate


@intrinsic
def spread(typing_context: Any, array: Any, index: Any) -> Any:
    """Return ``array[index]`` of a contiguous array in every lane; no bounds check."""
    lanes = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], *arguments))
        return splat(builder, context.get_value_type(lanes), value)

    return lanes(array, types.intp), generate


@intrinsic
def turn(
    typing_context: Any, source: Any, i: Any, step: Any, target: Any, j: Any, apart: Any, factor: Any
) -> Any:
    """Write as many rows as lanes, `step` apart from ``source[i]`` on, as columns of rows `apart` of target.

    Each round puts the first half of all numbers between those of the second: the bits of their places
    turn by one, and after as many rounds as a row has bits rows and columns are exchanged.
    """
    lanes = Lanes(source.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, half = context.get_value_type(lanes), lanes.width // 2
        array, i, step, other, j, apart, factor = arguments
        first = _pointer(context, builder, signature.args[0], array, i)
        into = _pointer(context, builder, signature.args[3], other, j)
        numbers = [ir.Constant(ir.IntType(64), row) for row in range(lanes.width)]
        align, scale = source.dtype.bitwidth // 8, splat(builder, vector, factor)
        rows = [
            builder.load(lanes_at(builder, vector, first, builder.mul(step, row)), align=align)
            for row in numbers
        ]
        rows = [builder.fmul(scale, row) for row in rows]
        masks = [
            ir.Constant(
                ir.VectorType(_I32, lanes.width),
                [place for k in range(begin, begin + half) for place in (k, k + lanes.width)],
            )
            for begin in (0, half)
        ]
        for _ in range(lanes.width.bit_length() - 1):
            pairs = zip(rows[:half], rows[half:])
            rows = [builder.shuffle_vector(one, two, mask) for one, two in pairs for mask in masks]
        for number, row in zip(numbers, rows):
            builder.store(row, lanes_at(builder, vector, into, builder.mul(apart, number)), align=align)
        return context.get_dummy_value()

    number = types.intp
    return types.void(source, number, number, target, number, number, source.dtype), generate


@intrinsic
def fill(typing_context: Any, value: Any) -> Any:
    """Return `value` in every lane."""
    lanes = Lanes(value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return splat(builder, context.get_value_type(lanes), arguments[0])

    return lanes(value), generate


@intrinsic
def multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c``, fused where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return vector_call(builder, "fmuladd", context.get_value_type(a), *arguments)

    return a(a, a, a), generate


@intrinsic
def multiply(typing_context: Any, a: Any, b: Any) -> Any:
    """Return ``a * b``."""
    return a(a, a), lambda context, builder, signature, arguments: builder.fmul(*arguments)


@intrinsic
def divide(typing_context: Any, a: Any, b: Any) -> Any:
    """Return ``a / b``."""
    return a(a, a), lambda context, builder, signature, arguments: builder.fdiv(*arguments)


@intrinsic
def add(typing_context: Any, a: Any, b: Any) -> Any:
    """Return ``a + b``."""
    return a(a, a), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def lane_sum(typing_context: Any, a: Any) -> Any:
    """Return the sum over all lanes, pairwise."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, width = arguments[0], a.width
        element = context.get_value_type(a).element
        while width > 1:
            half = width // 2
            parts = []
            for start in (0, half):
                mask = ir.Constant(ir.VectorType(_I32, half), list(range(start, start + half)))
                undefined = ir.Constant(ir.VectorType(element, width), ir.Undefined)
                parts.append(builder.shuffle_vector(values, undefined, mask))
            values, width = builder.fadd(*parts), half
        return builder.extract_element(values, ir.Constant(_I32, 0))

    return a.dtype(a), generate


@intrinsic
def exponential(typing_context: Any, a: Any) -> Any:
    """``exp(a)``; float32 within 2 units in the last place, NaN, infinity and underflow as libm."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(a)
        if a.dtype != types.float32:
            return vector_call(builder, "exp", vector, arguments[0])
        return _exp32(builder, vector, arguments[0])

    return a(a), generate


@intrinsic
def power_of_two(typing_context: Any, a: Any) -> Any:
    """``2 ** a`` for decays, a third of `exponential`'s work; float32 is 0 below -127, inf above 127.5."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(a)
        (x,) = arguments

        def constant(value: float) -> Any:
            return ir.Constant(vector, [value] * vector.count)

        if a.dtype != types.float32:
            return vector_call(builder, "exp", vector, builder.fmul(x, constant(LN_2)))
        x = builder.select(builder.fcmp_ordered("<", x, constant(-127.0)), constant(-127.0), x)  # NaN stays
        x = builder.select(builder.fcmp_ordered(">", x, constant(128.0)), constant(128.0), x)
        shifted = builder.fadd(x, constant(ROUNDING))  # its last bits are x to the next integer, and 127
        r = builder.fsub(x, builder.fsub(shifted, constant(ROUNDING)))
        p = constant(POWERS[0])
        for coefficient in POWERS[1:]:
            p = vector_call(builder, "fmuladd", vector, p, r, constant(coefficient))
        integers = ir.VectorType(_I32, vector.count)
        bits = builder.shl(builder.bitcast(shifted, integers), ir.Constant(integers, [23] * vector.count))
        return builder.fmul(p, builder.bitcast(bits, vector))

    return a(a), generate


@intrinsic
def silu(typing_context: Any, a: Any) -> Any:
    """Return ``a / (1 + exp(-a))``; float32 within 2 units in the last place."""
    return a(a), _sigmoid_times(a, None)


@intrinsic
def sigmoid(typing_context: Any, a: Any) -> Any:
    """Return ``1 / (1 + exp(-a))``; float32 within 2 units in the last place, and 1 for NaN."""
    return a(a), _sigmoid_times(a, 1.0)


def _sigmoid_times(a: Any, numerator: float | None) -> Any:
    """Emit ``numerator / (1 + exp(-x))``; the numerator is x where there is none."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(a)
        (x,) = arguments
        minus, one = (ir.Constant(vector, [value] * vector.count) for value in (-1.0, 1.0))
        opposite = builder.fmul(x, minus)
        if a.dtype == types.float32:
            power = _bounded_exp32(builder, vector, opposite)
        else:
            power = vector_call(builder, "exp", vector, opposite)
        above = x if numerator is None else ir.Constant(vector, [numerator] * vector.count)
        return builder.fdiv(above, builder.fadd(one, power))

    return generate


@intrinsic
def softplus(typing_context: Any, a: Any) -> Any:
    """Return ``log(1 + exp(a)) = max(a, 0) + 2 artanh(u / (2 + u))`` with ``u = exp(-|a|)``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(a)
        (x,) = arguments

        def constant(value: float) -> Any:
            return ir.Constant(vector, [value] * vector.count)

        positive = builder.fcmp_ordered(">", x, constant(0.0))
        opposite = builder.fmul(x, constant(-1.0))
        minus_size = builder.select(positive, opposite, x)
        base = builder.select(positive, x, builder.fmul(x, constant(0.0)))  # NaN stays NaN
        if a.dtype != types.float32:
            u = vector_call(builder, "exp", vector, minus_size)
            return builder.fadd(base, vector_call(builder, "log", vector, builder.fadd(u, constant(1.0))))
        u = _bounded_exp32(builder, vector, minus_size)
        s = builder.fdiv(u, builder.fadd(u, constant(2.0)))
        z = builder.fmul(s, s)
        series = constant(ARTANH[0])
        for coefficient in ARTANH[1:]:
            series = vector_call(builder, "fmuladd", vector, series, z, constant(coefficient))
        return vector_call(builder, "fmuladd", vector, builder.fadd(s, s), series, base)

    return a(a), generate


def _bounded_exp32(builder: Any, vector: Any, x: Any) -> Any:
    """Emit exp of x held within +-87, where neither it nor its power of two leaves the normal numbers."""

    def constant(value: float) -> Any:
        return ir.Constant(vector, [value] * vector.count)

    z = builder.select(builder.fcmp_ordered(">", x, constant(-87.0)), x, constant(-87.0))
    z = builder.select(builder.fcmp_ordered("<", z, constant(87.0)), z, constant(87.0))
    k = vector_call(builder, "nearbyint", vector, builder.fmul(z, constant(LOG2_E)))
    r = vector_call(builder, "fmuladd", vector, k, constant(-LN_2_HIGH), z)
    r = vector_call(builder, "fmuladd", vector, k, constant(-LN_2_LOW), r)
    q = constant(Q[0])
    for coefficient in Q[1:]:
        q = vector_call(builder, "fmuladd", vector, q, r, constant(coefficient))
    p = vector_call(builder, "fmuladd", vector, builder.fmul(r, r), q, builder.fadd(r, constant(1.0)))
    integers = ir.VectorType(_I32, vector.count)
    bits = builder.add(builder.fptosi(k, integers), ir.Constant(integers, [127] * vector.count))
    bits = builder.shl(bits, ir.Constant(integers, [23] * vector.count))
    return builder.fmul(p, builder.bitcast(bits, vector))


def _exp32(builder: Any, vector: Any, x: Any) -> Any:
    """Emit exp with its limits: zero below the normal numbers, infinity above the largest, NaN for NaN."""

    def constant(value: float) -> Any:
        return ir.Constant(vector, [value] * vector.count)

    half = constant(0.5)
    root = _bounded_exp32(builder, vector, builder.fmul(x, half))
    far = builder.fmul(root, root)  # twice the relative error, where the plain form does not reach
    near = _bounded_exp32(builder, vector, x)
    outside = builder.fcmp_ordered(">", vector_call(builder, "fabs", vector, x), constant(87.0))
    result = builder.select(outside, far, near)
    return builder.select(builder.fcmp_ordered("==", x, x), result, x)


@intrinsic
def subtract(typing_context: Any, a: Any, b: Any) -> Any:
    """Return ``a - b``."""
    return a(a, a), lambda context, builder, signature, arguments: builder.fsub(*arguments)


@intrinsic
def square_root(typing_context: Any, a: Any) -> Any:
    """Return the square root."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return vector_call(builder, "sqrt", context.get_value_type(a), *arguments)

    return a(a), generate


@intrinsic
def magnitude(typing_context: Any, a: Any) -> Any:
    """Return ``|a|``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return vector_call(builder, "fabs", context.get_value_type(a), *arguments)

    return a(a), generate


@intrinsic
def where_above(typing_context: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """Return x in lanes where a > b, y elsewhere (and where a or b is NaN)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        above = builder.fcmp_ordered(">", arguments[0], arguments[1])
        return builder.select(above, arguments[2], arguments[3])

    return a(a, a, a, a), generate


@intrinsic
def larger(typing_context: Any, a: Any, b: Any) -> Any:
    """Return the larger of both; NaN where either is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return vector_call(builder, "maximum", context.get_value_type(a), *arguments)

    return a(a, a), generate
