"""What an evaluation says while it runs: progress, the time that is left, and evaluate.log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from eegm2.evaluation.experiment.cells import Cell

Say = Callable[[str], None]


class Clock:
    """Counts cells and foretells how long the rest takes: as long as the same model's cells took."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.total = len(cells)
        self.rest = Counter(cell.model.name for cell in cells)
        self.spent: dict[str, list[float]] = {}

    @property
    def left(self) -> int:
        """Cells to do."""
        return self.rest.total()

    @property
    def place(self) -> str:
        """Number of the present cell."""
        return f"[{self.total - self.left}/{self.total}]"

    def skip(self, cells: Sequence[Cell]) -> None:
        """Count cells as dealt with, which took no time."""
        self.rest.subtract(cell.model.name for cell in cells)

    def tick(self, cell: Cell, seconds: float) -> str:
        """Count a cell, and return how long it took and how long the rest is going to take."""
        self.skip([cell])
        self.spent.setdefault(cell.model.name, []).append(seconds)
        every = [value for values in self.spent.values() for value in values]
        rest = sum(n * float(np.mean(self.spent.get(name, every))) for name, n in self.rest.items())
        return f"({_span(seconds)}; {_span(sum(every))} so far, about {_span(rest)} left)"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def kept_log(path: Path, say: Say) -> Say:
    """Return what says a line and keeps it, with the date and the time since this call began."""
    began = time.monotonic()

    def write(line: str) -> None:
        say(line)
        elapsed = f"+{timedelta(seconds=round(time.monotonic() - began))}"
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {elapsed} {line}\n")

    return write
