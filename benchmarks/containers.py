"""Containers for whole recordings, compared on the same samples: memory-mapped arrays, HDF5, sharded Zarr v3.

Used by ``benchmarks/data.py``. Cold reads count only where the disk was really read: the files' pages are
dropped, the kernel is asked (`mincore`) whether they are gone, and afterwards (`/proc/self/io`) whether bytes
came from the disk; else the cell says "not measured".
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

READ_S = (2.0, 100.0)
COUNTS = {2.0: 200, 100.0: 20}
Read = Callable[[str, int, int], np.ndarray]


class Memmap:
    """One time-major array file per recording."""

    name = "memory-mapped arrays (ours)"

    @staticmethod
    def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:  # noqa: D102
        for name, array in arrays.items():
            with (folder / f"{name}.raw").open("wb") as file:
                file.write(np.ascontiguousarray(array.T).data)
                file.flush()
                os.fsync(file.fileno())

    @staticmethod
    def opened(folder: Path, n_chans: int) -> tuple[Read, Callable[[], None]]:  # noqa: D102
        files = {p.stem: np.memmap(p, np.float32, "r").reshape(-1, n_chans) for p in folder.glob("*.raw")}
        return lambda name, start, stop: np.array(files[name][start:stop].T, order="C"), files.clear


class Hdf5:
    """One file, one time-major data set per recording, in chunks of 10 s."""

    name = "HDF5, chunks of 10 s"

    @staticmethod
    def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:  # noqa: D102
        import h5py

        with h5py.File(folder / "store.h5", "a") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array.T, chunks=(min(1280, array.shape[1]), len(array)))
            file.flush()
        _sync(folder)

    @staticmethod
    def opened(folder: Path, n_chans: int) -> tuple[Read, Callable[[], None]]:  # noqa: D102
        import h5py

        file = h5py.File(folder / "store.h5", "r")
        sets = {name: file[name] for name in file}
        return lambda name, start, stop: np.array(sets[name][start:stop].T, order="C"), file.close


class Zarr:
    """One group, one time-major array per recording: chunks of 10 s in shards of about 10 min."""

    name = "Zarr v3, sharded (zstd)"

    @staticmethod
    def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:  # noqa: D102
        import zarr

        group = zarr.open_group(str(folder / "store.zarr"), mode="a", zarr_format=3)
        for name, array in arrays.items():
            shard = (1280 * -(-min(array.shape[1], 76_800) // 1280), len(array))
            made = group.create_array(
                name, shape=array.T.shape, dtype="f4", chunks=(1280, len(array)), shards=shard
            )
            made[:] = array.T
        _sync(folder)

    @staticmethod
    def opened(folder: Path, n_chans: int) -> tuple[Read, Callable[[], None]]:  # noqa: D102
        import zarr

        group = zarr.open_group(str(folder / "store.zarr"), mode="r")
        arrays = {name: group[name] for name in group}
        return lambda name, start, stop: np.array(np.asarray(arrays[name][start:stop]).T, order="C"), int


KINDS = (Memmap, Hdf5, Zarr)


def compare(arrays: dict[str, np.ndarray], sfreq_hz: float, work: Path, repeats: int) -> list[dict[str, Any]]:
    """Measure every container on the same arrays (n_chans, n_times); they must return the same samples."""
    rows = []
    for kind in KINDS:
        folder = work / kind.__name__
        folder.mkdir()
        write_s = seconds(lambda kind=kind, folder=folder: kind.write(folder, arrays))
        row: dict[str, Any] = {
            "container": kind.name,
            "write_mb_s": round(sum(array.nbytes for array in arrays.values()) / 1e6 / write_s, 1),
            "mb": round(size(folder) / 1e6, 1),
        }
        n_chans = len(next(iter(arrays.values())))
        read, close = kind.opened(folder, n_chans)
        for name, array in arrays.items():
            assert np.array_equal(read(name, 17, 400), array[:, 17:400]), f"{kind.name} returns other samples"
        close()
        for length_s in READ_S:
            row |= _rates(
                kind, folder, arrays, round(length_s * sfreq_hz), COUNTS[length_s], repeats, length_s
            )
        row["two_writers"] = _two_writers(kind, work / f"{kind.__name__}-two", arrays)
        shutil.rmtree(folder)
        rows.append(row)
    return rows


def _rates(
    kind: Any, folder: Path, arrays: dict[str, np.ndarray], n: int, count: int, repeats: int, length_s: float
) -> dict[str, Any]:
    """Return random reads per second, from the page cache and from the disk."""
    generator = np.random.default_rng(0)
    names = generator.choice(list(arrays), count)
    places = [(str(name), int(generator.integers(0, arrays[name].shape[1] - n + 1))) for name in names]
    n_chans = len(arrays[names[0]])
    warm, cold, verified = [], [], True
    for _ in range(repeats):
        gone = forget(folder)
        before = read_from_disk()
        read, close = kind.opened(folder, n_chans)
        cold.append(seconds(lambda read=read: [read(name, start, start + n) for name, start in places]))
        came = read_from_disk() - before
        compressed = size(folder) / sum(array.nbytes for array in arrays.values())
        expected = _distinct(places, n) * n_chans * 4 * min(1.0, compressed)
        verified &= gone and came >= 0.5 * expected
        warm.append(seconds(lambda read=read: [read(name, start, start + n) for name, start in places]))
        close()
    label = f"{length_s:g}s_per_s"
    return {
        f"warm_{label}": round(count / statistics.median(warm), 1),
        f"cold_{label}": round(count / statistics.median(cold), 1) if verified else None,
    }


def _distinct(places: list[tuple[str, int]], n: int) -> int:
    """Return how many samples lie in at least one of the windows."""
    total = 0
    for name in {name for name, _ in places}:
        end = 0
        for start in sorted(start for other, start in places if other == name):
            total += max(0, start + n - max(start, end))
            end = max(end, start + n)
    return total


def _two_writers(kind: Any, folder: Path, arrays: dict[str, np.ndarray]) -> str:
    """Let two processes write eight arrays each into one container; return what came of it."""
    folder.mkdir()
    piece = next(iter(arrays.values()))[:, :12_800]
    context = multiprocessing.get_context("fork")
    start = context.Event()
    parts = [{f"w{who}n{number}": piece for number in range(8)} for who in range(2)]
    writers = [context.Process(target=_write_when, args=(start, kind, folder, part)) for part in parts]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(120)
    good = 0
    read, close = kind.opened(folder, len(piece))
    for part in parts:
        for name in part:
            try:
                good += bool(np.array_equal(read(name, 0, 12_800), piece))
            except (KeyError, OSError):
                continue
    close()
    shutil.rmtree(folder)
    return f"{good} of 16 arrays"


def _write_when(start: Any, kind: Any, folder: Path, part: dict[str, np.ndarray]) -> None:
    start.wait(60)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    for name, array in part.items():
        kind.write(folder, {name: array})


def forget(folder: Path) -> bool:
    """Drop a folder's pages from memory; return whether the kernel says that they are gone."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)
    return resident(folder) < 0.02


def resident(folder: Path) -> float:
    """Return the share of a folder's pages that are in memory (`mincore`); 1 where nobody can tell."""
    pages = held = 0
    for path in folder.rglob("*"):
        if not path.is_file() or not path.stat().st_size:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
            n = -(-len(mapped) // mmap.PAGESIZE)
            seen = (ctypes.c_ubyte * n)()
            anchor = ctypes.c_char.from_buffer(mapped)
            failed = ctypes.CDLL(None, use_errno=True).mincore(
                ctypes.c_void_p(ctypes.addressof(anchor)), ctypes.c_size_t(len(mapped)), seen
            )
            del anchor
            if failed:
                return 1.0
            pages, held = pages + n, held + sum(byte & 1 for byte in seen)
    return held / max(1, pages)


def read_from_disk() -> int:
    """Return how many bytes this process has caused to be read from disks; 0 where nobody counts."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def seconds(work: Callable[[], Any]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def size(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
