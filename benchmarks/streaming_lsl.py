"""How long a decision takes over LabStreamingLayer: this process sends EEG, `eegm2 stream` sends classes.

The clock runs from the push of the sample that completes a decision (the last of its window and the encoder's
look-ahead of 9) to the arrival of its probabilities. Samples are sent in blocks as devices send them, in real
time, so that a sample that arrives within a block counts from there; the look-ahead itself (70 ms) and the
filter's delay are fixed and not part of this number.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SFREQ_HZ, BLOCK, WINDOW_S, HOP_S, LOOK_AHEAD = 128, 8, 2.0, 0.0625, 9


def measure_lsl(model: Any, folder: str, name: str, signal_s: float) -> dict:
    """Send `signal_s` seconds of noise to ``eegm2 stream`` and time the classes that come back."""
    import numpy as np

    from eegm2.deploy.live.lsl import LslOutlet, load_pylsl

    pylsl = load_pylsl()
    names = [f"ch{i}" for i in range(model.config.n_chans)]
    stream = f"benchmark-{os.getpid()}-{name}"
    outlet = LslOutlet(stream, "EEG", names, float(SFREQ_HZ), "microvolts")
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "eegm2", "stream", "--source", "lsl", "--stream-name", stream),
            *("--model", str(write_model(model, names, Path(folder) / f"{name}.safetensors"))),
            *("--head", str(write_head(model, Path(folder) / f"{name}-head.safetensors"))),
            *("--out", "lsl", "--calibration-s", "0", "--scale-uv", "20", "--hop-s", str(HOP_S)),
            *("--chunk-s", str(BLOCK / SFREQ_HZ), "--duration-s", str(signal_s), "--reconnect-s", "0"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = pylsl.resolve_byprop("name", "eegm2-probabilities", minimum=1, timeout=60)
        if not found or not outlet._outlet.wait_for_consumers(60):
            raise SystemExit(f"LSL: eegm2 stream did not answer: {child.communicate()[1][-500:]}")
        inlet = pylsl.StreamInlet(found[0])
        inlet.open_stream(timeout=10)
        time.sleep(0.5)
        pushed, arrived = exchange(outlet, inlet, len(names), round(signal_s * SFREQ_HZ / BLOCK))
        inlet.close_stream()
    finally:
        child.kill()
        child.wait()
    latencies = []
    for k, when in enumerate(arrived):
        needed = round((WINDOW_S + k * HOP_S) * SFREQ_HZ) - 1 + LOOK_AHEAD
        if needed // BLOCK < len(pushed):  # the last classes come from the flush at the end
            latencies.append(1e3 * (when - pushed[needed // BLOCK]))
    if len(latencies) < 20 or min(latencies) < 0:
        raise SystemExit(
            f"LSL: {len(latencies)} classes came back, earliest {min(latencies, default=0):.1f} ms"
        )
    return {
        "decisions": len(latencies),
        "block_samples": BLOCK,
        "median_ms": round(statistics.median(latencies), 2),
        "p99_ms": round(float(np.quantile(latencies, 0.99)), 2),
        "worst_ms": round(max(latencies), 2),
    }


def exchange(outlet: Any, inlet: Any, n_chans: int, blocks: int) -> tuple[list[float], list[float]]:
    """Send blocks in real time; return when each was pushed and when each decision arrived."""
    import numpy as np

    from eegm2.deploy.live.lsl import load_pylsl

    clock, rng = load_pylsl().local_clock, np.random.default_rng(0)
    pushed: list[float] = []
    arrived: list[float] = []
    began = clock()
    while len(pushed) < blocks:
        due = began + (len(pushed) + 1) * BLOCK / SFREQ_HZ
        while (left := due - clock()) > 0:
            if inlet.pull_sample(timeout=min(left, 0.05))[0] is not None:
                arrived.append(clock())
        x = 20 * rng.standard_normal((n_chans, BLOCK))
        pushed.append(clock())
        outlet.push(x, due)
    deadline = clock() + 1
    while clock() < deadline:
        if inlet.pull_sample(timeout=0.1)[0] is not None:
            arrived.append(clock())
    return pushed, arrived


def write_model(model: Any, names: list[str], path: Path) -> Path:
    """Write a checkpoint whose preprocessing is none, so that no filter's delay is measured."""
    from eegm2.config import to_dict
    from eegm2.data.config import PreprocessingConfig, WindowConfig
    from eegm2.training.checkpoint import save_checkpoint

    header = {
        "preprocessing": to_dict(PreprocessingConfig(channels=tuple(names), l_freq_hz=0.0, h_freq_hz=0.0)),
        "windows": to_dict(WindowConfig(window_s=WINDOW_S)),
        "ch_names": names,
        "sfreq_hz": float(SFREQ_HZ),
    }
    save_checkpoint(path, model, header)
    return path


def write_head(model: Any, path: Path) -> Path:
    """Write a head of two classes with random weights."""
    import numpy as np

    from eegm2.deploy.heads.dense import DenseHead

    features = 9 * model.config.representation_channels
    layers = [(np.random.default_rng(0).standard_normal((2, features)) / features, np.zeros(2))]
    DenseHead(np.zeros(features), np.ones(features), layers, ("a", "b"), facts={"window_s": WINDOW_S}).save(
        path
    )
    return path
