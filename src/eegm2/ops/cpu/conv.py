"""Convolutions over time and linear layers for inference on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eegm2.ops.cpu.block_kernels import ROWS_EACH
from eegm2.ops.cpu.conv_kernels import convolve
from eegm2.ops.cpu.conv_slopes import weight_slopes
from eegm2.ops.cpu.products import COLUMNS, packed
from eegm2.ops.cpu.runtime import dense_last, empty, launch


@dataclass(frozen=True)
class ConvWeights:
    """The weight of a convolution as the kernel reads it; copies.

    Attributes
    ----------
    matrix, bias : Tensor
        Packed; the bias padded.
    shape : tuple of int
        Output channels, input channels, kernel.
    """

    matrix: Tensor
    bias: Tensor
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> ConvWeights:
        """Lay out weight (channels out, channels in, k), k odd, and bias (channels out,)."""
        outputs, inputs, kernel = weight.shape
        given = weight.new_zeros(outputs) if bias is None else bias.detach()
        matrix = packed(weight.permute(0, 2, 1).flatten(1))
        return cls(matrix, F.pad(given, (0, -outputs % COLUMNS)).clone(), (outputs, inputs, kernel))


def convolved(
    x: Tensor, weights: ConvWeights, *, pooled: bool = False, raised: Tensor | None = None
) -> Tensor:
    """Return rows (batch, steps, channels out) of a convolution with zero padding.

    Parameters
    ----------
    x : Tensor, shape (batch, steps, channels in)
        Of any strides.
    weights : ConvWeights
        Of the dtype of `x`.
    pooled : bool
        Take the maximum of pairs of steps first; an odd last one is dropped.
    raised : Tensor, shape (batch, steps / 2, kernel, padded channels out), optional
        Products of a signal at half the rate with every tap, see :func:`taps_of`: interpolated and added.
    """
    batch, steps, channels = x.shape
    steps = steps // 2 if pooled else steps
    outputs, _, kernel = weights.shape
    y = empty((batch, steps, outputs), x.dtype)
    half = 0 if raised is None else raised.shape[1]
    sizes = [batch, steps, channels, outputs, kernel, *x.stride(), pooled, half, *y.stride()[:2]]
    work = batch * steps * channels * kernel * outputs // 4
    launch(
        convolve, (x, weights.matrix, weights.bias, raised, y), sizes, batch * -(-steps // ROWS_EACH), work
    )
    return y


def weight_gradient(dy: Tensor, x: Tensor, kernel: int) -> Tensor:
    """Return the gradient of a convolution's weight, (channels out, channels in, k).

    Parameters
    ----------
    dy : Tensor, shape (batch, steps, channels out)
        Gradient of the output.
    x : Tensor, shape (batch, steps, channels in)
    kernel : int
        k, odd.
    """
    dy, x = dense_last(dy), dense_last(x)
    batch, steps, outputs = dy.shape
    inputs = x.shape[2]
    each = (128 if outputs >= 1024 else 64, 128)  # some tasks for every thread, each with much to multiply
    tasks = -(-outputs // each[0]) * -(-inputs // each[1])
    dweight = torch.empty((outputs, kernel, inputs), dtype=x.dtype)
    sizes = [batch, steps, inputs, outputs, kernel, *x.stride()[:2], *dy.stride()[:2], *each]
    launch(weight_slopes, (dy, x, dweight), sizes, tasks, dy.numel() * inputs * kernel // 4)
    return dweight.transpose(1, 2)


def taps_of(weight: Tensor) -> ConvWeights:
    """Return the pointwise layer that gives the products with each tap of a convolution, side by side."""
    each = F.pad(weight.detach().permute(2, 0, 1), (0, 0, 0, -weight.shape[0] % COLUMNS))
    return ConvWeights.of(each.flatten(0, 1)[:, :, None], None)
