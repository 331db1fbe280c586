"""Where the time of a forward pass and of a training step goes, on one thread and on all.

Each network and number of threads has a process of its own. Runs under torch's profiler give every operation
its time without what it calls; the fastest of them is taken, for others share most machines. Page faults
and the system's time are counted over runs without the profiler.

    python benchmarks/time_shares.py [--n-times 12800] [--out docs/results/profile.json]
    python benchmarks/time_shares.py --render docs/results/profile.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eegm2.atomic import write_atomic
from eegm2.benchmark.machine import code, load, machine
from eegm2.benchmark.results import display_name, number, table
from eegm2.benchmark.suites import Measurement, available_cores

CASES = (("forward", "eegm2"), ("forward", "light"), ("train", "eegm2"))
RUNS = 7
#: Kinds of operations by what their names contain; the first that fits counts.
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "convolutions and linear layers, compiled": ("convolution", "convolve", "weight_slopes"),
    "sequence blocks, compiled": ("eegm2",),
    "norms, joins, pooling": ("layer_norm", "lerp", "maximum", "aten::cat", "aten::copy_", "aten::add"),
}
REST, BETWEEN = "other operations", "between operations"


def kind(name: str) -> str:
    """Return the kind of an operation of torch's profiler."""
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), REST)


def measure(work: str, model: str, threads: int, n_times: int) -> dict[str, Any]:
    """Return milliseconds per kind, of the whole, and what the system did, in this process."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from eegm2.benchmark.measure import clock
    from eegm2.benchmark.subject import build_subject

    torch.set_num_threads(threads)
    subject = build_subject(Measurement(work, model, n_times, 1, threads))
    subject.warm_up()
    clock(subject)
    before = resource.getrusage(resource.RUSAGE_SELF)
    times = [clock(subject) for _ in range(RUNS)]
    after = resource.getrusage(resource.RUSAGE_SELF)
    shares: list[dict[str, float]] = []
    for _ in range(RUNS):
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            seconds = clock(subject)
        found = dict.fromkeys([*KINDS, REST], 0.0)
        for event in profiled.key_averages():
            found[kind(event.key)] += event.self_cpu_time_total / 1e3
        found[BETWEEN] = max(0.0, 1e3 * seconds - sum(found.values()))
        shares.append(found)
    return {
        "ms": 1e3 * min(times),
        "median_ms": 1e3 * statistics.median(times),
        "parts_ms": min(shares, key=lambda parts: sum(parts.values())),
        "page_faults": (after.ru_minflt - before.ru_minflt) / RUNS,
        "system_ms": 1e3 * (after.ru_stime - before.ru_stime) / RUNS,
    }


def in_process(work: str, model: str, threads: int, n_times: int) -> dict[str, Any]:
    """Measure in a new process."""
    command = [sys.executable, __file__, "--child", work, model, str(threads), "--n-times", str(n_times)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    about = {"work": work, "model": model, "threads": threads, "n_times": n_times, "load": load()}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {**about, **json.loads(done.stdout.splitlines()[-1])}


def markdown(document: dict[str, Any]) -> str:
    """Return the table, a section of its own."""
    host, versions = document["machine"], document["code"]["versions"]
    rows = []
    for r in document["results"]:
        total = sum(r["parts_ms"].values())
        shares = [f"{part / total:.0%}" for part in r["parts_ms"].values()]
        name = f"{display_name(r['model'])}, {r['work']}, {r['threads']}"
        system = [f"{r['page_faults']:,.0f}", number(r["system_ms"])]
        rows.append((name, number(r["ms"]), *shares, *system))
    parts = [*KINDS, REST, BETWEEN]
    header = ("network, work, threads", "ms", *parts, "page faults", "system, ms of all threads")
    loads = [r["load"] for r in document["results"] if r["load"] is not None]
    lengths = ", ".join(f"{n:,}" for n in sorted({r["n_times"] for r in document["results"]}))
    origin = (
        f"{host['processor']}, {host['cores']} cores; torch {versions['torch']}, numba {versions['numba']}; "
        f"commit {(document['code']['commit'] or 'unknown')[:12]}; {document['created']}; 1 × 16 × {lengths}."
    )
    if loads:
        origin += f" Load average before each: {min(loads):g} to {max(loads):g}."
    body = f"{origin}\n\n{table(header, rows)}"
    return f"<!-- --8<-- [start:profile] -->\n\n{body}\n\n<!-- --8<-- [end:profile] -->\n"


def render(path: Path) -> None:
    """Write the table beside its results."""
    write_atomic(path.with_suffix(".md"), [markdown(json.loads(path.read_text())).encode()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--n-times", type=int, default=12_800)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--render", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work, model, threads = options.child
        print(json.dumps(measure(work, model, int(threads), options.n_times)))
        return
    if options.render:
        return render(options.render)
    threads = sorted({1, available_cores()})
    begin = datetime.now(UTC).isoformat(timespec="seconds")
    document: dict[str, Any] = {"created": begin, "machine": machine(), "code": code(), "results": []}
    for work, model in CASES:
        for count in threads:
            document["results"].append(in_process(work, model, count, options.n_times))
            print(document["results"][-1], file=sys.stderr)
    print(markdown(document))
    if options.out:
        write_atomic(options.out, [(json.dumps(document, indent=1) + "\n").encode()])
        render(options.out)


if __name__ == "__main__":
    main()
