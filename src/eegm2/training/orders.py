"""Batches in an order that is a function of the seed and the epoch, wherever a run was interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from eegm2.data.windows.order import epoch_order, grouped_order
from eegm2.data.windows.pooled import PoolWindows, shares
from eegm2.errors import ConfigError
from eegm2.training.config import PretrainConfig


class BatchOrder(Sampler[list[int]]):
    """The part of every batch that one process takes.

    Batches are cut from the epoch's order as if there were one process, then dealt out, so that the same seed
    gives the same batches on any number of processes. Set `epoch` and `start` before iterating.

    Parameters
    ----------
    n_windows : int
        Length of the dataset.
    batch_size : int
        Windows per batch over all processes; a shorter last batch is kept, less what does not divide evenly.
    seed : int
        Seed of all epochs.
    rank, world_size : int
        This process and their number.
    n_batches : int, optional
        Use only the first so many batches, in ascending order of windows (to overfit, or to try a run).
    groups : ndarray of int, shape (n_windows,), optional
        Number of each window's recording.
    together : int
        So many windows of a recording are in a batch together, and at one process; needs `groups`.

    Attributes
    ----------
    epoch : int
        Pass over the data, from 0.
    start : int
        Batches of the epoch already done.
    drawn : list of int
        Windows of an epoch, of each store (here one).

    Raises
    ------
    ConfigError
        If the batch does not divide among the processes, or there are fewer windows than processes.
    """

    def __init__(
        self,
        n_windows: int,
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        n_batches: int | None = None,
        groups: np.ndarray | None = None,
        together: int = 1,
    ) -> None:
        if batch_size % (world_size * together):
            if together > 1:
                raise ConfigError(
                    f"batch_size: got {batch_size} over {world_size} processes with {together} windows of a "
                    "recording together, expected a multiple of both"
                )
            raise ConfigError(
                f"batch_size: got {batch_size} over {world_size} processes, expected a multiple"
            )
        if n_windows < world_size:
            raise ConfigError(f"devices: {world_size} processes for {n_windows} windows; use fewer")
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.groups, self.together = groups, together
        self.shuffle = n_batches is None
        limit = n_windows if n_batches is None else min(n_windows, n_batches * batch_size)
        self.n_windows, self.drawn = limit, [limit]
        self.total = -(-(limit - limit % world_size) // batch_size)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order(self.epoch)
        for batch in range(self.start, self.total):
            yield self.dealt(order[batch * self.batch_size : (batch + 1) * self.batch_size])

    def order(self, epoch: int, *others: int) -> np.ndarray:
        """Return all windows in the order of an epoch; `others` go into its seed."""
        if self.groups is not None and self.together > 1 and self.shuffle:
            generator = np.random.default_rng([self.seed, epoch, *others])
            return grouped_order(self.groups[: self.n_windows], self.together, generator)
        if others:
            return np.random.default_rng([self.seed, epoch, *others]).permutation(self.n_windows)
        return epoch_order(self.n_windows, seed=self.seed, epoch=epoch, shuffle=self.shuffle)

    def dealt(self, windows: np.ndarray) -> list[int]:
        """Return this process's part of a batch."""
        even = len(windows) - len(windows) % self.world_size
        if self.together > 1:
            return windows[:even].reshape(self.world_size, -1)[self.rank].tolist()
        return windows[:even][self.rank :: self.world_size].tolist()


class PooledOrder(Sampler[list[int]]):
    """As `BatchOrder`, for windows of several stores: every batch is of one store.

    A store gets its share of the epoch's batches, in an order drawn for the epoch. Its windows are taken in
    turn from one permutation after the other, so that over the epochs all are seen equally often, be the
    share large or small.

    Parameters
    ----------
    sizes : sequence of int
        Windows of each store; they are numbered store after store.
    shares : sequence of float
        Of the epoch's batches, adding up to 1. An epoch has as many batches as all windows fill.
    groups : sequence of ndarray, optional
        Numbers of the recordings of each store's windows.
    batch_size, seed, rank, world_size, n_batches, together
        As in `BatchOrder`; with `n_batches` the stores take turns.

    Raises
    ------
    ConfigError
        If the batch does not divide among the processes, a store has fewer windows than processes, or its
        share is less than one batch of an epoch.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        shares: Sequence[float],
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        n_batches: int | None = None,
        groups: Sequence[np.ndarray] | None = None,
        together: int = 1,
    ) -> None:
        dealing: dict[str, Any] = {
            **{"batch_size": batch_size, "seed": seed, "rank": rank, "world_size": world_size},
            "together": together,
        }
        self.stores = [
            BatchOrder(size, groups=None if groups is None else groups[store], **dealing)
            for store, size in enumerate(sizes)
        ]
        self.offsets = np.cumsum([0, *sizes[:-1]])
        self.batch_size, self.seed = batch_size, seed
        self.shuffle = n_batches is None
        whole = sum(-(-size // batch_size) for size in sizes)
        in_proportion = np.allclose(shares, np.asarray(sizes) / sum(sizes))
        #: Batches of each store that take turns; the last of one may be too small to be dealt out.
        self.turns = [-(-size // batch_size) for size in sizes] if in_proportion else _divide(whole, shares)
        counts = [store.total for store in self.stores] if in_proportion else self.turns
        if min(counts) < 1:
            raise ConfigError(
                f"share: {min(shares):.3g} of {whole} batches is less than one; "
                "raise the store's share or lower the batch size"
            )
        self.counts = counts
        #: Windows of each store in an epoch: all of them, or what its batches hold.
        self.drawn = list(sizes) if in_proportion else [count * batch_size for count in counts]
        if n_batches is not None:
            turns = [n_batches // len(sizes) + (i < n_batches % len(sizes)) for i in range(len(sizes))]
            self.counts = self.turns = [min(turn, store.total) for turn, store in zip(turns, self.stores)]
            self.drawn = [min(size, c * batch_size) for size, c in zip(sizes, self.counts)]
        self.total, self.n_windows = sum(self.counts), sum(self.drawn)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[int]]:
        turns = np.repeat(np.arange(len(self.turns)), self.turns)
        if self.shuffle:
            turns = np.random.default_rng([self.seed, self.epoch, len(self.counts)]).permutation(turns)
        orders = [self._windows(store) for store in range(len(self.counts))]
        done = [0] * len(self.counts)
        for store in turns.tolist():
            first = done[store] * self.batch_size
            if done[store] < self.counts[store]:
                done[store] += 1
                if sum(done) > self.start:
                    yield self.stores[store].dealt(orders[store][first : first + self.batch_size])

    def _windows(self, store: int) -> np.ndarray:
        """Return the windows that an epoch takes of a store, in order."""
        size, drawn = self.stores[store].n_windows, self.drawn[store]
        if not self.shuffle:
            return np.arange(drawn) + self.offsets[store]
        first = self.epoch * drawn
        passes = range(first // size, (first + drawn - 1) // size + 1)
        every = [self.stores[store].order(number, store, 1) for number in passes]
        skipped = first - passes[0] * size
        return np.concatenate(every)[skipped : skipped + drawn] + self.offsets[store]


def batch_order(windows: PoolWindows, config: PretrainConfig, **options: Any) -> BatchOrder | PooledOrder:
    """Return the order of a run's batches; `options` are those of `BatchOrder`."""
    options = {"batch_size": config.batch_size, "seed": config.seed, **options}
    options["together"] = config.together
    groups = [data.index["recording"] for data in windows.datasets]
    if len(windows.sizes) == 1:
        return BatchOrder(windows.sizes[0], groups=groups[0], **options)
    portions = shares(windows.pool, windows.sizes, config.share)
    return PooledOrder(windows.sizes, portions, groups=groups, **options)


def _divide(whole: int, shares: Sequence[float]) -> list[int]:
    """Return whole numbers that add up to `whole`, as near to the shares as can be (largest remainders)."""
    exact = np.asarray(shares) * whole
    counts = np.floor(exact + 1e-9).astype(int)
    for place in np.argsort(counts - exact, kind="stable")[: whole - counts.sum()]:
        counts[place] += 1
    return [int(count) for count in counts]


class EvaluationOrder(Sampler[list[int]]):
    """Every window once, in ascending order, dealt out to the processes; parts may differ by one.

    Parameters
    ----------
    n_windows : int or sequence of int
        How many there are; of each store where there are several, whose windows share no batch.
    batch_size, rank, world_size
        As in `BatchOrder`.
    first : sequence of int, optional
        Use only so many windows of each store.
    """

    def __init__(
        self,
        n_windows: int | Sequence[int],
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        first: Sequence[int] | None = None,
    ) -> None:
        sizes = [n_windows] if isinstance(n_windows, int) else list(n_windows)
        starts = np.cumsum([0, *sizes[:-1]])
        self.stretches = [
            np.arange(start, start + min(size, limit))[rank::world_size]
            for start, size, limit in zip(starts, sizes, sizes if first is None else first)
        ]
        self.size = max(1, batch_size // world_size)

    def __len__(self) -> int:
        return sum(-(-len(windows) // self.size) for windows in self.stretches)

    def __iter__(self) -> Iterator[list[int]]:
        for windows in self.stretches:
            for start in range(0, len(windows), self.size):
                yield windows[start : start + self.size].tolist()
