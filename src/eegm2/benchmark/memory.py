"""Peak memory of this process above what it held before."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
import time
from pathlib import Path

import psutil

#: How the highest resident memory is found.
RESET = "highest resident memory since a reset (VmHWM, /proc/self/clear_refs)"
SAMPLED = "resident memory sampled every 2 ms"


def resident_mb() -> float:
    """Return the resident memory of this process, in MB (2**20 bytes)."""
    return psutil.Process().memory_info().rss / 2**20


def give_back() -> None:
    """Return freed memory to the system where the allocator can (glibc)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _highest_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def _reset() -> bool:
    """Start the system's count of the highest memory again; False where it has none."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _highest_mb() < 1.02 * resident_mb() + 8
    except (OSError, StopIteration):
        return False


class Peak:
    """Highest resident memory from the moment of construction, above that moment's.

    The system counts it where it can be reset (Linux); elsewhere a thread samples, which costs some time:
    `stop` it before anything is timed.
    """

    def __init__(self) -> None:
        give_back()
        self.idle_mb = resident_mb()
        self._highest = self.idle_mb
        self._running = True
        self.method = RESET if _reset() else SAMPLED
        if self.method == SAMPLED:
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()

    def _sample(self) -> None:
        while self._running:
            self._highest = max(self._highest, resident_mb())
            time.sleep(0.002)

    def stop(self) -> None:
        """End the sampling; the system's own count goes on."""
        if self.method == SAMPLED and self._running:
            self._running = False
            self._thread.join()

    def above_idle_mb(self) -> float:
        """Return the peak so far above idle, in MB."""
        highest = _highest_mb() if self.method == RESET else self._highest
        return max(0.0, highest - self.idle_mb)
