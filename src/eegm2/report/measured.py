"""What a report measures itself: band power per class, and the weights of electrodes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eegm2.report.contents import ClassPower, ReportData
from eegm2.report.figures.style import spread_pick

if TYPE_CHECKING:
    from eegm2.data.store.recording_store import RecordingStore

_MOST_WINDOWS = 1500
_MOST_CLASSES = 6


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
