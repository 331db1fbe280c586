"""Write the recordings that ship with the package from the EPOC eyes set of van Hees et al. (CC BY 4.0).

Usage: python tools/bundle_demo.py FOLDER    (the set as BIDS: sub-*/eeg/sub-*_task-eyes_eeg.edf)

Of the people in the folder a quarter is drawn with a seed. Of each, 63 s before and 63 s after the switch
of state are taken, well away from it, and laid end to end; the 60 s of each state that touch neither end nor
join are annotated, and the join is marked as MNE marks one. The second stretch is moved by one number per
channel to the level of the first: the device's offset wanders. The switch is nominally at 180 s; where the
remarks of participants.tsv say that it came later, so does the second stretch, and who was recorded in one
state only is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mne
import numpy as np
from edfio import Edf, EdfAnnotation, EdfSignal, Patient, Recording

SEED = 0
SHARE = 4  #: one of so many people
LENGTH_S = 63
FIRST_S, SECOND_S = 107, 195  #: starts of the two stretches
SWITCHED_LATER_S = {"sub-013": 30, "sub-040": 30, "sub-058": 30}  #: by the remarks in participants.tsv
ONE_STATE = {"sub-061"}  #: remark: eyes open after five minutes, where the recording ends
EDGE_S = 1.5  #: of each stretch, at both ends, without a label
STEP_UV = 20 / 39  #: of the device, microvolts per count
OUT = Path(__file__).parents[1] / "src" / "eegm2" / "data" / "bundled"


def chosen(people: list[str]) -> list[str]:
    """Return the people who are bundled, drawn from all with a seed and recorded in both states."""
    order = np.random.default_rng(SEED).permutation(sorted(people))
    return sorted(name for name in order[: len(people) // SHARE].tolist() if name not in ONE_STATE)


def bundle(path: Path, subject: str) -> None:
    """Cut one recording and write it as EDF+ with annotations."""
    raw = mne.io.read_raw_edf(path, verbose="error")
    sfreq_hz = int(raw.info["sfreq"])
    starts = (FIRST_S, SECOND_S + SWITCHED_LATER_S.get(subject, 0))
    states = [
        next(a["description"] for a in raw.annotations if a["onset"] <= start < a["onset"] + a["duration"])
        for start in starts
    ]
    uv = raw.get_data() * 1e6
    first, second = (uv[:, start * sfreq_hz : (start + LENGTH_S) * sfreq_hz] for start in starts)
    level_before, level_after = np.median(first[:, -sfreq_hz:], 1), np.median(second[:, :sfreq_hz], 1)
    second = second + (level_before - level_after)[:, None]
    annotations = [
        EdfAnnotation(EDGE_S, LENGTH_S - 2 * EDGE_S, states[0]),
        EdfAnnotation(LENGTH_S, None, "BAD boundary"),
        EdfAnnotation(LENGTH_S + EDGE_S, LENGTH_S - 2 * EDGE_S, states[1]),
    ]
    counts = np.round(np.concatenate([first, second], axis=1) / STEP_UV)
    counts -= np.round(np.median(counts, axis=1, keepdims=True))
    largest = 2**15 - 1
    signals = [
        EdfSignal(
            np.clip(row, -largest, largest) * STEP_UV,
            sfreq_hz,
            label=f"EEG {name.removeprefix('EEG ')}",
            physical_dimension="uV",
            physical_range=(-largest * STEP_UV, largest * STEP_UV),
            digital_range=(-largest, largest),
            prefiltering="none",
        )
        for name, row in zip(raw.ch_names, counts)
    ]
    edf = Edf(
        signals,
        patient=Patient(code=subject),
        recording=Recording(equipment_code="Emotiv_EPOC"),
        annotations=annotations,
    )
    edf.write(OUT / f"{subject}_task-eyes_eeg.edf")


def main() -> None:
    """Draw the people and write a file of each."""
    source = Path(sys.argv[1])
    people = [path.name for path in source.glob("sub-*")]
    OUT.mkdir(parents=True, exist_ok=True)
    for subject in chosen(people):
        bundle(source / subject / "eeg" / f"{subject}_task-eyes_eeg.edf", subject)
        print(subject)


if __name__ == "__main__":
    main()
