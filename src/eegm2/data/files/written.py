"""Tables that commands write, and the same as data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eegm2.errors import ConfigError


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a table as CSV in UTF-8; cells that a spreadsheet would run get an apostrophe, None is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8", errors="replace")


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"
    return "" if value is None else value


def frame(rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> Any:
    """Return a pandas DataFrame of rows, or of columns by name.

    Raises
    ------
    ConfigError
        If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("a DataFrame needs pandas, which is not installed; pip install pandas") from error
    return pandas.DataFrame(rows)
