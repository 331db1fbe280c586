"""How far a long computation has come, as it tells its caller."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Takes (stage, done, total)."""
Counted = Callable[[int, int], None]
"""Takes (done, total) of one stage."""


def unseen(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def of_stage(progress: Progress, stage: str) -> Counted:
    """Return what counts one stage."""
    return lambda done, total: progress(stage, done, total)
