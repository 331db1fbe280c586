"""Which time on the source's clock a prepared sample has."""

from __future__ import annotations


class TimeLine:
    """Times of samples at the network's rate, from the stamps of the source's samples.

    Prepared sample `m` stands for the source's sample ``m * down / up`` since both began; the source's newest
    stamp fixes where that lies, so that a clock that drifts is followed.

    Parameters
    ----------
    sfreq_hz : float
        Nominal rate of the source.
    up, down : int
        Ratio of the network's rate to it.
    """

    def __init__(self, sfreq_hz: float, up: int, down: int) -> None:
        self.sfreq_hz, self.step = sfreq_hz, down / up
        self.reset()

    def reset(self) -> None:
        """Begin anew: the next sample is the first."""
        self._count, self.last_s = 0, 0.0

    def push(self, count: int, last_s: float) -> None:
        """Take how many samples came, and the stamp of the last of them in seconds."""
        self._count += count
        self.last_s = last_s

    def time_s(self, sample: float) -> float:
        """Return the time of a prepared sample; of its number after the last, the time at which that ends."""
        return self.last_s - (self._count - 1 - sample * self.step) / self.sfreq_hz
