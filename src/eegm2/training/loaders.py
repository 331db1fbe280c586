"""Batches in an order that is a function of the seed and the epoch, wherever a run was interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from eegm2.data.windows.dataset import collate_windows
from eegm2.data.windows.order import epoch_order
from eegm2.errors import ConfigError


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

    Attributes
    ----------
    epoch : int
        Pass over the data, from 0.
    start : int
        Batches of the epoch already done.

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
    ) -> None:
        if batch_size % world_size:
            raise ConfigError(
                f"batch_size: got {batch_size} over {world_size} processes, expected a multiple"
            )
        if n_windows < world_size:
            raise ConfigError(f"devices: {world_size} processes for {n_windows} windows; use fewer")
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.shuffle = n_batches is None
        limit = n_windows if n_batches is None else min(n_windows, n_batches * batch_size)
        self.n_windows = limit
        self.total = -(-(limit - limit % world_size) // batch_size)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[int]]:
        order = epoch_order(self.n_windows, seed=self.seed, epoch=self.epoch, shuffle=self.shuffle)
        for batch in range(self.start, self.total):
            windows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            even = len(windows) - len(windows) % self.world_size
            yield windows[:even][self.rank :: self.world_size].tolist()


class EvaluationOrder(Sampler[list[int]]):
    """Every window once, in ascending order, dealt out to the processes; parts may differ by one."""

    def __init__(self, n_windows: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.windows = np.arange(n_windows)[rank::world_size]
        self.size = max(1, batch_size // world_size)

    def __len__(self) -> int:
        return -(-len(self.windows) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.windows), self.size):
            yield self.windows[start : start + self.size].tolist()


def make_loader(
    dataset: Dataset[Any], batches: Sampler[list[int]], *, workers: int, pin: bool
) -> DataLoader[Any]:
    """Return a loader that draws nothing from torch's global generator: iterating it changes no result."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate_windows,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_leave_interrupts_to_the_main_process,
    )


def _leave_interrupts_to_the_main_process(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
