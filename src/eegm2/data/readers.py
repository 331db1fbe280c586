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
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eegm2.data.channels import canonical, is_known, looks_like_eeg
from eegm2.data.fiffile import check_fiffile
from eegm2.data.matfile import check_matfile
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
    return tuple(found for suffix in suffixes if (found := path.with_suffix(suffix)).is_file())


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
    if suffix not in READERS:
        raise DataError(f"{path}: unknown kind of file '{suffix}'; known: {' '.join(sorted(READERS))}")
    arguments = {}
    if suffix in (".edf", ".bdf"):
        arguments["exclude"] = EDFHeader.read(path).check(path)
    if suffix == ".vhdr":
        _refuse_short_brainvision(path)
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
                raise _elsewhere(path, name, "data file")
        _refuse_samples_from_nowhere(path, raw)
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


@dataclass(frozen=True)
class EDFHeader:
    """The fields of an EDF or BDF header that decide whether MNE would repair the file in silence."""

    reserved: str
    n_header_bytes: int
    n_records: int
    record_s: float
    labels: tuple[str, ...]
    samples: tuple[int, ...]
    sample_bytes: int

    @classmethod
    def read(cls, path: Path) -> EDFHeader:
        """Read the header, or raise DataError if it is not one."""
        try:
            with path.open("rb") as file:
                fixed = file.read(256)
                n_signals = int(fixed[252:256])
                names = file.read(16 * n_signals)
                file.seek(256 + 216 * n_signals)
                counts = file.read(8 * n_signals)
            if (
                not (fixed[:8] == b"0       " or fixed[:8] == b"\xffBIOSEMI")
                or n_signals < 1
                or len(counts) < 8 * n_signals
            ):
                raise ValueError("its header is not one of EDF or BDF")
            return cls(
                reserved=fixed[192:236].decode("latin-1").strip(),
                n_header_bytes=int(fixed[184:192]),
                n_records=int(fixed[236:244]),
                record_s=float(fixed[244:252]),
                labels=tuple(names[i : i + 16].decode("latin-1").strip() for i in range(0, len(names), 16)),
                samples=tuple(int(counts[i : i + 8]) for i in range(0, len(counts), 8)),
                sample_bytes=3 if fixed[:1] == b"\xff" else 2,
            )
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); check the file's permissions"
            ) from error
        except ValueError as error:
            raise DataError(f"{path}: damaged ({error}); copy or export the file again") from error

    @property
    def record_bytes(self) -> int:
        """Bytes of one data record."""
        return sum(self.samples) * self.sample_bytes

    def is_annotation(self, label: str) -> bool:
        """Return whether a signal holds annotations."""
        return label in ("EDF Annotations", "BDF Annotations")

    def check(self, path: Path) -> list[str]:
        """Refuse truncation, gaps and differing EEG rates; return the signals of other rates."""
        size = path.stat().st_size
        if min(self.samples) < 1 or self.record_s < 0:
            raise DataError(
                f"{path}: damaged (records of {self.record_s:g} s, {min(self.samples)} samples of a signal); "
                "export the file again"
            )
        needed = self.n_header_bytes + max(self.n_records, 1) * self.record_bytes
        if size < needed:
            raise DataError(
                f"{path}: truncated: {size} bytes, the header promises {needed}; copy the file again"
            )
        signals = [(name, n) for name, n in zip(self.labels, self.samples) if not self.is_annotation(name)]
        if not signals:
            raise DataError(f"{path}: has no EEG channels (annotations only); choose another file")
        if self.record_s == 0:
            raise DataError(f"{path}: no sampling rate (records of 0 s); export the file again with one")
        if "+D" in self.reserved:
            self._refuse_gaps(path)
        return self._other_rates(path, signals)

    def _other_rates(self, path: Path, signals: list[tuple[str, int]]) -> list[str]:
        eeg = [(n, c) for n, c in signals if is_known(n) or n.upper().startswith("EEG")]
        eeg = eeg or [(name, n) for name, n in signals if looks_like_eeg(name)] or signals
        rates = Counter(n for _, n in eeg)
        if len(rates) > 1:
            by_rate = "; ".join(
                f"{count / self.record_s:g} Hz: {' '.join(canonical(name) for name, n in eeg if n == count)}"
                for count in sorted(rates)
            )
            raise DataError(
                f"{path}: EEG channels of differing sampling rates ({by_rate}); export them at one rate"
            )
        (rate,) = rates
        return [name for name, n in signals if n != rate]

    def _refuse_gaps(self, path: Path) -> None:
        """Compare the onset that each record states with where it would be without gaps."""
        at = next((i for i, name in enumerate(self.labels) if self.is_annotation(name)), None)
        if at is None:
            raise DataError(
                f"{path}: marked discontinuous ({self.reserved}) without annotations; export it as EDF+C"
            )
        before, width = sum(self.samples[:at]) * self.sample_bytes, self.samples[at] * self.sample_bytes
        gaps: list[tuple[float, float]] = []
        previous: float | None = None
        with path.open("rb") as file:
            for record in range(max(self.n_records, 0)):
                file.seek(self.n_header_bytes + record * self.record_bytes + before)
                stamp = re.match(rb"([+-]\d+(?:\.\d*)?)\x14\x14", file.read(width))
                if stamp is None:
                    raise DataError(
                        f"{path}: record {record} of a discontinuous file has no time; export it as EDF+C"
                    )
                onset = float(stamp[1])
                if (
                    previous is not None
                    and abs(onset - previous - self.record_s) > 1e-3 + 1e-6 * self.record_s
                ):
                    gaps.append((previous + self.record_s, onset))
                previous = onset
        if gaps:
            raise DataError(
                f"{path}: {self.reserved} with {len(gaps)} gaps, "
                f"the first from {gaps[0][0]:g} s to {gaps[0][1]:g} s; "
                "export each continuous part as a file of its own"
            )


def _elsewhere(path: Path, named: str, role: str) -> DataError:
    """Return the refusal of a file that makes another one, anywhere on the disk, part of itself."""
    return DataError(
        f"{path}: names {named!r:.200} as its {role}, which is not beside it; put it there and name it so"
    )


def _refuse_short_brainvision(path: Path) -> None:
    """Compare ``DataPoints`` of the header, where given, with the size of the data file."""
    try:
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from error

    def value(key: str) -> str | None:
        found = re.search(rf"^{key}\s*=\s*(.+?)\s*$", text, re.MULTILINE)
        return found[1] if found else None

    data_file = value("DataFile")
    if data_file is None:
        raise DataError(f"{path}: names no DataFile; export the recording again")
    for key in ("DataFile", "MarkerFile"):
        named = value(key) or ""
        if "/" in named or "\\" in named:
            raise _elsewhere(path, named, key)
    data = path.with_name(data_file.replace("$b", path.stem))
    if not data.is_file():
        raise DataError(f"{path}: its data file {data.name} is missing; copy it beside the header")
    width = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}.get(value("BinaryFormat") or "")
    points, channels = value("DataPoints"), value("NumberOfChannels")
    if width and points and channels and points.isdecimal() and channels.isdecimal():
        needed = int(points) * int(channels) * width
        if data.stat().st_size < needed:
            raise DataError(
                f"{data}: truncated: {data.stat().st_size} bytes, the header promises {needed}; "
                "copy the file again"
            )
    frame = (width or 0) * (int(channels) if channels and channels.isdecimal() else 0)
    if frame and data.stat().st_size % frame:
        raise DataError(
            f"{data}: truncated: {data.stat().st_size} bytes are not a whole number of samples of {channels} "
            f"channels ({frame} bytes each); copy the file again"
        )
