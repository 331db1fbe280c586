"""A labelled stretch of a recording: what every reader, recipe, store and window means by a label."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eegm2.errors import DataError


@dataclass(frozen=True, order=True)
class LabelSpan:
    """A labelled stretch of a recording.

    Parameters
    ----------
    onset_s : float
        Start in seconds after the first sample.
    duration_s : float
        Length in seconds; 0 marks an instant; ``inf`` lasts until the recording ends.
    label : str
        What happened.
    """

    onset_s: float
    duration_s: float
    label: str


def span_of(
    onset: str,
    duration: str,
    label: str,
    where: str,
    *,
    unstated_s: float,
    may_precede: bool = True,
    columns: tuple[str, str] = ("onset_s", "duration_s"),
) -> LabelSpan:
    """Return the span that a table's cells mean.

    Parameters
    ----------
    onset, duration : str
        Seconds; an empty onset is the beginning.
    label : str
        What happened.
    where : str
        File and line, for messages.
    unstated_s : float
        Duration where the cell is empty.
    may_precede : bool
        Whether an onset before the first sample is taken.
    columns : (str, str)
        What the table calls the two, for messages.

    Raises
    ------
    DataError
        If a cell is no number, not finite, or below 0 where it may not be.
    """
    found = f"{where}: {columns[0]} '{onset}', {columns[1]} '{duration}'"
    try:
        span = LabelSpan(float(onset or 0), float(duration) if duration else unstated_s, label)
    except ValueError as error:
        raise DataError(f"{found}, expected seconds") from error
    if not (math.isfinite(span.onset_s) and span.duration_s >= 0 and (may_precede or span.onset_s >= 0)):
        raise DataError(f"{found}, expected {'a duration of ' * may_precede}0 or more")
    return span
