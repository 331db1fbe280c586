"""Cost of a bundle on a device: ``streaming_bundle.py FOLDER SECONDS``, with NumPy and ONNX Runtime alone.

FOLDER is what ``eegm2 export --head`` wrote. Noise of microvolts comes in pushes of a sixteenth of a second,
on one thread; the first minute, the baseline included, is not timed. The energy of a processor goes with the
seconds that it is busy: CPU seconds of an hour of signal stand for it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

PUSHES_PER_S, WARM_S = 16, 60.0


def measure(folder: Path, signal_s: float) -> dict:
    """Time every push of `signal_s` seconds."""
    import numpy as np

    before = resident_mib()
    sys.path.insert(0, str(folder))
    from eegm2_runtime import Decoder  # type: ignore[import-not-found]

    decoder = Decoder(folder / "bundle.onnx")
    rng, times, deciding, busy_s = np.random.default_rng(0), [], [], 0.0
    size, pushed, decisions = decoder.sfreq_hz / PUSHES_PER_S, 0, 0
    for number in range(round((WARM_S + signal_s) * PUSHES_PER_S)):
        due = round((number + 1) * size)
        x = 20 * rng.standard_normal((len(decoder.ch_names), due - pushed))
        pushed = due
        begin, cpu = time.perf_counter(), time.process_time()
        made = decoder.push(x)
        took, cpu = 1e3 * (time.perf_counter() - begin), time.process_time() - cpu
        if number < WARM_S * PUSHES_PER_S:
            continue
        times.append(took)
        busy_s += cpu
        decisions += len(made)
        if made:
            deciding.append(took)
    loaded = [name for name in ("torch", "scipy", "eegm2", "onnx") if name in sys.modules]
    if loaded or not decisions:
        raise SystemExit(f"{folder}: {decisions} decisions, {', '.join(loaded) or 'nothing'} loaded")
    sizes = [(folder / name).stat().st_size for name in ("bundle.onnx", "eegm2_runtime.py")]
    return {
        "n_chans": len(decoder.ch_names),
        "source_hz": decoder.sfreq_hz,
        "push": round(size, 1),
        "pushes": len(times),
        "decisions": decisions,
        "median_ms": round(statistics.median(times), 3),
        "p99_ms": round(statistics.quantiles(times, n=100)[98], 3),
        "worst_ms": round(max(times), 3),
        "decision_median_ms": round(statistics.median(deciding), 3),
        "decision_p99_ms": round(statistics.quantiles(deciding, n=100)[98], 3),
        "cpu_s_per_hour": round(3600 * busy_s / signal_s, 1),
        "resident_mib": round(resident_mib(), 1),
        "without_mib": round(before, 1),
        "bundle_mb": round(sum(sizes) / 1e6, 2),
    }


def resident_mib() -> float:
    """Return the memory of this process, from the system's own books."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), float(sys.argv[2]))))
