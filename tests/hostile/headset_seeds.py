"""Small, correct recordings as headsets and their programs write them: XDF, muselsl, a declared table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.data.xdf import xdf
from tests.hostile.seeds import CH_NAMES, N_TIMES, SFREQ_HZ, Seed, signal_uv

MUSE = ("TP9", "AF7", "AF8", "TP10")


def write_headset_seeds(folder: Path) -> list[Seed]:
    """Write one recording per kind, each into a folder of its own."""
    for name in ("xdf", "muse", "table"):
        (folder / name).mkdir(parents=True)
    data = signal_uv()
    return [
        write_xdf(folder / "xdf" / "lab.xdf", data),
        write_muselsl(folder / "muse" / "muse.csv", data[: len(MUSE)]),
        write_table(folder / "table" / "own.csv", data),
    ]


def write_xdf(path: Path, data: np.ndarray) -> Seed:
    """Write an EEG stream in chunks of a second, and markers on another clock."""
    times_s = 100 + np.arange(N_TIMES) / SFREQ_HZ
    cap = ("cap", "EEG", SFREQ_HZ, CH_NAMES, times_s, list(data.T), 0.0)
    keys = ("keys", "Markers", 0.0, ("m",), np.array([51.0, 53.0]), ["left", "right"], 50.0)
    path.write_bytes(xdf([cap, keys], per_chunk=128))
    return Seed("xdf", path, (path,))


def write_muselsl(path: Path, data: np.ndarray) -> Seed:
    """Write a table of muselsl at 256 Hz, with one marker."""
    lines = ["timestamps," + ",".join(MUSE) + ",Right AUX,Marker0"]
    for i, row in enumerate(data.T):
        values = ",".join(f"{value:.3f}" for value in row)
        lines.append(f"{1.7e9 + i / 256:.3f},{values},0.000,{int(i == 512)}")
    path.write_text("\n".join(lines) + "\n")
    return Seed("muselsl csv", path, (path,), MUSE)


def write_table(path: Path, data: np.ndarray) -> Seed:
    """Write a table with semicolons in millivolts and milliseconds, and its declaration."""
    lines = ["ms;" + ";".join(f"ch {name}" for name in CH_NAMES) + ";event"]
    for i, row in enumerate(data.T):
        values = ";".join(f"{value / 1e3:.6f}" for value in row)
        lines.append(f"{1e3 * i / SFREQ_HZ:.4f};{values};{'go' if i == 256 else ''}")
    path.write_text("\n".join(lines) + "\n")
    declaration = path.with_suffix(".toml")
    declaration.write_text(
        'separator = ";"\nunit = "mV"\ntime = "ms"\ntime_unit_s = 0.001\nmarkers = ["event"]\n[channels]\n'
        + "".join(f'"ch {name}" = "{name}"\n' for name in CH_NAMES)
    )
    return Seed("declared csv", path, (path, declaration))
