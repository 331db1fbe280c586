"""What the pipeline of a live stream brings forth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Outputs:
    """What one chunk brought forth.

    Attributes
    ----------
    x : array, shape (n_chans, k)
        Scaled input of the network.
    reconstruction : array, shape (n_chans, m)
    representation : array, shape (4w, steps)
    decisions : list of dict
        ``time_s`` and ``sample`` (end of the window), ``probabilities``, ``decided``, ``calibration``,
        ``quality``.
    events : list of dict
        ``event`` (gap, restart, flat, calibrated) and its facts.
    time_s : float
        Time of the chunk's last sample on the source's clock.
    signal_time_s : float, optional
        Time of the last sample (or end of the last step) that comes out, on the source's clock.
    """

    time_s: float
    x: np.ndarray
    reconstruction: np.ndarray
    representation: np.ndarray
    decisions: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    signal_time_s: float | None = None
