"""The batches of a run, read by DataLoaders whose workers and generators change no result."""

from __future__ import annotations

import signal
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from eegm2.data.windows.dataset import collate_windows
from eegm2.data.windows.pooled import PoolWindows
from eegm2.training.config import PretrainConfig
from eegm2.training.orders import EvaluationOrder, batch_order


class Batches:
    """What one process reads of a run's windows, epoch after epoch.

    Parameters
    ----------
    train, validated : PoolWindows
        Windows to train on, and to validate on if there are any.
    config : PretrainConfig
    rank, world_size : int
        This process and their number.
    pin : bool
        For a GPU.

    Attributes
    ----------
    order : BatchOrder or PooledOrder
        Of the training's batches.
    val : DataLoader or None
        Of all windows to validate on.
    """

    def __init__(
        self,
        train: PoolWindows,
        validated: PoolWindows | None,
        config: PretrainConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
        pin: bool = False,
    ) -> None:
        dealing = {"rank": rank, "world_size": world_size}
        n_batches = 2 if config.fast_dev_run else (config.overfit_batches or None)
        self.order = batch_order(train, config, n_batches=n_batches, **dealing)
        self.steps_per_epoch = -(-self.order.total // config.accumulate)
        self._train = make_loader(train, self.order, workers=config.workers, pin=pin)
        self.val: DataLoader[Any] | None = None
        if validated is not None:
            first = self.order.drawn if config.overfit_batches else None
            if config.fast_dev_run:
                first = [2 * config.batch_size for _ in validated.sizes]
            order = EvaluationOrder(validated.sizes, batch_size=config.batch_size, first=first, **dealing)
            self.val = make_loader(validated, order, workers=config.workers, pin=pin)

    def train(self, epoch: int, done: int = 0) -> DataLoader[Any]:
        """Return the loader, set to what is left of an epoch after `done` batches; its workers are kept."""
        self.order.epoch, self.order.start = epoch, done
        return self._train

    def windows_left(self) -> int:
        """Return how many windows of all processes there are in what is left of the epoch."""
        order = self.order
        return min((order.total - order.start) * order.batch_size, order.n_windows)


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
