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
        self.reset()

    def reset(self) -> None:
        """Begin anew: the next prepared sample is the first."""
        self._filled: deque[int] = deque(maxlen=64)
        self._until: dict[str, int] = {}

    def fill(self, end: int) -> None:
        """Say that something before a prepared sample was filled in."""
        self._filled.append(end)

    def flat(self, names: Iterable[str], end: int) -> None:
        """Say that channels are flat up to a prepared sample."""
        self._until |= dict.fromkeys(names, end)

    def of(self, end: int) -> list[str]:
        """Return the flags of the window that ends before a prepared sample."""
        first = end - self.length
        flags = ["interpolated"] if any(first < filled for filled in self._filled) else []
        return flags + [f"{self.word}:{name}" for name, until in self._until.items() if first < until]
