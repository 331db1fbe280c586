"""Windows of several stores under one numbering, and how much of the training each store gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from eegm2.data.config import WindowConfig
from eegm2.data.windows.dataset import WindowBatch, WindowDataset, window_dataset
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import ConfigError


class PoolWindows(Dataset[dict[str, Any]]):
    """Windows of several stores under one numbering, in which every store's windows are one stretch.

    A batch is of one store: windows of different electrodes do not fit into one array.

    Parameters
    ----------
    pool : StorePool
    datasets : mapping of int to WindowDataset
        Number of a store in the pool → its windows.

    Attributes
    ----------
    starts : ndarray of int, shape (n_datasets + 1,)
        First window of each, and how many there are in all.
    """

    def __init__(self, pool: StorePool, datasets: Mapping[int, WindowDataset]) -> None:
        self.pool = pool
        self.numbers = tuple(datasets)
        self.datasets = tuple(datasets.values())
        self.starts = np.cumsum([0, *map(len, self.datasets)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Windows of each dataset."""
        return tuple(map(len, self.datasets))

    @property
    def n_times(self) -> int:
        """Samples of a window."""
        return self.datasets[0].n_times

    def _place(self, window: int) -> tuple[int, int]:
        """Return in which dataset a window is, and as which of its windows."""
        which = int(np.searchsorted(self.starts, window, side="right")) - 1
        return which, int(window - self.starts[which])

    def of_store(self, number: int) -> WindowDataset | None:
        """Return the windows of one store of the pool, None if there are none."""
        return self.datasets[self.numbers.index(number)] if number in self.numbers else None

    def store_of(self, window: int) -> int:
        """Return the number of a window's store in the pool."""
        return self.numbers[self._place(window)[0]]

    def recordings_of(self, windows: Iterable[int]) -> list[int]:
        """Return a number for each window's recording, the same for windows of one recording of a store."""
        return [
            int(d.index["recording"][w]) for d, w in ((self.datasets[i], w) for i, w in self._all(windows))
        ]

    def _all(self, windows: Iterable[int]) -> list[tuple[int, int]]:
        return [self._place(window) for window in windows]

    def __getitem__(self, window: int) -> dict[str, Any]:
        """Return ``{"x": float32 Tensor (n_chans, n_times), "y": int, "index": int}``."""
        which, own = self._place(window)
        return {**self.datasets[which][own], "index": int(window)}

    def __getitems__(self, windows: Sequence[int]) -> WindowBatch:
        """Return several windows of one store at once."""
        places = self._all(windows)
        which = places[0][0]
        items = self.datasets[which].__getitems__([own for _, own in places])
        if which:
            items.batch["index"] += int(self.starts[which])
        return items

    def describe(self, window: int) -> str:
        """Return a window's recording and start, for messages."""
        which, own = self._place(window)
        data, row = self.datasets[which], self.datasets[which].index[own]
        name = self.pool.label(self.numbers[which], data.recordings[row["recording"]].id)
        return f"{name} at {row['start'] / data.store.sfreq_hz:g} s"


def shares(pool: StorePool, sizes: Sequence[int], given: Sequence[str]) -> tuple[float, ...]:
    """Return the share of the training that each store gets; they add up to 1.

    Parameters
    ----------
    pool : StorePool
    sizes : sequence of int
        Training windows of each store.
    given : sequence of str
        Nothing: in proportion to the windows. ``equal``: the same for all. ``name=0.5`` of some: the others
        divide the rest in proportion to their windows.

    Raises
    ------
    ConfigError
        If an entry cannot be read, names no store, or the shares do not add up to 1.
    """
    if tuple(given) == ("equal",):
        return tuple(1 / len(pool) for _ in sizes)
    asked: dict[str, float] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if name not in pool.names or name in asked or not 0 < share <= 1:
            raise ConfigError(
                f"share: got {text!r}, expected equal, or a store and its share of the training such as "
                f"{pool.names[0]}=0.5, each store once; the stores are {', '.join(pool.names)}"
            )
        asked[name] = share
    rest, others = 1 - sum(asked.values()), sum(n for n, name in zip(sizes, pool.names) if name not in asked)
    if rest < -1e-9 or (others == 0 and rest > 1e-9) or (others > 0 and rest < 1e-9):
        left = "leaves nothing to the others" if others and rest > -1e-9 else "is not 1"
        raise ConfigError(
            f"share: {', '.join(given)} add up to {1 - rest:g}, which {left}; change one of them"
        )
    return tuple(asked.get(name, rest * n / max(others, 1)) for n, name in zip(sizes, pool.names))


def pool_windows(
    pool: StorePool, config: WindowConfig, manifest: SplitManifest, part: str
) -> PoolWindows | None:
    """Return the windows of one part of a split, or None if nobody is in it."""
    datasets: dict[int, WindowDataset] = {}
    for number, store in enumerate(pool.stores):
        own = manifest.part_of(pool.names[number]) if len(pool.stores) > 1 else manifest
        if getattr(own, part):
            chosen: dict[str, Any] = dict(own.selection(part))
            datasets[number] = window_dataset(store, config, **chosen)
    return PoolWindows(pool, datasets) if datasets else None
