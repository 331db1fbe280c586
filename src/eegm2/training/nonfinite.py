"""Numbers that are not finite: a run ends, or goes on without them and says so; their windows are named."""

from __future__ import annotations

import torch

from eegm2.data.windows.pooled import PoolWindows
from eegm2.errors import DataError
from eegm2.training.config import PretrainConfig
from eegm2.training.processes import gather

_NAMED_WINDOWS = 8


def refuse_or_say(
    found: str, data: PoolWindows, suspects: list[int], config: PretrainConfig, *, say: bool
) -> None:
    """Tell of what was found in which windows; see :func:`name_windows`.

    Raises
    ------
    DataError
        If the run is to stop; else the process that is to `say` it prints it.
    """
    found = f"{found}; windows: {name_windows(data, suspects)}"
    if config.on_nonfinite == "stop":
        raise DataError(f"{found}; look at these recordings, lower --max-lr, or use --on-nonfinite skip")
    if say:
        print(f"skipped: {found}", flush=True)


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
