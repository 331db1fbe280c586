"""Tables that users and data sets bring: read in one place, whatever separates their cells."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from eegm2.data.labels import LabelSpan
from eegm2.errors import DataError

RESERVED = ("recording", "subject", "session", "split", "onset_s", "duration_s", "label")
USUAL_NAMES = {
    "onset_s": (
        "onset onset_sec onset_seconds onset(s) onset[s] start start_s start_sec start_time begin begin_s "
        "tmin"
    ),
    "duration_s": "duration duration_sec duration_seconds duration(s) duration[s] dur dur_s length_s",
    "stop_s": "stop stop_sec stop_time end end_s end_sec end_time offset offset_s tmax",
}
"""Our name of a time → what others call it, lower case, without blanks; all of them seconds."""
_TIME_LIKE = re.compile(
    r"onset|duration|latency|tmin|tmax|timestamp|(?:^|[_ ])(?:start|stop|begin|end|time|offset)(?:$|[_ (\[])"
    r"|(?:^|[_ (\[])(?:ms|msec|milliseconds|samples?|seconds?|sec)(?:$|[)\]])",
    re.IGNORECASE,
)
Row = tuple[int, dict[str, str]]


def read_rows(
    path: Path, delimiter: str | None = None, *, ragged: bool = True
) -> tuple[list[str], list[Row]]:
    """Return header and rows of a table in UTF-8 text, with the lines they stand in.

    Parameters
    ----------
    path : Path
        Comma, semicolon or tab between the cells; the header shows which.
    delimiter : str, optional
        The one there must be.
    ragged : bool
        Whether a row may have fewer cells than the header; those are empty then.

    Raises
    ------
    DataError
        If it is no such text, has a column twice, or a row has another number of cells than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        head = text.lstrip().partition("\n")[0]
        delimiter = delimiter or max(",;\t", key=head.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [
            (reader.line_num, [cell.strip() for cell in cells])
            for cells in reader
            if any(map(str.strip, cells))
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot read the table ({reason}); expected CSV in UTF-8 text") from error
    if not lines:
        raise DataError(f"{path}: has no rows; expected a header and rows")
    header = lines[0][1]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: a column is there twice: {', '.join(twice)}; keep one")
    rows = []
    for number, cells in lines[1:]:
        if len(cells) > len(header) and not any(cells[len(header) :]):
            cells = cells[: len(header)]
        if len(cells) > len(header):
            raise DataError(f"{path}: line {number} has more cells than the header; correct it")
        if len(cells) < len(header) and not ragged:
            raise DataError(f"{path}: line {number}: not {len(header)} values as in the header; correct it")
        cells += [""] * (len(header) - len(cells))
        rows.append((number, dict(zip(header, cells))))
    if "" in header and any(row[""] for _, row in rows):
        raise DataError(f"{path}: a column has cells but no name; name it in the header")
    for _, row in rows:
        row.pop("", None)
    return [name for name in header if name], rows


def with_our_times(path: Path, header: Sequence[str], rows: list[Row]) -> tuple[list[str], list[Row]]:
    """Return a table whose times are called ``onset_s`` and ``duration_s``, whatever usual name they had.

    Raises
    ------
    DataError
        If two columns are the same time, or one looks like a time in a unit or under a name that is unknown.
    """
    ours = {other: name for name, others in USUAL_NAMES.items() for other in (name, *others.split())}
    renamed: dict[str, str] = {}
    for column in header:
        plain = re.sub(r"\s+", "_", column.strip().lower()).replace("_(", "(").replace("_[", "[")
        name = ours.get(plain, column)
        if name == column and column not in RESERVED and _TIME_LIKE.search(column):
            raise DataError(
                f"{path}: column '{column}' looks like a time; call it onset_s or duration_s (seconds), "
                f"or attribute:{column} if it is none"
            )
        if name in renamed.values():
            first = next(there for there, what in renamed.items() if what == name)
            raise DataError(f"{path}: columns '{first}' and '{column}' are both {name}; keep one")
        renamed[column] = name
    changed = [(number, {renamed[column]: cell for column, cell in row.items()}) for number, row in rows]
    if "stop_s" in renamed.values():
        if "duration_s" in renamed.values():
            raise DataError(f"{path}: has both a duration and an end of the label; keep one")
        changed = [(number, _with_duration(row, f"{path}: line {number}")) for number, row in changed]
    names = ["duration_s" if name == "stop_s" else name for name in renamed.values()]
    if "duration_s" in names and "onset_s" not in names:
        raise DataError(
            f"{path}: column duration_s without onset_s; add onset_s (seconds from the first sample)"
        )
    return names, changed


def _with_duration(row: dict[str, str], where: str) -> dict[str, str]:
    """Return a row with a duration instead of an end."""
    stop = row.pop("stop_s")
    if stop in ("", "n/a"):
        return {**row, "duration_s": ""}
    return {**row, "duration_s": repr(seconds(stop, where) - seconds(row.get("onset_s") or "0", where))}


def seconds(text: str, where: str) -> float:
    """Return a time; a decimal comma is understood."""
    try:
        return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError as error:
        raise DataError(f"{where}: {error}; times are seconds") from error


def span_of(row: Mapping[str, str], where: str) -> LabelSpan:
    """Return the labelled stretch of a row; without times the whole recording.

    Raises
    ------
    DataError
        If a time is not a number, or the duration is negative.
    """
    onset, duration = row.get("onset_s", ""), row.get("duration_s", "")
    span = LabelSpan(
        seconds(onset, where) if onset not in ("", "n/a") else 0.0,
        seconds(duration, where) if duration not in ("", "n/a") else math.inf,
        row["label"],
    )
    if not math.isfinite(span.onset_s) or not span.duration_s >= 0:
        raise DataError(
            f"{where}: onset_s {span.onset_s}, duration_s {span.duration_s}; expected seconds, not negative"
        )
    return span
