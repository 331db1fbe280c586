"""The scans as one call each: arguments checked, precision kept, the form chosen by `eegm2.ops.backends`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from eegm2.ops.backends import LIBRARIES, choose_backend
from eegm2.ops.checks import check_finite as _check_finite
from eegm2.ops.checks import check_selective_scan, check_ssd, compute_dtype
from eegm2.ops.chunked import CHUNK, selective_scan_chunked, ssd_chunked
from eegm2.ops.gpu.ssd import ssd_fla, ssd_mamba
from eegm2.ops.recurrence import selective_scan_recurrence, ssd_recurrence

NAMES = ("x", "dt", "A", "B", "C", "D", "initial_state")


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast, which would take the products of the scan in half precision."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _convert(dtype: torch.dtype, *tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    *,
    chunk_size: int | None = None,
    backend: str = "auto",
    check_finite: bool = False,
) -> tuple[Tensor, Tensor]:
    """Mamba-2's state-space duality (SSD) layer.

    ``H[t] = exp(dt[t] A) H[t-1] + dt[t] x[t] ⊗ B[t]``, ``y[t] = H[t] C[t] + D x[t]``, per head.

    Parameters
    ----------
    x : Tensor, shape (batch, length, heads, headdim)
    dt : Tensor, shape (batch, length, heads)
        Step size, positive (after softplus).
    A : Tensor, shape (heads,)
        Negative.
    B, C : Tensor, shape (batch, length, groups, d_state)
        Each group serves heads // groups consecutive heads.
    D : Tensor, shape (heads,), optional
    initial_state : Tensor, shape (batch, heads, headdim, d_state), optional
        Zero if absent.
    chunk_size : int, optional
        Steps per chunk of the chunked form; no influence on the result beyond rounding.
    backend : {"auto", "recurrence", "chunked", "numba", "fla", "mamba_ssm"}
    check_finite : bool
        Refuse NaN and infinities in any argument, at the price of reading all of them once.

    Returns
    -------
    y : Tensor, shape (batch, length, heads, headdim)
        In the dtype of x.
    final_state : Tensor, shape (batch, heads, headdim, d_state)
        float32 (float64 for float64 input), also for half-precision x.

    Raises
    ------
    TypeError
        If a dtype is not floating point, or float64 is mixed with narrower types.
    ValueError
        If shapes or devices do not fit, a size is zero, heads is not divisible by groups, the chunk size or
        backend is unknown, or (with `check_finite`) a value is not finite; the message gives the value.

    References
    ----------
    Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), sections 3 and 6.
    """
    check_ssd(x, dt, A, B, C, D, initial_state)
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"ssd: chunk_size is {chunk_size}, expected at least 1")
    arguments = (x, dt, A, B, C, D, initial_state)
    if check_finite:
        _check_finite("ssd", dict(zip(NAMES, arguments)))
    dtype = compute_dtype(x)
    chosen = choose_backend(backend, x.device, dtype, (x.shape[3], B.shape[3]))
    with _full_precision(x.device):
        converted = _convert(dtype, *arguments)
        if chosen == "numba":
            from eegm2.ops.cpu.ssd import ssd_numba

            y, state = ssd_numba(*converted)
        elif chosen == "recurrence":
            y, state = ssd_recurrence(*converted)
        elif chosen in LIBRARIES:
            y, state = {"fla": ssd_fla, "mamba_ssm": ssd_mamba}[chosen](*converted)
        else:
            x_, dt_, A_, B_, C_, D_, state_ = converted
            y, state = ssd_chunked(x_, dt_, A_, B_, C_, D_, state_, chunk_size or CHUNK)
    return y.to(x.dtype), state


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    *,
    backend: str = "auto",
    check_finite: bool = False,
) -> tuple[Tensor, Tensor]:
    """Mamba-1's selective scan.

    ``h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t]``, ``y[t] = h[t] · C[t] + D x[t]``, per channel.

    Parameters
    ----------
    x, dt : Tensor, shape (batch, length, channels)
        dt is positive (after softplus).
    A : Tensor, shape (channels, d_state)
        Negative.
    B, C : Tensor, shape (batch, length, d_state)
    D : Tensor, shape (channels,), optional
    initial_state : Tensor, shape (batch, channels, d_state), optional
        Zero if absent.
    backend, check_finite
        As for `ssd`.

    Returns
    -------
    y : Tensor, shape (batch, length, channels)
        In the dtype of x.
    final_state : Tensor, shape (batch, channels, d_state)
        float32 (float64 for float64 input), also for half-precision x.

    Raises
    ------
    TypeError, ValueError
        As for `ssd`.

    References
    ----------
    Gu and Dao, "Mamba" (arXiv 2312.00752), algorithm 2.
    """
    check_selective_scan(x, dt, A, B, C, D, initial_state)
    arguments = (x, dt, A, B, C, D, initial_state)
    if check_finite:
        _check_finite("selective_scan", dict(zip(NAMES, arguments)))
    chosen = choose_backend(backend, x.device, compute_dtype(x), scan="selective_scan")
    with _full_precision(x.device):
        converted = _convert(compute_dtype(x), *arguments)
        if chosen == "numba":
            from eegm2.ops.cpu.scan import selective_scan_numba

            y, state = selective_scan_numba(*converted)
        elif chosen == "recurrence":
            y, state = selective_scan_recurrence(*converted)
        else:
            y, state = selective_scan_chunked(*converted)
    return y.to(x.dtype), state
