"""A labelled stretch of a recording: what every reader, recipe, store and window means by a label."""

from __future__ import annotations

from dataclasses import dataclass


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
