"""Open any EEG file that MNE reads, and refuse what MNE would silently repair.

MNE resamples channels of differing rates to one, closes the gaps of discontinuous files and shortens
truncated ones; here these are errors. Nothing is read by pickle.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from eegm2.data.files.brainvision import elsewhere, refuse_short_brainvision
from eegm2.data.files.edf import EDFHeader
from eegm2.data.files.fif import check_fiffile
from eegm2.data.files.headsets.read import headset_companions, is_headset_file, mark_emotiv, read_headset
from eegm2.data.files.headsets.text import SUFFIXES
from eegm2.data.files.mat import check_matfile
from eegm2.data.recipes.base import LabelSpan
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

READERS = {
    ".edf": "read_raw_edf",
    ".bdf": "read_raw_bdf",
    ".gdf": "read_raw_gdf",
    ".vhdr": "read_raw_brainvision",
    ".set": "read_raw_eeglab",
    ".fif": "read_raw_fif",
    ".fif.gz": "read_raw_fif",
}
"""File suffix → function of `mne.io`."""

SFREQ_LIMITS_HZ = (1.0, 200_000.0)
"""Beyond these a header's sampling rate is damage, not a recording."""

MAX_SAMPLES_PER_BYTE = 16
"""FIF files may leave out silent stretches; no other format says more in less."""


def file_suffix(path: Path) -> str:
    """Return the suffix that decides the reader, lower case; ``.fif.gz`` counts as one."""
    return ".fif.gz" if path.name.lower().endswith(".fif.gz") else path.suffix.lower()


def companion_files(path: Path) -> tuple[Path, ...]:
    """Return the files that belong to a header file: BrainVision's data and markers, EEGLAB's ``.fdt``."""
    suffixes = {".vhdr": (".eeg", ".vmrk", ".dat"), ".set": (".fdt",)}.get(file_suffix(path), ())
    beside = tuple(found for suffix in suffixes if (found := path.with_suffix(suffix)).is_file())
    return beside + headset_companions(path)


def has_reader(path: Path) -> bool:
    """Return whether a file is one that :func:`read_raw` opens, by its suffix or its beginning."""
    return file_suffix(path) in READERS or is_headset_file(path)


def read_raw(path: str | Path) -> mne.io.BaseRaw:
    """Open a recording; samples are read later, when asked for.

    Returns
    -------
    mne.io.BaseRaw
        In volts.

    Raises
    ------
    DataError
        If the file is missing, of an unknown kind, unreadable, truncated, discontinuous with gaps, or its EEG
        channels have differing sampling rates; one line with the file, what was found and the remedy.
    """
    path = Path(path)
    suffix = file_suffix(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the name")
    if suffix not in READERS and is_headset_file(path):
        with reading(path):
            return read_headset(path)
    if suffix not in READERS:
        known = " ".join(sorted([*READERS, ".xdf"]))
        declare = f"; a table of samples is declared in {path.stem}.toml" if suffix in SUFFIXES else ""
        raise DataError(f"{path}: unknown kind of file '{suffix}'; known: {known}{declare}")
    arguments = {}
    if suffix in (".edf", ".bdf"):
        arguments["exclude"] = EDFHeader.read(path).check(path)
    if suffix == ".vhdr":
        refuse_short_brainvision(path)
    if suffix == ".set":
        check_matfile(path)
    if suffix == ".fif":
        check_fiffile(path)
    import mne

    with reading(path):
        reader = functools.partial(
            getattr(mne.io, READERS[suffix]), path, preload=False, verbose="warning", **arguments
        )
        raw: mne.io.BaseRaw
        try:
            raw = reader()
        except Exception as error:
            if suffix not in (".edf", ".bdf", ".gdf") or "latin1" not in str(error):
                raise
            raw = _read_latin1(reader)
        if raw.n_times == 0:
            raise DataError(f"{path}: holds no samples; record or export it again")
        sfreq_hz = float(raw.info["sfreq"])
        if not SFREQ_LIMITS_HZ[0] <= sfreq_hz <= SFREQ_LIMITS_HZ[1]:
            low, high = SFREQ_LIMITS_HZ
            raise DataError(
                f"{path}: sampling rate of {sfreq_hz:g} Hz, expected {low:g} to {high:g}; "
                "export the file again"
            )
        for name in map(str, raw.filenames):
            # Links are not followed: a data set under version control is a tree of them.
            beside = Path(os.path.normpath(name)).parent.absolute() == path.parent.absolute()
            if not beside and suffix in (".set", ".vhdr"):
                raise elsewhere(path, name, "data file")
        _refuse_samples_from_nowhere(path, raw)
        if suffix == ".edf":
            mark_emotiv(raw)
        raw.get_channel_types()  # fails here, where it is caught, if a type is not one
        return raw


def _read_latin1(reader: Callable[..., mne.io.BaseRaw]) -> mne.io.BaseRaw:
    """Read a file whose annotations are not UTF-8, as the format asks; older devices write Latin-1."""
    raw = reader(encoding="latin1")
    for text in map(str, raw.annotations.description):
        if not text.isprintable():
            raise ValueError(f"an annotation is neither UTF-8 nor Latin-1: {text[:40]!r}")
    warnings.warn("annotations in Latin-1", stacklevel=2)
    return raw


def _refuse_samples_from_nowhere(path: Path, raw: mne.io.BaseRaw) -> None:
    """Refuse a header that promises far more samples than its files can hold."""
    if file_suffix(path).endswith(".gz") or raw.preload:
        return
    size = sum(Path(name).stat().st_size for name in map(str, raw.filenames))
    if raw.n_times * len(raw.ch_names) > MAX_SAMPLES_PER_BYTE * size:
        raise DataError(
            f"{path}: truncated: the header promises {raw.n_times} samples of {len(raw.ch_names)} channels, "
            f"its files have {size} bytes; copy them again"
        )


class ReadingWarning(UserWarning):
    """Something about a file that is worth telling, but no reason to refuse it."""


_WORTH_TELLING = {
    r"annotations in (Latin-1)": "annotations are not UTF-8, read as {}",
    r"Omitted (\d+) annotation": "{} annotations outside the recording left out",
    r"Limited (\d+) annotation": "{} annotations cut where the recording ends",
}


@contextlib.contextmanager
def reading(path: object) -> Iterator[None]:
    """Turn whatever MNE raises or says while reading into one line that names the file."""
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield
        for message in (str(item.message) for item in said):
            for pattern, note in _WORTH_TELLING.items():
                if found := re.search(pattern, message):
                    warnings.warn(note.format(found[1]), ReadingWarning, stacklevel=4)
    except DataError:
        raise
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{path}: cannot be read ({reason}); the file may be damaged, copy or export it again"
        ) from error


def annotation_labels(raw: mne.io.BaseRaw) -> tuple[LabelSpan, ...]:
    """Return a recording's annotations in seconds after its first sample, sorted."""
    shift = raw.first_time if raw.annotations.orig_time is not None else 0.0
    spans = (
        LabelSpan(float(item["onset"]) - shift, float(item["duration"]), str(item["description"]))
        for item in raw.annotations
    )
    return tuple(sorted(spans))
