"""Compiling kernels with Numba, and saying so once, before a wait of seconds looks like a hang."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("eegm2")
PATIENCE_S = 0.5  # less than this in all is not worth a line
_KERNELS = "compiling the CPU kernels: takes some seconds now, later runs read them from a cache"
_UNCACHED = (
    "compiling the CPU kernels: takes some seconds, in every run, for no folder of theirs can be written; "
    "NUMBA_CACHE_DIR names another"
)


@functools.cache
def say_once(text: str) -> None:
    """Write a line to the ``eegm2`` log, which is stderr unless told otherwise; the same one never again."""
    logger.warning(text)


def kernel(function: Callable[..., Any], *, made_from: str = "", **options: Any) -> Any:
    """Compile with Numba on first use; keep the code on disk, or only in memory where no folder is writable.

    It is written to the first folder that can be: ``NUMBA_CACHE_DIR``, beside the file, the user's cache.
    It is read from ``NUMBA_CACHE_DIR`` where that is set, else from any of them.

    Parameters
    ----------
    function : callable
        Called without the GIL; divisions follow NumPy.
    made_from : str
        Digest of further sources that are compiled into it: Numba looks at the age of its own file only.
    """
    import numba

    announce_kernels()
    if made_from:
        function.__qualname__ += f"_{made_from}"
    chosen: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, **options}
    dispatcher: Any = numba.njit(**chosen)(function)
    if not getattr(numba.config, "DISABLE_JIT", 0):
        from eegm2.code_cache import CodeCache

        dispatcher._cache = CodeCache(function)
    return dispatcher


@functools.cache
def announce_kernels() -> None:
    """From now on say so when Numba really compiles kernels of this package, not when it reads its cache."""
    from numba.core import event

    class Announcer(event.Listener):
        """Adds up the time; Numba holds its compiler's lock during these calls."""

        def __init__(self) -> None:
            self.depth, self.spent_s, self.began = 0, 0.0, 0.0
            self.timer: Any = None

        def on_start(self, event: Any) -> None:
            if _ours(event):
                self.depth += 1
                if self.depth == 1:
                    self.began = time.monotonic()
                    text = _KERNELS if event.data["dispatcher"]._cache.writable else _UNCACHED
                    self.timer = threading.Timer(max(0.0, PATIENCE_S - self.spent_s), say_once, [text])
                    self.timer.daemon = True
                    self.timer.start()

        def on_end(self, event: Any) -> None:
            if _ours(event):
                self.depth -= 1
                if self.depth == 0:
                    self.timer.cancel()
                    self.spent_s += time.monotonic() - self.began

    event.register("numba:compile", Announcer())


def _ours(event: Any) -> bool:
    return str(event.data["dispatcher"].py_func.__module__).startswith("eegm2.")
