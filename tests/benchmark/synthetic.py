"""Documents of results with made-up times, for what only reads results."""

from __future__ import annotations

from typing import Any

from eegm2.benchmark.suites import Measurement

FIELDS = ("batch", "precision", "keep_memory", "threads", "cache", "data")


def record(
    work: str, model: str, n_times: int, seconds: float, memory_mb: float = 10.0, **more: Any
) -> dict[str, Any]:
    """Return a measurement that succeeded; `more` goes to the measurement where it is a field of it."""
    fields = {key: more.pop(key) for key in FIELDS if key in more}
    m = Measurement(work, model, n_times, **{"threads": 2, **fields})  # type: ignore[arg-type]
    return {
        "measurement": m.to_dict(),
        "status": "ok",
        "seconds": {"median": seconds, "q25": 0.9 * seconds, "q75": 1.2 * seconds, "min": seconds, "n": 5},
        "memory_mb": memory_mb,
        "memory_method": "made up",
        "load": 0.5,
        **more,
    }


def failed(work: str, model: str, n_times: int, status: str, reason: str) -> dict[str, Any]:
    """Return a measurement that did not succeed."""
    m = Measurement(work, model, n_times, threads=2)  # type: ignore[arg-type]
    return {"measurement": m.to_dict(), "status": status, "reason": reason, "load": 0.7}


def document(*records: dict[str, Any]) -> dict[str, Any]:
    """Return a document around measurements."""
    return {
        "format": 1,
        "created": "2026-01-02T03:04:05+00:00",
        "machine": {
            "processor": "An Ordinary CPU",
            "cores": 2,
            "instructions": ["avx2", "fma"],
            "memory_gb": 8.0,
            "system": "Linux x86_64",
        },
        "code": {
            "versions": {"eegm2": "0", "torch": "2"},
            "commit": "0123456789abcdef",
            "source_sha256": "00",
        },
        "options": {},
        "bounds": {"timeout_s": 60.0, "memory_gb": 4.0},
        "results": list(records),
    }
