"""At which sample of a recording an event on the source's clock lies."""

from __future__ import annotations

from collections import deque

import numpy as np

#: Stretch of signal from which the clock is read.
_LOOKED_S = 2.0
#: Stamps that differ by more than this come in bursts: the earliest of them tell the time.
_EVEN_S = 0.04
#: Continuous stretches that are remembered.
_KEPT = 64


class Placing:
    """Times of events to samples, from the stamps of the samples.

    Within a continuous stretch sample `n` was taken at ``n / rate`` and a constant, which is read off the
    stamps: their median lateness, or the lowest where a sender stamps in bursts.

    Parameters
    ----------
    sfreq_hz : float
        Nominal rate.
    """

    def __init__(self, sfreq_hz: float) -> None:
        self.sfreq_hz = sfreq_hz
        self._stretches: deque[_Stretch] = deque(maxlen=_KEPT)
        self._joined = True

    def join(self) -> None:
        """Say that what follows is not continuous with what was before."""
        self._joined = True

    def push(self, first: int, times_s: np.ndarray) -> None:
        """Take the stamps of consecutive samples, the first of which has a number."""
        if not len(times_s):
            return
        if self._joined:
            self._stretches.append(_Stretch(first))
            self._joined = False
        stretch = self._stretches[-1]
        late = times_s - np.arange(first, first + len(times_s)) / self.sfreq_hz
        stretch.late.extend(late.tolist())
        while len(stretch.late) > _LOOKED_S * self.sfreq_hz:
            stretch.late.popleft()
        stretch.end = first + len(times_s)

    def place(self, time_s: float) -> int | None:
        """Return the sample at a time, or the first after it; None if that is yet to come."""
        after: int | None = None
        for stretch in reversed(self._stretches):
            place = (time_s - stretch.offset_s()) * self.sfreq_hz
            if place > stretch.end - 0.5:
                return after
            if place > stretch.first - 0.5:
                return min(max(round(place), stretch.first), stretch.end - 1)
            after = stretch.first
        return after


class _Stretch:
    """Consecutive samples, and how late the stamps of the last of them were."""

    def __init__(self, first: int) -> None:
        self.first = self.end = first
        self.late: deque[float] = deque()

    def offset_s(self) -> float:
        """Return the time of sample 0 on the source's clock, had it been in this stretch."""
        late = np.array(self.late)
        even = float(np.ptp(late)) <= _EVEN_S
        return float(np.median(late) if even else late.min())
