"""An EDF+ or BDF+ file that grows while it is recorded and can be read whenever writing stops."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from eegm2.errors import ConfigError

#: Room for annotations in each record, in bytes; what does not fit goes into the next one. And for a text.
_ANNOTATION_BYTES, _TEXT_BYTES = 240, 160
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
#: Half of the range that 16 bits cover in steps of 0.1 µV; 24 bits cover every amplifier in finer ones.
_EDF_HALF_UV, _BDF_HALF_UV = 3276.7, 262_143.0


class GrowingEdf:
    """Writes records of about a second; the header counts those that are complete.

    Parameters
    ----------
    path : Path
        ``.edf`` (16 bits: 3.2 mV to either side of each channel's first second, in steps of 0.1 µV) or
        ``.bdf`` (24 bits).
    ch_names : sequence of str
    sfreq_hz : float
    offset_uv : array, shape (n_chans,)
        Middle of each channel's range.

    Attributes
    ----------
    record : int
        Samples of a record.
    clipped : int
        Samples so far that lay outside the range.
    shortened : int
        Annotations so far that were too long for a record.
    """

    def __init__(self, path: Path, ch_names: Sequence[str], sfreq_hz: float, offset_uv: np.ndarray) -> None:
        self.path, self.sfreq_hz = path, sfreq_hz
        self.bdf = path.suffix.lower() == ".bdf"
        self.record = max(1, round(sfreq_hz))
        self.record_s = self.record / sfreq_hz
        text = f"{self.record_s:.8g}"[:8]
        if abs(float(text) * sfreq_hz - self.record) > 1e-3:
            raise ConfigError(f"{path}: a rate of {sfreq_hz:g} Hz does not fit the header of such files")
        bits, half = (23, _BDF_HALF_UV) if self.bdf else (15, _EDF_HALF_UV)
        self.digital = 2**bits - 1
        self.middle = np.zeros(len(ch_names)) if self.bdf else np.round(offset_uv)
        self.step_uv = half / self.digital
        self.clipped = self.records = self.shortened = 0
        self._waiting: list[tuple[float, float, str]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        header = self._header(ch_names, text, half)
        self._end = len(header)
        self._file: BinaryIO = path.open("wb", buffering=0)
        self._append(0, header)

    def _header(self, ch_names: Sequence[str], duration: str, half: float) -> bytes:
        now, kind = datetime.datetime.now(), "BDF" if self.bdf else "EDF"
        count = len(ch_names) + 1
        lows = [f"{middle - half:.8g}"[:8] for middle in self.middle]
        highs = [f"{middle + half:.8g}"[:8] for middle in self.middle]
        # the numbers that fit the header decide, not those that were meant
        self.low = np.array([float(low) for low in lows])
        self.step = (np.array([float(high) for high in highs]) - self.low) / (2 * self.digital)
        fields = [
            ("\xffBIOSEMI" if self.bdf else "0", 8),
            ("X X X X", 80),
            (f"Startdate {now:%d}-{_MONTHS[now.month - 1]}-{now:%Y} X X X", 80),
            (f"{now:%d.%m.%y}", 8),
            (f"{now:%H.%M.%S}", 8),
            (str(256 * (count + 1)), 8),
            (f"{kind}+C", 44),
            ("0", 8),
            (duration, 8),
            (str(count), 4),
        ]
        names = [*(name[:16] for name in ch_names), f"{kind} Annotations"]
        size = 3 if self.bdf else 2
        columns: list[tuple[list[str], int]] = [
            (names, 16),
            ([""] * count, 80),
            (["uV"] * (count - 1) + [""], 8),
            ([*lows, "-1"], 8),
            ([*highs, "1"], 8),
            ([str(-self.digital)] * (count - 1) + [str(-self.digital - 1)], 8),
            ([str(self.digital)] * count, 8),
            ([""] * count, 80),
            ([str(self.record)] * (count - 1) + [str(_ANNOTATION_BYTES // size)], 8),
            ([""] * count, 32),
        ]
        fields += [(value, width) for values, width in columns for value in values]
        return b"".join(value.encode("latin-1", "replace").ljust(width)[:width] for value, width in fields)

    def annotate(self, onset_s: float, duration_s: float, text: str) -> None:
        """Keep an annotation; it is written with the first record that has room and holds its end.

        So no annotation ever reaches beyond the end of the file. A text that is too long for a record is cut
        and ends in an ellipsis.
        """
        plain = "".join(character if character.isprintable() else " " for character in text)
        if len(plain.encode()) > _TEXT_BYTES:
            self.shortened += 1
            plain = plain.encode()[: _TEXT_BYTES - 3].decode(errors="ignore") + "…"
        self._waiting.append((onset_s, duration_s, plain))

    def end_annotations(self, end_s: float) -> None:
        """Let the annotations that are not written yet end at a time at the latest: nothing follows."""
        self._waiting = [
            (min(onset_s, end_s), max(0.0, min(duration_s, end_s - onset_s)), text)
            for onset_s, duration_s, text in self._waiting
        ]

    def write(self, x_uv: np.ndarray) -> None:
        """Append one record, (n_chans, record) in microvolts, and count it.

        Raises
        ------
        OSError
            If the disk is full; the file then ends after the last whole record.
        """
        values = np.rint((x_uv - self.low[:, None]) / self.step[:, None]) - self.digital
        outside = int((np.abs(values) > self.digital).sum())
        digits = np.ascontiguousarray(np.clip(values, -self.digital, self.digital), "<i4")
        if self.bdf:
            samples = digits.view(np.uint8).reshape(*digits.shape, 4)[..., :3].tobytes()
        else:
            samples = digits.astype("<i2").tobytes()
        notes, end_s = f"+{self._end_s:.6f}\x14\x14\0".encode(), self._end_s + self.record_s
        left = []
        for waiting in self._waiting:
            text = _encoded(*waiting) if waiting[0] + waiting[1] <= end_s + 1e-6 else b""
            fits = bool(text) and len(notes) + len(text) <= _ANNOTATION_BYTES
            notes += text if fits else b""
            left += [] if fits else [waiting]
        record = samples + notes.ljust(_ANNOTATION_BYTES, b"\0")
        self._append(self._end, record)
        try:
            self._put(236, str(self.records + 1).encode().ljust(8))
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(record)
        self.records += 1
        self.clipped += outside
        self._waiting = left

    def _append(self, at: int, data: bytes) -> None:
        """Write at the end of the file; where that fails, leave it as long as it was."""
        try:
            self._put(at, data)
        except OSError:
            self._file.truncate(at)
            raise

    def _put(self, at: int, data: bytes) -> None:
        self._file.seek(at)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    @property
    def _end_s(self) -> float:
        return self.records * self.record_s

    @property
    def noted(self) -> bool:
        """Whether every annotation has been written."""
        return not self._waiting

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _encoded(onset_s: float, duration_s: float, text: str) -> bytes:
    """Return an annotation as EDF+ has it."""
    length = f"\x15{duration_s:.6f}" if duration_s > 0 else ""
    return f"+{onset_s:.6f}{length}\x14{text}\x14\0".encode()
