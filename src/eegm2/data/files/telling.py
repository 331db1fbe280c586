"""What is told of a file that is read, and the refusal of one that cannot be."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from eegm2.errors import DataError


class ReadingWarning(UserWarning):
    """Something about a file that is worth telling, but no reason to refuse it."""


def tell(text: str) -> None:
    """Say it; whoever reads the file keeps it among the recording's notes."""
    warnings.warn(text, ReadingWarning, stacklevel=3)


@contextlib.contextmanager
def parsing(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """Turn errors of opening a file, and the kinds that its parser raises for damage, into one line."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from error
    except damage as error:
        raise DataError(f"{path}: damaged ({error}); copy or export the file again") from error
