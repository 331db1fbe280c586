"""Whole recordings in one call, in blocks of time: memory stays flat beyond input and output."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from eegm2.errors import ConfigError, DataError
from eegm2.model.streaming.stream import StreamNetwork

#: Samples per block where nothing else is asked for.
BLOCK_SAMPLES = 2048

Signal = TypeVar("Signal", Tensor, np.ndarray)


def reconstruct_long(
    model: nn.Module, x: Signal, *, block_samples: int = BLOCK_SAMPLES, out: Signal | None = None
) -> Signal:
    """Reconstruct a recording of any length; equals ``model(x)`` at a fraction of its memory.

    Parameters
    ----------
    model : EEGM2
        A preset with a Mamba mixer and a decoder.
    x : Tensor or array, shape (batch, n_chans, n_times) or (n_chans, n_times)
        EEG scaled as in training, n_times >= 8; a NumPy memory map is read block by block.
    block_samples : int
        Samples taken at a time; no influence on the result beyond rounding.
    out : Tensor or array, optional
        Where to write, of the shape of `x` and floating point, a memory map for instance.

    Returns
    -------
    Tensor or array, shape of `x`
        float32 on the device of `x` (`out` itself where given).

    Raises
    ------
    ConfigError
        If the model cannot be streamed or `block_samples` is below 1.
    DataError
        If a shape or dtype does not fit or a value is not finite; the message names channel and sample.
    """
    return _in_blocks(model, x, block_samples, out, reconstruct=True)


def encode_long(
    model: nn.Module, x: Signal, *, block_samples: int = BLOCK_SAMPLES, out: Signal | None = None
) -> Signal:
    """Return the representation of a recording of any length; equals ``model.encode(x)``.

    Parameters, result and errors are those of :func:`reconstruct_long`, with (batch, 4w, n_times // 8) or
    (4w, n_times // 8) in place of the shape of `x`; with the covariance embedding a step per token.
    """
    return _in_blocks(model, x, block_samples, out, reconstruct=False)


def _in_blocks(
    model: nn.Module, x: Signal, block_samples: int, out: Signal | None, *, reconstruct: bool
) -> Signal:
    if block_samples < 1:
        raise ConfigError(f"block_samples: got {block_samples}, expected at least 1")
    n_times = x.shape[-1] if x.ndim else 0
    network = StreamNetwork(model, n_times, reconstruct=reconstruct)
    shape = _result_shape(network, tuple(x.shape), reconstruct)
    result = _result(x, shape, out)
    whole_x, whole_y = (a[None] if x.ndim == 2 else a for a in (x, result))
    state, done = network.start(whole_x.shape[0]), 0
    for begin in range(0, n_times, block_samples):
        end = min(begin + block_samples, n_times)
        block = _block(whole_x, begin, end).to(network.like)
        _check_finite(block, begin)
        representation, reconstruction, state = network.step(state, block, last=end == n_times)
        y = reconstruction if reconstruction is not None else representation
        whole_y[..., done : done + y.shape[2]] = y.cpu().numpy() if isinstance(whole_y, np.ndarray) else y
        done += y.shape[2]
    return result


def _block(x: Tensor | np.ndarray, begin: int, end: int) -> Tensor:
    """Return some samples as a tensor, copied out of an array (which may be a memory map)."""
    return x[..., begin:end] if isinstance(x, Tensor) else torch.from_numpy(np.array(x[..., begin:end]))


def _result_shape(network: StreamNetwork, shape: tuple[int, ...], reconstruct: bool) -> tuple[int, ...]:
    config = network.config
    if len(shape) not in (2, 3) or shape[-2] != config.n_chans or 0 in shape[:-2]:
        raise DataError(f"input: got shape {shape}, expected (batch, n_chans={config.n_chans}, n_times)")
    step = config.step_samples
    if shape[-1] < step:
        raise DataError(f"input: got n_times={shape[-1]}, expected at least {step} samples")
    return shape if reconstruct else (*shape[:-2], config.representation_channels, shape[-1] // step)


def _result(x: Signal, shape: tuple[int, ...], out: Signal | None) -> Signal:
    """Return where the result goes: `out` if it fits, or new memory of the kind of `x`."""
    real = x.is_floating_point() if isinstance(x, Tensor) else np.issubdtype(x.dtype, np.floating)
    if not real:
        raise DataError(f"input: got dtype {x.dtype}, expected floating point; convert it first")
    if out is None:
        if isinstance(x, Tensor):
            return x.new_empty(shape, dtype=torch.float32 if x.dtype != torch.float64 else x.dtype)
        return np.empty(shape, np.float32 if x.dtype != np.float64 else x.dtype)
    if tuple(out.shape) != shape or type(out).__module__.split(".")[0] != type(x).__module__.split(".")[0]:
        raise DataError(
            f"out: got a {type(out).__name__} of shape {tuple(out.shape)}, expected one like the input, "
            f"{shape}"
        )
    real = out.is_floating_point() if isinstance(out, Tensor) else np.issubdtype(out.dtype, np.floating)
    if not real:
        raise DataError(f"out: got dtype {out.dtype}, expected floating point")
    return out


def _check_finite(block: Tensor, begin: int) -> None:
    if not torch.isfinite(block).all():
        item, channel, sample = torch.nonzero(~torch.isfinite(block))[0].tolist()
        raise DataError(
            f"input: channel {channel} of item {item} is not finite at sample {begin + sample}; "
            "fill the gap or cut the recording there"
        )
