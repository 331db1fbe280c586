"""What `prepare` and the loader gain over one pickle per window, and how whole recordings are best stored.

    python benchmarks/data.py EDF_FOLDER --out docs/results/data.json

measures on real EDF files in one run, writes the JSON and beside it the tables of the documentation
(``data.md``); ``--tables docs/results/data.json`` only writes the tables again. About five minutes.

A plain script in the authors' manner (read with MNE, resample by FFT, one pickle per window, once per window
length) against `prepare` in one process, which also filters, checks and syncs; random batches from the
pickles against our dataset, both through torch's DataLoader; what a worker of `prepare` holds beside a
recording of an hour; and the containers of ``containers.py``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))

import torch
from containers import compare, seconds, size
from torch.utils.data import DataLoader, Dataset

from eegm2.data.config import PrepareConfig, WindowConfig
from eegm2.data.preparing.prepare import prepare
from eegm2.data.recipes.base import detect_recipe
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset, collate_windows

WINDOWS_S = (2.0, 4.0, 10.0, 30.0)
BATCH = 32
ALONE = PrepareConfig(jobs=1, recipe="folder")


def plain_script(files: list[Path], out: Path) -> None:
    """Write one pickle per window, once per window length, in the manner of the authors' scripts."""
    import mne

    for window_s in WINDOWS_S:
        folder = out / f"{window_s:g}"
        folder.mkdir(parents=True)
        for path in files:
            raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
            raw.resample(128, verbose="error")
            data = raw.get_data(units="uV")
            n = round(window_s * 128)
            for number, start in enumerate(range(0, data.shape[1] - n + 1, n)):
                with (folder / f"{path.stem}_{number}.pkl").open("wb") as file:
                    pickle.dump({"X": data[:, start : start + n], "y": 0}, file)


class Pickles(Dataset):  # type: ignore[type-arg]
    """Scaled windows from one pickle each."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.pkl"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: int) -> dict[str, Any]:
        with self.files[item].open("rb") as file:
            sample = pickle.load(file)  # noqa: S301 (written a moment ago by this script)
        x = sample["X"]
        x = x / (np.quantile(np.abs(x), 0.95, axis=-1, keepdims=True) + 1e-8)
        return {"x": torch.tensor(x, dtype=torch.float32), "y": sample["y"], "index": item}


def compare_preparing(files: list[Path], work: Path, repeats: int) -> dict[str, Any]:
    """Return seconds of the plain script and of `prepare`, and what both left on the disk."""
    source = work / "in"
    source.mkdir()
    for path in files:
        (source / path.name).symlink_to(path.resolve())
    prepare(source / files[0].name, work / "warm-up", ALONE)
    theirs, ours, every_core = [], [], []
    for repeat in range(repeats):
        theirs.append(seconds(lambda: plain_script(files, work / f"pickles{repeat}")))  # noqa: B023
        ours.append(seconds(lambda: prepare(source, work / f"store{repeat}", ALONE)))  # noqa: B023
        options = PrepareConfig(recipe="folder")
        every_core.append(seconds(lambda: prepare(source, work / f"cores{repeat}", options)))  # noqa: B023
    store = RecordingStore(work / "store0")
    assert len(store) == len(files), "prepare left recordings out: compare like with like"
    assert store.verify() == {}
    return {
        "recordings": len(files),
        "hours": round(sum(info.duration_s for info in store.recordings) / 3600, 3),
        "channels": len(store.ch_names),
        "window_lengths_s": WINDOWS_S,
        "plain_script_s": [round(value, 2) for value in theirs],
        "prepare_s": [round(value, 2) for value in ours],
        "prepare_default_jobs_s": [round(value, 2) for value in every_core],
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
        "ratios": [round(one / other, 2) for one, other in zip(theirs, ours)],
        "pickles_mb": round(size(work / "pickles0") / 1e6, 1),
        "store_mb": round(size(work / "store0") / 1e6, 1),
    }


def compare_loading(store: RecordingStore, pickles: Path, repeats: int) -> list[dict[str, Any]]:
    """Return random scaled windows per second in batches, from pickles and from the store."""
    rows = []
    for window_s in WINDOWS_S:
        data, files = (
            WindowDataset(store, WindowConfig(window_s=window_s)),
            Pickles(pickles / f"{window_s:g}"),
        )
        x = store.read(data.recordings[0].id, 0, data.n_times).astype(np.float64)
        expected = x / (np.quantile(np.abs(x), 0.95, axis=-1, keepdims=True) + 1e-8)
        assert np.allclose(data[0]["x"], expected, rtol=1e-5, atol=1e-6), "windows are scaled differently"
        count = BATCH * max(3, min(320, len(data)) // BATCH)
        order = np.resize(np.random.default_rng(0).permutation(min(len(data), len(files))), count).tolist()
        ours = DataLoader(data, BATCH, sampler=order, collate_fn=collate_windows)
        theirs = DataLoader(files, BATCH, sampler=order)
        ratios, rates = [], []
        for repeat in range(repeats + 1):
            other = seconds(lambda: [None for _ in theirs])  # noqa: B023
            own = seconds(lambda: [None for _ in ours])  # noqa: B023
            if repeat:  # the first round warms the page cache and compiles
                ratios.append(other / own)
                rates.append(count / own)
        row = {"window_s": window_s, "windows": count, "windows_per_s": round(statistics.median(rates))}
        row |= {"ratio": round(statistics.median(ratios), 2), "ratios": [round(r, 2) for r in ratios]}
        rows.append(row)
    return rows


def memory_of_a_worker(path: Path, work: Path, hours: float = 1.0) -> dict[str, Any]:
    """Return what preparing a recording made `hours` long by repetition takes beside the idle process."""
    content = path.read_bytes()
    header, n_records = int(content[184:192]), int(content[236:244])
    record_s, n_signals = float(content[244:252]), int(content[252:256])
    times = max(1, round(hours * 3600 / (n_records * record_s)))
    long = work / "long" / "long.edf"
    long.parent.mkdir()
    with long.open("wb") as file:
        file.write(content[:236] + f"{n_records * times:<8}".encode() + content[244:header])
        for _ in range(times):
            file.write(content[header:])
    code = (
        "import gc, json, sys; from pathlib import Path; from eegm2.data.config import PrepareConfig;"
        "from eegm2.data.preparing.prepare import prepare;"
        "from eegm2.data.store.recording_store import RecordingStore;"
        "options = PrepareConfig(jobs=1, recipe='folder'); prepare(sys.argv[1], sys.argv[3] + '/a', options);"
        "gc.collect(); line = lambda key: next(int(row.split()[1]) for row in "
        "Path('/proc/self/status').read_text().splitlines() if row.startswith(key));"
        "idle = line('VmRSS'); Path('/proc/self/clear_refs').write_text('5');"
        "prepare(sys.argv[2], sys.argv[3] + '/b', options);"
        "info = RecordingStore(sys.argv[3] + '/b').recordings[0];"
        "print(json.dumps([idle, line('VmHWM'), info.quality['duration_s'] * info.quality['source_sfreq_hz'],"
        " info.quality['n_chans']]))"
    )
    arguments = [sys.executable, "-c", code, str(path), str(long), str(work / "memory")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return {"problem": done.stderr.strip().splitlines()[-1]}
    idle_kib, peak_kib, n_times, n_chans = json.loads(done.stdout.splitlines()[-1])
    samples = n_times * n_chans
    taken = (peak_kib - idle_kib) * 1024
    return {
        "hours": round(n_records * record_s * times / 3600, 2),
        "signals": n_signals,
        "file_mb": round(long.stat().st_size / 1e6, 1),
        "as_mne_holds_it_mb": round(8 * samples / 1e6, 1),
        "idle_mb": round(idle_kib * 1024 / 1e6, 1),
        "peak_above_idle_mb": round(taken / 1e6, 1),
        "times_as_mne_holds_it": round(taken / (8 * samples), 2),
        "times_as_float32": round(taken / (4 * samples), 2),
    }


def machine() -> dict[str, Any]:
    """Return where and on what this was measured."""
    root = Path(__file__).parents[1]
    git = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
    }


def long_arrays(store: RecordingStore, hours: float) -> dict[str, np.ndarray]:
    """Return two recordings of `hours` altogether, made of the store's own by repetition."""
    whole = np.concatenate([store.read(info.id) for info in store.recordings], axis=1)
    n_times = round(hours * 1800 * store.sfreq_hz)
    whole = np.tile(whole, (1, -(-n_times // whole.shape[1])))[:, :n_times]
    return {"r0": whole, "r1": np.roll(whole, n_times // 3, axis=1)}


def main() -> None:
    from data_tables import write_json, write_tables

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, nargs="?", help="folder of EDF files")
    parser.add_argument("--recordings", type=int, default=14)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hours", type=float, default=1.0, help="length of the long recordings")
    parser.add_argument("--out", type=Path, help="JSON file to write, and the tables beside it")
    parser.add_argument("--tables", type=Path, help="only write the tables of this JSON file")
    arguments = parser.parse_args()
    if arguments.tables:
        write_tables(arguments.tables)
        return
    torch.set_num_threads(1)
    result: dict[str, Any] = {"benchmark": "data", **machine()}
    found = detect_recipe(arguments.source).discover(arguments.source)[: arguments.recordings]
    files = [recording.path for recording in found]
    with tempfile.TemporaryDirectory(prefix="eegm2-bench-") as name:
        work = Path(name)
        result["prepare"] = compare_preparing(files, work, arguments.repeats)
        print(result["prepare"], flush=True)
        store = RecordingStore(work / "store0")
        result["loading"] = compare_loading(store, work / "pickles0", arguments.repeats)
        print(*result["loading"], sep="\n", flush=True)
        result["memory"] = memory_of_a_worker(files[0], work, arguments.hours)
        print(result["memory"], flush=True)
        arrays = long_arrays(store, arguments.hours)
        result["container_mb"] = round(sum(array.nbytes for array in arrays.values()) / 1e6, 1)
        result["containers"] = compare(arrays, store.sfreq_hz, work, arguments.repeats)
        print(*result["containers"], sep="\n", flush=True)
    result["load_after"] = round(os.getloadavg()[0], 2)
    if arguments.out:
        write_json(arguments.out, result)
        write_tables(arguments.out)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
