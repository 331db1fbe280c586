"""Tables of samples as text: what of them is read here, and by whom they were written."""

from __future__ import annotations

import csv
import datetime
import itertools
import math
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eegm2.errors import DataError

SUFFIXES = (".csv", ".txt", ".tsv")
_HEAD_BYTES = 8192
_NUMBER = re.compile(r"[-+\d.eE]+")


def head_lines(path: Path) -> list[str]:
    """Return the complete lines at the beginning of a text file, none if it cannot be read as text."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        lines = head.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return lines[:-1] if len(head) == _HEAD_BYTES else lines


def written_by(path: Path) -> str | None:
    """Return what wrote a text file of samples: mindmonitor, muselsl, openbci, emotiv or brainflow.

    None if the beginning is that of none of them.
    """
    if path.suffix.lower() not in SUFFIXES:
        return None
    lines = head_lines(path)
    if not lines:
        return None
    first = lines[0]
    names = cells(first)
    if first.startswith("%OpenBCI"):
        return "openbci"
    if first.lower().startswith("title:") or {"EEG.Counter", "EEG.Interpolated"} & set(names):
        return "emotiv"
    if names[0] == "TimeStamp" and any(name.startswith("RAW_") for name in names):
        return "mindmonitor"
    if names[0] == "timestamps" and {"TP9", "AF7", "AF8", "TP10"} <= set(names):
        return "muselsl"
    return "brainflow" if _is_numbers(first) and all(_is_numbers(line) for line in lines[1:4]) else None


def _is_numbers(line: str) -> bool:
    """Return whether a line is as BrainFlow writes them: many numbers between tabulators, no title."""
    parts = line.split("\t")
    return len(parts) >= 8 and all(re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", part.strip()) for part in parts)


def cells(line: str, separator: str = ",") -> list[str]:
    """Return the cells of a line of a table, without blanks around them."""
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])] or [""]


@dataclass
class Columns:
    """What was read of a table; blank rows are left out.

    Attributes
    ----------
    numbers : dict of int to array
        Values of each wanted column by its place; empty cells are not-a-number.
    times_s : array
        Of the column of times; not-a-number where it and all numbers are empty.
    texts : dict of int to list of str
    given : array of bool
        Whether a row has any of the numbers.
    """

    numbers: dict[int, np.ndarray]
    times_s: np.ndarray
    texts: dict[int, list[str]]
    given: np.ndarray

    def __len__(self) -> int:
        return len(self.given)

    def stacked(self, places: Sequence[int]) -> np.ndarray:
        """Return columns as rows of an array, each of them for the last time."""
        found = np.empty((len(places), len(self)))
        for row, place in enumerate(places):
            found[row] = self.numbers.pop(place)
        return found


def read_columns(
    path: Path,
    *,
    skip: int,
    numbers: Mapping[int, str],
    time: int | None = None,
    texts: Iterable[int] = (),
    separator: str = ",",
    width: int = 0,
) -> Columns:
    """Read some columns of a table, a row at a time: a file may be larger than what is wanted of it.

    Parameters
    ----------
    path : Path
    skip : int
        Lines to leave out at the beginning.
    numbers : mapping of int to str
        Place and name of each column of numbers.
    time : int, optional
        Place of the times: numbers, or dates with times of day.
    texts : iterable of int
        Places of columns to be kept as texts.
    separator : str
    width : int
        The number of titles: no row may go on beyond them, such are shifted, by commas in numbers. 0: any.

    Raises
    ------
    DataError
        If it is no text in UTF-8, a row has more cells than there are titles, a cell of a column of numbers
        holds something else, or a time cannot be read; the message names the line.
    """
    values = {place: array("d") for place in numbers}
    times, given = array("d"), bytearray()
    kept: dict[int, list[str]] = {place: [] for place in texts}
    for line, row in _rows(path, skip, separator, width):
        there = False
        for place, name in numbers.items():
            cell = row[place] if place < len(row) else ""
            there |= bool(cell)
            values[place].append(_number(cell, path, line, name))
        given.append(there)
        if time is not None:
            cell = row[time] if time < len(row) else ""
            times.append(math.nan if not cell and not there else _time(cell, path, line))
        for place, column in kept.items():
            column.append(sys.intern(row[place]) if place < len(row) else "")
    found = {place: np.frombuffer(column, float) for place, column in values.items()}
    return Columns(found, np.frombuffer(times, float), kept, np.frombuffer(given, bool))


def _rows(path: Path, skip: int, separator: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line and the cells of every row that is not blank."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = itertools.islice(file, skip, None)
        try:
            for line, row in enumerate(csv.reader(lines, delimiter=separator), skip + 1):
                found = [cell.strip() for cell in row]
                if width and any(found[width:]):
                    raise DataError(
                        f"{path}: line {line} has {len(found)} cells under {width} titles; export it again, "
                        "with points as decimal marks"
                    )
                if any(found):
                    yield line, found
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not text in UTF-8 ({error.reason}); export it again") from error


def _number(cell: str, path: Path, line: int, name: str) -> float:
    """Return the number of a cell; nothing that only Python takes for one (``1_000``)."""
    try:
        if "_" in cell:
            raise ValueError("holds an underscore")
        return float(cell) if cell else math.nan
    except ValueError as error:
        raise DataError(
            f"{path}: line {line}, column {name}: '{cell[:40]}' is no number; export it again"
        ) from error


def _time(text: str, path: Path, line: int) -> float:
    """Return a time in seconds."""
    try:
        if _NUMBER.fullmatch(text):
            return float(text)
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(f"{path}: line {line}: a time cannot be read ({error}); export it again") from error
