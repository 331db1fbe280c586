"""Small, correct recordings in every format, written by the tests themselves.

Each format's writer is chosen to give files as its own tools give them: EDF+ and BDF+ with an annotation
channel, EEGLAB with data inside and beside, BrainVision's three files, FIF.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

CH_NAMES = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")
SFREQ_HZ = 128.0
N_TIMES = 128 * 8


@dataclass(frozen=True)
class Seed:
    """A correct recording: `main` is what a reader is given, `files` everything it consists of."""

    kind: str
    main: Path
    files: tuple[Path, ...]
    channels: tuple[str, ...] = CH_NAMES

    def copy_to(self, folder: Path) -> Seed:
        """Copy all files into `folder`, names kept (they refer to one another)."""
        folder.mkdir(parents=True, exist_ok=True)
        files = tuple(Path(shutil.copyfile(path, folder / path.name)) for path in self.files)
        return replace(self, main=folder / self.main.name, files=files)


def signal_uv() -> np.ndarray:
    """Return (6, 1024) microvolts: an alpha rhythm in coloured noise, as EEG roughly is."""
    generator = np.random.default_rng(20)
    times = np.arange(N_TIMES) / SFREQ_HZ
    noise = np.cumsum(generator.standard_normal((len(CH_NAMES), N_TIMES)), axis=1)
    noise -= noise.mean(axis=1, keepdims=True)
    return 15 * np.sin(2 * np.pi * 10 * times) + noise + 3 * generator.standard_normal(noise.shape)


def write_seeds(folder: Path) -> list[Seed]:
    """Write one recording per format into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = signal_uv()
    return [
        write_edf(folder / "one.edf", data),
        write_bdf(folder / "two.bdf", data),
        write_set(folder / "inside.set", data, beside=False),
        write_set(folder / "beside.set", data, beside=True),
        write_brainvision(folder / "three.vhdr", data),
        write_fif(folder / "one_raw.fif", data),
        write_gdf(folder / "four.gdf"),
        write_fif(folder / "five_raw.fif.gz", data),
        write_arrays(folder / "arrays", data),
    ]


def write_edf(path: Path, data: np.ndarray) -> Seed:
    """Write EDF+C with two annotations."""
    import edfio

    signals = [
        edfio.EdfSignal(
            row, SFREQ_HZ, label=f"EEG {name}", physical_dimension="uV", physical_range=(-500, 500)
        )
        for name, row in zip(CH_NAMES, data)
    ]
    notes = [edfio.EdfAnnotation(1.0, 2.0, "eyes open"), edfio.EdfAnnotation(4.0, 3.0, "eyes closed")]
    edfio.Edf(signals, annotations=notes).write(path)
    return Seed("edf", path, (path,))


def write_bdf(path: Path, data: np.ndarray) -> Seed:
    """Write BDF+ with one annotation."""
    import edfio

    signals = [
        edfio.BdfSignal(row, SFREQ_HZ, label=name, physical_dimension="uV", physical_range=(-500, 500))
        for name, row in zip(CH_NAMES, data)
    ]
    edfio.Bdf(signals, annotations=[edfio.EdfAnnotation(2.0, 1.0, "blink")]).write(path)
    return Seed("bdf", path, (path,))


def write_set(path: Path, data: np.ndarray, *, beside: bool) -> Seed:
    """Write an EEGLAB set (MAT version 5), its samples inside or in an ``.fdt`` file beside it."""
    from scipy.io import savemat

    samples = data.astype("<f4")
    labels = np.array([(name, "EEG") for name in CH_NAMES], dtype=[("labels", object), ("type", object)])
    events = np.array(
        [("square", 130.0, 1.0, 1.0), ("rt", 400.0, 1.0, 2.0)],
        dtype=[("type", object), ("latency", object), ("duration", object), ("urevent", object)],
    )
    beside_path = path.with_suffix(".fdt")
    fields = {
        "setname": path.stem,
        "nbchan": float(len(data)),
        "trials": 1.0,
        "pnts": float(data.shape[1]),
        "srate": SFREQ_HZ,
        "xmin": 0.0,
        "xmax": (data.shape[1] - 1) / SFREQ_HZ,
        "data": beside_path.name if beside else samples,
        "datfile": beside_path.name if beside else "",
        "chanlocs": labels,
        "event": events,
        "ref": "common",
        "icawinv": [],
        "icasphere": [],
        "icaweights": [],
        "epoch": [],
    }
    savemat(path, {"EEG": fields}, appendmat=False)
    if not beside:
        return Seed("set", path, (path,))
    samples.T.tofile(beside_path)
    return Seed("set+fdt", path, (path, beside_path))


def write_brainvision(path: Path, data: np.ndarray) -> Seed:
    """Write header, markers and 16-bit multiplexed samples (resolution 0.1 µV)."""
    samples_path, markers_path = path.with_suffix(".eeg"), path.with_suffix(".vmrk")
    np.round(data.T * 10).astype("<i2").tofile(samples_path)
    channels = "\n".join(f"Ch{i + 1}={name},,0.1,µV" for i, name in enumerate(CH_NAMES))
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={samples_path.name}\nMarkerFile={markers_path.name}\nDataFormat=BINARY\n"
        f"DataOrientation=MULTIPLEXED\nNumberOfChannels={len(CH_NAMES)}\n"
        f"SamplingInterval={1e6 / SFREQ_HZ}\n\n[Binary Infos]\nBinaryFormat=INT_16\n\n"
        f"[Channel Infos]\n{channels}\n",
        encoding="utf-8",
    )
    markers_path.write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={samples_path.name}\n\n[Marker Infos]\n"
        "Mk1=Stimulus,S  1,130,1,0\nMk2=Comment,blink,400,20,0\n",
        encoding="utf-8",
    )
    return Seed("brainvision", path, (path, samples_path, markers_path))


def write_fif(path: Path, data: np.ndarray) -> Seed:
    """Write FIF with an annotation."""
    import mne

    info = mne.create_info(list(CH_NAMES), SFREQ_HZ, "eeg")
    raw = mne.io.RawArray(data * 1e-6, info, verbose="error")
    raw.set_annotations(mne.Annotations([1.0], [2.0], ["eyes open"]))
    raw.save(path, verbose="error")
    return Seed("fif.gz" if path.suffix == ".gz" else "fif", path, (path,))


def write_gdf(path: Path) -> Seed:
    """Write GDF 2.20 with two events on a clock of their own."""
    from tests.hostile.writers import gdf

    path.write_bytes(gdf(events=[(257, 769, 256), (1025, 770, 128)], event_hz=2 * SFREQ_HZ))
    return Seed("gdf", path, (path,))


def write_arrays(folder: Path, data: np.ndarray) -> Seed:
    """Write ten trials of two people as the recipe ``moabb`` has them."""
    folder.mkdir()
    trials = np.tile(data[:, :256].astype("<f4"), (10, 1, 1))
    np.save(folder / "X.npy", trials, allow_pickle=False)
    np.save(folder / "y.npy", np.array(["left", "right"] * 5), allow_pickle=False)
    rows = ["subject,session,run", *["1,0,0"] * 5, *["2,0,0"] * 5]
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    names = ", ".join(f'"{name}"' for name in CH_NAMES)
    (folder / "recording.toml").write_text(
        f'dataset = "made up"\nsfreq_hz = {SFREQ_HZ}\nch_names = [{names}]\n'
    )
    names_of_files = ("X.npy", "y.npy", "metadata.csv", "recording.toml")
    return Seed("arrays", folder / "X.npy", tuple(folder / name for name in names_of_files))
