"""Figures of the folders that commands write, for notebooks: the same as in their pages."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from eegm2.errors import ConfigError, DataError


def training_figure(run: str | Path) -> Figure:
    """Return the learning curves of a run: losses and their parts over the epochs, training and validation.

    Parameters
    ----------
    run : str or Path
        Folder of ``eegm2 pretrain`` or ``eegm2 finetune``.

    Raises
    ------
    DataError
        If it holds no log, or no value of a loss.
    """
    from eegm2.report.figures import loss_curves
    from eegm2.report.folders import read_run

    data = read_run(Path(run))
    if data.log is None:
        raise DataError(f"{run}: {data.missing['log']} Give the folder of a run")
    return loss_curves(data.log.epoch, data.log.curves)


def prediction_figure(folder: str | Path, recording: str) -> Figure:
    """Return the signal of a predicted recording with its spectrogram and the probabilities over time.

    Parameters
    ----------
    folder : str or Path
        Folder of ``eegm2 predict``.
    recording : str
        As recordings.csv names it.

    Raises
    ------
    DataError
        If the folder holds no predictions.
    ConfigError
        If the recording is not among them; those that are there are named.
    """
    from eegm2.report.predictions import arrays_of, over_time_figure, read_predictions

    document = read_predictions(Path(folder))
    found = {facts["recording"]: facts for facts in document["recordings"]}
    if recording not in found:
        there = ", ".join(list(found)[:8]) + (" …" if len(found) > 8 else "")
        raise ConfigError(f"recording: got '{recording}', {folder} has {there}")
    facts = found[recording]
    return over_time_figure(document, facts, arrays_of(Path(folder), facts))
