"""Running a trained model over held-out windows for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eegm2.report.contents import Reconstruction, ReportData
from eegm2.report.figures.style import spread_pick

if TYPE_CHECKING:
    from eegm2.data.store.recording_store import RecordingStore

_MOST_WINDOWS = 48
_MOST_SAMPLES = 120_000  # over all windows, per channel: keeps long windows within seconds of computing


def reconstruct_windows(model: Any, store: RecordingStore, data: ReportData) -> Reconstruction:
    """Return windows of validation subjects (else test, else training) and their reconstructions.

    Parameters
    ----------
    model : torch Module
        Maps (batch, n_chans, n_times) to the same shape.
    store : RecordingStore
    data : ReportData
        Its header gives the windows, its splits the subjects.
    """
    import torch

    from eegm2.config import from_dict
    from eegm2.data.config import WindowConfig
    from eegm2.data.windows.dataset import window_dataset

    config = from_dict(WindowConfig, data.header.get("windows", {}), where="the run's windows")
    split = next((part for part in ("val", "test", "train") if data.splits.get(part)), "train")
    names = data.splits.get(split) or None
    if data.split_by == "recording":
        windows = window_dataset(store, config, recordings=names)
    else:
        windows = window_dataset(store, config, subjects=names)
    rows = spread_pick(len(windows), int(np.clip(_MOST_SAMPLES // windows.n_times, 2, _MOST_WINDOWS)))
    original = torch.stack([windows[int(row)]["x"] for row in rows])
    model.eval()
    with torch.inference_mode():
        made = torch.cat([model(part) for part in original.split(4)])
    return Reconstruction(
        original.numpy(),
        made.numpy(),
        tuple(str(name) for name in windows.subjects[rows]),
        tuple(str(name) for name in windows.recording_ids[rows]),
        windows.start_s[rows],
        unit="µV" if config.scaling == "none" else "scaled units",
        split=split,
        n_available=len(windows),
    )
