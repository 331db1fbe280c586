"""Windows with the scaling a baseline wants, and runners that read them once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Subset

from eegm2.data.config import WindowConfig
from eegm2.data.windows.scaling import scale_window
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.labelled import LabelledWindows, Split, check_targets

CHUNK = 256


class BaselineRunner:
    """Prepare windows once, then learn as often as asked.

    Parameters
    ----------
    prepare : callable
        ``prepare(data) -> prepared``; sees the windows of `data`, never its targets.
    learn : callable
        ``learn(prepared, data, split, seed) -> Outcome``.
    """

    def __init__(
        self,
        prepare: Callable[[LabelledWindows], Any],
        learn: Callable[[Any, LabelledWindows, Split, int], Outcome],
    ) -> None:
        self.prepare, self.learn = prepare, learn
        self._windows: Any = None
        self._prepared: Any = None

    def __call__(self, data: LabelledWindows, split: Split, seed: int) -> Outcome:
        """Return the outcome of one split with one seed."""
        check_targets(data, split.train, "train")
        if self._windows is not data.x:
            self._prepared, self._windows = self.prepare(data), data.x
        return self.learn(self._prepared, data, split, seed)


def rescaled(data: LabelledWindows, scaling: str) -> LabelledWindows:
    """Return the same windows with another scaling, read from the store again.

    Parameters
    ----------
    data : LabelledWindows
        Windows of a store, whatever their scaling. An array is kept as it is for ``none`` and scaled (once
        more) otherwise.
    scaling : {"none", "quantile95", "robust", "zscore"}
        As `WindowConfig.scaling`.

    Raises
    ------
    ConfigError
        If the windows come from a data set whose scaling cannot be changed.
    """
    if isinstance(data.x, np.ndarray):
        return data if scaling == "none" else replace(data, x=scale_window(data.x, scaling))  # type: ignore[arg-type]
    return replace(data, x=_with_scaling(data.x, scaling))


def _with_scaling(dataset: Any, scaling: str) -> Any:
    """Return a copy of a data set (or of a part of one) that scales otherwise."""
    if isinstance(dataset, Subset):
        return Subset(_with_scaling(dataset.dataset, scaling), dataset.indices)
    config = getattr(dataset, "config", None)
    if not isinstance(config, WindowConfig):
        raise ConfigError(
            f"scaling: {type(dataset).__name__} cannot give its windows with scaling '{scaling}'; use "
            "windows of a store, or an array"
        )
    other = copy.copy(dataset)
    other.config = replace(config, scaling=scaling)  # type: ignore[arg-type]
    return other


def chunks(data: LabelledWindows, name: str) -> Iterator[NDArray[np.float64]]:
    """Yield the windows in order, (up to 256, n_chans, n_times).

    Raises
    ------
    DataError
        If a window holds NaN or infinity; its recording is named.
    """
    for start in range(0, len(data), CHUNK):
        indices = np.arange(start, min(start + CHUNK, len(data)))
        x = data.batch(indices).numpy()
        refuse_not_finite(x, data, start, name)
        yield x.astype(np.float64)


def refuse_not_finite(x: NDArray[np.floating], data: LabelledWindows, start: int, name: str) -> None:
    """Raise a DataError if one of these windows (the first is window `start` of `data`) is not finite."""
    bad = ~np.isfinite(x).all(axis=(1, 2))
    if bad.any():
        first = start + int(bad.argmax())
        raise DataError(
            f"baseline {name}: window {first} (recording {data.recording[first]}, from "
            f"{data.start_s[first]:g} s) holds NaN or infinity; leave that recording out or mend it"
        )
