"""Open any EEG file that MNE reads, and refuse what MNE would silently repair.

MNE resamples channels of differing rates to one, closes the gaps of discontinuous files and shortens
truncated ones; here these are errors. Nothing is read by pickle.
"""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegm2.data.files.brainvision import elsewhere, named_files, refuse_short_brainvision
from eegm2.data.files.edf import EDFHeader
from eegm2.data.files.fif import check_fiffile, fif_facts
from eegm2.data.files.formats import READERS, file_suffix, has_reader
from eegm2.data.files.headsets.read import headset_companions, is_headset_file, mark_emotiv, read_headset
from eegm2.data.files.headsets.text import SUFFIXES
from eegm2.data.files.mat import check_matfile
from eegm2.data.files.said import ReadingWarning, reading, repeated_names, without_range
from eegm2.data.files.tree import NOT_FETCHED
from eegm2.data.joins import canonical_marks
from eegm2.data.labels import LabelSpan
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

__all__ = [
    "READERS",
    "ReadingWarning",
    "annotation_labels",
    "companion_files",
    "file_suffix",
    "has_reader",
    "read_raw",
    "reading",
]

SFREQ_LIMITS_HZ = (1.0, 200_000.0)
"""Beyond these a header's sampling rate is damage, not a recording."""

MAX_SAMPLES_PER_BYTE = 16
"""FIF files may leave out silent stretches; no other format says more in less."""


def companion_files(path: Path) -> tuple[Path, ...]:
    """Return the files that belong to a header file: BrainVision's data and markers, EEGLAB's ``.fdt``."""
    suffix = file_suffix(path)
    suffixes = {".vhdr": (".eeg", ".vmrk", ".dat"), ".set": (".fdt",)}.get(suffix, ())
    found = [path.with_suffix(suffix) for suffix in suffixes]
    if suffix == ".vhdr":
        found += named_files(path)
    found += headset_companions(path)
    return tuple(file for file in dict.fromkeys(found) if file.is_file())


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
        raise DataError(
            f"{path}: {NOT_FETCHED}" if path.is_symlink() else f"{path}: no such file; check the name"
        )
    _refuse_pointer(path)
    if suffix not in READERS and is_headset_file(path):
        with reading(path):
            return read_headset(path)
    if suffix not in READERS:
        known = " ".join(sorted([*READERS, ".xdf"]))
        declare = f"; a table of samples is declared in {path.stem}.toml" if suffix in SUFFIXES else ""
        raise DataError(f"{path}: unknown kind of file '{suffix}'; known: {known}{declare}")
    arguments: dict[str, Any] = {}
    if suffix in (".edf", ".bdf"):
        arguments["exclude"] = EDFHeader.read(path).check(path)
    if suffix == ".vhdr":
        refuse_short_brainvision(path)
    if suffix == ".set":
        check_matfile(path)
    if suffix == ".fif":
        check_fiffile(path)
        _refuse_epochs(path)
    import mne

    with reading(path) as said:
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
        remember(raw, repeated=repeated_names(said), without_range=without_range(said))
        return raw


def remember(raw: mne.io.BaseRaw, **facts: tuple[str, ...]) -> None:
    """Keep what was found out about a recording with it (`recalled` gives it back)."""
    raw.info["temp"] = {**(raw.info.get("temp") or {}), **facts}


def recalled(raw: mne.io.BaseRaw, fact: str) -> tuple[str, ...]:
    """Return what was kept of a recording under a name; empty if nothing was."""
    kept = raw.info.get("temp")
    return tuple(kept.get(fact, ())) if isinstance(kept, dict) else ()


def _refuse_pointer(path: Path) -> None:
    """Refuse a text file that stands for a recording whose content was not fetched."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(300)
        if head.startswith(b"version https://git-lfs.github.com/spec/"):
            raise DataError(f"{path}: a pointer of Git LFS, not the recording; fetch it with git lfs pull")
        if b"annex/objects/" in head and head.isascii():
            raise DataError(
                f"{path}: a pointer of git-annex, not the recording; fetch it (datalad get, git annex get)"
            )


def _refuse_epochs(path: Path) -> None:
    """Refuse FIF files of another kind than recordings by what they are."""
    holds = fif_facts(path).holds
    if holds == "epochs":
        raise DataError(
            f"{path}: holds epochs, cut beforehand; prepare the continuous recording they come from, "
            "or give them as MNE Epochs to eegm2.evaluation.estimators.sklearn"
        )
    if holds == "other":
        raise DataError(f"{path}: holds no raw recording; choose the file with the continuous data")


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


def annotation_labels(raw: mne.io.BaseRaw) -> tuple[LabelSpan, ...]:
    """Return a recording's annotations in seconds after its first sample, sorted.

    Marks of discontinuities, whatever the format calls them, are as `eegm2.data.joins` has them.
    """
    shift = raw.first_time if raw.annotations.orig_time is not None else 0.0
    spans = (
        LabelSpan(float(item["onset"]) - shift, float(item["duration"]), str(item["description"]))
        for item in raw.annotations
    )
    name = next((str(name) for name in raw.filenames if name is not None), "")
    return canonical_marks(sorted(spans), name)
