"""Declared choices of the data path: preprocessing, windows and splits (no heavy import here)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from eegm2.config import NOT_NEGATIVE, SECONDS, check_parts, expect, option, to_dict
from eegm2.errors import ConfigError
from eegm2.plugins import Registry

PREPROCESSING_VERSION = 1
"""Raised whenever the same `PreprocessingConfig` would give other samples than before."""

ADDED_LATER: dict[str, Any] = {"offset": "remove", "bads": "report"}
"""Choices that came after the first stores, and what was done before them."""

#: Choices that change the signal; the rest (what to do about flat channels, NaN …) only refuses recordings.
SIGNAL_CHOICES = (
    *("reference", "offset", "l_freq_hz", "h_freq_hz", "gpass_db", "gstop_db", "notch_hz", "sfreq_hz"),
)

POSITIONS_HELP = (
    "Table of electrode positions (CSV: name,x,y,z; right, front, up of the head's centre), for networks "
    "that take any electrodes."
)
SCALING_HELP = (
    "Scaling of each channel of each window; quantile95 is the paper's; recording: one number per recording, "
    "its typical amplitude, so that channels and windows keep their proportions."
)
Scaling = Literal["quantile95", "robust", "zscore", "recording", "none"]


@dataclass(frozen=True)
class PreprocessingConfig:
    """From a recording in volts to the stored array in microvolts (defaults: arXiv 2502.17873)."""

    montage: str = option(
        "",
        "tcp16 (bipolar, as TUAB), epoc14, 1020_19, or a TOML file of your own; "
        "empty: the EEG channels of the first good recording.",
    )
    channels: tuple[str, ...] = option(
        (), "Channels in the order wanted, e.g. Fz,Cz,Pz; instead of --montage."
    )
    aliases: tuple[str, ...] = option((), "Another name of a channel, as 'name in the file=our name'.")
    missing: Literal["refuse", "interpolate"] = option(
        "refuse", "Missing channels: refuse the recording, or interpolate them from the others' positions."
    )
    reference: Literal["keep", "average"] = option(
        "keep", "Keep the recording's reference or take the channels' average."
    )
    offset: Literal["remove", "keep"] = option(
        "remove", "Each channel's constant offset (the median of its beginning): remove, or keep."
    )
    l_freq_hz: float = option(0.5, "Low edge of the pass band in Hz (stop at 0.4 of it); 0 leaves it out.")
    h_freq_hz: float = option(40.0, "High edge of the pass band in Hz (stop at 1.2 of it); 0 leaves it out.")
    gpass_db: float = option(
        1.0, "Largest loss in the pass band in dB (Chebyshev type II, forwards and backwards)."
    )
    gstop_db: float = option(40.0, "Smallest attenuation in the stop band in dB.")
    notch_hz: float = option(0.0, "Mains frequency to remove with its harmonics, in Hz; 0 leaves it out.")
    sfreq_hz: float = option(128.0, "Sampling rate of the stored arrays in Hz (polyphase resampling).")
    scale: float = option(1.0, "Factor on every sample, for files whose unit is wrong, e.g. 1e-6.")
    amplitude: Literal["microvolts", "any"] = option(
        "microvolts", "microvolts: refuse amplitudes that cannot be EEG; any: the data are not calibrated."
    )
    nan: Literal["refuse", "interpolate"] = option(
        "refuse", "Samples that are not numbers: refuse, or interpolate in time."
    )
    flat: Literal["refuse", "keep", "interpolate"] = option(
        "refuse", "Flat channels: refuse the recording, keep them, or interpolate them from their neighbours."
    )

    bads: Literal["report", "interpolate", "refuse"] = option(
        "report",
        "Channels that the recording or its channels.tsv marks as bad: use and report them, interpolate "
        "them, or refuse the recording.",
    )

    def __post_init__(self) -> None:
        if self.montage and self.channels:
            raise ConfigError(
                f"channels: got {len(self.channels)} together with montage {self.montage!r}; give one of them"
            )
        if self.sfreq_hz <= 0:
            raise ConfigError(f"sfreq_hz: got {self.sfreq_hz}, expected a positive rate in Hz")
        if min(self.l_freq_hz, self.h_freq_hz, self.notch_hz) < 0:
            raise ConfigError(
                f"l_freq_hz, h_freq_hz, notch_hz: got {self.l_freq_hz}, {self.h_freq_hz}, {self.notch_hz}; "
                "use 0 to leave one out"
            )
        if self.h_freq_hz and self.l_freq_hz >= self.h_freq_hz:
            raise ConfigError(
                f"l_freq_hz: got {self.l_freq_hz}, expected less than h_freq_hz ({self.h_freq_hz})"
            )
        if self.h_freq_hz > self.sfreq_hz / 2:
            raise ConfigError(
                f"h_freq_hz: got {self.h_freq_hz}, above half of sfreq_hz ({self.sfreq_hz}); "
                "lower it or raise sfreq_hz"
            )
        if not 0 < self.gpass_db < self.gstop_db:
            raise ConfigError(
                f"gpass_db, gstop_db: got {self.gpass_db}, {self.gstop_db}; expected 0 < gpass_db < gstop_db"
            )
        if self.scale == 0:
            raise ConfigError("scale: got 0, expected a factor such as 1e-6")

    def sha256(self, version: int = PREPROCESSING_VERSION) -> str:
        """Return the hash of the choices and of the version of the code that carried them out.

        Choices added later count only where they differ from what was always done.
        """
        values = to_dict(self)
        for name, value in ADDED_LATER.items():
            if values[name] == value:
                del values[name]
        return sha256_json({"version": version, **values})


@dataclass(frozen=True)
class PrepareConfig(PreprocessingConfig):
    """Everything ``eegm2 prepare`` can be told; the preprocessing part is kept in the store.

    Attributes
    ----------
    given : frozenset of str
        Names of the options that were given, be it their default: a recipe does not touch these.
    """

    recipe: str = option(
        "auto", "How the folder is laid out: auto, folder, bids or a name of eegm2 datasets."
    )
    table: str = option(
        "",
        "CSV (comma, semicolon or tab) with a column recording (id, path or file name) and any of subject, "
        "session, split, label, onset_s, duration_s (seconds); other columns become attributes.",
    )
    label_column: str = option(
        "", "BIDS: column of events.tsv with the labels, e.g. value; none given: trial_type, else value."
    )
    remove_gone: bool = option(
        False, "Take recordings out of the store that the source does not have any more."
    )
    dtype: Literal["float32", "float16"] = option(
        "float32", "Type of the stored samples; float16 halves the store."
    )
    jobs: int = option(0, "Processes; 0: one per core, fewer where little is to be done.")
    isolate: bool = option(
        True,
        "Read recordings in processes held to limits of time and memory, so that a damaged or hostile file "
        "costs itself only.",
    )
    limit_s: float = option(0.0, "Seconds one recording may take; 0: 120, and one more for each MB.")
    limit_gb: float = option(
        0.0,
        "Memory in GB one recording may take; 0: 2, and four times its files (twelve times those of kinds "
        "that may be compressed).",
    )
    dask: str = option("", "Address of a Dask scheduler to work on instead, e.g. tcp://host:8786.")

    given: ClassVar[frozenset[str]] = frozenset()

    def __new__(cls, *values: Any, **options: Any) -> PrepareConfig:
        """Remember what was given."""
        made = super().__new__(cls)
        names = [entry.name for entry in fields(cls)][: len(values)]
        object.__setattr__(made, "given", frozenset([*names, *options]))
        return made

    def preprocessing(self) -> PreprocessingConfig:
        """Return the part that decides the samples."""
        names = [entry.name for entry in fields(PreprocessingConfig)]
        return PreprocessingConfig(**{name: getattr(self, name) for name in names})


DATASETS = Registry(
    "dataset",
    "eegm2.data.windows.dataset:WindowDataset",
    {"windows": "eegm2.data.windows.dataset:WindowDataset"},
)


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Who cuts and reads the windows, where it is a data set of one's own."""

    dataset: str = option("", "Data set that cuts and reads the windows.", later=True, parts=DATASETS)
    dataset_options: dict[str, Any] = option(
        {}, "An option of a data set of one's own, name=value; repeat for more.", later=True
    )


@dataclass(frozen=True)
class WindowConfig(DatasetOptions):
    """How windows are cut from whole recordings while reading."""

    window_s: float = option(4.0, "Length of a window in seconds.")
    stride_s: float | None = option(
        None, "Step between window starts in seconds; none given: the window's length."
    )
    scaling: Scaling = option("quantile95", SCALING_HELP)
    target: str = option(
        "annotations", "annotations, or the recordings' attribute that is the label (e.g. group)."
    )
    label_rule: Literal["whole", "majority", "centre"] = option(
        "whole",
        "whole: one label covers the window; majority: more than half of it; "
        "centre: one window around each span's middle.",
    )
    exclude_s: tuple[str, ...] = option(
        (), "Stretch of every recording to leave out, start:stop in seconds, e.g. 0:5."
    )
    exclude_labels: tuple[str, ...] = option(
        ("bad*", "edge*"), "Labels (patterns, any case) whose spans no window may touch."
    )

    reject_uv: float = option(
        0.0, "Leave out windows in which a sample exceeds this many microvolts either way; 0 keeps all."
    )

    def __post_init__(self) -> None:
        check_parts(self)
        expect(self, NOT_NEGATIVE, "reject_uv")
        expect(self, SECONDS, "window_s", "stride_s")
        self.excluded_spans()

    def excluded_spans(self) -> list[tuple[float, float]]:
        """Return `exclude_s` as (start, stop) in seconds.

        Raises
        ------
        ConfigError
            If an entry is not ``start:stop`` with start < stop; either may be left out.
        """
        spans = []
        for text in self.exclude_s:
            start, colon, stop = text.partition(":")
            try:
                span = (float(start or 0), float(stop or "inf"))
            except ValueError:
                span = (0.0, 0.0)
            if not colon or not span[0] < span[1]:
                raise ConfigError(f"exclude_s: got {text!r}, expected start:stop in seconds such as 170:195")
            spans.append(span)
        return spans


@dataclass(frozen=True)
class SplitConfig:
    """Who is trained on, validated on and tested on."""

    seed: int = option(0, "Seed of the split.")
    val: float = option(0.15, "Share of the subjects for validation.")
    test: float = option(0.15, "Share of the subjects for the test.")
    by: Literal["subject", "recording"] = option(
        "subject",
        "What is never divided; recording is for data of a single person and is stated in the results.",
    )
    official: bool = option(True, "Keep the data set's own test set where it has one.")

    def __post_init__(self) -> None:
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise ConfigError(
                f"val, test: got {self.val}, {self.test}; expected shares that leave something to train on"
            )


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of a JSON-serialisable value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def signal_differences(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return name and both values of every choice that changes the signal and differs.

    Parameters
    ----------
    a, b : dict
        Preprocessings as `to_dict` gave them; choices that were unknown then have their defaults.
    """
    defaults = to_dict(PreprocessingConfig())
    values = [(name, a.get(name, defaults[name]), b.get(name, defaults[name])) for name in SIGNAL_CHOICES]
    return [(name, one, other) for name, one, other in values if one != other]
