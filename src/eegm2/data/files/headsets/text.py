"""Tables of samples as text: what of them is read here, and by whom they were written."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from eegm2.errors import DataError

SUFFIXES = (".csv", ".txt", ".tsv")
_HEAD_BYTES = 8192


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


def read_rows(path: Path, *, skip: int, separator: str = ",", width: int = 0) -> list[list[str]]:
    """Return all rows of a table after some lines, blank ones left out.

    With `width`, the number of titles, no row may go on beyond them: such are shifted, by commas in numbers.

    Raises
    ------
    DataError
        If it is no text in UTF-8, or a row has more cells than there are titles.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8 ({error.reason}); export it again") from error
    rows = []
    for line, row in enumerate(csv.reader(text.splitlines()[skip:], delimiter=separator), skip + 1):
        found = [cell.strip() for cell in row]
        if width and any(found[width:]):
            raise DataError(
                f"{path}: line {line} has {len(found)} cells under {width} titles; export it again, with "
                "points as decimal marks"
            )
        if any(found):
            rows.append(found)
    return rows


def number(cell: str) -> float:
    """Return the number of a cell; ValueError for what only Python takes for one (``1_000``)."""
    if "_" in cell:
        raise ValueError("holds an underscore")
    return float(cell)


def column(path: Path, rows: list[list[str]], place: int, name: str, first_line: int) -> np.ndarray:
    """Return a column of numbers; empty cells are not-a-number.

    Raises
    ------
    DataError
        If a cell holds something else; the message names line and column.
    """
    values = np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        cell = row[place] if place < len(row) else ""
        try:
            values[i] = number(cell) if cell else np.nan
        except ValueError as error:
            raise DataError(
                f"{path}: line {first_line + i}, column {name}: '{cell[:40]}' is no number; export it again"
            ) from error
    return values


def clock_times(path: Path, texts: list[str]) -> np.ndarray:
    """Return times in seconds from numbers, or from dates with times of day.

    Raises
    ------
    DataError
        If one cannot be read.
    """
    import datetime

    def seconds(text: str) -> float:
        if re.fullmatch(r"[-+\d.eE]+", text):
            return float(text)
        return datetime.datetime.fromisoformat(text).timestamp()

    try:
        return np.array([seconds(text) for text in texts])
    except ValueError as error:
        raise DataError(f"{path}: a time cannot be read ({error}); export it again") from error
