"""What `safe_npy` reads from and builds: bounded bytes, arrays, scalars and data types; nothing is called."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

DTYPE_CODES = "biufSU"


class Refused(ValueError):
    """The file asks for something this reader does not do."""


class BoundedStream:
    """The file's bytes; refuses to read past the end, hands out large pieces without copying."""

    def __init__(self, view: memoryview) -> None:
        self.view, self.at = view, 0

    def read(self, n: int) -> bytes | memoryview:
        """Return the next `n` bytes, or refuse where fewer are left."""
        if n < 0 or n > len(self.view) - self.at:
            raise Refused(
                f"a piece of {n} bytes is announced, {len(self.view) - self.at} are left in the file"
            )
        piece = self.view[self.at : self.at + n]
        self.at += n
        return piece if n > 4096 else bytes(piece)

    def readline(self) -> bytes:
        """Return the next line, of at most 255 bytes."""
        line = bytes(self.view[self.at : self.at + 256])
        length = line.find(b"\n") + 1
        if not length:
            raise Refused("a name longer than 255 bytes")
        self.at += length
        return line[:length]

    def tell(self) -> int:
        """Return the position."""
        return self.at


class Holder:
    """An array or a data type: created by REDUCE, filled in place by BUILD."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


def dtype_of(arguments: tuple[Any, ...]) -> np.dtype[Any]:
    """Return the plain data type ``numpy.dtype(code, False, True)`` stands for."""
    code = arguments[0] if arguments else None
    if isinstance(code, str) and code in ("O", "O8"):
        return np.dtype(object)
    if not (isinstance(code, str) and code[:1] in DTYPE_CODES and code[1:].isdecimal() and len(code) < 8):
        raise Refused(f"data type {str(code)[:40]!r}")
    return np.dtype(code)


def with_byte_order(dtype: np.dtype[Any], state: Any) -> np.dtype[Any]:
    """Return `dtype` with the byte order of its pickled state; structured types are refused."""
    if not (isinstance(state, tuple) and len(state) >= 5 and state[1] in ("<", ">", "|", "=")):
        raise Refused("a data type with an unknown state")
    if any(part is not None for part in state[2:5]):
        raise Refused("a structured data type")
    return dtype.newbyteorder(state[1]) if state[1] in "<>" else dtype


def scalar_of(arguments: tuple[Any, ...]) -> Any:
    """Return the scalar of ``numpy.scalar(dtype, bytes)``."""
    dtype, content = (held(arguments[0]), arguments[1]) if len(arguments) == 2 else (None, None)
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise Refused("a scalar of an unknown data type")
    if not isinstance(content, bytes | memoryview) or len(content) != dtype.itemsize:
        raise Refused("a scalar of the wrong size")
    return np.frombuffer(content, dtype)[0]


def array_of(state: Any) -> np.ndarray:
    """Return the array of a pickled state (version, shape, data type, Fortran order, content)."""
    if not (isinstance(state, tuple) and len(state) == 5):
        raise Refused("an array with an unknown state")
    _, shape, dtype, fortran, content = state
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 8):
        raise Refused("an array with an unknown shape")
    dtype = held(dtype)
    if not isinstance(dtype, np.dtype):
        raise Refused("an array with an unknown data type")
    size, order = math.prod(shape), "F" if fortran else "C"
    if dtype.hasobject:
        if not isinstance(content, list) or len(content) != size:
            raise Refused(f"an array of shape {shape} with another number of values")
        flat = np.empty(size, dtype=object)
        for index, item in enumerate(content):
            flat[index] = held(item)
        return flat.reshape(shape, order=order)  # type: ignore[call-overload]
    if not isinstance(content, bytes | memoryview) or len(content) != size * dtype.itemsize:
        raise Refused(f"an array of shape {shape} whose content has another size")
    if size == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def held(value: Any) -> Any:
    """Return what a holder holds; other values as they are, lists item by item."""
    if isinstance(value, list):
        return [held(item) if isinstance(item, Holder) else item for item in value]
    return value.value if isinstance(value, Holder) else value
