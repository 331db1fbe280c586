"""What should be known of a window: samples that were filled in, channels that were flat."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class WindowFlags:
    """Remembers where prepared samples are not what a device measured.

    Parameters
    ----------
    length : int
        Prepared samples of a window.
    word : str
        Of a flat channel's flag: ``flat``, or ``filled`` where others stand for it.
    """

    def __init__(self, length: int, word: str = "flat") -> None:
        self.length, self.word = length, word
        self._filling_from: int | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew: the next prepared sample is the first."""
        self._filled: deque[tuple[int, int]] = deque(maxlen=64)
        if self._filling_from is not None:
            self._filling_from = 0
        self._until: dict[str, int] = {}

    def filling(self, begin: int) -> None:
        """Say that from a prepared sample on all are filled in, until `fill` is called."""
        self._filling_from = begin

    def fill(self, end: int) -> None:
        """Say that what was filled in ends before a prepared sample."""
        self._filled.append((self._filling_from or 0, end))
        self._filling_from = None

    def flat(self, names: Iterable[str], end: int) -> None:
        """Say that channels are flat up to a prepared sample."""
        self._until |= dict.fromkeys(names, end)

    def of(self, end: int) -> list[str]:
        """Return the flags of the window that ends before a prepared sample."""
        first = end - self.length
        within = self._filling_from is not None and end > self._filling_from
        filled = within or any(first < stop and begin < end for begin, stop in self._filled)
        flags = ["interpolated"] if filled else []
        return flags + [f"{self.word}:{name}" for name, until in self._until.items() if first < until]
