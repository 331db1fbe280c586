"""Ways into a compiled kernel for threads without the GIL: machine words in place of objects.

They call the kernel's own machine code, and how that takes its arguments is Numba's to change. So it is
compared with what is known of it first, and a kernel that takes them otherwise is called as Numba calls it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

_I32, _I64, _BYTES = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
TASKS, STATUS, ARGUMENTS = 0, 1, 2  # places in a block of words
OK = (0, -2)  # what compiled code returns: done, and done returning None
_FAILED = 1
#: An array to compiled code: two owners, size, bytes of an element, data, shape, strides.
_ARRAY = ("pointer", "pointer", "integer", "integer", "pointer", "integer", "integer")
_WORDS = 2  # of an array in a block: its address and how many elements it has


class UnfamiliarError(Exception):
    """Compiled code takes its arguments in a way that is not known here."""


def plain_entry(worker: Any, signature: Sequence[Any]) -> Callable[[int, int, int], None]:
    """Return ``on_range(address of a block, start, stop)`` that calls a kernel as Numba does.

    Parameters
    ----------
    worker : Numba dispatcher
        ``worker(*arguments, start, stop)``.
    signature : sequence of Numba types
        Of all its arguments.
    """
    kinds = signature[:-2]
    n_words = sum(_WORDS if isinstance(kind, numba.types.Array) else 1 for kind in kinds)

    def on_range(address: int, start: int, stop: int) -> None:
        block = np.ctypeslib.as_array((ctypes.c_int64 * (ARGUMENTS + n_words)).from_address(address))
        arguments: list[Any] = []
        place = ARGUMENTS
        for kind in kinds:
            if isinstance(kind, numba.types.Array):
                arguments.append(_array(int(block[place]), int(block[place + 1]), kind))
                place += _WORDS
            else:
                arguments.append(float(block[place : place + 1].view(np.float64)[0]))
                place += 1
        try:
            worker(*arguments, start, stop)
        except MemoryError:
            block[STATUS] = _FAILED

    return on_range


def _array(address: int, size: int, kind: Any) -> Any:
    dtype: Any = np.dtype(str(kind.dtype))
    if not size:
        return np.empty(0, dtype)
    memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype=dtype)


@global_compiler_lock
def compile_entries(compiled: Any, signature: Sequence[Any], team: tuple[int, int] | None) -> Any:
    """Compile the ways in: ``on_range(block, start, stop)`` and, in a region, ``member(block)``.

    Parameters
    ----------
    compiled : Numba's result of compiling a kernel
    signature : sequence of Numba types
        Of all its arguments.
    team : (int, int), optional
        Addresses of the functions that tell a thread its number in a region, and how many there are.

    Raises
    ------
    UnfamiliarError
        If the kernel takes its arguments in another way than here.
    """
    library = cpu_target.target_context.codegen().create_library("entries")
    module = library.create_ir_module("entries")
    on_range = _on_range(module, compiled, signature)
    if team is not None:
        _member(module, on_range, team)
    library.add_ir_module(module)
    library.finalize()
    return library


def _on_range(module: ir.Module, compiled: Any, signature: Sequence[Any]) -> ir.Function:
    """Emit the call of the kernel with arguments from a block of words."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTES, _I64, _I64]), "on_range")
    builder = ir.IRBuilder(function.append_basic_block())
    fndesc = compiled.fndesc
    kind = cpu_target.target_context.call_conv.get_function_type(fndesc.restype, fndesc.argtypes)
    _refuse_unfamiliar(kind, signature)
    address = compiled.library.get_pointer_to_function(fndesc.llvm_func_name)
    words = builder.bitcast(function.args[0], _I64.as_pointer())
    arguments = [builder.alloca(pointer.pointee) for pointer in kind.args[:2]]  # the result and the error
    place = ARGUMENTS

    def word(distance: int) -> Any:
        return builder.load(builder.gep(words, [ir.Constant(_I64, place + distance)]))

    for argument in signature[:-2]:
        if isinstance(argument, numba.types.Array):
            owner, step = ir.Constant(_BYTES, None), ir.Constant(_I64, argument.dtype.bitwidth // 8)
            data = builder.inttoptr(word(0), kind.args[len(arguments) + 4])
            arguments += [owner, owner, word(1), step, data, word(1), step]
            place += _WORDS
        else:
            arguments.append(builder.bitcast(word(0), kind.args[len(arguments)]))
            place += 1
    status = builder.call(_at(address, kind, builder), [*arguments, *function.args[1:]])
    with builder.if_then(builder.icmp_signed("!=", status, ir.Constant(_I32, 0))):
        builder.store(builder.sext(status, _I64), builder.gep(words, [ir.Constant(_I64, STATUS)]))
    builder.ret_void()
    return function


def _member(module: ir.Module, on_range: ir.Function, team: tuple[int, int]) -> None:
    """Emit what each thread of a region does: its part of the tasks."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTES]), "member")
    builder = ir.IRBuilder(function.append_basic_block())
    ask = ir.FunctionType(_I32, [])
    number, count = (builder.zext(builder.call(_at(address, ask, builder), []), _I64) for address in team)
    words = builder.bitcast(function.args[0], _I64.as_pointer())
    tasks = builder.load(builder.gep(words, [ir.Constant(_I64, TASKS)]))
    after = builder.add(number, ir.Constant(_I64, 1))
    edges = [builder.udiv(builder.mul(tasks, i), count) for i in (number, after)]
    builder.call(on_range, [function.args[0], *edges])
    builder.ret_void()


def _at(address: int, kind: ir.FunctionType, builder: ir.IRBuilder) -> Any:
    return builder.inttoptr(ir.Constant(_I64, address), kind.as_pointer())


def _refuse_unfamiliar(kind: ir.FunctionType, signature: Sequence[Any]) -> None:
    """Compare what compiled code takes with what it is given here."""
    expected = ["pointer", "pointer"]  # the result and the error
    for argument in signature:
        if isinstance(argument, numba.types.Array):
            expected += _ARRAY
        else:
            expected.append("real" if argument == numba.float64 else "integer")
    found = [_name(argument) for argument in kind.args]
    if found != expected or kind.return_type != _I32:
        raise UnfamiliarError(f"Numba {numba.__version__}: {kind.return_type} from {', '.join(found)}")


def _name(kind: Any) -> str:
    if isinstance(kind, ir.PointerType):
        return "pointer"
    if isinstance(kind, ir.DoubleType):
        return "real"
    return "integer" if kind == _I64 else str(kind)
