"""Checks of what is put into a network."""

from __future__ import annotations

import torch
from torch import Tensor

from eegm2.model.config import MIN_TIMES


def check_input(x: Tensor, n_chans: int, min_times: int = MIN_TIMES, weight: Tensor | None = None) -> None:
    """Refuse an input that is not (batch, n_chans, n_times), too short, or not of the weights' precision.

    Parameters
    ----------
    x : Tensor
    n_chans, min_times : int
        Of the network.
    weight : Tensor, optional
        One of its weights.
    """
    if x.dim() != 3 or x.shape[1] != n_chans:
        raise ValueError(f"input: got shape {tuple(x.shape)}, expected (batch, n_chans={n_chans}, n_times)")
    if x.shape[2] < min_times:
        raise ValueError(f"input: got n_times={x.shape[2]}, expected at least {min_times} samples")
    if not x.is_floating_point():
        raise ValueError(f"input: got dtype {x.dtype}, expected floating point; convert with x.float()")
    if weight is not None and x.dtype == torch.float64 and weight.dtype != torch.float64:
        raise ValueError(
            f"input: got dtype {x.dtype}, the network has {weight.dtype}; "
            "convert with x.float(), or the network with model.double()"
        )
    if weight is not None and x.dtype != torch.float64 and weight.dtype == torch.float64:
        raise ValueError(
            f"input: got dtype {x.dtype}, the network has {weight.dtype}; convert with x.double()"
        )
