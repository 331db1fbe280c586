"""Plant a change of power in real recordings: what a task looks like that is all in the diagonal.

    eegm2 prepare ADHD --out stores/adhd
    python experiments/planted/plant.py stores/adhd planted
    eegm2 prepare planted --out stores/planted

Every other 12 s of a recording are "task": theta (4 to 8 Hz) is stronger and alpha (8 to 13 Hz) weaker on all
electrodes, by 15 % of the amplitude on average; how much differs from person to person (standard deviation
7.5 %, each band for itself). The rest is "rest" and stays as it was recorded.
"""

import sys
from pathlib import Path

import mne
import numpy as np
from scipy.signal import butter, sosfiltfilt

from eegm2 import RecordingStore

PEOPLE, SPAN_S, MEAN, SPREAD = 36, 12.0, 0.15, 0.075


def main(store: str, out: str) -> None:
    """Write one FIF file per person."""
    opened, rng = RecordingStore(store), np.random.default_rng(0)
    rate = opened.sfreq_hz
    theta, alpha = (butter(4, band, "band", fs=rate, output="sos") for band in ((4, 8), (8, 13)))
    Path(out).mkdir(parents=True)
    for info in opened.recordings[:PEOPLE]:
        x = opened.read(info.id).astype(float)
        task = (np.arange(x.shape[1]) // int(SPAN_S * rate)) % 2
        more, less = rng.normal(MEAN, SPREAD, 2)
        x += task * (more * sosfiltfilt(theta, x) - less * sosfiltfilt(alpha, x))
        raw = mne.io.RawArray(x * 1e-6, mne.create_info(list(opened.ch_names), rate, "eeg"), verbose="error")
        n_spans = int(x.shape[1] / rate // SPAN_S)
        spans = np.arange(n_spans)
        raw.set_annotations(mne.Annotations(spans * SPAN_S, SPAN_S, np.where(spans % 2, "task", "rest")))
        raw.save(Path(out) / f"{info.subject}_eeg.fif", verbose="error")


if __name__ == "__main__":
    main(*sys.argv[1:])
