"""How whole recordings are best stored, and what `prepare` and the loader gain over one pickle per window.

    python benchmarks/data.py EDF_FOLDER [--recordings 14] [--repeats 3]

Measured on real EDF files in one run. First the containers: the same prepared recordings as memory-mapped
arrays (ours), HDF5 and sharded Zarr v3, each checked to return the same samples. Then the work: a plain
script in the authors' manner (read with MNE, resample by FFT, one pickle per window, once per window length)
against `prepare` with one process, which also filters and checks; and random scaled windows from the pickles
against our dataset. The last line is JSON.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from eegm2.data.config import PrepareConfig, WindowConfig
from eegm2.data.prepare import prepare
from eegm2.data.recipes.base import detect_recipe
from eegm2.data.store import RecordingStore
from eegm2.data.windows import WindowDataset

WINDOWS_S = (2.0, 4.0, 10.0, 30.0)
READ_S = (2.0, 100.0)


def forget_cache(folder: Path) -> None:
    """Ask the system to drop a folder's pages, so that the next read is cold."""
    for path in folder.rglob("*"):
        if path.is_file() and hasattr(os, "posix_fadvise"):
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Memmap:
    """One time-major array file per recording."""

    name = "memory-mapped"

    @staticmethod
    def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:  # noqa: D102
        for name, array in arrays.items():
            with (folder / f"{name}.raw").open("wb") as file:
                file.write(np.ascontiguousarray(array.T).data)
                file.flush()
                os.fsync(file.fileno())

    @staticmethod
    def opened(folder: Path, n_chans: int) -> Callable[[str, int, int], np.ndarray]:  # noqa: D102
        files = {p.stem: np.memmap(p, np.float32, "r").reshape(-1, n_chans) for p in folder.glob("*.raw")}
        return lambda name, start, stop: np.array(files[name][start:stop].T, order="C")


class Hdf5:
    """One file, one time-major data set per recording, in chunks of 10 s."""

    name = "HDF5"

    @staticmethod
    def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:  # noqa: D102
        import h5py

        with h5py.File(folder / "store.h5", "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array.T, chunks=(min(1280, array.shape[1]), len(array)))

    @staticmethod
    def opened(folder: Path, n_chans: int) -> Callable[[str, int, int], np.ndarray]:  # noqa: D102
        import h5py

        file = h5py.File(folder / "store.h5", "r")
        sets = {name: file[name] for name in file}
        return lambda name, start, stop: np.array(sets[name][start:stop].T, order="C")


class Zarr:
    """One group, one time-major array per recording: chunks of 10 s in shards of about 10 min."""

    name = "Zarr v3, sharded"

    @staticmethod
    def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:  # noqa: D102
        import zarr

        group = zarr.open_group(str(folder / "store.zarr"), mode="w", zarr_format=3)
        for name, array in arrays.items():
            shard = (1280 * -(-min(array.shape[1], 76_800) // 1280), len(array))
            made = group.create_array(
                name, shape=array.T.shape, dtype="f4", chunks=(1280, len(array)), shards=shard
            )
            made[:] = array.T

    @staticmethod
    def opened(folder: Path, n_chans: int) -> Callable[[str, int, int], np.ndarray]:  # noqa: D102
        import zarr

        group = zarr.open_group(str(folder / "store.zarr"), mode="r")
        arrays = {name: group[name] for name in group}
        return lambda name, start, stop: np.array(np.asarray(arrays[name][start:stop]).T, order="C")


def compare_containers(store: RecordingStore, work: Path, repeats: int) -> list[dict[str, Any]]:
    """Write, size and random reads of each container; they must return the same samples."""
    arrays = {f"r{number}": store.read(info.id) for number, info in enumerate(store.recordings)}
    generator = np.random.default_rng(0)
    rows = []
    for kind in (Memmap, Hdf5, Zarr):
        folder = work / kind.__name__
        folder.mkdir()
        write_s = seconds(lambda kind=kind, folder=folder: kind.write(folder, arrays))
        row: dict[str, Any] = {
            "container": kind.name,
            "write_mb_s": size(folder) / 1e6 / write_s,
            "mb": size(folder) / 1e6,
        }
        read = kind.opened(folder, len(store.ch_names))
        for name, array in arrays.items():
            assert np.array_equal(read(name, 17, 400), array[:, 17:400]), f"{kind.name} returns other samples"
        for length_s in READ_S:
            n = min(round(length_s * store.sfreq_hz), min(a.shape[1] for a in arrays.values()))
            count = 400 if length_s < 10 else 60
            names = generator.choice(list(arrays), count)
            places = [
                (str(name), int(generator.integers(0, arrays[name].shape[1] - n + 1))) for name in names
            ]

            def all_reads(read: Any = read, places: Any = places, n: int = n) -> None:
                for name, start in places:
                    read(name, start, start + n)

            all_reads()
            row[f"warm_{length_s:g}s_per_s"] = count / statistics.median(
                seconds(all_reads) for _ in range(repeats)
            )
            cold = []
            for _ in range(repeats):
                del read
                forget_cache(folder)
                read = kind.opened(folder, len(store.ch_names))
                cold.append(seconds(lambda read=read, f=all_reads: f(read)))
            row[f"cold_{length_s:g}s_per_s"] = count / statistics.median(cold)
        rows.append(
            {key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()}
        )
    return rows


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


def pickled_windows(folder: Path, order: np.ndarray) -> int:
    """Read and scale pickles in a random order, as a dataset of files does."""
    files = sorted(folder.glob("*.pkl"))
    for place in order:
        with files[place % len(files)].open("rb") as file:
            x = pickle.load(file)["X"]  # noqa: S301 (written a moment ago by this script)
        scaled = x / (np.quantile(np.abs(x), 0.95, axis=-1, keepdims=True) + 1e-8)
        np.asarray(scaled, np.float32)
    return len(files)


def compare_loading(store: RecordingStore, pickles: Path, repeats: int) -> list[dict[str, Any]]:
    """Random scaled windows per second, from pickles and from the store."""
    rows = []
    for window_s in WINDOWS_S:
        data = WindowDataset(store, WindowConfig(window_s=window_s))
        order = np.random.default_rng(0).permutation(len(data))[:300]
        folder = pickles / f"{window_s:g}"

        def ours(data: WindowDataset = data, order: np.ndarray = order) -> None:
            for place in order:
                data[int(place)]

        def theirs(folder: Path = folder, order: np.ndarray = order) -> None:
            pickled_windows(folder, order)

        ours()
        theirs()
        ratios, rates = [], []
        for _ in range(repeats):
            one, other = seconds(theirs), seconds(ours)
            ratios.append(one / other)
            rates.append(len(order) / other)
        rows.append(
            {
                "window_s": window_s,
                "ratio": round(statistics.median(ratios), 2),
                "windows_per_s": round(statistics.median(rates)),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--recordings", type=int, default=14)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    found = detect_recipe(arguments.source).discover(arguments.source)[: arguments.recordings]
    files = [recording.path for recording in found]
    with tempfile.TemporaryDirectory(prefix="eegm2-bench-") as name:
        work = Path(name)
        (work / "in").mkdir()
        for path in files:
            (work / "in" / path.name).symlink_to(path.resolve())
        options = PrepareConfig(jobs=1, recipe="folder")
        prepare(work / "in" / files[0].name, work / "warm-up", options)
        ours, theirs = [], []
        for repeat in range(arguments.repeats):
            theirs.append(seconds(lambda repeat=repeat: plain_script(files, work / f"pickles{repeat}")))
            ours.append(seconds(lambda repeat=repeat: prepare(work / "in", work / f"store{repeat}", options)))
        store = RecordingStore(work / "store0")
        assert len(store) == len(files), "prepare left recordings out: compare like with like"
        result = {
            "benchmark": "data",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "commit": subprocess.run(
                ["git", "rev-parse", "--short", "HEAD"],
                capture_output=True,
                text=True,
                cwd=Path(__file__).parent,
            ).stdout.strip(),
            "recordings": len(files),
            "hours": round(sum(info.duration_s for info in store.recordings) / 3600, 3),
            "channels": len(store.ch_names),
            "prepare": {
                "window_lengths_s": WINDOWS_S,
                "plain_script_s": [round(value, 2) for value in theirs],
                "prepare_s": [round(value, 2) for value in ours],
                "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
                "pickles_mb": round(size(work / "pickles0") / 1e6, 1),
                "store_mb": round(size(work / "store0") / 1e6, 1),
            },
            "loading": compare_loading(store, work / "pickles0", arguments.repeats),
            "containers": compare_containers(store, work, arguments.repeats),
        }
    for row in result["containers"]:
        print(row)
    for row in result["loading"]:
        print(row)
    print(result["prepare"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
