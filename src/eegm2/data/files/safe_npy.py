"""Read a dict of arrays pickled inside an ``.npy`` file without running anything the file says.

Why this is safe. A pickle is a small program; `pickle.load` runs it, and its GLOBAL and REDUCE
instructions import and call whatever they name. Here the standard library's disassembler
(`pickletools.genops`, which executes nothing) yields the instructions one by one and `_Machine` gives a
meaning of its own to a short list of them: numbers, text, bytes, tuples, lists, dicts, and the three ways
NumPy writes an array, a scalar and a data type. GLOBAL never imports: the names of `KNOWN` each
stand for a branch below, every other name is refused before anything is built. REDUCE never calls an
object of the file; arrays are views of the file's own bytes (`numpy.frombuffer`), whose length must be
exactly shape x item size. No length is believed: the stream refuses to read past the end of the file
before memory is asked for, and the number of instructions is limited. Anything else in the file is an
error that names it.
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from eegm2.data.files.npy_values import (
    BoundedStream,
    Holder,
    Refused,
    array_of,
    dtype_of,
    held,
    scalar_of,
    with_byte_order,
)
from eegm2.errors import DataError

MAX_INSTRUCTIONS = 5_000_000
KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "bytes",
    ("__builtin__", "bytes"): "no bytes",
}
PUSH = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class _Known:
    """One of the names of `KNOWN`, never the object it names."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Machine:
    """Gives the allowed instructions their meaning."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BoundedStream) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if count >= MAX_INSTRUCTIONS:
                raise Refused(f"more than {MAX_INSTRUCTIONS} instructions")
            name = opcode.name
            if name == "STOP":
                if len(self.stack) != 1:
                    raise Refused("it ends with several values")
                return self.stack.pop()
            if name in PUSH:
                self.stack.append(argument)
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            else:
                method = INSTRUCTIONS.get(name)
                if method is None:
                    raise Refused(f"instruction {name}")
                method(self, argument)
        raise Refused("it has no end")

    def ignore(self, argument: Any) -> None:
        pass

    def mark(self, argument: Any) -> None:
        self.marks.append(len(self.stack))

    def from_mark(self) -> list[Any]:
        if not self.marks:
            raise Refused("a missing mark")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def take(self, n: int) -> list[Any]:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < n:
            raise Refused("a missing value")
        items = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return items

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise Refused(f"an addition to something that is not a {kind.__name__}")
        return self.stack[-1]

    def memoize(self, argument: Any) -> None:
        if not self.stack:
            raise Refused("a missing value")
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def recall(self, argument: int) -> None:
        if argument not in self.memo:
            raise Refused("a value that was never stored")
        self.stack.append(self.memo[argument])

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2 or not all(isinstance(key, str | int) for key in items[::2]):
            raise Refused("a dict whose keys are not text or numbers")
        target.update(zip(items[::2], items[1::2], strict=True))

    def global_name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.know(module, name)

    def stack_global(self, argument: Any) -> None:
        self.know(*self.take(2))

    def know(self, module: Any, name: Any) -> None:
        kind = KNOWN.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if kind is None:
            raise Refused(f"the name {str(module)[:60]}.{str(name)[:60]}, which is code")
        self.stack.append(_Known(kind))

    def reduce(self, argument: Any) -> None:
        function, arguments = self.take(2)
        if not isinstance(function, _Known) or not isinstance(arguments, tuple):
            raise Refused("a call of something unknown")
        if function.kind == "array":
            self.stack.append(Holder())
        elif function.kind == "dtype":
            self.stack.append(Holder(dtype_of(arguments)))
        elif function.kind == "scalar":
            self.stack.append(scalar_of(arguments))
        elif function.kind == "bytes":
            if not (len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] == "latin1"):
                raise Refused("a text encoding other than latin1")
            self.stack.append(arguments[0].encode("latin1"))
        elif function.kind == "no bytes" and arguments == ():
            self.stack.append(b"")
        else:
            raise Refused(f"a call of numpy.{function.kind}")

    def build(self, argument: Any) -> None:
        target, state = self.take(2)
        if not isinstance(target, Holder):
            raise Refused("a state for something that is not an array")
        if isinstance(target.value, np.dtype):
            target.value = with_byte_order(target.value, state)
        elif target.value is None:
            target.value = array_of(state)
        else:
            raise Refused("an array that is filled twice")
        self.stack.append(target)


INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.ignore,
    "FRAME": _Machine.ignore,
    "MARK": _Machine.mark,
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.from_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.take(3))),
    "APPEND": lambda machine, _: machine.append(machine.take(1)),
    "APPENDS": lambda machine, _: machine.append(machine.from_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.from_mark()),
    "MEMOIZE": _Machine.memoize,
    "BINPUT": _Machine.memoize,
    "LONG_BINPUT": _Machine.memoize,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


def read_pickled_dict(path: Path) -> dict[str, Any]:
    """Return the dict that an ``.npy`` file holds as a single pickled object.

    Parameters
    ----------
    path : Path
        Written by ``numpy.save(path, {...})``.

    Returns
    -------
    dict
        Arrays are read-only views of the mapped file; the signal is not read until used.

    Raises
    ------
    DataError
        If the file is not such a file, is damaged, or asks for anything but arrays, numbers, text and
        containers; the message names the file and what was found. Nothing of the file has been executed.
    """
    try:
        with path.open("rb") as file:
            version = npy_format.read_magic(file)
            reader = npy_format.read_array_header_1_0 if version[0] == 1 else npy_format.read_array_header_2_0
            shape, _, dtype = reader(file)
            start = file.tell()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if not dtype.hasobject or shape != ():
            raise Refused(f"an array of shape {shape} and type {dtype}, not a dict")
        content = held(_Machine().run(BoundedStream(memoryview(mapped)[start:])))
        value = content.item() if isinstance(content, np.ndarray) and content.shape == () else content
    except Refused as error:
        raise DataError(f"{path}: refused, the file holds {error}; only dicts of arrays are read") from error
    except (OSError, ValueError, TypeError, IndexError, OverflowError, MemoryError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable .npy file ({reason}); download it again") from error
    if not isinstance(value, dict):
        raise DataError(
            f"{path}: refused, the file holds a {type(value).__name__}; only dicts of arrays are read"
        )
    return {str(key): held(item) for key, item in value.items()}
