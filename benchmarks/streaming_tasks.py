"""The measurements of streaming.py, each for a process of its own: ``streaming_tasks.py '["name", {…}]'``."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

SFREQ_HZ, N_CHANS = 128, 16
PRESETS, RUNTIMES, THREADS, PUSHES = ("light", "eegm2"), ("torch", "onnx"), (1, 2), (8, 32, 128)
LARGEST_DIFFERENCE = 1e-4
LONGEST_S = 4.0  # a row ends by then, after 100 pushes at least


def build(preset: str, n_chans: int = N_CHANS) -> Any:
    """Return a network of full width with random weights: no cost depends on their values."""
    import torch

    from eegm2 import EEGM2, EEGM2Config

    torch.manual_seed(0)
    return EEGM2(EEGM2Config.preset(preset, n_chans=n_chans)).eval()


def open_stream(preset: str, runtime: str, push: int, threads: int, folder: str) -> Any:
    """Return a function from (1, n_chans, k) samples to outputs, after checking it against the network."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    model = build(preset)
    x = torch.randn(1, N_CHANS, 1024, generator=torch.Generator().manual_seed(1))
    pieces = [x[..., i : i + push].contiguous() for i in range(0, 1024, push)]
    if runtime == "torch":
        from eegm2 import StreamingEEGM2

        stream = StreamingEEGM2(model)
        y = torch.cat([*(stream.push(p) for p in pieces), stream.flush()], dim=2)
        step: Any = stream.push
    else:
        from eegm2.deploy.export.runtime import OnnxStream

        stream = OnnxStream(Path(folder) / f"{preset}-{push}" / "step.onnx", threads=threads)
        name = stream.facts["outputs"][-1]
        parts = [stream.push(p.numpy())[name] for p in pieces] + [stream.flush()[name]]
        y = torch.from_numpy(np.concatenate(parts, axis=2))

        def step(block: Any) -> Any:
            return stream.push(block)

        pieces = [p.numpy() for p in pieces]
    stream.reset()
    with torch.no_grad():
        difference = float((y - model(x)).abs().max())
    if not difference < LARGEST_DIFFERENCE:
        raise SystemExit(f"{preset} {runtime}: differs from offline by {difference}")
    return step, pieces, difference


def measure_row(preset: str, runtime: str, push: int, threads: int, signal_s: float, folder: str) -> dict:
    """Time pushes of one size, over `signal_s` seconds of signal if the time suffices."""
    step, pieces, difference = open_stream(preset, runtime, push, threads, folder)
    for block in pieces[: max(8, 512 // push)]:
        step(block)
    before, times, began = resident_mib(), [], time.perf_counter()
    for i in range(round(signal_s * SFREQ_HZ / push)):
        if len(times) >= 100 and time.perf_counter() - began > LONGEST_S:
            break
        begin = time.perf_counter()
        step(pieces[i % len(pieces)])
        times.append(1e3 * (time.perf_counter() - begin))
    return {
        "median_ms": round(statistics.median(times), 3),
        "p99_ms": round(statistics.quantiles(times, n=100)[98], 3),
        "worst_ms": round(max(times), 3),
        "real_time_factor": round(1e3 * push / SFREQ_HZ * len(times) / sum(times), 1),
        "pushes": len(times),
        "resident_mib": round(resident_mib(), 1),
        "grown_mib": round(resident_mib() - before, 2),
        "difference": difference,
    }


def measure_hour(preset: str, push: int, minutes: int, store: str | None) -> dict:
    """Stream an hour of EEG on one thread and read the memory of the process after every minute."""
    import numpy as np
    import torch

    from eegm2 import StreamingEEGM2
    from eegm2.data.windows.scaling import scale_window

    torch.set_num_threads(1)
    source, recordings = real_eeg(store)
    stream, waiting, used, spent = None, None, 0, 0.0
    resident, pushed, given = [], 0, 0
    while len(resident) < minutes:
        while waiting is None or waiting.shape[1] < 60 * SFREQ_HZ:
            x = scale_window(recordings[used % len(recordings)](), "quantile95")
            waiting, used = x if waiting is None else np.concatenate([waiting, x], axis=1), used + 1
        if stream is None:
            stream = StreamingEEGM2(build(preset, len(waiting)))
            stream.push(waiting[None, :, :512])
            stream.reset()
        minute, waiting = waiting[None, :, : 60 * SFREQ_HZ], waiting[:, 60 * SFREQ_HZ :].copy()
        for i in range(0, 60 * SFREQ_HZ, push):
            block = torch.from_numpy(np.ascontiguousarray(minute[..., i : i + push], np.float32))
            begin = time.perf_counter()
            given += stream.push(block).shape[2]
            spent += time.perf_counter() - begin
            pushed += block.shape[2]
        resident.append(round(resident_mib(), 2))
    return {
        "source": source,
        "recordings": min(used, len(recordings)),
        "repeated": used > len(recordings),
        "n_chans": len(waiting),
        "signal_s": pushed / SFREQ_HZ,
        "outputs": given,
        "held_back": stream.position - given * (8 if stream.output == "representation" else 1),
        "real_time_factor": round(pushed / SFREQ_HZ / spent, 1),
        "resident_mib": resident,
    }


def real_eeg(store: str | None) -> tuple[str, list]:
    """Return where the EEG is from, and one function per recording that reads it, microvolts."""
    if store:
        from eegm2.data.store.recording_store import RecordingStore

        data = RecordingStore(store)
        if data.sfreq_hz != SFREQ_HZ:
            raise SystemExit(f"{store}: is at {data.sfreq_hz:g} Hz; prepare it at {SFREQ_HZ} Hz")
        read = [lambda r=r: data.read(r.id, 0, r.n_times) for r in data.recordings]
        return f"store of {len(data.subjects)} subjects, {len(read)} recordings", read
    import eegm2
    from eegm2.data.config import PreprocessingConfig
    from eegm2.data.files.readers import read_raw
    from eegm2.data.signal.preprocessing import preprocess

    def load(path: Path) -> Any:
        return preprocess(read_raw(str(path)), PreprocessingConfig(), where=path.name).array

    files = sorted((Path(eegm2.__file__).parent / "data" / "bundled").glob("*.edf"))
    return "the bundled recordings (98 s of one person)", [lambda f=f: load(f) for f in files]


def resident_mib() -> float:
    """Return the resident memory that is this process's own: pages of files, such as a store's, are not."""
    import psutil

    memory = psutil.Process().memory_info()
    return (memory.rss - getattr(memory, "shared", 0)) / 2**20


def export_steps(folder: str) -> dict:
    """Export the steps of every push size; return how long it took."""
    from eegm2.data.config import PreprocessingConfig
    from eegm2.deploy.config import ExportConfig
    from eegm2.deploy.export.run import export_model
    from eegm2.deploy.trained_model import TrainedModel

    seconds = {}
    for preset in PRESETS:
        names = tuple(f"ch{i}" for i in range(N_CHANS))
        trained = TrainedModel(build(preset), names, 128.0, "quantile95", 4.0, PreprocessingConfig(), "", "")
        for push in PUSHES:
            begin = time.perf_counter()
            config = ExportConfig(parts=("step",), hop=push, format=("onnx",), int8=False)
            export_model(trained, Path(folder) / f"{preset}-{push}", config)
            seconds[f"{preset}-{push}"] = round(time.perf_counter() - begin, 2)
    return seconds


def export_bundle(preset: str, folder: str) -> dict:
    """Export a bundle for a device at 250 Hz, with a head of random weights; return how long it took."""
    import numpy as np
    import torch

    from eegm2.data.config import PreprocessingConfig
    from eegm2.deploy.config import ExportConfig
    from eegm2.deploy.export.run import export_model
    from eegm2.deploy.heads.dense import DenseHead
    from eegm2.deploy.trained_model import TrainedModel
    from eegm2.model.features import usual_kind, window_features

    model, names = build(preset), tuple(f"ch{i}" for i in range(N_CHANS))
    kind = usual_kind(model.config)
    trained = TrainedModel(model, names, 128.0, "quantile95", 4.0, PreprocessingConfig(), "", "")
    one = window_features(torch.zeros(1, model.config.representation_channels, 4), kind, model.config)
    layers = [(np.random.default_rng(0).standard_normal((2, one.shape[1])) / one.shape[1], np.zeros(2))]
    facts = {"window_s": 4.0, "hop_s": 0.5, "calibration_s": 8.0, "features": kind, "scaling": "quantile95"}
    head = DenseHead(np.zeros(one.shape[1]), np.ones(one.shape[1]), layers, ("a", "b"), facts=facts)
    begin = time.perf_counter()
    export_model(trained, folder, ExportConfig(source_hz=250.0), head)
    return {"features": kind, "export_s": round(time.perf_counter() - begin, 1)}


if __name__ == "__main__":
    task, values = json.loads(sys.argv[1])
    tasks = (measure_row, measure_hour, export_steps, export_bundle)
    print(json.dumps({f.__name__: f for f in tasks}[task](**values)))
