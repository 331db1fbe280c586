"""Cost of streaming: time per push and memory, an hour of EEG with flat memory, and an LSL round trip.

    python benchmarks/streaming.py --out docs/results/streaming.json [--store STORE] [--quick]
    python benchmarks/streaming.py --render docs/results/streaming.json

The first measures, in less than six minutes on two idle cores: each row in a process of its own, after a
check that the stream equals the offline network. A push of k samples at 128 Hz stands for k / 128 seconds;
the real-time factor is the signal's time over the time spent. The hour comes from ``--store`` (or the
environment variable EEGM2_STORE), its recordings one after the other, repeated where they are shorter;
without a store from the bundled recordings, repeated, and the results say so. The second writes table and
figure beside the JSON. The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from streaming_lsl import measure_lsl
from streaming_render import render
from streaming_tasks import N_CHANS, PRESETS, PUSHES, RUNTIMES, SFREQ_HZ, THREADS, build

TASKS = Path(__file__).with_name("streaming_tasks.py")
BUNDLE = Path(__file__).with_name("streaming_bundle.py")
BUNDLES = ("light", "covariance")


def in_process(task: str, on: int = 1, /, **arguments: Any) -> Any:
    """Run one measurement in a process of its own `on` so many threads and return its result."""
    return run_script(on, TASKS, json.dumps([task, arguments]))


def run_script(on: int, script: Path, *words: str) -> Any:
    """Run a script in a process of its own on so many threads and return the JSON of its last line."""
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(on))
    done = subprocess.run(
        [sys.executable, str(script), *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{script.name} {' '.join(words)}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict:
    import numpy
    import torch

    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    processor, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = lines[0].split(":")[1].strip() if lines else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "commit": git.stdout.strip(),
    }


def measure(quick: bool, store: str | None) -> dict:
    """Run everything; say every row as it comes."""
    signal_s, minutes, lsl_s = (30.0, 2, 5.0) if quick else (300.0, 60, 20.0)
    began = time.perf_counter()
    result: dict[str, Any] = {
        "benchmark": "streaming",
        "quick": quick,
        "n_chans": N_CHANS,
        "sfreq_hz": SFREQ_HZ,
    }
    result |= {**machine(), "rows": [], "hours": [], "lsl": []}
    with tempfile.TemporaryDirectory() as folder:
        result["export_s"] = in_process("export_steps", folder=folder)
        print(f"exported: {result['export_s']}", flush=True)
        for preset in PRESETS:
            for threads in THREADS:
                for push in PUSHES:
                    for runtime in RUNTIMES:  # beside each other, so that a busy moment hits both
                        where = {"preset": preset, "runtime": runtime, "push": push}
                        row = in_process(
                            "measure_row", threads, **where, threads=threads, signal_s=signal_s, folder=folder
                        )
                        result["rows"].append({**where, "threads": threads, **row})
                        print(
                            f"{preset:6} {runtime:5} {threads} threads, push {push:3}: median "
                            f"{row['median_ms']:7.3f} ms, p99 {row['p99_ms']:7.3f}, worst "
                            f"{row['worst_ms']:7.3f}, real time x {row['real_time_factor']:7.1f}",
                            flush=True,
                        )
        result["covariance"] = measure_covariance(signal_s)
        result["bundles"] = measure_bundles(signal_s)
        result["hours"] = measure_hours(minutes, store)
        for preset in PRESETS:
            result["lsl"].append({"preset": preset, **measure_lsl(build(preset), folder, preset, lsl_s)})
            print(f"{preset:6} LSL round trip: {result['lsl'][-1]}", flush=True)
    result["took_s"] = round(time.perf_counter() - began, 1)
    return result


def measure_covariance(signal_s: float) -> list[dict[str, Any]]:
    """Time pushes of the covariance preset beside those of Light, in torch on one thread."""
    rows = []
    for push in PUSHES:
        for preset in BUNDLES:
            where = {"preset": preset, "runtime": "torch", "push": push, "threads": 1}
            row = in_process("measure_row", 1, **where, signal_s=signal_s, folder="")
            rows.append({**where, "commit": machine()["commit"], **row})
            print(f"{preset:10} push {push:3}: real time x {row['real_time_factor']:7.1f}", flush=True)
    return rows


def measure_bundles(signal_s: float) -> list[dict[str, Any]]:
    """Measure a bundle of each preset on one thread, without torch; exported before anything is timed."""
    bundles = []
    with tempfile.TemporaryDirectory() as folder:
        places = {preset: Path(folder) / preset for preset in BUNDLES}
        made = {
            preset: in_process("export_bundle", preset=preset, folder=str(place))
            for preset, place in places.items()
        }
        for preset, place in places.items():
            row = run_script(1, BUNDLE, str(place), str(signal_s))
            bundles.append({"preset": preset, **made[preset], "commit": machine()["commit"], **row})
            print(f"{preset:10} bundle: {bundles[-1]}", flush=True)
    return bundles


def measure_hours(minutes: int, store: str | None) -> list[dict[str, Any]]:
    """Stream an hour with every preset."""
    hours = []
    for preset in PRESETS:
        hour = in_process("measure_hour", preset=preset, push=32, minutes=minutes, store=store)
        hours.append({"preset": preset, "push": 32, "commit": machine()["commit"], **hour})
        print(f"{preset:6} {hour['signal_s'] / 60:.0f} minutes: {hour}", flush=True)
    return hours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; shows that it runs")
    parser.add_argument("--store", default=os.environ.get("EEGM2_STORE"), help="EEG of the hour, at 128 Hz")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--hours", action="store_true", help="measure the hours of --out again, nothing else")
    parser.add_argument("--bundles", action="store_true", help="measure the bundles of --out again, likewise")
    parser.add_argument("--covariance", action="store_true", help="measure preset covariance of --out again")
    parser.add_argument("--render", type=Path, help="JSON file whose table and figure are written")
    arguments = parser.parse_args()
    if arguments.render:
        print(json.dumps(render(arguments.render)))
        return
    if arguments.hours or arguments.bundles or arguments.covariance:
        if not arguments.out or not arguments.out.exists():
            parser.error("--hours, --bundles and --covariance replace parts of a file: name it with --out")
        result = json.loads(arguments.out.read_text())
        if arguments.hours:
            result["hours"] = measure_hours(60, arguments.store)
        if arguments.bundles:
            result["bundles"] = measure_bundles(30.0 if arguments.quick else 300.0)
        if arguments.covariance:
            result["covariance"] = measure_covariance(30.0 if arguments.quick else 300.0)
    else:
        result = measure(arguments.quick, arguments.store)
    if arguments.out:
        temporary = arguments.out.with_name(arguments.out.name + ".part")
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        temporary.replace(arguments.out)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
