"""Features of a frozen model, window by window."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.model.config import EEGM2Config
from eegm2.model.features import refuse_kind, window_features
from eegm2.progress import Counted


def iterate(n: int, batch_size: int) -> list[NDArray[np.int64]]:
    """Return consecutive index batches that cover 0 … n - 1."""
    return [np.arange(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]


def extract_features(
    model: nn.Module,
    windows: LabelledWindows | NDArray[np.floating],
    *,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    kind: str = "statistics",
    progress: Counted | None = None,
) -> NDArray[np.float32]:
    """Return the frozen model's features of every window.

    Parameters
    ----------
    model : module with ``encode``
        EEGM2, Light or U-Net; left in the mode and on the device it came in.
    windows : LabelledWindows, or array of shape (n, n_chans, n_times)
        Scaled EEG.
    batch_size : int
        Windows per forward pass.
    device : str
        Where to compute.
    kind : str
        One of `eegm2.model.features.KINDS`, see :func:`eegm2.model.features.window_features`: statistics
        (n, 9 * 4w), covariance (n, 2w (4w + 1)), and what the covariance embedding has; or sequence: the
        representation, (n, representation_channels, steps).
    progress : callable, optional
        Called with (windows done, windows in all) after each batch.

    Raises
    ------
    DataError
        If a feature is not finite; the message says of how many windows.
    ConfigError
        If windows are shorter than the network needs, it has no such features, or the device is not there.

    References
    ----------
    EEGM2, arXiv 2502.17873, section 4.3.
    """
    if not isinstance(windows, LabelledWindows):
        windows = LabelledWindows.from_arrays(windows, np.zeros(len(windows), dtype=np.int64))
    config: EEGM2Config = model.config  # type: ignore[assignment]
    if kind != "sequence":
        refuse_kind(kind, config)
    features: NDArray[np.float32] | None = None
    with frozen(model, device) as encode:
        for indices in iterate(len(windows), batch_size):
            x = windows.batch(indices)
            if x.shape[-1] < config.step_samples:
                raise ConfigError(
                    f"window_s: gives {x.shape[-1]} samples, the network needs {config.step_samples} or more"
                )
            representation = encode(x.to(device))
            made = representation if kind == "sequence" else window_features(representation, kind, config)
            if features is None:
                features = np.empty((len(windows), *made.shape[1:]), np.float32)
            features[indices] = made.float().cpu().numpy()
            if progress is not None:
                progress(int(indices[-1]) + 1, len(windows))
    if features is None:
        raise DataError("features: got no window; check the window length and the labels")
    bad = ~np.isfinite(features).reshape(len(features), -1).all(axis=1)
    if bad.any():
        raise DataError(
            f"features: {int(bad.sum())} of {len(features)} windows gave NaN or infinite features "
            "(first: window "
            f"{int(bad.argmax())}); check the recording for NaN and the checkpoint for divergence"
        )
    return features


def usable_device(name: str | torch.device) -> torch.device:
    """Return a device that is there.

    Raises
    ------
    ConfigError
        If PyTorch does not know it or it is not available; the message names those that are.
    """
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    there += ["mps"] if torch.backends.mps.is_available() else []
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in there:
        raise ConfigError(f"device: got '{name}', available here: {', '.join(there)}")
    return device


@contextlib.contextmanager
def frozen(model: nn.Module, device: str | torch.device = "cpu") -> Iterator[Callable[[Tensor], Tensor]]:
    """Lend a model's ``encode``: evaluation mode, no gradient, on `device`; both are restored after."""
    was_training = model.training
    first = next(model.parameters(), None)
    home = first.device if first is not None else torch.device("cpu")
    model.to(usable_device(device)).eval()
    try:
        with torch.inference_mode():
            yield model.encode  # type: ignore[misc]
    finally:
        model.to(home).train(was_training)
