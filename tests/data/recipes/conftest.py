"""Small trees in the layouts and headers that the data sets are published in."""

from collections.abc import Callable, Sequence
from pathlib import Path

import edfio
import numpy as np
import pytest

TCP_ELECTRODES = (
    *("FP1", "FP2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T3", "T4", "T5", "T6"),
    *("FZ", "CZ", "PZ", "A1", "A2"),
)
TUH_EXTRAS = ("EEG EKG1-REF", "EEG LOC-REF", "PHOTIC-REF", "IBI", "BURSTS", "SUPPR")


def tuh_names(reference: str = "REF", without: Sequence[str] = ()) -> list[str]:
    names = [f"EEG {name}-{reference}" for name in TCP_ELECTRODES if name not in without]
    return names + list(TUH_EXTRAS)


def write_edf(
    path: Path,
    ch_names: Sequence[str],
    *,
    sfreq_hz: int = 250,
    seconds: int = 12,
    seed: int = 0,
    annotations: Sequence[tuple[float, float, str]] = (),
) -> Path:
    """Write noise of about 20 microvolts; values differ per channel and seed."""
    rng = np.random.default_rng(seed)
    t = np.arange(sfreq_hz * seconds) / sfreq_hz
    signals = []
    for index, name in enumerate(ch_names):
        x = 20 * rng.standard_normal(t.size) + 30 * np.sin(2 * np.pi * (3 + index) * t)
        signals.append(
            edfio.EdfSignal(
                np.clip(x, -400, 400),
                sfreq_hz,
                label=name,
                physical_dimension="uV",
                physical_range=(-400, 400),
            )
        )
    notes = [edfio.EdfAnnotation(onset, duration, text) for onset, duration, text in annotations]
    path.parent.mkdir(parents=True, exist_ok=True)
    edfio.Edf(signals, annotations=notes or None).write(path)
    return path


@pytest.fixture
def edf() -> Callable[..., Path]:
    return write_edf


@pytest.fixture
def tuab_tree(tmp_path: Path) -> Path:
    """Two train subjects (one with both labels and two sessions), one for evaluation."""
    root = tmp_path / "TUAB ö v3.0.1"
    for number, (place, name, reference, rate) in enumerate(
        (
            ("train/normal", "aaaaaaav_s004_t000", "REF", 250),
            ("train/normal", "aaaaaaaq_s003_t000", "REF", 256),
            ("train/abnormal", "aaaaaaaq_s004_t000", "LE", 250),
            ("train/abnormal", "aaaaaaaq_s004_t001", "REF", 250),
            ("eval/abnormal", "aaaaamye_s001_t000", "REF", 250),
        )
    ):
        write_edf(
            root / "edf" / place / "01_tcp_ar" / f"{name}.edf",
            tuh_names(reference),
            sfreq_hz=rate,
            seed=number,
        )
    return root
