"""The header of EDF and BDF files: what MNE would repair in silence is refused."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from eegm2.data.channels import canonical, is_known, looks_like_eeg
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
