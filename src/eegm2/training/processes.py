"""What the processes of a run tell each other; one process alone is told what it says."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def several() -> bool:
    """Return whether there are several processes."""
    return dist.is_available() and dist.is_initialized()


def gather(value: Any) -> list[Any]:
    """Return every process's value, in order of rank."""
    if not several():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def added_up(values: Tensor, device: torch.device) -> Tensor:
    """Return the sum of every process's values; processes exchange them between their devices."""
    if several():
        values = values.to(device)
        dist.all_reduce(values)
    return values


def mean_of_all(values: Tensor) -> list[float]:
    """Return the mean of every process's values; they are written over."""
    values = added_up(values, values.device)
    if several():
        values = values / dist.get_world_size()
    return values.cpu().double().tolist()
