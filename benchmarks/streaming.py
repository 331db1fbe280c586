"""Cost of streaming: time per push, real-time factor and memory, torch and ONNX Runtime.

    python benchmarks/streaming.py [--quick] [--out streaming.json]

Every row is measured in a process of its own, after a check that the stream equals the offline network. A
push of k samples at 128 Hz stands for k / 128 seconds; the real-time factor is that time over the median. The
last line is JSON. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SFREQ_HZ = 128
N_CHANS = 16


def measure(preset: str, runtime: str, push: int, threads: int, pushes: int, folder: str) -> dict:
    import numpy as np
    import torch

    from eegm2 import EEGM2, EEGM2Config, StreamingEEGM2

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset(preset, n_chans=N_CHANS)).eval()
    x = torch.randn(1, N_CHANS, 1024, generator=torch.Generator().manual_seed(1))
    if runtime == "torch":
        stream = StreamingEEGM2(model)

        def step(block: torch.Tensor) -> None:
            stream.push(block)

        y = torch.cat([stream.push(p) for p in x.split(push, dim=2)] + [stream.flush()], dim=2)
        stream.reset()
    else:
        from eegm2.deploy.runtime import OnnxStream

        onnx = OnnxStream(Path(folder) / f"{preset}-{push}" / "step.onnx", threads=threads)
        name = onnx.facts["outputs"][-1]

        def step(block: torch.Tensor) -> None:
            onnx.push(block.numpy())

        parts = [onnx.push(p.numpy())[name] for p in x.split(push, dim=2)] + [onnx.flush()[name]]
        y = torch.from_numpy(np.concatenate(parts, axis=2))
        onnx.reset()
    with torch.no_grad():
        difference = float((y - model(x)).abs().max())
    if not difference < 1e-4:
        raise SystemExit(f"{preset} {runtime}: differs from offline by {difference}")
    block = x[..., :push].contiguous()
    for _ in range(max(20, 256 // push)):
        step(block)
    before = resident_mib()
    times = []
    for _ in range(pushes):
        begin = time.perf_counter()
        step(block)
        times.append(1e3 * (time.perf_counter() - begin))
    median = statistics.median(times)
    return {
        "preset": preset,
        "runtime": runtime,
        "push": push,
        "threads": threads,
        "median_ms": round(median, 3),
        "p99_ms": round(statistics.quantiles(times, n=100)[98], 3),
        "worst_ms": round(max(times), 3),
        "real_time_factor": round(1e3 * push / SFREQ_HZ / median, 1),
        "signal_s": pushes * push / SFREQ_HZ,
        "resident_mib": round(resident_mib(), 1),
        "grown_mib": round(resident_mib() - before, 2),
        "difference": difference,
    }


def resident_mib() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def export_steps(presets: list[str], pushes: list[int], folder: Path) -> None:
    import torch

    from eegm2 import EEGM2, EEGM2Config
    from eegm2.data.config import PreprocessingConfig
    from eegm2.deploy.config import ExportConfig
    from eegm2.deploy.export import export_model
    from eegm2.deploy.source_model import TrainedModel

    for preset in presets:
        torch.manual_seed(0)
        model = EEGM2(EEGM2Config.preset(preset, n_chans=N_CHANS)).eval()
        names = tuple(f"ch{i}" for i in range(N_CHANS))
        facts = TrainedModel(
            model, names, 128.0, "quantile95", 4.0, PreprocessingConfig(), "benchmark", sha256=""
        )
        for push in pushes:
            config = ExportConfig(parts=("step",), hop=push, format=("onnx",), int8=False)
            export_model(facts, folder / f"{preset}-{push}", config)


def machine() -> dict:
    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor
        )
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "commit": commit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer pushes, torch only")
    parser.add_argument("--hour", action="store_true", help="stream an hour of signal per row")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(**json.loads(arguments.row))))
        return
    presets, pushes = ["light", "eegm2"], [8, 32, 128]
    runtimes = ["torch"] if arguments.quick else ["torch", "onnx"]
    result = {"benchmark": "streaming", "n_chans": N_CHANS, "sfreq_hz": SFREQ_HZ, **machine(), "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        if "onnx" in runtimes:
            export_steps(presets, pushes, Path(folder))
        for preset in presets:
            for runtime in runtimes:
                for threads in (1, 2):
                    for push in pushes:
                        count = (
                            3600 * SFREQ_HZ // push if arguments.hour else 100 if arguments.quick else 1000
                        )
                        row = {"preset": preset, "runtime": runtime, "push": push, "threads": threads}
                        text = json.dumps({**row, "pushes": count, "folder": folder})
                        done = subprocess.run(
                            [sys.executable, __file__, "--row", text],
                            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                            capture_output=True,
                            text=True,
                            check=False,
                        )
                        if done.returncode:
                            raise SystemExit(done.stderr)
                        measured = json.loads(done.stdout.splitlines()[-1])
                        result["rows"].append(measured)
                        print(
                            f"{preset:6} {runtime:5} {threads} threads, push {push:3}: median "
                            f"{measured['median_ms']:7.3f} ms, p99 {measured['p99_ms']:7.3f}, worst "
                            f"{measured['worst_ms']:7.3f}, real time x {measured['real_time_factor']:7.1f}"
                        )
    if arguments.out:
        temporary = arguments.out.with_name(arguments.out.name + ".part")
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        temporary.replace(arguments.out)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
