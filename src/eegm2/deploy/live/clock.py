"""Gaps, jitter and drift of a source, from the time stamps of its samples."""

from __future__ import annotations

import numpy as np

from eegm2.errors import DataError

#: A sample this many sampling intervals (and at least `_LATE_S`) late means that some before it are missing.
_LATE_SAMPLES = 2.5
_LATE_S = 0.04
#: A clock this far off its nominal rate is refused.
_LARGEST_RATE_ERROR = 0.03
_JUDGED_AFTER_S = 4.0
_GAIN, _RATE_GAIN = 0.02, 2e-5


class ClockTracker:
    """Follows the clock of a source and finds what is missing.

    A second-order loop predicts each sample's time. What comes late by less than the threshold is jitter and
    steers the loop, which also follows a clock that drifts; what comes later is a gap of whole samples.

    Parameters
    ----------
    sfreq_hz : float
        Nominal rate.
    where : str
        The source, for messages.

    Attributes
    ----------
    jitter_s : float
        Root mean square deviation of stamps from the predicted time.
    drift_ppm : float
        Deviation of the source's rate from the nominal one, in parts per million.
    """

    def __init__(self, sfreq_hz: float, *, where: str = "source") -> None:
        self.sfreq_hz, self.where = sfreq_hz, where
        self.reset()

    def reset(self) -> None:
        """Forget the clock, after a source came back for instance."""
        self._next: float | None = None
        self._interval = 1 / self.sfreq_hz
        self._first = 0.0
        self._count = self._missing = self._gaps = 0
        self._squared = 0.0

    @property
    def jitter_s(self) -> float:
        """Root mean square deviation of the stamps from the predicted times in seconds."""
        return (self._squared / self._count) ** 0.5 if self._count else 0.0

    @property
    def drift_ppm(self) -> float:
        """Deviation of the measured from the nominal interval in parts per million; positive is slow."""
        return (self._interval * self.sfreq_hz - 1) * 1e6

    def push(self, times_s: np.ndarray) -> tuple[tuple[int, int], ...]:
        """Take the stamps of consecutive samples; return (index, samples missing before it) of each gap.

        Raises
        ------
        DataError
            If the source sends at another rate than it states, or stamps run backwards.
        """
        gaps = []
        late = max(_LATE_SAMPLES / self.sfreq_hz, _LATE_S)
        for i, stamp in enumerate(np.asarray(times_s, float).tolist()):
            if self._next is None:
                self._next, self._first = stamp, stamp
            error = stamp - self._next
            if error > late:
                missing = max(1, round(error / self._interval))
                gaps.append((i, missing))
                self._missing += missing
                self._gaps += 1
                self._next, error = stamp, 0.0
            self._squared += error * error
            self._count += 1
            self._interval += _RATE_GAIN * error
            self._next += self._interval + _GAIN * error
        self._judge()
        return tuple(gaps)

    def _judge(self) -> None:
        """Refuse a source whose rate is not the stated one."""
        if self._next is None or self._count < _JUDGED_AFTER_S * self.sfreq_hz:
            return
        behind = self._count / self.sfreq_hz - (self._next - self._first)
        if self._next - self._first < 0:
            raise DataError(f"{self.where}: time stamps run backwards; restart the source")
        measured = self._count / max(self._next - self._first, 1e-9)
        many_gaps = self._gaps > 10 and self._missing > 0.1 * self._count
        even = self._gaps > 0.02 * self._count
        fast = behind > 0.25 + _LARGEST_RATE_ERROR * (self._next - self._first)
        if fast or (many_gaps and even):
            raise DataError(
                f"{self.where}: states {self.sfreq_hz:g} Hz but sends {measured:.4g} samples a second; "
                "correct the rate that the source states"
            )
