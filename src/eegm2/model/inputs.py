"""Checks of what is put into a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from eegm2.errors import DataError
from eegm2.model.config import MIN_TIMES


def dense_array(x: Any, what: str) -> np.ndarray:
    """Return samples as an array that torch and NumPy's arithmetic take, or refuse what holds none.

    Parameters
    ----------
    x : array-like
        Numbers; byte order and strides are any.
    what : str
        For the message.

    Raises
    ------
    DataError
        If it holds objects, text, dates, complex numbers or masked values, or is sparse.
    """
    kind = type(x).__name__
    if isinstance(x, Tensor):
        _refuse_tensor(x, what)
        x = x.detach().cpu()
        return x.float().numpy() if x.dtype in (torch.bfloat16,) else x.numpy()
    if np.ma.isMaskedArray(x) and np.ma.is_masked(x):
        raise DataError(f"{what}: got an array with masked values; fill them, or leave the stretch out")
    try:
        array = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what}: got a {kind} that is no array of numbers; give a NumPy array") from error
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise DataError(
            f"{what}: got dtype {array.dtype} (a {kind}), expected floating point; give a dense array"
        )
    native = array.dtype.newbyteorder("=")
    if array.dtype != native or min((*array.strides, 0)) < 0:  # which torch does not take
        return np.ascontiguousarray(array, native)
    return array


def dense_tensor(x: Any, what: str) -> Tensor:
    """Return samples as a tensor of floating point, or refuse what is none; see `dense_array`."""
    if not isinstance(x, Tensor):
        x = torch.as_tensor(dense_array(x, what))
    _refuse_tensor(x, what)
    if not x.is_floating_point():
        raise DataError(f"{what}: got dtype {x.dtype}, expected floating point; use x.float()")
    return x


def _refuse_tensor(x: Tensor, what: str) -> None:
    """Refuse a tensor that holds no numbers where they can be read."""
    if x.is_meta:
        raise DataError(f"{what}: got a tensor on the meta device, which holds no values; give a real one")
    if x.layout is not torch.strided or x.is_nested:
        raise DataError(f"{what}: got a tensor of layout {x.layout}, expected a dense one; use x.to_dense()")
    if x.is_quantized:
        raise DataError(f"{what}: got a quantised tensor, expected floating point; use x.dequantize()")


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
    if x.layout is not torch.strided:
        raise ValueError(f"input: got layout {x.layout}, expected a dense tensor; convert with x.to_dense()")
    if x.dim() != 3 or x.shape[1] != n_chans:
        raise ValueError(f"input: got shape {tuple(x.shape)}, expected (batch, n_chans={n_chans}, n_times)")
    if x.shape[0] == 0:
        raise ValueError(f"input: got shape {tuple(x.shape)}, a batch of none; expected at least one window")
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
