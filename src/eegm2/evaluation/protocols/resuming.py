"""The state of a fit after every epoch, so that one which was interrupted goes on to the same weights."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from eegm2.atomic import write_atomic


class FitState:
    """A file that holds what a fit needs to go on.

    Parameters
    ----------
    path : Path
        Where it is kept.
    mark : str
        Tells what is fitted, on what and how; the state of something else is left alone and written over.
    watch : callable, optional
        Called with (epochs done, most epochs) after each.
    """

    def __init__(self, path: Path, mark: str, watch: Callable[[int, int], None] | None = None) -> None:
        self.path, self.mark, self.watch = path, mark, watch

    def read(self) -> dict[str, Any] | None:
        """Return the state of the last epoch; None where there is none, or one of something else."""
        if not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # torch raises many kinds for a damaged archive, and a fit can always begin anew
            return None
        return state if state.get("mark") == self.mark else None

    def write(self, state: dict[str, Any], done: int, most: int) -> None:
        """Keep a state, whole or not at all."""
        buffer = io.BytesIO()
        torch.save({**state, "mark": self.mark}, buffer)
        write_atomic(self.path, [buffer.getbuffer()])
        if self.watch is not None:
            self.watch(done, most)

    def then(self) -> FitState:
        """Return the state of a second fit, which what came of this one decides."""
        return FitState(self.path.with_suffix(f".then{self.path.suffix}"), f"{self.mark} then", self.watch)

    def remove(self) -> None:
        """Forget the state of a fit, and of one after it, that has ended."""
        for path in (self.path, self.then().path):
            path.unlink(missing_ok=True)
