"""Memory and time of training and inference on one GPU, beside mamba_ssm's own Mamba2 in the same network.

First a correctness gate: every form of the scan that can run here against the float64 recurrence, on outputs,
states and gradients, and the network with mamba_ssm's module against ours. Then, at batch 64 and 16 channels:
peak memory and time of a training step at four lengths, in float32 and bfloat16, with and without
checkpointed blocks; times of inference at the paper's lengths, the networks taking turns; windows per second
of ``eegm2 pretrain``. The last line is JSON.

    python benchmarks/gpu.py --out docs/results/gpu.json
    python benchmarks/gpu.py --dry-run      # the same code on a CPU at tiny sizes: it would start
    python benchmarks/gpu.py --predict      # peak memory by counting tensors, without a GPU (minutes)
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_models import AIM_MB, AUTHORS_MB, DRY, SFREQ_HZ, Sizes, Step, network, peer_module, predict
from torch import Tensor, nn

from eegm2 import ops
from eegm2.ops.backends import LIBRARIES, library_problem
from eegm2.training.commit import source_commit
from eegm2.training.config import PretrainConfig


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def gate(sizes: Sizes, make_peer: Callable[..., nn.Module] | None) -> dict[str, Any]:
    """Return the errors of all forms; stop the benchmark where one is wrong."""
    torch.manual_seed(0)
    inputs = [torch.randn(2, 257, 4, 64), torch.rand(2, 257, 4) * 0.1 + 1e-3, -torch.linspace(1, 16, 4)]
    inputs += [torch.randn(2, 257, 1, 16), torch.randn(2, 257, 1, 16)]
    inputs += [torch.randn(4), torch.randn(2, 4, 64, 16)]
    wanted = _results([tensor.double() for tensor in inputs], "cpu", "recurrence")
    report = ops.backend_report()
    forms = ["chunked", *(["numba"] if sizes.device == "cpu" else [])]
    unusable = {name: library_problem(name) for name in LIBRARIES}
    if sizes.device == "cuda":
        forms += [name for name, problem in unusable.items() if problem is None]
    errors = {}
    for form in forms:
        found = _results(inputs, sizes.device, form)
        errors[form] = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted))
        if not errors[form] < 1e-3:
            raise SystemExit(f"{form}: error {errors[form]:.1e} against the float64 recurrence")
    result = {"scan_errors": errors, "backends": report, "unusable": {k: v for k, v in unusable.items() if v}}
    if make_peer is not None:
        x = torch.randn(2, sizes.n_chans, 264, device=sizes.device)
        outputs = []
        for form in ("ours", "mamba_ssm"):
            model = network(sizes, form, make_peer)
            with torch.no_grad():
                outputs.append(model(x))
        difference = float((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max())
        if not difference < 1e-2:
            raise SystemExit(f"mamba_ssm's module in our network differs by {difference:.1e}")
        result["network_difference"] = difference
    return result


def _results(inputs: list[Tensor], device: str, backend: str) -> list[Tensor]:
    leaves = [tensor.to(device).requires_grad_() for tensor in inputs]
    y, state = ops.ssd(*leaves, backend=backend)
    weights = [torch.linspace(-1, 1, t.numel(), device=device).reshape(t.shape) for t in (y, state)]
    gradients = torch.autograd.grad((weights[0] * y).sum() + (weights[1] * state).sum(), leaves)
    return [tensor.detach().double().cpu() for tensor in (y, state, *gradients)]


def training(sizes: Sizes, length: int, precision: str, forms: list[str], make_peer: Any) -> list[dict]:
    """Return one row per form: peak memory of a step alone on the card, then times in turns."""
    rows: list[dict[str, Any]] = []
    for form in forms:
        row: dict[str, Any] = {"form": form, "length": length, "precision": precision}
        try:
            step = Step(network(sizes, form, make_peer), sizes, length, precision)
            for _ in range(3):  # kernels are compiled and tuned in the first
                step()
            if sizes.device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            times = []
            for _ in range(sizes.repeats):
                synchronise(sizes.device)
                start = time.perf_counter()
                row["loss"] = step()
                synchronise(sizes.device)
                times.append(1000 * (time.perf_counter() - start))
            row |= {"median_ms": statistics.median(times), "spread_ms": max(times) - min(times)}
            if sizes.device == "cuda":
                row["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
        except torch.OutOfMemoryError:
            row["failed"] = "out of memory"
        step = None
        if sizes.device == "cuda":
            torch.cuda.empty_cache()
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    base = next((row.get("median_ms") for row in rows if row["form"] == "mamba_ssm"), None)
    for row in rows:
        if base and "median_ms" in row:
            row["times_faster_than_mamba_ssm"] = base / row["median_ms"]
    return rows


def forward(sizes: Sizes, length: int, forms: list[str], make_peer: Any) -> list[dict[str, Any]]:
    """Return the time of inference of each form; they take turns."""
    models = {form: network(sizes, form, make_peer).eval() for form in forms if form != "checkpointed"}
    models["light"] = models["ours"].light()
    x = torch.randn(sizes.batch, sizes.n_chans, length, device=sizes.device)
    times: dict[str, list[float]] = {form: [] for form in models}
    with torch.inference_mode():
        for turn in range(sizes.repeats + 2):
            for form, model in models.items():
                synchronise(sizes.device)
                start = time.perf_counter()
                model(x)
                synchronise(sizes.device)
                if turn > 1 or sizes.repeats == 1:
                    times[form].append(1000 * (time.perf_counter() - start))
    return [{"form": f, "length": length, "median_ms": statistics.median(t)} for f, t in times.items()]


def pretraining(sizes: Sizes) -> dict[str, Any]:
    """Return windows per second and peak memory of the second epoch of ``eegm2 pretrain``."""
    import numpy as np

    from eegm2.data.config import PreprocessingConfig
    from eegm2.data.store.recording_store import RecordingInfo, StoreWriter
    from eegm2.training.pretrain import pretrain

    channels = tuple(f"EEG{number:02d}" for number in range(sizes.n_chans))
    seconds = sizes.lengths[0] / SFREQ_HZ
    with tempfile.TemporaryDirectory() as place:
        writer = StoreWriter(
            Path(place) / "store", PreprocessingConfig(channels=channels, sfreq_hz=SFREQ_HZ), channels
        )
        per_subject = max(2, sizes.pretrain_windows // 8)
        rng = np.random.default_rng(0)
        for subject in range(8):
            samples = rng.standard_normal((len(channels), per_subject * sizes.lengths[0])).astype(np.float32)
            info = RecordingInfo(f"r{subject}", f"s{subject}", "1", samples.shape[1], SFREQ_HZ, channels)
            writer.write(info, 20 * samples)
        config = PretrainConfig(
            width=sizes.width,
            window_s=seconds,
            epochs=2,
            batch_size=min(sizes.batch, 4 * per_subject),
            workers=0 if sizes.device == "cpu" else 4,
            accelerator="cpu" if sizes.device == "cpu" else "gpu",
            devices="1",
            val=0.125,
            test=0.125,
        )
        return pretrain(Path(place) / "store", Path(place) / "run", config).performance


def machine(device: str) -> dict[str, str]:
    name = torch.cuda.get_device_name(0) if device == "cuda" else f"{platform.machine()} CPU"
    return {"device": name, "torch": torch.__version__, "commit": source_commit(7) or "unknown"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU; numbers mean nothing")
    parser.add_argument("--predict", action="store_true", help="only count the memory, without a GPU")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not (options.dry_run or options.predict or torch.cuda.is_available()):
        raise SystemExit("no CUDA device is visible; --dry-run or --predict need none")
    sizes = DRY if options.dry_run else Sizes("cpu" if options.predict else "cuda")
    result: dict[str, Any] = {"dry_run": options.dry_run, **machine(sizes.device), "sizes": sizes.__dict__}
    result |= {"authors_mb": AUTHORS_MB, "aim_mb_at_12800": AIM_MB}
    if options.predict:
        result["predicted"] = predict(sizes)
    else:
        make_peer, peer = peer_module(options.dry_run)
        forms = ["ours", "checkpointed", *(["mamba_ssm"] if make_peer else [])]
        result |= {"peer": peer, **gate(sizes, make_peer)}
        result["training"] = [
            row
            for precision in ("fp32", "bf16")
            for length in sizes.lengths
            for row in training(sizes, length, precision, forms, make_peer)
        ]
        result["forward"] = [
            row for length in sizes.forward_lengths for row in forward(sizes, length, forms, make_peer)
        ]
        result["pretraining"] = pretraining(sizes)
    line = json.dumps(result)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(line)


if __name__ == "__main__":
    main()
