"""Causal depthwise convolution over time, with an explicit state so that blocks can follow one another."""

from __future__ import annotations

import torch
from torch import Tensor

from eegm2.ops.checks import check_conv


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Convolve every channel with its own kernel, looking only back; no activation.

    ``y[t, c] = bias[c] + sum_j weight[c, j] x[t - (k - 1) + j, c]``. Written as k shifted products, so that
    the (length, channels) layout of the projections is kept and nothing is transposed.

    Parameters
    ----------
    x : Tensor, shape (batch, length, channels)
    weight : Tensor, shape (channels, k)
    bias : Tensor, shape (channels,), optional
    state : Tensor, shape (batch, k - 1, channels), optional
        The k - 1 inputs before x; zero if absent.

    Returns
    -------
    y : Tensor, shape (batch, length, channels)
    state : Tensor, shape (batch, k - 1, channels)
        The last k - 1 inputs, to be given with the next block.

    Raises
    ------
    TypeError, ValueError
        If dtypes, shapes or devices do not fit; the message gives the argument and both shapes.
    """
    check_conv(x, weight, bias, state)
    batch, length, channels = x.shape
    kernel = weight.shape[1]
    if state is None:
        state = x.new_zeros(batch, kernel - 1, channels)
    padded = torch.cat([state.to(x.dtype), x], dim=1)
    y = padded[:, kernel - 1 :] * weight[:, kernel - 1]
    if bias is not None:
        y = y + bias
    for j in range(kernel - 1):
        y = torch.addcmul(y, padded[:, j : j + length], weight[:, j])
    return y, padded[:, length:]
