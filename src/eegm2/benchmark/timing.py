"""Seconds of a call, and what several of them come to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def clock_of(work: Callable[[], object]) -> float:
    """Return the seconds of one call; what it returns is let go before the clock stops."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def spread(times: list[float]) -> dict[str, float]:
    """Return median, quartiles, least and count."""
    low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return {"median": statistics.median(times), "q25": low, "q75": high, "min": min(times), "n": len(times)}
