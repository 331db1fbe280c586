"""What a report computes itself: band power per class, and reconstructions of held-out windows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eegm2.report.contents import ClassPower, Reconstruction, ReportData
from eegm2.report.figures.style import spread_pick

if TYPE_CHECKING:
    from eegm2.data.store.recording_store import RecordingStore

_MOST_WINDOWS = 1500
_MOST_CLASSES = 6
_MOST_RECONSTRUCTED = 48
_MOST_SAMPLES = 120_000  # over all windows, per channel: keeps long windows within seconds of computing


def class_power(store: RecordingStore, data: ReportData) -> ClassPower | None:
    """Return the band power of the classes of the first probe, or of all labels where nothing was probed.

    None where the store has no such labels, or more kinds of them than a figure can show.

    Parameters
    ----------
    store : RecordingStore
    data : ReportData
        Its header gives the windows, its probes the classes.
    """
    from eegm2.config import from_dict
    from eegm2.data.config import WindowConfig
    from eegm2.errors import DataError
    from eegm2.evaluation.baselines.class_power import band_power_by_class
    from eegm2.evaluation.windows.from_store import labelled_windows

    config = from_dict(WindowConfig, data.header.get("windows", {}), where="the run's windows")
    task = next((probe.task for probe in data.probes if probe.classes), {})
    config = replace(config, target=str(task.get("target") or config.target), scaling="none")
    try:
        windows = labelled_windows(store, config, tuple(map(str, task.get("classes", ()))))
    except DataError:  # nothing is labelled so; the section on data says which labels there are
        return None
    if not 2 <= len(windows.classes) <= _MOST_CLASSES:
        return None
    rows = spread_pick(len(windows), _MOST_WINDOWS)
    some = replace(
        windows,
        x=windows.batch(rows).numpy(),
        y=windows.y[rows],
        subject=windows.subject[rows],
        recording=windows.recording[rows],
        start_s=windows.start_s[rows],
    )
    power_db, bands = band_power_by_class(some, store.sfreq_hz)
    return ClassPower(
        power_db, bands, windows.classes, tuple(store.ch_names), len(rows), len(np.unique(some.subject))
    )


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
    rows = spread_pick(len(windows), int(np.clip(_MOST_SAMPLES // windows.n_times, 2, _MOST_RECONSTRUCTED)))
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
