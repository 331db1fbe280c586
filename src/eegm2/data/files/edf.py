"""The header of EDF and BDF files: what MNE would repair in silence is refused."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eegm2.data.channels import canonical, is_known, looks_like_eeg
from eegm2.data.files.tals import NotText, read_texts, record_onset
from eegm2.data.files.telling import parsing, tell
from eegm2.data.labels import LabelSpan
from eegm2.errors import DataError


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
    units: tuple[str, ...] = ()
    digital: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> EDFHeader:
        """Read the header, or raise DataError if it is not one."""
        with parsing(path, ValueError):
            with path.open("rb") as file:
                fixed = file.read(256)
                n_signals = int(fixed[252:256])
                names = file.read(16 * n_signals)
                file.seek(256 + 96 * n_signals)
                units = file.read(8 * n_signals)
                ranges = file.read(32 * n_signals)
                file.seek(256 + 216 * n_signals)
                counts = file.read(8 * n_signals)
            if (
                not (fixed[:8] == b"0       " or fixed[:8] == b"\xffBIOSEMI")
                or n_signals < 1
                or len(counts) < 8 * n_signals
            ):
                raise ValueError("its header is not one of EDF or BDF")
            n_header_bytes = int(fixed[184:192])
            if n_header_bytes != 256 * (n_signals + 1):
                raise ValueError(f"a header of {n_header_bytes} bytes with {n_signals} signals")
            return cls(
                reserved=fixed[192:236].decode("latin-1").strip(),
                n_header_bytes=n_header_bytes,
                n_records=int(fixed[236:244]),
                record_s=float(fixed[244:252]),
                labels=_texts(names, 16),
                samples=tuple(int(counts[i : i + 8]) for i in range(0, len(counts), 8)),
                sample_bytes=3 if fixed[:1] == b"\xff" else 2,
                units=_texts(units, 8),
                digital=_texts(ranges[16 * n_signals :], 8),
            )

    @property
    def record_bytes(self) -> int:
        """Bytes of one data record."""
        return sum(self.samples) * self.sample_bytes

    def is_annotation(self, label: str) -> bool:
        """Return whether a signal holds annotations."""
        return label in ("EDF Annotations", "BDF Annotations")

    def check(self, path: Path) -> list[str]:
        """Refuse truncation, gaps, surplus and differing EEG rates; return the signals of other rates."""
        if min(self.samples) < 1 or not 0 <= self.record_s < math.inf:
            raise DataError(
                f"{path}: damaged (records of {self.record_s:g} s, {min(self.samples)} samples of a signal); "
                "export the file again"
            )
        kind = ".bdf" if self.sample_bytes == 3 else ".edf"
        if path.suffix.lower() != kind:
            raise DataError(
                f"{path}: its header is that of a {kind} file ({8 * self.sample_bytes} bits a sample); "
                f"rename it to {path.stem}{kind}"
            )
        self._check_digital(path)
        self._check_size(path)
        signals = [(name, n) for name, n in zip(self.labels, self.samples) if not self.is_annotation(name)]
        if not signals:
            raise DataError(f"{path}: has no EEG channels (annotations only); choose another file")
        if self.record_s == 0:
            raise DataError(f"{path}: no sampling rate (records of 0 s); export the file again with one")
        self._refuse_gaps(path)
        return other_rates(path, signals, self.record_s)

    def _check_digital(self, path: Path) -> None:
        """Refuse a range of stored values that is not whole numbers: readers differ in what it means."""
        lows, highs = self.digital[: len(self.labels)], self.digital[len(self.labels) :]
        for name, *ends in zip(self.labels, lows, highs):
            wrong = [text for text in ends if not _is_whole(text)]
            if wrong and not self.is_annotation(name):
                raise DataError(
                    f"{path}: damaged (digital range of {name} from {ends[0]!r:.20} to {ends[1]!r:.20}, "
                    "expected whole numbers); export the file again"
                )

    def _check_size(self, path: Path) -> None:
        """Compare the declared number of records (-1: as many as there are) with the file's size."""
        size = path.stat().st_size
        needed = self.n_header_bytes + max(self.n_records, 1) * self.record_bytes
        if size < needed:
            raise DataError(
                f"{path}: truncated: {size} bytes, the header promises {needed}; copy the file again"
            )
        surplus = size - needed
        if self.n_records > 0 and surplus >= self.record_bytes:
            raise DataError(
                f"{path}: {size} bytes, but its header counts {self.n_records} records, which are {needed} "
                "bytes; what follows them is no part of the recording: copy or export the file again"
            )
        if self.n_records > 0 and surplus:
            tell(f"{surplus} bytes behind the last record left out")

    def records(self, path: Path) -> int:
        """Return the number of whole records: as declared, or as many as there are where that is -1."""
        there = (path.stat().st_size - self.n_header_bytes) // self.record_bytes
        return self.n_records if self.n_records > 0 else there

    def annotations(self, path: Path) -> list[LabelSpan]:
        """Return the labels of the file in seconds after its first sample; say what cannot be read."""
        places = [i for i, name in enumerate(self.labels) if self.is_annotation(name)]
        if not places:
            return []
        start_s = next((t for t in map(record_onset, self._blocks(path, places[0])) if t is not None), 0.0)
        names = [name for name in self.labels if not self.is_annotation(name)]
        blocks = itertools.chain.from_iterable(self._blocks(path, place) for place in places)
        try:
            found = read_texts(blocks, start_s, names)
        except NotText as error:
            raise DataError(f"{path}: {error}; export the file again") from error
        if found.latin:
            tell("annotations are not UTF-8, read as Latin-1")
        if found.unreadable:
            tell(f"{found.unreadable} annotations are not written as the format has it, left out")
        return found.labels

    def _blocks(self, path: Path, signal: int) -> Iterator[bytes]:
        """Yield the bytes of a signal, record after record."""
        before, width = sum(self.samples[:signal]) * self.sample_bytes, self.samples[signal]
        with path.open("rb") as file:
            for record in range(self.records(path)):
                file.seek(self.n_header_bytes + record * self.record_bytes + before)
                yield file.read(width * self.sample_bytes)

    def _refuse_gaps(self, path: Path) -> None:
        """Compare the time that each record states with where it would be without gaps."""
        at = next((i for i, name in enumerate(self.labels) if self.is_annotation(name)), None)
        apart = "+D" in self.reserved
        if at is None:
            if apart:
                raise DataError(
                    f"{path}: marked discontinuous ({self.reserved}) without annotations; export it as EDF+C"
                )
            return
        gaps: list[tuple[float, float]] = []
        expected: float | None = None
        for record, onset in enumerate(map(record_onset, self._blocks(path, at))):
            if onset is None and apart:
                raise DataError(
                    f"{path}: record {record} of a discontinuous file has no time; export it as EDF+C"
                )
            if onset is None:
                expected = None if expected is None else expected + self.record_s
                continue
            if expected is not None and abs(onset - expected) > 1e-3 + 1e-6 * self.record_s:
                gaps.append((expected, onset))
            expected = onset + self.record_s
        if gaps:
            raise DataError(
                f"{path}: {self.reserved} with {len(gaps)} gaps, the first from {gaps[0][0]:g} s to "
                f"{gaps[0][1]:g} s; export each continuous part as a file of its own"
            )


def _is_whole(text: str) -> bool:
    try:
        value = float(text.replace(",", "."))
        return value.is_integer() and abs(value) <= 2**24
    except ValueError:
        return False


def _texts(column: bytes, width: int) -> tuple[str, ...]:
    return tuple(column[i : i + width].decode("latin-1").strip() for i in range(0, len(column), width))


def other_rates(path: Path, signals: Sequence[tuple[str, int]], record_s: float) -> list[str]:
    """Refuse EEG channels of differing rates; return the names of other signals at other rates.

    Parameters
    ----------
    path : Path
        For the message.
    signals : sequence of (str, int)
        Name of a signal, samples of it in a record.
    record_s : float
        Length of a record.
    """
    eeg = [(n, c) for n, c in signals if is_known(n) or n.upper().startswith("EEG")]
    eeg = eeg or [(name, n) for name, n in signals if looks_like_eeg(name)] or list(signals)
    rates = Counter(n for _, n in eeg)
    if len(rates) > 1:
        by_rate = "; ".join(
            f"{count / record_s:g} Hz: {' '.join(canonical(name) for name, n in eeg if n == count)}"
            for count in sorted(rates)
        )
        raise DataError(
            f"{path}: EEG channels of differing sampling rates ({by_rate}); export them at one rate"
        )
    (rate,) = rates
    return [name for name, n in signals if n != rate]
