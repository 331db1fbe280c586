"""Running kernels on torch's own threads, or on threads of ours where torch's cannot be had.

torch's OpenMP threads spin for some milliseconds after each parallel operation, in wait for the next one.
Other threads then find no free core: a kernel between two products of matrices took as long on two threads as
on one. So kernels run where the products do, as a parallel region of torch's OpenMP library.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

Work = Callable[[int, int], object]
_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_own_process = os.getpid()
_pool: tuple[int, int, ThreadPoolExecutor] | None = None


def run_ranges(work: Work, tasks: int, threads: int) -> None:
    """Call ``work(start, stop)`` for `threads` ranges that make up all tasks, at the same time.

    Parameters
    ----------
    work : callable
        Releases the GIL for as long as it computes.
    tasks, threads : int
        At least 1; threads at most tasks.

    Raises
    ------
    Exception
        The first one that `work` raised.
    """
    edges = [tasks * i // threads for i in range(threads + 1)]
    ranges = list(itertools.pairwise(edges))
    if threads == 1:
        work(*ranges[0])
        return
    fork = _openmp()
    if fork is not None and os.getpid() == _own_process:
        _in_region(fork, work, ranges)
    else:
        _in_pool(work, ranges)


@functools.cache
def _openmp() -> Any | None:
    """Return GNU's entry to a parallel region in the OpenMP library that torch uses, on Linux.

    A fork has none of the library's threads, and none can be started there.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        fork = library.GOMP_parallel
    except (OSError, AttributeError):
        return None
    fork.argtypes = [_REGION, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    fork.restype = None
    return fork


def _in_region(fork: Any, work: Work, ranges: list[tuple[int, int]]) -> None:
    left = iter(ranges)  # each thread takes the next; next() is atomic under the GIL
    errors: list[BaseException] = []

    def member(_: object) -> None:
        try:
            for ends in left:
                work(*ends)
        except BaseException as error:  # must not pass through a frame that is not Python's
            errors.append(error)

    fork(_REGION(member), None, len(ranges), 0)
    if errors:
        raise errors[0]


def _in_pool(work: Work, ranges: list[tuple[int, int]]) -> None:
    """Do the same on threads of ours, the caller being one of them."""
    pool = _threads(len(ranges) - 1)
    futures = [pool.submit(work, *ends) for ends in ranges[1:]]
    try:
        work(*ranges[0])
    finally:
        wait(futures)  # nobody may still write when the arrays are released
    for future in futures:
        future.result()


def _threads(count: int) -> ThreadPoolExecutor:
    """Return a pool of at least `count` threads that belongs to this process (a fork needs its own)."""
    global _pool
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < count:
        _pool = (os.getpid(), count, ThreadPoolExecutor(count, thread_name_prefix="eegm2-kernel"))
    return _pool[2]
