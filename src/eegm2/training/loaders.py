"""DataLoaders whose workers and generators change no result."""

from __future__ import annotations

import signal
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from eegm2.data.windows.dataset import collate_windows


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
