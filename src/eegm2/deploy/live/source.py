"""What a live source is, and a recording that plays as one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from eegm2.data.channels import canonical
from eegm2.data.files.units import microvolts_per
from eegm2.data.joins import cuts, skipped
from eegm2.errors import DataError, EEGM2Error


class SourceLost(EEGM2Error):
    """A source that stopped sending; it may come back."""


@dataclass(frozen=True)
class Chunk:
    """Samples of a source.

    Attributes
    ----------
    x_uv : array, shape (n_chans, k)
        Microvolts.
    times_s : array, shape (k,)
        Time of each sample on the source's clock.
    gaps : tuple of (int, int)
        Index of a sample and how many are missing before it.
    fresh : bool
        True for the first chunk after the source came back, or after a join in a recording.
    why : str
        What parts it from what was before, where it is neither.
    """

    x_uv: np.ndarray
    times_s: np.ndarray
    gaps: tuple[tuple[int, int], ...] = field(default=())
    fresh: bool = False
    why: str = ""


#: What a source returns while nothing comes.
NOTHING = Chunk(np.zeros((0, 0)), np.zeros(0))


class Source(Protocol):
    """Where samples come from.

    Attributes
    ----------
    name : str
    ch_names : list of str
    sfreq_hz : float
        Nominal rate.
    can_wait : bool
        Whether it holds samples back while nobody reads (a file), so that none need to be dropped.

    Optional attributes: ``device`` tells one device from another of its kind, ``clock`` says which clock its
    stamps are of, ``lsl`` or ``unix`` (seconds since 1970).
    """

    name: str
    ch_names: list[str]
    sfreq_hz: float
    can_wait: bool

    def open(self) -> None:
        """Connect; DataError or SourceLost if that fails. May be called again after :meth:`close`."""

    def read(self, n: int, timeout_s: float) -> Chunk | None:
        """Return about `n` new samples, an empty chunk if none came within `timeout_s`, None at the end.

        Raises SourceLost if the source says that it is gone.
        """

    def close(self) -> None:
        """Let go of the connection."""

    def facts(self) -> dict[str, float]:
        """Return what was measured of the source's clock, for the statistics."""


class RecordingSource:
    """A recording in any format that can be read, at real or another speed; after a join it begins anew.

    Parameters
    ----------
    path : str or Path
    speed : float
        1 is real time, 0 as fast as it is read.
    ch_names : sequence of str
        Names of its channels in its order, instead of the file's.
    unit : str
        Unit that its numbers are in, where the file says microvolts and means another.
    """

    can_wait = True
    device = ""

    def __init__(
        self, path: str | Path, *, speed: float = 1.0, ch_names: Sequence[str] = (), unit: str = ""
    ) -> None:
        self.name, self.speed = str(path), speed
        self.named, self.unit = list(ch_names), unit
        self.ch_names: list[str] = []
        self.sfreq_hz = 0.0

    def open(self) -> None:
        """Read the header."""
        from eegm2.data.files.readers import annotation_labels, read_raw

        self._raw = read_raw(self.name)
        stated = list(self._raw.ch_names)
        self.ch_names = named_channels(stated, self.named, len(stated), self.name)
        self._factor = 1e6 * unit_factor(self.unit, self.name)
        self.sfreq_hz = float(self._raw.info["sfreq"])
        marks, n_times = annotation_labels(self._raw), self._raw.n_times
        self._ends = [*cuts(marks, self.sfreq_hz, n_times), n_times]
        self._skipped = skipped(marks, self.sfreq_hz, n_times)
        self._at, self._began = 0, time.monotonic()
        self._fresh = False

    def read(self, n: int, timeout_s: float) -> Chunk | None:
        """Return the next samples when their time has come."""
        while self._at < self._raw.n_times and self._skipped[self._at]:
            self._at, self._fresh = next(end for end in self._ends if end > self._at), True
        if self._at >= self._raw.n_times:
            return None
        end = min(self._at + n, next(end for end in self._ends if end > self._at))
        if self.speed > 0:
            due = self._began + end / self.sfreq_hz / self.speed
            time.sleep(max(0.0, due - time.monotonic()))
        x_uv = self._raw[:, self._at : end][0] * self._factor
        times_s = np.arange(self._at, end) / self.sfreq_hz
        fresh, self._fresh = self._fresh, end in self._ends
        self._at = end
        return Chunk(x_uv, times_s, fresh=fresh)

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_raw"):
            self._raw.close()

    def facts(self) -> dict[str, float]:
        """Return nothing: a file has no clock."""
        return {}


def unit_factor(unit: str, where: str) -> float:
    """Return microvolts per unit.

    Raises
    ------
    DataError
        If the unit is stated but unknown.
    """
    if not unit:
        return 1.0
    factor = microvolts_per(unit)
    if factor is None:
        raise DataError(f"{where}: unit is '{unit:.40}', expected V, mV, µV (uV) or nV; give it with --unit")
    return factor


def named_channels(stated: list[str], given: list[str], count: int, where: str) -> list[str]:
    """Return the names of a source's channels: those given, else those that it states.

    Given names that it states are a choice among them, whatever their order, and rename nothing.

    Raises
    ------
    DataError
        If they are not as many as there are channels.
    """
    known = {canonical(name).upper() for name in stated}
    if len(stated) == count and known.issuperset(canonical(name).upper() for name in given):
        return stated
    if given and len(given) != count:
        raise DataError(f"{where}: has {count} channels, --channels names {len(given)}: {' '.join(given)}")
    if not given and len(stated) != count:
        raise DataError(
            f"{where}: describes {len(stated)} of {count} channels by label; add labels to the stream's "
            "description, or name all in its order with --channels"
        )
    return given or stated
