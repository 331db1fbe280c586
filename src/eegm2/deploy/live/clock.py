"""Gaps, jitter and drift of a source, from the time stamps of its samples."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from eegm2.errors import DataError

#: Samples this many sampling intervals (and at least `_LATE_S`) late for good are missing ones.
_LATE_SAMPLES = 2.5
_LATE_S = 0.04
#: A stamp this much before the last one is of a clock that was set back; bursts and jitter stay below.
SET_BACK_S = 0.75
#: A clock this far off its nominal rate is refused. It is where the lowest lateness of slices has moved by
#: more than `_DRIFTS` of the time that has passed, and `_UNSURE_S` by which it may differ without drift: 3 %
#: after less than a minute, 5 % after some 15 s. A jump is no drift: most slices must have moved so.
_LARGEST_RATE_ERROR = 0.03
_DRIFTS, _UNSURE_S = 0.025, 0.25
#: A slice is longer than the period of any sender in bursts, so each has the end of one.
_SLICE_S = 0.6
_KEPT_SLICES = 10
#: The lowest lateness of so many slices tells the rate, each compared with one at most so many slices later.
_RATE_SLICES, _APART = 200, 5
#: So long stays late what is missing; bursts catch up before.
_LASTING_S = 2 * _SLICE_S
#: Lateness that differs by less is even: a jump is seen at once.
_EVEN_S = 0.12
_LOOK_AHEAD = 8
#: Of a source whose stamps follow one another this regularly (in intervals, over so many seconds), and leave
#: out so many without ever catching up, every single sample that is missing is believed.
_REGULAR, _REGULAR_S, _SKIP, _SKIPS = 0.25, 4.0, 1.6, 3
_JUDGED_AFTER_SLICES = 8


@dataclass
class _Slice:
    """The lateness of the samples of a stretch of time, in seconds."""

    began_s: float
    low: float
    high: float


class ClockTracker:
    """Follows the clock of a source and finds what is missing.

    Lateness is a sample's stamp less the time that its number gives at the nominal rate. Senders that poll
    their device stamp samples in bursts: their lateness rises and falls, but comes back to the same lowest
    value; what is missing raises that value for good. So a gap is a lateness that lasts, judged against how
    much the lowest values of earlier stretches differ. Of a source whose stamps have been even, a jump is
    believed as soon as the next samples follow it at the usual distance. Where stamps have left out single
    samples again and again, the others even and none catching up, each that is left out counts.

    Parameters
    ----------
    sfreq_hz : float
        Nominal rate.
    where : str
        The source, for messages.

    Attributes
    ----------
    undecided : int
        Samples at the end of what was pushed of which it is not yet clear whether some are missing before
        them; whoever pushes keeps them back. The next push begins with them in its count.
    """

    def __init__(self, sfreq_hz: float, *, where: str = "source") -> None:
        self.sfreq_hz, self.where = sfreq_hz, where
        self.late_s = max(_LATE_SAMPLES / sfreq_hz, _LATE_S)
        self.reset()

    def reset(self) -> None:
        """Forget the clock, after a source came back for instance."""
        self._first: float | None = None
        self._count = self._missing = 0
        self._last = 0.0
        self._slices: deque[_Slice] = deque(maxlen=_KEPT_SLICES)
        self._past: deque[_Slice] = deque(maxlen=_RATE_SLICES)
        self._unjudged = False  # whether other slices have ended since the rate was looked at
        self._recent: deque[float] = deque(maxlen=max(_LOOK_AHEAD, round(self.sfreq_hz * _SLICE_S)))
        self._sums = np.zeros(5)
        self._late: tuple[float, float] | None = None
        self._lowest = (0.0, np.inf)
        self._usual, self._jump = 0.0, np.inf
        self._waiting: list[float] = []
        self._steps: deque[float] = deque(maxlen=round(self.sfreq_hz * _REGULAR_S))
        self._interval = 0.0
        self.undecided = 0

    @property
    def jitter_s(self) -> float:
        """Root mean square deviation of the stamps from an even clock in seconds."""
        n, sx, sy, sxx, sxy = self._sums
        spread = self._squares - sy * sy / n if n else 0.0
        across = sxx - sx * sx / n if n else 0.0
        explained = (sxy - sx * sy / n) ** 2 / across if n and across > 0 else 0.0
        return float(max(spread - explained, 0.0) / n) ** 0.5 if n else 0.0

    @property
    def drift_ppm(self) -> float:
        """Deviation of the measured from the nominal interval in parts per million; positive is slow."""
        return float(np.clip(self._slope(), -_LARGEST_RATE_ERROR, _LARGEST_RATE_ERROR) * 1e6)

    def _slope(self) -> float:
        n, sx, sy, sxx, sxy = self._sums
        across = n * sxx - sx * sx
        return float((n * sxy - sx * sy) / across) if across > 0 else 0.0

    def push(self, times_s: np.ndarray) -> tuple[tuple[int, int], ...]:
        """Take the stamps of consecutive samples; return (index, samples missing before it) of each gap.

        Indices count from the first sample that was undecided before.

        Raises
        ------
        DataError
            If the source sends at another rate than it states, or stamps run backwards.
        """
        stamps = [*self._waiting, *np.asarray(times_s, float).tolist()]
        self._waiting, self.undecided = [], 0
        gaps = []
        for i, stamp in enumerate(stamps):
            if self._slices and stamp < self._last - SET_BACK_S:
                self._begin_again()
            if self._first is not None and self._jumps(stamp):
                following = stamps[i : i + _LOOK_AHEAD + 1]
                if len(following) <= _LOOK_AHEAD:
                    self._waiting, self.undecided = following, len(following)
                    break
                missing = self._missing_before(following)
                if missing:
                    gaps.append((i, missing))
            missing = self._take(stamp)
            if missing:
                gaps.append((i, missing))
        self._judge()
        return tuple(gaps)

    def _jumps(self, stamp: float) -> bool:
        """Return whether samples seem to be missing before a stamp."""
        skips = self._interval > 0 and stamp - self._last > _SKIP * self._interval
        return skips or self._lateness(stamp, self._count) > self._jump

    def _begin_again(self) -> None:
        """Forget the clock that was: another one, or the same one set back, counts from here."""
        waiting, undecided = self._waiting, self.undecided
        self.reset()
        self._waiting, self.undecided = waiting, undecided

    def _lateness(self, stamp: float, number: int) -> float:
        """Return how late a sample is, given what is known to be missing."""
        assert self._first is not None
        return stamp - self._first - (number + self._missing) / self.sfreq_hz

    def _expect(self) -> None:
        """Take from what was seen how late samples usually are, and how late none is."""
        spread = max(s.high for s in self._slices) - min(s.low for s in self._slices) if self._slices else 0.0
        self._usual, self._jump = 0.0, np.inf
        self._interval = self._even_interval()
        if len(self._slices) >= 3 and spread <= _EVEN_S:
            self._usual = float(np.median(self._recent))
            self._jump = self._usual + max(self.late_s, 2 * spread)

    def _even_interval(self) -> float:
        """Return the distance of stamps where all are even but for those left out, else 0."""
        if len(self._steps) < self._steps.maxlen:  # type: ignore[operator]
            return 0.0
        steps = np.array(self._steps) * self.sfreq_hz
        usual = float(np.median(steps))
        near = np.abs(steps - usual) <= _REGULAR
        even = near.mean() > 0.9 and steps.min() >= usual - _REGULAR and abs(usual - 1) < _REGULAR
        return usual / self.sfreq_hz if even and (steps > _SKIP * usual).sum() >= _SKIPS else 0.0

    def _missing_before(self, following: list[float]) -> int:
        """Return how many samples are missing before a jump; none if those after it catch up."""
        if np.mean(np.diff(following)) < 0.6 / self.sfreq_hz:
            return 0
        late = [self._lateness(stamp, self._count + k) for k, stamp in enumerate(following)]
        missing = round((float(np.median(late)) - self._usual) * self.sfreq_hz)
        if self._interval:
            missing = round((following[0] - self._last) / self._interval) - 1
        elif missing < _LATE_SAMPLES:
            return 0
        self._account(missing, following[0])
        return missing

    def _account(self, missing: int, since: float) -> None:
        """Count what is missing; what was seen since then was measured against another time."""
        self._missing += missing
        self._late = None
        self._unjudged = True
        for slices in (self._slices, self._past):
            while slices and slices[-1].began_s >= since:
                slices.pop()

    def _take(self, stamp: float) -> int:
        """Count a sample; return how many are missing by what has been late for long enough."""
        if self._first is None:
            self._first, self._squares = stamp, 0.0
        late = self._lateness(stamp, self._count)
        missing = self._lasting(stamp, late)
        late -= missing / self.sfreq_hz
        if self._count:
            self._steps.append(stamp - self._last)
        self._count, self._last = self._count + 1, stamp
        self._recent.append(late)
        elapsed = stamp - self._first
        self._sums += (1.0, elapsed, late, elapsed * elapsed, elapsed * late)
        self._squares += late * late
        self._slice(stamp, late)
        return missing

    def _slice(self, stamp: float, late: float) -> None:
        if not self._slices or not 0 <= stamp - self._slices[-1].began_s < _SLICE_S:
            before = stamp if self._late is None else self._late[0]
            lows = [s.low for s in self._slices if s.began_s + _SLICE_S <= before]
            if len(lows) >= 3:
                base = min(lows[-3:])
                self._lowest = base, base + max(self.late_s, 2 * (max(lows) - min(lows)))
            self._expect()
            self._slices.append(_Slice(stamp, late, late))
            self._past.append(self._slices[-1])
            self._unjudged = True
        else:
            now = self._slices[-1]
            now.low, now.high = min(now.low, late), max(now.high, late)

    def _lasting(self, stamp: float, late: float) -> int:
        """Return how many samples are missing where lateness has lasted; the lowest values are compared."""
        base, limit = self._lowest
        if late <= limit:
            self._late = None
            return 0
        since, lowest = self._late or (stamp, np.inf)
        if stamp - since >= _SLICE_S:  # the burst in which something is missing has ended
            lowest = min(lowest, late)
        self._late = (since, lowest)
        if stamp - since < _LASTING_S:
            return 0
        missing = round((self._late[1] - base) * self.sfreq_hz)
        self._account(missing, since)
        return missing

    def _judge(self) -> None:
        """Refuse a source whose rate is not the stated one: its lateness grows or falls evenly."""
        if self._first is None:
            return
        if self._count > 4 * self.sfreq_hz and self._last < self._first:
            raise DataError(f"{self.where}: time stamps run backwards; restart the source")
        if not self._unjudged:
            return
        self._unjudged = False
        past = list(self._past)[:-1]  # the last goes on
        if len(past) < _JUDGED_AFTER_SLICES - 1:
            return
        lows, times = np.array([s.low for s in past]), np.array([s.began_s for s in past])
        apart = min(_APART, len(past) // 5)  # of few, a jump must not be in half of the pairs
        rates = (lows[apart:] - lows[:-apart]) / np.maximum(times[apart:] - times[:-apart], 1e-9)
        shift, passed = (float(np.median(x[-3:]) - np.median(x[:3])) for x in (lows, times))
        rate, far = float(np.median(rates)), abs(shift) > _DRIFTS * passed + _UNSURE_S
        if far and rate * np.sign(shift) > _DRIFTS / 2:
            sent_hz = self.sfreq_hz * (1 - rate)
            raise DataError(
                f"{self.where}: states {self.sfreq_hz:g} Hz but sends {sent_hz:.3g} samples a second; "
                "correct the rate that the source states"
            )
