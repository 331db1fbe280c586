"""Time and memory of the forms of the selective scan, forward and with its gradient, within one run.

Every form is first compared with the float64 recurrence on a short input, then timed; the forms take turns,
so that a busy machine slows all of them. Peak memory is measured in a process per form. The recurrence is
timed once, forward only. The last line is JSON.

    python benchmarks/scan.py [--length 12800] [--repeats 7] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from eegm2 import ops
from eegm2.benchmark.plain import ssd_plain

HEADS, HEADDIM, D_STATE = 8, 64, 16
FORMS = ("plain-256", "chunked-256", "chunked-32", "numba", "recurrence")


def forms() -> dict[str, Callable[..., tuple[Tensor, Tensor]]]:
    return {
        "plain-256": ssd_plain,
        "chunked-256": lambda *args: ops.ssd(*args, backend="chunked", chunk_size=256),
        "chunked-32": lambda *args: ops.ssd(*args, backend="chunked", chunk_size=32),
        "numba": lambda *args: ops.ssd(*args, backend="numba"),
        "recurrence": lambda *args: ops.ssd(*args, backend="recurrence"),
    }


def make(length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(0)
    normal = [torch.randn(1, length, *shape) for shape in ((HEADS, HEADDIM), (1, D_STATE), (1, D_STATE))]
    dt = torch.exp(torch.empty(1, length, HEADS).uniform_(-6.9, -2.3))  # log-uniform in 0.001 … 0.1
    return [t.to(dtype) for t in (normal[0], dt, -torch.linspace(1, 16, HEADS), normal[1], normal[2])]


def work(form: str, inputs: list[Tensor], training: bool) -> None:
    if not training:
        with torch.no_grad():
            forms()[form](*inputs)
        return
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    y, state = forms()[form](*leaves)
    (y.sum() + state.sum()).backward()


def gate() -> dict[str, float]:
    """Largest error of y, relative to its largest value; stops the benchmark where a form is wrong."""
    inputs = make(1000)
    expected = ops.ssd(*[tensor.double() for tensor in inputs], backend="recurrence")[0]
    errors = {}
    for name, form in forms().items():
        errors[name] = float((form(*inputs)[0].double() - expected).abs().max() / expected.abs().max())
        if not errors[name] < 1e-4:
            raise SystemExit(f"{name}: error {errors[name]:.1e} against the float64 recurrence")
    return errors


def peak_mb(form: str, length: int, training: bool) -> float:
    """Peak memory of one run above what the process had before it, in MB."""
    command = [sys.executable, __file__, "--child", form, "--length", str(length)]
    out = subprocess.run(
        [*command, *(["--training"] if training else [])], capture_output=True, text=True, check=True
    )
    return float(out.stdout.split()[-1])


def highest_mb() -> float:
    """Return the highest resident memory of this process so far (Linux: since `forget_highest`)."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def forget_highest() -> None:
    """Start the count of the highest memory again from what is in use now, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def child(form: str, length: int, training: bool) -> None:
    work(form, make(300), training)  # compiled and warm
    inputs = make(length)
    forget_highest()
    before = highest_mb()
    work(form, inputs, training)
    print(highest_mb() - before)


def commit() -> str:
    here = Path(__file__).parent
    out = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True)
    return out.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=12_800)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--training", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.length, options.training)
        return
    result = {
        "shape": [1, options.length, HEADS, HEADDIM, D_STATE],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "commit": commit(),
        "errors": gate(),
        "rows": [],
    }
    inputs = make(options.length)
    for training in (False, True):
        names = [name for name in FORMS if name != "recurrence"]
        times: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(options.repeats + 1):
            for name in names:
                start = time.perf_counter()
                work(name, inputs, training)
                if turn:
                    times[name].append(1000 * (time.perf_counter() - start))
        if not training:
            start = time.perf_counter()
            work("recurrence", inputs, training)
            times["recurrence"] = [1000 * (time.perf_counter() - start)] * 2
        base = statistics.median(times["plain-256"])
        for name in times:
            quartiles = statistics.quantiles(times[name], n=4)
            row = {
                "form": name,
                "pass": "training" if training else "forward",
                "median_ms": round(statistics.median(times[name]), 2),
                "iqr_ms": round(quartiles[2] - quartiles[0], 2),
                "times_faster_than_plain": round(base / statistics.median(times[name]), 2),
                "peak_mb": round(peak_mb(name, options.length, training), 1),
            }
            result["rows"].append(row)
            print(row, flush=True)
    line = json.dumps(result)
    if options.out:
        options.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
