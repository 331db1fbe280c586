"""Naming the windows behind a number that is not finite."""

from __future__ import annotations

import torch

from eegm2.data.windows.pooled import PoolWindows
from eegm2.training.state import gather

_NAMED_WINDOWS = 8


def name_windows(data: PoolWindows, suspects: list[int]) -> str:
    """Return recordings and start times of windows, only those with bad samples if any.

    In distributed training every process must call it.

    Parameters
    ----------
    data : PoolWindows
        What the windows are of.
    suspects : list of int
        This process's windows; those of all processes are named, the first eight of them.
    """
    bad = [window for window in suspects if not bool(torch.isfinite(data[window]["x"]).all())]
    everyones = gather((suspects, bad))
    suspects, bad = ([window for part in everyones for window in part[kind]] for kind in (0, 1))
    chosen = bad or suspects
    names = [data.describe(window) for window in chosen[:_NAMED_WINDOWS]]
    more = f" and {len(chosen) - len(names)} more" if len(chosen) > len(names) else ""
    return ", ".join(names) + more + (" (their samples are not finite)" if bad else "")
