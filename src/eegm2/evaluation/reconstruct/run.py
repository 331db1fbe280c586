"""The work of ``eegm2 reconstruct``: a recording reconstructed in microvolts, scored, written as EDF or FIF.

References
----------
EEGM2, arXiv 2502.17873, section 5.5 (ACMSE).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.atomic import write_atomic
from eegm2.data.config import Scaling
from eegm2.data.files.readers import read_raw
from eegm2.data.files.writers import write_recording
from eegm2.data.names import shown
from eegm2.data.signal.preprocessing import Preprocessed, preprocess_alike
from eegm2.data.signal.quality import typical_amplitude
from eegm2.data.windows.scaling import scale_constants
from eegm2.errors import ConfigError
from eegm2.evaluation.config import ReconstructConfig
from eegm2.evaluation.reconstruct.overlap import reconstruct_array
from eegm2.evaluation.reconstruct.signal_metrics import (
    acmse,
    acmse_authors_code,
    channel_correlation,
    spectral_error,
)
from eegm2.evaluation.windows.from_store import refuse_other_channels
from eegm2.model.config import MIN_TIMES
from eegm2.progress import Counted
from eegm2.training.checkpoint import INPUT, Checkpoint, load_checkpoint
from eegm2.training.runfolder import refuse_unwritable


def reconstruction_scores(
    x: NDArray[np.floating], y: NDArray[np.floating], ch_names: list[str], n_times: int, scaling: Scaling
) -> dict[str, Any]:
    """Return how well `y` reconstructs `x`, both (n_chans, n_samples) in microvolts.

    Returns
    -------
    dict
        acmse_uv2 (over the whole recording), acmse_scaled and acmse_authors_code_scaled (over windows side by
        side, in the training's scale), spectral_error (relative, of amplitude spectra), and per channel
        mse_uv2, correlation and spectral_error.
    """
    length = min(n_times, x.shape[1])
    starts = np.arange(0, x.shape[1] - length + 1, length)
    a, b = (np.stack([part[:, s : s + length] for s in starts]) for part in (x, y))
    amplitude_uv = typical_amplitude(x) if scaling == "recording" else None
    offset, gain = scale_constants(a, scaling, amplitude_uv)
    if offset is not None:
        a, b = a - offset, b - offset
    r = channel_correlation(x, y)
    per_channel = {
        name: {
            "mse_uv2": float(np.mean((np.asarray(x[i], dtype=float) - y[i]) ** 2)),
            "correlation": None if np.isnan(r[i]) else float(r[i]),
            "spectral_error": _number(spectral_error(x[i], y[i])),
        }
        for i, name in enumerate(ch_names)
    }
    return {
        "acmse_uv2": acmse(x[None], y[None]),
        "acmse_scaled": acmse(a / gain, b / gain),
        "acmse_authors_code_scaled": acmse_authors_code(a / gain, b / gain),
        "mean_correlation": _number(float(np.nanmean(r))) if np.isfinite(r).any() else None,
        "spectral_error": _number(spectral_error(x, y)),
        "channels": per_channel,
    }


def reconstruct_file(
    run: str | Path,
    file: str | Path,
    out: str | Path,
    config: ReconstructConfig | None = None,
    progress: Counted | None = None,
) -> dict[str, Any]:
    """Reconstruct a recording file with a run and write the result and its scores.

    Parameters
    ----------
    run : str or Path
        Run folder or checkpoint; the recording is prepared with its preprocessing.
    file : str or Path
        Any EEG file that ``eegm2 prepare`` reads.
    out : str or Path
        ``.edf`` or ``.fif``; the scores go beside it, as ``NAME.edf.json``.
    config : ReconstructConfig, optional
        Windows and overlap.
    progress : callable, optional
        Called with (windows done, windows in all).

    Returns
    -------
    dict
        The scores as written.

    Raises
    ------
    ConfigError, DataError
        If the output's suffix is unknown, the network has no decoder, or the recording cannot be used.
    """
    config, out = config or ReconstructConfig(), Path(out)
    if out.suffix.lower() not in (".edf", ".fif"):
        raise ConfigError(f"--out {out}: unknown kind of file '{out.suffix}', expected .edf or .fif")
    if out.resolve() == Path(file).resolve():
        raise ConfigError(f"--out {out}: is the recording itself; choose another name")
    refuse_unwritable(out)
    checkpoint = load_checkpoint(run, config.which, needs=INPUT)
    raw = read_raw(file)
    made = preprocess_alike(raw, checkpoint.preprocessing, where=str(file))
    refuse_other_channels(checkpoint.header, made.ch_names, str(file))
    sfreq_hz = float(checkpoint.header["sfreq_hz"])
    windows = checkpoint.plain_windows("eegm2 reconstruct")
    n_times = round((config.window_s or windows.window_s) * sfreq_hz)
    cleaned = _by_parts(checkpoint, made, n_times, config, progress)
    scores = {
        "format": 1,
        "file": shown(str(file)),
        "out": shown(out),
        "checkpoint": str(checkpoint.path),
        "mode": config.mode,
        "window_s": n_times / sfreq_hz,
        "overlap": config.overlap,
        "scaling": windows.scaling,
        "sfreq_hz": sfreq_hz,
        "n_samples": int(cleaned.shape[1]),
        "compared_with": "the recording after the checkpoint's preprocessing",
        **reconstruction_scores(made.array, cleaned, list(made.ch_names), n_times, windows.scaling),
    }
    write_recording(out, cleaned, list(made.ch_names), sfreq_hz, raw)
    write_atomic(
        scores_path(out), [json.dumps(scores, indent=1, ensure_ascii=False, allow_nan=False).encode()]
    )
    return scores


def _by_parts(
    checkpoint: Checkpoint,
    made: Preprocessed,
    n_times: int,
    config: ReconstructConfig,
    progress: Counted | None,
) -> NDArray[np.float32]:
    """Reconstruct every continuous part of a recording by itself; what is too short stays as it is."""
    cleaned = made.array.copy()
    for part in made.parts:
        if part.stop - part.start >= MIN_TIMES:
            cleaned[:, part] = reconstruct_array(
                checkpoint.model,
                made.array[:, part],
                scaling=checkpoint.windows.scaling,
                n_times=None if config.mode == "whole" else n_times,
                overlap=config.overlap,
                batch_size=config.batch_size,
                device=config.device,
                progress=progress,
            )
    return cleaned


def scores_path(out: Path) -> Path:
    """Return where the scores of a reconstruction lie: beside it, with its whole name."""
    return out.with_name(f"{out.name}.json")


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
