"""The header and the event table of GDF files, version 1 and 2: sizes, rates, units and clock."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from eegm2.data.files.edf import other_rates
from eegm2.data.files.telling import parsing, tell
from eegm2.data.files.units import biosig_microvolts_per, microvolts_per
from eegm2.data.labels import LabelSpan
from eegm2.errors import DataError

#: Bytes per sample by the number of a data type.
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 8, 8: 8, 16: 4, 17: 8}
_MAX_SIGNALS = 4096
_EVENT_MODES = {1: 6, 3: 12}
"""Event tables and the bytes of an event in each."""


@dataclass(frozen=True)
class GDFHeader:
    """What a GDF file declares about itself."""

    version: float
    n_header_bytes: int
    n_records: int
    record_s: float
    names: tuple[str, ...]
    factors: tuple[float | None, ...]
    samples: tuple[int, ...]
    widths: tuple[int, ...]

    @classmethod
    def read(cls, path: Path) -> GDFHeader:
        """Read the header.

        Raises
        ------
        DataError
            If it is not one, or its numbers contradict one another.
        """
        with parsing(path, ValueError, struct.error), path.open("rb") as file:
            return _parse(file.read(256 * (_MAX_SIGNALS + 1)))

    @property
    def record_bytes(self) -> int:
        """Bytes of one data record."""
        return sum(n * width for n, width in zip(self.samples, self.widths))

    @property
    def n_data_bytes(self) -> int:
        """Bytes of header and records, where the event table begins."""
        return self.n_header_bytes + self.n_records * self.record_bytes

    def check(self, path: Path) -> list[str]:
        """Refuse truncation and differing EEG rates; return the signals of other rates."""
        size = path.stat().st_size
        if size < self.n_data_bytes:
            raise DataError(
                f"{path}: truncated: {size} bytes, the header promises {self.n_data_bytes}; "
                "copy the file again"
            )
        return other_rates(path, list(zip(self.names, self.samples)), self.record_s)

    def n_times(self, excluded: list[str]) -> int:
        """Return how many samples the channels have that are not among `excluded`."""
        counts = [n for name, n in zip(self.names, self.samples) if name not in excluded]
        return self.n_records * max(counts or self.samples)

    def events(self, path: Path, sfreq_hz: float) -> list[LabelSpan]:
        """Return the events in seconds after the first sample, on the clock that the table states.

        Parameters
        ----------
        path : Path
        sfreq_hz : float
            Rate of the signals, meant where the table states 0.

        Raises
        ------
        DataError
            If the table is cut short, of an unknown kind, or its rate is impossible.
        """
        with path.open("rb") as file:
            file.seek(self.n_data_bytes)
            head = file.read(8)
            left = path.stat().st_size - self.n_data_bytes
            if not head.strip(b"\0") and left < self.record_bytes:
                return []
            width = _EVENT_MODES.get(head[0])
            if width is None or len(head) < 8:
                raise DataError(
                    f"{path}: {path.stat().st_size} bytes, header and {self.n_records} records are "
                    f"{self.n_data_bytes}, and what follows is no table of events; export the file again"
                )
            if self.version < 1.94:
                rate_hz, count = int.from_bytes(head[1:4], "little"), struct.unpack("<I", head[4:])[0]
            else:
                count, rate_hz = int.from_bytes(head[1:4], "little"), struct.unpack("<f", head[4:])[0]
            left = path.stat().st_size - self.n_data_bytes - 8
            if count * width > left:
                raise DataError(
                    f"{path}: truncated: a table of {count} events, {count * width} bytes, where {left} are "
                    "left; copy the file again"
                )
            table = file.read(count * width)
        if not 0 <= rate_hz < math.inf:
            raise DataError(f"{path}: events at {rate_hz:g} Hz; export the file again")
        return _spans(table, count, width == 12, rate_hz or sfreq_hz)


def _spans(table: bytes, count: int, lasting: bool, rate_hz: float) -> list[LabelSpan]:
    """Return the events of a table: positions count from 1; without durations each is one sample long."""
    positions = struct.unpack_from(f"<{count}I", table)
    kinds = struct.unpack_from(f"<{count}H", table, 4 * count)
    durations = struct.unpack_from(f"<{count}I", table, 8 * count) if lasting else (1,) * count
    before = sum(position == 0 for position in positions)
    if before:
        tell(f"{before} events at position 0, before the first sample, left out")
    return sorted(
        LabelSpan((position - 1) / rate_hz, max(duration, 1) / rate_hz, str(kind))
        for position, kind, duration in zip(positions, kinds, durations)
        if position > 0
    )


def _parse(data: bytes) -> GDFHeader:
    """Return the header; raise ValueError where it is none."""
    if len(data) < 256 or data[:4] != b"GDF ":
        raise ValueError("its header is not one of GDF")
    version = float(data[4:8])
    first = version < 1.90
    n_signals = struct.unpack_from("<I" if first else "<H", data, 252)[0]
    n_records, numerator, denominator = struct.unpack_from("<qII", data, 236)
    n_bytes = (
        struct.unpack_from("<q", data, 184)[0] if first else 256 * struct.unpack_from("<H", data, 184)[0]
    )
    if not 1 <= n_signals <= _MAX_SIGNALS or n_bytes < 256 * (n_signals + 1) or len(data) < n_bytes:
        raise ValueError(f"a header of {n_bytes} bytes with {n_signals} signals")
    if n_records < 1 or denominator == 0:
        raise ValueError(f"{n_records} records of {numerator}/{denominator} s")
    at = 256
    names = tuple(
        data[i : i + 16].split(b"\0")[0].decode("latin-1").strip() for i in range(at, at + 16 * n_signals, 16)
    )
    if first:
        texts = data[at + 96 * n_signals : at + 104 * n_signals]
        factors = tuple(
            microvolts_per(texts[i : i + 8].split(b"\0")[0].decode("latin-1"))
            for i in range(0, len(texts), 8)
        )
    else:
        codes = struct.unpack_from(f"<{n_signals}H", data, at + 102 * n_signals)
        factors = tuple(map(biosig_microvolts_per, codes))
    samples = struct.unpack_from(f"<{n_signals}i", data, at + 216 * n_signals)
    kinds = struct.unpack_from(f"<{n_signals}i", data, at + 220 * n_signals)
    unknown = next((kind for kind in kinds if kind not in _WIDTHS), None)
    if unknown is not None or min(samples) < 1:
        raise ValueError(f"samples of type {unknown}" if unknown is not None else "a signal without samples")
    # A record of 0 s is one of 1 s, as MNE has it.
    record_s = numerator / denominator if numerator else 1.0
    widths = tuple(_WIDTHS[kind] for kind in kinds)
    return GDFHeader(version, n_bytes, n_records, record_s, names, factors, samples, widths)
