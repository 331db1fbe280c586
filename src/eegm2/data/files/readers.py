"""Open any EEG file that MNE reads, and refuse what MNE would silently repair.

MNE resamples channels of differing rates to one, closes the gaps of discontinuous files and shortens
truncated ones; here these are errors. Nothing is read by pickle.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from eegm2.data.files.brainvision import BrainVisionHeader
from eegm2.data.files.declared import DECLARED
from eegm2.data.files.formats import READERS, file_suffix, has_reader
from eegm2.data.files.headsets.read import headset_companions, is_headset_file, mark_emotiv, read_headset
from eegm2.data.files.headsets.text import SUFFIXES
from eegm2.data.files.naming import elsewhere
from eegm2.data.files.opened import depends_on
from eegm2.data.files.rates import refuse_rate
from eegm2.data.files.said import ReadingWarning, forget_labels, reading, repeated_names, without_range
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

MAX_SAMPLES_PER_BYTE = 16
"""FIF files may leave out silent stretches; no other format says more in less."""


def companion_files(path: Path) -> tuple[Path, ...]:
    """Return the files that belong to a header file, as far as names tell without reading much.

    Those of BrainVision are the ones its header names; an EEGLAB set may name another than the ``.fdt`` of
    its own name, and a FIF file later parts: `read_raw` announces these when it comes across them.
    """
    suffix = file_suffix(path)
    named: tuple[Path, ...] = headset_companions(path)
    if suffix == ".vhdr":
        with contextlib.suppress(DataError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            named = BrainVisionHeader.read(path).files
    beside = {".vhdr": (".eeg", ".vmrk", ".dat"), ".set": (".fdt",)}.get(suffix, ())
    found = [*named, *(path.with_suffix(ending) for ending in beside)]
    return tuple(dict.fromkeys(file for file in found if file.is_file()))


def read_raw(path: str | Path) -> mne.io.BaseRaw:
    """Open a recording; samples are read later, when asked for.

    What the file declares is looked at before MNE reads it, and compared with what MNE read afterwards.

    Returns
    -------
    mne.io.BaseRaw
        In volts; a channel whose unit is no voltage that is known has the unit ``FIFF_UNIT_NONE``.

    Raises
    ------
    DataError
        If the file is missing, of an unknown kind, unreadable, truncated, discontinuous with gaps,
        contradicts itself, leads out of its folder, or its EEG channels have differing sampling rates; one
        line with the file, what was found and the remedy.
    """
    path = Path(path)
    suffix = file_suffix(path)
    try:
        there = path.is_file()
    except (OSError, ValueError) as error:
        raise DataError(f"{path!s:.200}: no name of a file ({error}); check it") from error
    if not there:
        raise DataError(
            f"{path}: {NOT_FETCHED}" if path.is_symlink() else f"{path}: no such file; check the name"
        )
    headset = suffix not in READERS and is_headset_file(path)
    if suffix not in READERS and not headset:
        known = " ".join(sorted([*READERS, ".xdf"]))
        declare = f"; a table of samples is declared in {path.stem}.toml" if suffix in SUFFIXES else ""
        raise DataError(f"{path}: unknown kind of file '{suffix}'; known: {known}{declare}")
    if sys.flags.optimize > 1:
        raise DataError(
            f"{path}: MNE, which reads it, cannot be imported under python -OO, which strips texts it needs; "
            "use python -O, or none of them"
        )
    for file in (path, *companion_files(path)):
        _refuse_pointer(file)
    depends_on(path)
    if headset:
        depends_on(*headset_companions(path))
        with reading(path):
            return read_headset(path)
    with reading(path):
        declared = DECLARED[suffix](path)
        depends_on(*declared.files)
    import mne

    with reading(path) as said:
        raw: mne.io.BaseRaw = getattr(mne.io, READERS[suffix])(
            path, preload=False, verbose="warning", **declared.arguments
        )
        if raw.n_times == 0:
            raise DataError(f"{path}: holds no samples; record or export it again")
        refuse_rate(path, float(raw.info["sfreq"]))
        allowed = {os.path.abspath(file) for file in (path, *declared.files)}  # noqa: PTH100
        for name in map(str, raw.filenames):
            if os.path.abspath(name) not in allowed:  # noqa: PTH100 (links are not followed)
                raise elsewhere(path, name, "data file")
        _refuse_samples_from_nowhere(path, raw)
        raw.get_channel_types()  # fails here, where it is caught, if a type is not one
        if declared.labels is not None:
            forget_labels(said)
        declared.finish(raw)
        if suffix == ".edf":
            mark_emotiv(raw)
        remember(raw, repeated=repeated_names(said), without_range=without_range(said))
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


def annotation_labels(raw: mne.io.BaseRaw) -> tuple[LabelSpan, ...]:
    """Return a recording's annotations in seconds after its first sample, sorted.

    MNE counts them from the measurement's date, or without one from sample 0, and both lie `first_time`
    before the first sample. Marks of discontinuities, whatever the format calls them, are as
    `eegm2.data.joins` has them.
    """
    spans = (
        LabelSpan(float(item["onset"]) - raw.first_time, float(item["duration"]), str(item["description"]))
        for item in raw.annotations
    )
    name = next((str(name) for name in raw.filenames if name is not None), "")
    return canonical_marks(sorted(spans), name)
