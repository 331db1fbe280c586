"""The text format ``.ts`` of the UEA and UCR time-series archives: @-lines, then one case per line.

A case is its dimensions with ``:`` between them, each a list of values with ``,`` between them, and, last,
its class or its value. ``?`` and ``NaN`` are missing values.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eegm2.errors import DataError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class TsCase:
    """One case.

    Attributes
    ----------
    values : array of float64, shape (n_dims, n_times), or None
        As in the file, NaN where a value is missing; None where there is a problem.
    target : str
        Class name, or a number as text.
    problem : str or None
        Why the case cannot be used.
    """

    values: np.ndarray | None
    target: str
    problem: str | None = None


@dataclass(frozen=True)
class TsFile:
    """A whole file.

    Attributes
    ----------
    header : dict
        What the @-lines say, keys in lower case.
    is_class : bool
        Whether the targets are classes; they are numbers otherwise.
    cases : tuple of TsCase
        In the file's order.
    """

    header: dict[str, str]
    is_class: bool
    cases: tuple[TsCase, ...]


def read_ts(path: Path) -> TsFile:
    """Read a ``.ts`` file; a case that cannot be used keeps its place and says why.

    Raises
    ------
    DataError
        If the file cannot be read, has no ``@data`` or no case, carries time stamps, or has no target.
    """
    try:
        status = path.stat()
        return _read(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror}); check the file") from error


@functools.lru_cache(maxsize=4)
def _read(path: Path, size: int, mtime_ns: int) -> TsFile:
    """Read a file; remembered, as every case of it is a recording that asks for it."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = enumerate(file, start=1)
        header = _read_header(path, lines)
        is_class = _has(header, "classlabel")
        if not is_class and not _has(header, "targetlabel"):
            raise DataError(
                f"{path}: neither @classLabel nor @targetLabel is true; there is nothing to learn"
            )
        if _has(header, "timestamps"):
            raise DataError(f"{path}: @timeStamps is true; only evenly sampled series can be read")
        known = set(header["classlabel"].split()[1:]) if is_class else set()
        cases = tuple(
            _case(path, number, line.strip(), header, known) for number, line in lines if line.strip()
        )
    if not cases:
        raise DataError(f"{path}: no case after @data; download it again")
    return TsFile(header, is_class, cases)


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> dict[str, str]:
    """Return the @-lines up to ``@data``."""
    header: dict[str, str] = {}
    for number, line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not text.startswith("@"):
            raise DataError(f"{path}: line {number}: got {text[:30]!r}, expected an @-line or # before @data")
        key, _, value = text[1:].partition(" ")
        if key.lower() == "data":
            return header
        header[key.lower()] = value.strip()
    raise DataError(f"{path}: no @data line; it is not a .ts file, or is cut short")


def _has(header: dict[str, str], key: str) -> bool:
    return header.get(key, "").lower().split()[:1] == ["true"]


def _case(path: Path, number: int, line: str, header: dict[str, str], known: set[str]) -> TsCase:
    """Return one case, or what is wrong with it."""
    import numpy as np

    *dimensions, target = (part.strip() for part in line.split(":"))

    def refused(reason: str) -> TsCase:
        return TsCase(None, target[:60], f"{path}: line {number}: {reason}")

    wanted = header.get("dimensions", header.get("dimension", ""))
    if wanted.isdecimal() and len(dimensions) != int(wanted):
        return refused(f"{len(dimensions)} dimensions, the header says {wanted}; download the file again")
    if not dimensions:
        return refused("no series before the target; download the file again")
    if known and target not in known:
        return refused(f"class {target[:60]!r} is none of the header's ({', '.join(sorted(known))})")
    try:
        series = [[float("nan" if v.strip() == "?" else v) for v in d.split(",")] for d in dimensions]
        if not known:
            float(target)
    except ValueError as error:
        return refused(f"{error}; values must be numbers, ? or NaN")
    lengths = {len(values) for values in series}
    if len(lengths) > 1:
        return refused(
            f"dimensions of {min(lengths)} to {max(lengths)} values; channels must be equally long"
        )
    return TsCase(np.array(series), target)
