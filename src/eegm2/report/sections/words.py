"""Durations, options and splits in words."""

from __future__ import annotations

import json

from eegm2.report.contents import ReportData


def duration(seconds: float) -> str:
    """Return a length of time in words: "98 s", "12.5 min", "5.7 h"."""
    if seconds < 180:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


_OPTION_WORDS = {
    "l_freq_hz": "high-pass edge (Hz)",
    "h_freq_hz": "low-pass edge (Hz)",
    "gpass_db": "pass-band loss (dB)",
    "gstop_db": "stop-band attenuation (dB)",
    "sfreq_hz": "sampling rate (Hz)",
    "lr": "learning rate",
    "train_l1": "training, temporal part",
    "train_spectral": "training, spectral part",
    "train_loss": "training, total",
    "val_l1": "validation, temporal part",
    "val_spectral": "validation, spectral part",
    "val_loss": "validation, total",
}


def option(key: str) -> str:
    """Return an option's name as words, its unit suffix in brackets."""
    if key in _OPTION_WORDS:
        return _OPTION_WORDS[key]
    for suffix, unit in (("_hz", "Hz"), ("_s", "s"), ("_uv", "µV"), ("_db", "dB")):
        if key.endswith(suffix):
            return f"{key.removesuffix(suffix).replace('_', ' ')} ({unit})"
    return key.replace("_", " ")


def setting(value: object) -> str:
    """Return an option's value in words."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value) or "none"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


SPLIT_WORDS = {"train": "training", "val": "validation", "test": "testing"}


def split_counts(data: ReportData) -> list[str]:
    """Return "5 training" and so on for the parts of the split that are not empty."""
    return [f"{len(data.splits[s])} {w}" for s, w in SPLIT_WORDS.items() if data.splits.get(s)]
