"""Calling compiled kernels on torch's own threads, or on threads of ours where torch's cannot be had.

torch's OpenMP threads spin for some milliseconds after each parallel operation, in wait for the next one.
Other threads then find no free core: a kernel between two matrix products took as long on two threads as on
one. So kernels run where the products do, in a parallel region of torch's OpenMP library, which they enter
as machine code: a thread that first had to get hold of the GIL would come late.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import sys
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from eegm2.ops.cpu.entries import OK, STATUS, compile_entries, plain_entry

logger = logging.getLogger("eegm2")
_RANGE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
_own_process = os.getpid()
_pool: tuple[int, int, ThreadPoolExecutor] | None = None


class NativeCall:
    """A kernel compiled for one signature, called with machine words in place of objects.

    Parameters
    ----------
    worker : Numba dispatcher
        ``worker(*arguments, start, stop)``; start and stop are int64, nothing is returned.
    signature : tuple of Numba types
        One that is compiled.
    """

    def __init__(self, worker: Any, signature: tuple[Any, ...]) -> None:
        self._compiled = worker.overloads[signature]  # its code lives as long as this
        self._openmp = _openmp()
        self._on_range: Callable[[int, int, int], None]
        try:
            team = None if self._openmp is None else (self._openmp.number, self._openmp.count)
            self._library = compile_entries(self._compiled, signature, team)
            self._on_range = _RANGE(self._library.get_pointer_to_function("on_range"))
            if self._openmp is not None:
                self._member = self._library.get_pointer_to_function("member")
        except Exception as error:  # another Numba: slower, and right
            logger.info("CPU kernels are called through Python: %s", error)
            self._openmp, self._on_range = None, plain_entry(worker, signature)

    def __call__(self, block: array[int], tasks: int, threads: int) -> None:
        """Run all tasks on `threads` threads; `block` holds their number and the words of all arguments.

        Raises
        ------
        MemoryError
            The only error that a kernel meets.
        """
        place, _ = block.buffer_info()
        if threads == 1:
            self._on_range(place, 0, tasks)
        elif self._openmp is not None and os.getpid() == _own_process:
            self._openmp.region(self._member, place, threads, 0)
        else:  # a fork has none of the OpenMP threads, and none can be started there
            self._in_pool(place, tasks, threads)
        if block[STATUS] not in OK:
            raise MemoryError("no memory for a CPU kernel's states")

    def _in_pool(self, place: int, tasks: int, threads: int) -> None:
        """Run on threads of ours, the caller being one of them."""
        edges = [tasks * i // threads for i in range(threads + 1)]
        pool = _threads(threads - 1)
        futures = [pool.submit(self._on_range, place, edges[i], edges[i + 1]) for i in range(1, threads)]
        try:
            self._on_range(place, 0, edges[1])
        finally:
            wait(futures)  # nobody may still write when the arrays are released


class _OpenMP:
    """GNU's entry to a parallel region of an OpenMP library, and who is who in it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.region = _REGION(ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0)
        self.number, self.count = (
            ctypes.cast(function, ctypes.c_void_p).value or 0
            for function in (library.omp_get_thread_num, library.omp_get_num_threads)
        )


@functools.cache
def _openmp() -> _OpenMP | None:
    """Return the OpenMP library that torch uses; None elsewhere than on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return _OpenMP(ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")))
    except (OSError, AttributeError):
        return None


def _threads(count: int) -> ThreadPoolExecutor:
    """Return a pool of at least `count` threads that belongs to this process (a fork needs its own)."""
    global _pool
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < count:
        _pool = (os.getpid(), count, ThreadPoolExecutor(count, thread_name_prefix="eegm2-kernel"))
    return _pool[2]
