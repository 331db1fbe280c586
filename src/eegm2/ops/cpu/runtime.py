"""Compiling, caching and running the kernels: Numba behind one decorator, threads behind one function.

Kernels are called without the GIL on torch's threads (`eegm2.ops.cpu.threads`), not on Numba's: its OpenMP
layer breaks after a fork, its workqueue layer took about twice as long to start and allows one caller at a
time, and either would be a second pool that waits for the cores of the first.
"""

from __future__ import annotations

import functools
import hashlib
import math
import struct
import threading
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import torch
from numba import types
from numba.core.registry import CPUDispatcher
from torch import Tensor

from eegm2 import compiling
from eegm2.ops.cpu.memory import block
from eegm2.ops.cpu.threads import NativeCall

GRAIN = 1_000_000  # state elements per thread: some 0.1 ms, several times what handing over costs
SMALL = 64 << 10  # bytes that the C library keeps by itself
_INTEGER, _REAL = struct.Struct("q"), struct.Struct("d")
_compiling = threading.RLock()


def sources_digest(folder: Path) -> str:
    """Return a short digest of every source file in a folder: any may be compiled into a kernel."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


OPTIONS: dict[str, Any] = {"fastmath": {"contract"}}
SOURCES = sources_digest(Path(__file__).parent)


class Kernel(CPUDispatcher):
    """A kernel that compiled code calls: a way in from Python would be a sixth of what is compiled.

    Called from Python all the same, it is compiled once more, with one.
    """

    def __call__(self, *arguments: Any) -> Any:
        """Run it from Python."""
        return _callable(self)(*arguments)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Tell a caller's compiler what a call returns: one form for constants and variables alike.

        Numba would compile one for each constant; a fifth of a first call went into those.
        """
        return super().get_call_template([types.unliteral(kind) for kind in args], kws)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile as `eegm2.compiling.kernel` does, under a name that follows every source in this folder."""
    compiled = compiling.kernel(function, made_from=SOURCES, **OPTIONS, no_cpython_wrapper=True)
    compiled.__class__ = Kernel
    return compiled


@functools.cache
def _callable(worker: Kernel) -> Any:
    return compiling.kernel(worker.py_func, made_from="python", **OPTIONS)


def prepare(worker: Any, signature: tuple[Any, ...]) -> None:
    """Compile `worker` for `signature` unless that is done."""
    if signature in worker.signatures:
        return
    with _compiling:
        worker.compile(signature)


def launch(
    worker: Any,
    tensors: Sequence[Tensor | None],
    sizes: Sequence[int],
    tasks: int,
    work: int,
    *,
    scalars: tuple[float, ...] = (),
) -> None:
    """Run ``worker(*arrays, sizes, *scalars, start, stop)`` over ranges of tasks; compile it if need be.

    Which thread takes which task does not touch the result: every task writes only its own places.

    Parameters
    ----------
    tensors : sequence of Tensor or None
        The kernel sees each one's memory from its first to its last element; strides are its to apply, so
        that slices of a projection are read where they lie. The dtype of absent ones is that of the first.
    sizes : sequence of int
        Shapes and strides, as the kernel expects them.
    tasks : int
    work : int
        State elements updated: decides how many threads it is worth.
    """
    first = tensors[0]
    assert first is not None
    dtypes = tuple([first.dtype if tensor is None else tensor.dtype for tensor in tensors])
    words = [tasks, 0]
    for tensor in tensors:
        words += words_of(tensor)
    words += (0, len(sizes))
    words += [_as_integer(scalar) for scalar in scalars]
    given = array("q", [*words, *sizes])
    given[2 + 2 * len(tensors)] = given.buffer_info()[0] + len(words) * given.itemsize  # the sizes follow
    call = _native(worker, dtypes, len(scalars))
    threads = min(useful_threads(work), tasks)
    if torch.autograd._profiler_enabled():
        with torch.profiler.record_function(f"eegm2::{worker.py_func.__name__}"):
            call(given, tasks, threads)
    else:
        call(given, tasks, threads)


def _as_integer(number: float) -> int:
    """Return the bits of a float64 as an integer."""
    bits: int = _INTEGER.unpack(_REAL.pack(number))[0]
    return bits


@functools.cache
def _native(worker: Any, dtypes: tuple[torch.dtype, ...], n_scalars: int) -> NativeCall:
    types = [(numba.float64 if dtype == torch.float64 else numba.float32)[::1] for dtype in dtypes]
    signature = (*types, numba.int64[::1], *[numba.float64] * n_scalars, numba.int64, numba.int64)
    prepare(worker, signature)
    return NativeCall(worker, signature)


def words_of(tensor: Tensor | None) -> tuple[int, int]:
    """Return where a tensor's memory begins and how many elements lie from its first to its last."""
    if tensor is None or tensor.numel() == 0:
        return 0, 0
    if tensor.is_contiguous():
        return tensor.data_ptr(), tensor.numel()
    return tensor.data_ptr(), 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride()))


def scan_gradients(ctx: Any, operator: Callable[..., Any], *slopes: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of a scan's seven inputs and None for `keep`.

    `ctx` has saved the inputs (x, dt, A, B, C, D, initial state; the last two may be None) and the states
    that `operator` takes after them, before the gradients of y and of the final state.
    """
    if not ctx.kept:
        raise RuntimeError("this scan was called with keep=False; its gradient needs keep=True")
    saved = ctx.saved_tensors  # asked for once: checkpointing computes them only once
    gradients = operator(*saved, *slopes)
    given = [None if t is None else gradient for t, gradient in zip(saved, gradients)]
    return *given, None


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return memory for a result on the CPU, with values of no meaning; see `eegm2.ops.cpu.memory`."""
    size = math.prod(shape) * dtype.itemsize
    if size < SMALL:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(block(size))[:size].view(dtype).view(shape)


def dense_last(tensor: Tensor) -> Tensor:
    """Return the tensor with its last axis contiguous, copying only where it is not."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def useful_threads(work: int) -> int:
    """Return how many threads `work` (state elements updated) is worth, at most torch's number."""
    return max(1, min(torch.get_num_threads(), work // GRAIN))
