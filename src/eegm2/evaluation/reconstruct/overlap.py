"""A whole recording through a network, by overlapping windows that are added up."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eegm2.data.config import Scaling
from eegm2.data.signal.quality import typical_amplitude
from eegm2.data.windows.scaling import scale_constants, scale_window
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.features.representation import iterate, usable_device
from eegm2.model.config import MIN_TIMES
from eegm2.progress import Counted


def reconstruct_windows(
    model: nn.Module,
    x: NDArray[np.float32],
    scaling: Scaling,
    device: str = "cpu",
    amplitude_uv: float | None = None,
) -> NDArray[np.float32]:
    """Return windows scaled, reconstructed and scaled back.

    Parameters
    ----------
    model : nn.Module
        With a decoder, in evaluation mode on `device`.
    x : array, shape (n, n_chans, n_times)
        Microvolts.
    scaling : str
        As in pretraining; each channel of each window on its own.
    device : str
        Where the model is.
    """
    offset, gain = scale_constants(x, scaling, amplitude_uv)
    with torch.inference_mode():
        y = model(torch.from_numpy(scale_window(x, scaling, amplitude_uv)).to(device)).float().cpu().numpy()
    return y * gain if offset is None else y * gain + offset


def reconstruct_array(
    model: nn.Module,
    recording: NDArray[np.float32],
    *,
    scaling: Scaling,
    n_times: int | None,
    overlap: float = 0.5,
    batch_size: int = 16,
    device: str = "cpu",
    progress: Counted | None = None,
) -> NDArray[np.float32]:
    """Return a whole recording's reconstruction.

    Windows are weighted by a Hann slope and added. With overlap 0 they stand side by side; a last, shifted
    window then fills only what the others leave, so every other one is exactly the model's output.

    Parameters
    ----------
    model : nn.Module
        Network with a decoder.
    recording : array, shape (n_chans, n_samples)
        Microvolts.
    scaling : str
        Of every window, as in pretraining.
    n_times : int or None
        Samples of a window; None, or more than there are, takes the recording in one pass.
    overlap : float
        Share of a window that it shares with the next one, below 1.
    batch_size : int
        Windows per forward pass.
    device : str
        Where to compute.
    progress : callable, optional
        Called with (windows done, windows in all).

    Returns
    -------
    array, shape (n_chans, n_samples)
        Microvolts.

    Raises
    ------
    ConfigError
        If the network has no decoder.
    DataError
        If the recording is shorter than 8 samples.
    """
    config = getattr(model, "config", None)
    if config is not None and not config.decoder:
        raise ConfigError(
            f"reconstruct: the checkpoint is {config.preset_name.capitalize()}, which has no decoder; use a "
            "checkpoint of a full network"
        )
    total = recording.shape[1]
    length = total if n_times is None else min(n_times, total)
    if length < MIN_TIMES:
        raise DataError(f"reconstruct: got {length} samples, expected at least {MIN_TIMES}")
    starts = window_starts(total, length, overlap)
    slope = np.hanning(length + 2)[1:-1] if overlap > 0 and len(starts) > 1 else np.ones(length)
    added, weight = np.zeros(recording.shape), np.zeros(total)
    amplitude_uv = typical_amplitude(recording) if scaling == "recording" else None
    was_training, _ = model.training, model.to(usable_device(device)).eval()
    for batch in iterate(len(starts), batch_size):
        windows = np.stack([recording[:, start : start + length] for start in starts[batch]])
        made = reconstruct_windows(model, windows, scaling, device, amplitude_uv)
        for start, window in zip(starts[batch], made):
            here = slice(start, start + length)
            free = slope if overlap > 0 else (weight[here] == 0).astype(float)
            added[:, here] += window * free
            weight[here] += free
        if progress is not None:
            progress(int(batch[-1]) + 1, len(starts))
    model.train(was_training)
    return (added / weight).astype(np.float32)


def window_starts(total: int, length: int, overlap: float) -> NDArray[np.int64]:
    """Return the first samples of windows that cover 0 … total - 1; the last one ends with the recording."""
    step = max(1, round(length * (1 - overlap)))
    starts = np.arange(0, total - length + 1, step)
    return starts if starts[-1] + length == total else np.append(starts, total - length)
