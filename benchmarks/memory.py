"""What a recording takes of memory while `eegm2 prepare` reads it, by format and size, against its file.

    python benchmarks/memory.py --out docs/results/memory.json --mb 16 64 256 1024
    python benchmarks/memory.py --tables docs/results/memory.json

writes synthetic recordings of every format, prepares each in a process of its own and asks the system how
much that process held at most, in memory (resident) and in mapped addresses, which is what a worker's limit
counts. With ``--mb`` and ``--formats`` rows are added to those kept. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))

from data_tables import write_json, write_text

from eegm2.data.config import PrepareConfig
from eegm2.data.files.edf_stream import GrowingEdf
from eegm2.data.preparing.isolation import Limits
from eegm2.data.preparing.prepare import prepare

SFREQ_HZ = 256
NAMES = [
    *("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "FC5", "FC1", "FC2", "FC6", "T7", "C3", "Cz", "C4", "T8"),
    *("CP5", "CP1", "CP2", "CP6", "P7", "P3", "Pz", "P4", "P8", "PO3", "PO4", "O1", "Oz", "O2", "AF3", "AF4"),
]
MUSE = ["TP9", "AF7", "AF8", "TP10"]
WORDS = ("VmHWM", "VmPeak", "VmRSS", "VmSize")


def seconds_of(n_chans: int, n: int) -> Iterator[np.ndarray]:
    """Yield `n` seconds of noise with a rhythm, (n_chans, SFREQ_HZ) in whole microvolts."""
    rng = np.random.default_rng(n_chans)
    times = np.arange(64 * SFREQ_HZ) / SFREQ_HZ
    rhythm = 20 * np.sin(2 * np.pi * 10 * times)
    block = np.round(rng.normal(0, 15, (n_chans, len(times))) + rhythm)
    for second in range(n):
        start = (second * 7 % 63) * SFREQ_HZ
        yield np.roll(block[:, start : start + SFREQ_HZ], second // 64, axis=0)


def blocks_of(n_chans: int, n: int) -> Iterator[np.ndarray]:
    """Yield the same in stretches of up to 60 s."""
    waiting: list[np.ndarray] = []
    for second in seconds_of(n_chans, n):
        waiting.append(second)
        if len(waiting) == 60:
            yield np.concatenate(waiting, axis=1)
            waiting = []
    if waiting:
        yield np.concatenate(waiting, axis=1)


def write_growing(path: Path, size: int) -> None:
    """Write EDF or BDF; `slow` has the rate of the store, so that it is not reduced."""
    width = 3 if path.suffix == ".bdf" else 2
    rate = PrepareConfig().sfreq_hz if path.stem == "slow" else SFREQ_HZ
    file = GrowingEdf(path, NAMES, float(rate), np.zeros(len(NAMES)))
    for second in seconds_of(len(NAMES), round(size / (width * len(NAMES) * rate))):
        file.write(second[:, : round(rate)])
    file.close()


def write_brainvision(path: Path, size: int) -> None:
    lines = [f"Ch{i}={name},,0.1,µV" for i, name in enumerate(NAMES, 1)]
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\n"
        f"DataOrientation=MULTIPLEXED\nNumberOfChannels={len(NAMES)}\nSamplingInterval={1e6 / SFREQ_HZ}\n"
        "[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\n" + "\n".join(lines) + "\n",
        encoding="utf-8",
    )
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\n[Marker Infos]\nMk1=New Segment,,1,1,0,20200101000000000000\n"
    )
    with path.with_suffix(".eeg").open("wb") as file:
        for block in blocks_of(len(NAMES), size // (2 * len(NAMES) * SFREQ_HZ)):
            file.write((10 * block.T).astype("<i2").tobytes())


def write_gdf(path: Path, size: int) -> None:
    n = len(NAMES)
    n_records = size // (2 * n * SFREQ_HZ)
    head = b"GDF 2.20" + bytes(176) + struct.pack("<H", n + 1) + bytes(50)
    head += struct.pack("<qII", n_records, 1, 1) + struct.pack("<HH", n, 0)
    head += b"".join(name.encode().ljust(16, b"\0") for name in NAMES) + bytes(86 * n)
    head += struct.pack("<H", 4275) * n
    for value in (-3276.8, 3276.7, -32768.0, 32767.0):
        head += struct.pack("<d", value) * n
    head += bytes(80 * n) + struct.pack("<i", SFREQ_HZ) * n + struct.pack("<i", 3) * n + bytes(32 * n)
    with path.open("wb") as file:
        file.write(head)
        for second in seconds_of(n, n_records):
            file.write((10 * second).astype("<i2").tobytes())


def write_fif(path: Path, size: int) -> None:
    """Save a short recording many times over: MNE writes it block by block."""
    import mne

    n_seconds = size // (4 * len(NAMES) * SFREQ_HZ)
    piece_s = min(n_seconds, 900)
    data = np.concatenate(list(seconds_of(len(NAMES), piece_s)), axis=1)
    info = mne.create_info(NAMES, SFREQ_HZ, "eeg")
    whole = path.name.endswith(".gz")
    plain = path.with_name("plain_raw.fif") if whole else path
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        piece = Path(place) / "piece_raw.fif"
        mne.io.RawArray(data * 1e-6, info, verbose="error").save(piece, verbose="error")
        raws = [mne.io.read_raw_fif(piece, verbose="error") for _ in range(max(1, n_seconds // piece_s))]
        raw = mne.concatenate_raws(raws, verbose="error")
        raw.set_annotations(None)
        raw.save(plain, split_size="2GB", verbose="error")
    if whole:
        pack(plain, path)


def pack(plain: Path, path: Path) -> None:
    """Compress a file in place of it."""
    with plain.open("rb") as source, gzip.open(path, "wb", compresslevel=1) as file:
        shutil.copyfileobj(source, file, 1 << 20)
    plain.unlink()


def write_set(path: Path, size: int) -> None:
    """Write an EEGLAB set; `NAME_fdt.set` has its samples beside it, `NAME_zip.set` is compressed."""
    from scipy.io import savemat

    n_seconds = size // (4 * len(NAMES) * SFREQ_HZ)
    beside = path.stem.endswith("_fdt")
    n_times = n_seconds * SFREQ_HZ
    data: Any = path.with_suffix(".fdt").name
    if beside:
        with path.with_suffix(".fdt").open("wb") as file:
            for block in blocks_of(len(NAMES), n_seconds):
                file.write(block.T.astype("<f4").tobytes())
    else:
        data = np.empty((len(NAMES), n_times), np.float32, order="F")
        at = 0
        for block in blocks_of(len(NAMES), n_seconds):
            data[:, at : at + block.shape[1]] = block
            at += block.shape[1]
    places = np.array([(name,) for name in NAMES], dtype=[("labels", "O")])
    fields = {
        "setname": "big", "nbchan": float(len(NAMES)), "trials": 1.0, "pnts": float(n_times),
        "srate": float(SFREQ_HZ), "xmin": 0.0, "xmax": (n_times - 1) / SFREQ_HZ, "data": data,
        "chanlocs": places, "event": [], "icawinv": [], "icaweights": [], "icasphere": [],
    }  # fmt: skip
    content = {"EEG": fields} if beside else fields
    savemat(path, content, appendmat=False, do_compression=path.stem.endswith("_zip"))


def write_hdf5_set(path: Path, size: int) -> None:
    """Write an EEGLAB set as MATLAB 7.3 does; `NAME_zip.set` is compressed, as MATLAB leaves it."""
    import h5py

    n_seconds = size // (4 * len(NAMES) * SFREQ_HZ)
    n_times = n_seconds * SFREQ_HZ
    packed = {"compression": "gzip", "compression_opts": 3} if path.stem.endswith("_zip") else {}

    def add(group: Any, name: str, value: float | str) -> Any:
        text = isinstance(value, str)
        content = np.array([[ord(c)] for c in value], np.uint16) if text else np.array([[value]], float)
        made = group.create_dataset(name, data=content)
        made.attrs["MATLAB_class"] = np.bytes_("char" if text else "double")
        return made

    with h5py.File(path, "w", userblock_size=512) as file:
        eeg = file.create_group("EEG")
        eeg.attrs["MATLAB_class"] = np.bytes_("struct")
        numbers = {"nbchan": len(NAMES), "trials": 1, "pnts": n_times, "srate": SFREQ_HZ}
        for name, value in {**numbers, "xmin": 0.0, "xmax": (n_times - 1) / SFREQ_HZ}.items():
            add(eeg, name, float(value))
        add(eeg, "setname", "big")
        places, texts = eeg.create_group("chanlocs"), file.create_group("#refs#")
        places.attrs["MATLAB_class"] = np.bytes_("struct")
        labels = [[add(texts, f"label{i}", name).ref] for i, name in enumerate(NAMES)]
        places.create_dataset("labels", data=np.array(labels, h5py.ref_dtype), dtype=h5py.ref_dtype)
        shape = (n_times, len(NAMES))
        data = eeg.create_dataset("data", shape, "<f4", chunks=(4 * SFREQ_HZ, len(NAMES)), **packed)
        data.attrs["MATLAB_class"] = np.bytes_("single")
        at = 0
        for block in blocks_of(len(NAMES), n_seconds):
            data[at : at + block.shape[1]] = block.T
            at += block.shape[1]
    with path.open("r+b") as head:
        head.write(b"MATLAB 7.3 MAT-file, HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM")


def write_csv(path: Path, size: int) -> None:
    """Write a table as muselsl does."""
    with path.open("w") as file:
        file.write("timestamps," + ",".join(MUSE) + ",Right AUX\n")
        for second, block in enumerate(seconds_of(len(MUSE), 1 << 30)):
            stamps = 1.6e9 + second + np.arange(SFREQ_HZ) / SFREQ_HZ
            rows = [f"{t:.3f},{','.join(f'{v:.3f}' for v in row)},0.0\n" for t, row in zip(stamps, block.T)]
            file.write("".join(rows))
            if file.tell() >= size:
                return


def write_packed_xdf(path: Path, size: int) -> None:
    """Write the same as `write_xdf`, compressed."""
    write_xdf(path.with_suffix(".xdf"), size)
    pack(path.with_suffix(".xdf"), path)


def write_xdf(path: Path, size: int) -> None:
    """Write a stream as LabRecorder does, in chunks of a second."""

    def chunk(tag: int, content: bytes) -> bytes:
        return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content

    described = "".join(f"<channel><label>{n}</label><unit>microvolts</unit></channel>" for n in NAMES)
    header = (
        f"<?xml version='1.0'?><info><name>big</name><type>EEG</type><channel_count>{len(NAMES)}"
        f"</channel_count><nominal_srate>{SFREQ_HZ}</nominal_srate><channel_format>float32</channel_format>"
        f"<source_id>big</source_id><desc><channels>{described}</channels></desc></info>"
    )
    n = size // ((4 * len(NAMES) + 9) * SFREQ_HZ)
    sample = np.dtype([("stamped", "u1"), ("time", "<f8"), ("x", "<f4", (len(NAMES),))])
    with path.open("wb") as file:
        file.write(b"XDF:" + chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>"))
        file.write(chunk(2, struct.pack("<I", 1) + header.encode()))
        for second, block in enumerate(seconds_of(len(NAMES), n)):
            rows = np.empty(SFREQ_HZ, sample)
            rows["stamped"], rows["x"] = 8, block.T
            rows["time"] = 1000 + second + np.arange(SFREQ_HZ) / SFREQ_HZ
            body = b"\x04" + struct.pack("<I", SFREQ_HZ) + rows.tobytes()
            file.write(chunk(3, struct.pack("<I", 1) + body))
        last = f"<first_timestamp>1000</first_timestamp><sample_count>{n * SFREQ_HZ}</sample_count>"
        file.write(chunk(6, struct.pack("<I", 1) + f"<?xml version='1.0'?><info>{last}</info>".encode()))


AVERAGE = "EDF of the store's rate, average reference"
FORMATS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "EDF": ("big.edf", write_growing),
    "EDF of the store's rate": ("slow.edf", write_growing),
    AVERAGE: ("slow.edf", write_growing),
    "BDF": ("big.bdf", write_growing),
    "BrainVision": ("big.vhdr", write_brainvision),
    "GDF": ("big.gdf", write_gdf),
    "FIF": ("big_raw.fif", write_fif),
    "FIF, compressed": ("big_raw.fif.gz", write_fif),
    "EEGLAB": ("big.set", write_set),
    "EEGLAB, compressed": ("big_zip.set", write_set),
    "EEGLAB with .fdt": ("big_fdt.set", write_set),
    "EEGLAB as HDF5": ("big.set", write_hdf5_set),
    "EEGLAB as HDF5, compressed": ("big_zip.set", write_hdf5_set),
    "XDF": ("big.xdf", write_xdf),
    "XDF, compressed": ("big.xdfz", write_packed_xdf),
    "CSV (muselsl)": ("big.csv", write_csv),
}


def measured(name: str, mb: float, work: Path) -> dict[str, Any]:
    """Write one recording, prepare it in a process of its own, and return what that took."""
    source, place = work / "in", work / "out"
    source.mkdir()
    file, write = FORMATS[name]
    write(source / file, round(mb * 1e6))
    sizes = {path: path.stat().st_size for path in source.iterdir()}
    size = sum(sizes.values())
    command = [sys.executable, __file__, "--one", name, str(source / file), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    shutil.rmtree(source)
    shutil.rmtree(place, ignore_errors=True)
    if done.returncode:
        raise SystemExit(f"{name} of {mb} MB: {done.stderr.strip()[-2000:]}")
    before, after, duration_s = json.loads(done.stdout.splitlines()[-1])
    return {
        "format": name,
        "file_mb": round(size / 1e6, 1),
        "hours": round(duration_s / 3600, 2),
        "resident_mb": round((after["VmHWM"] - before["VmRSS"]) * 1024 / 1e6),
        "mapped_mb": round((after["VmPeak"] - before["VmSize"]) * 1024 / 1e6),
        "limit_mb": round(Limits.for_files(sizes).memory_bytes / 1e6),
    }


def prepare_here(name: str, source: str, out: str) -> None:
    """Prepare a file in this process and print what the process held before and at most (in KiB)."""
    reference = "average" if name == AVERAGE else "keep"
    before = held()
    config = PrepareConfig(jobs=1, isolate=False, recipe="folder", reference=reference)
    result = prepare(source, out, config)
    (outcome,) = result.outcomes
    assert outcome.status == "prepared", outcome.reason
    print(json.dumps([before, held(), outcome.quality["duration_s"]]))


def held() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    rows = dict(line.split(":", 1) for line in lines)
    return {word: int(rows[word].split()[0]) for word in WORDS}


def table(result: dict[str, Any]) -> str:
    """Return the page's table."""
    lines = [
        f"<!-- made by benchmarks/memory.py --tables docs/results/memory.json -->\n\n{result['processor']}, "
        f"Python {result['python']}, commit {result['commit']}, {result['date']}. Above the process as it "
        "starts; the smallest file's row is what libraries take.\n",
        "| format | file (MB) | length (h) | resident at most (MB) | mapped at most (MB) | limit (MB) | "
        "resident beyond the smallest file's, times the file |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in FORMATS:
        rows = sorted((r for r in result["rows"] if r["format"] == name), key=lambda r: r["file_mb"])
        for row in rows:
            more = row["file_mb"] - rows[0]["file_mb"]
            times = f"{(row['resident_mb'] - rows[0]['resident_mb']) / more:.1f}" if more else ""
            cells = [f"{row[key]:g}" for key in ("file_mb", "hours", "resident_mb", "mapped_mb", "limit_mb")]
            lines.append(f"| {name} | {' | '.join(cells)} | {times} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mb", type=float, nargs="+", default=[16.0, 64.0, 256.0, 1024.0])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--out", type=Path, help="JSON file to write or add to, and the table beside it")
    parser.add_argument("--tables", type=Path, help="only write the table of this JSON file")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        prepare_here(*arguments.one)
        return
    if arguments.tables:
        write_text(arguments.tables.with_suffix(".md"), table(json.loads(arguments.tables.read_text())))
        return
    from data import machine

    kept = json.loads(arguments.out.read_text())["rows"] if arguments.out and arguments.out.exists() else []
    result = {"benchmark": "memory", **machine(), "rows": kept}
    for name in arguments.formats:
        for mb in arguments.mb:
            with tempfile.TemporaryDirectory(prefix="eegm2-bench-", dir=os.environ.get("TMPDIR")) as work:
                row = measured(name, mb, Path(work))
            print(row, flush=True)
            rows = result["rows"]
            rows[:] = [
                r for r in rows if not (r["format"] == name and round(r["file_mb"]) == round(row["file_mb"]))
            ]
            rows.append(row)
            if arguments.out:
                write_json(arguments.out, result)
    if arguments.out:
        write_text(arguments.out.with_suffix(".md"), table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
