"""What is worth telling of a file without being a reason to refuse it."""

from __future__ import annotations

import warnings


class ReadingWarning(UserWarning):
    """Something about a file that is worth telling, but no reason to refuse it."""


def tell(text: str) -> None:
    """Say it; whoever reads the file keeps it among the recording's notes."""
    warnings.warn(text, ReadingWarning, stacklevel=3)
