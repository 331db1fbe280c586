"""What EEGM2 does over time outside its sequence blocks: convolve, pool, interpolate.

Tensors are (batch, channels, time) to the reader. On a CPU the channels lie next to each other in memory, as
the sequence blocks want them: convolutions are then products of neighbouring rows, and nothing is transposed.
Graphs that are compiled or exported hold torch's own one-dimensional operations.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.ops import Kept, as_made, compiled_inference, compiled_products, needs_gradient

BRANCH_KERNELS = (1, 3, 7)


def channels_last(x: Tensor) -> bool:
    """Return whether this tensor is worked on with neighbouring channels: on a CPU, outside of graphs."""
    traced = torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing()
    return x.device.type == "cpu" and not traced


class TimeConv(nn.Conv1d):
    """Convolution over time that keeps the length (zero padding)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)
        self.kept = Kept()

    def forward(self, x: Tensor, *, pooled: bool = False) -> Tensor:
        """Convolve (batch, channels in, time), or with `pooled` the maxima of its pairs of steps."""
        if self.compiles(x):
            from eegm2.ops.cpu.conv import ConvWeights, convolved

            weights = self.kept.of((self.weight, self.bias), lambda: ConvWeights.of(self.weight, self.bias))
            return convolved(x.transpose(1, 2), weights, pooled=pooled).transpose(1, 2)
        x = pool(x) if pooled else x
        if not channels_last(x):
            return super().forward(x)
        if needs_gradient(x, self.weight, self.bias):
            return convolve_with_gradient(x, self.weight, self.bias)
        return convolve(x, self.weight, self.bias)

    def compiles(self, x: Tensor) -> bool:
        """Return whether the kernels for inference can take `x`."""
        return as_made(self, TimeConv) and compiled_inference(x, (self.weight, self.bias))


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with neighbouring channels; weight (channels out, channels in, k), k odd."""
    if compiled_products(x, (weight, bias)):
        from eegm2.ops.cpu.conv import ConvWeights, convolved

        return convolved(x.transpose(1, 2), ConvWeights.of(weight, bias)).transpose(1, 2)
    if weight.shape[2] == 1:
        return F.linear(x.transpose(1, 2), weight.squeeze(2), bias).transpose(1, 2)
    rows = x.transpose(1, 2).contiguous().transpose(1, 2)
    padding = (0, weight.shape[2] // 2)
    return F.conv2d(rows.unsqueeze(2), weight.unsqueeze(2), bias, padding=padding).squeeze(2)


def convolve_with_gradient(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve as `convolve` does, where gradients are asked for."""
    result: Tensor = _Convolution.apply(x, weight, bias)
    return result


class _Convolution(torch.autograd.Function):
    """`convolve` with a gradient made of products of rows: torch's own takes several times as long here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = convolve(x, weight, bias)
        # under autocast the products are narrower than x: the gradient is then taken in their type
        ctx.save_for_backward(x.transpose(1, 2).to(y.dtype).contiguous(), weight)
        ctx.dtype, ctx.with_bias = x.dtype, bias is not None
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        rows, weight = ctx.saved_tensors
        slopes, dx = dy.transpose(1, 2), None
        if ctx.needs_input_grad[0]:
            dx = convolve(dy, weight.to(dy.dtype).flip(2).transpose(0, 1), None).to(ctx.dtype)
        dweight = _weight_gradient(slopes, rows, weight.shape[2])
        dbias = slopes.sum((0, 1)).to(weight.dtype) if ctx.with_bias else None
        return dx, dweight.to(weight.dtype), dbias


def _weight_gradient(slopes: Tensor, rows: Tensor, kernel: int) -> Tensor:
    """Return the gradient of a weight from (batch, time, channels) of output and input."""
    if compiled_products(rows, (slopes,)):
        from eegm2.ops.cpu.conv import weight_gradient

        return weight_gradient(slopes, rows, kernel)
    side = kernel // 2  # zero rows between batch entries, so that one product serves all of them
    rows, padded = (F.pad(t, (0, 0, side, side)).flatten(0, 1) for t in (rows, slopes))
    count = rows.shape[0] - 2 * side
    middle = padded[side : side + count].t()
    return torch.stack([middle @ rows[tap : tap + count] for tap in range(kernel)], dim=2)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer to (batch, time, channels), by compiled products where they can be."""
    if as_made(layer, nn.Linear) and x.dim() == 3 and compiled_products(x, (layer.weight, layer.bias)):
        return convolve_with_gradient(x.transpose(1, 2), layer.weight[:, :, None], layer.bias).transpose(1, 2)
    y = layer(x)
    return y


def pool(x: Tensor) -> Tensor:
    """Halve the time axis by the maximum of pairs; an odd last step is dropped.

    The two-dimensional form keeps the time axis dynamic in ONNX export, the one-dimensional one freezes it.
    """
    if channels_last(x) and not (torch.is_grad_enabled() and x.requires_grad):
        even = x.shape[2] // 2 * 2
        return torch.maximum(x[..., 0:even:2], x[..., 1:even:2])
    return F.max_pool2d(x.unsqueeze(2), (1, 2)).squeeze(2)


def join(skip: Tensor, x: Tensor) -> Tensor:
    """Interpolate `x` linearly to the skip's length and put it behind the skip's channels."""
    steps = skip.shape[-1]
    if not channels_last(x) or steps != 2 * x.shape[-1]:
        up = F.interpolate(x, size=steps, mode="linear", align_corners=False)
        return torch.cat([skip, up], dim=1)
    kept, rows = skip.transpose(1, 2), x.transpose(1, 2)
    before, after = rows[:, :-1], rows[:, 1:]
    if not needs_gradient(skip, x) and skip.dtype == x.dtype:
        channels = skip.shape[1]
        joined = skip.new_empty(skip.shape[0], steps, channels + x.shape[1])
        joined[..., :channels] = kept
        left, right = joined[..., channels:].unflatten(1, (-1, 2)).unbind(2)
        left[:, :1], right[:, -1:] = rows[:, :1], rows[:, -1:]
        torch.lerp(after, before, 0.25, out=left[:, 1:])
        torch.lerp(before, after, 0.25, out=right[:, :-1])
        return joined.transpose(1, 2)
    left = torch.cat([rows[:, :1], torch.lerp(after, before, 0.25)], dim=1)
    right = torch.cat([torch.lerp(before, after, 0.25), rows[:, -1:]], dim=1)
    pairs = [kept.unflatten(1, (-1, 2)), torch.stack([left, right], dim=2)]
    return torch.cat(pairs, dim=-1).flatten(1, 2).transpose(1, 2)


def source_index(output: Tensor, lengths: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return where each output step lies in the input: the step below and the weight of the one above.

    Rounded as ``F.interpolate`` rounds for float32 signals, in single precision, which matters at a hundred
    thousand steps and more.

    Parameters
    ----------
    output : Tensor of int64, shape (steps,)
    lengths : (int, int)
        Total input and output steps.
    """
    scale = torch.tensor(lengths[0], dtype=torch.float32) / lengths[1]
    position = (scale.double() * (output.double() + 0.5) - 0.5).float().clamp(min=0)
    low = position.long().clamp(max=lengths[0] - 1)
    return low, (position - low).clamp(0, 1)


class MultiBranchEmbedding(nn.Module):
    """Receptive fields of 1, 3 and 7 samples in parallel, fused to w channels."""

    def __init__(self, n_chans: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(TimeConv(n_chans, width, kernel) for kernel in BRANCH_KERNELS)
        self.fuse = TimeConv(len(BRANCH_KERNELS) * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Embed (batch, n_chans, time) to (batch, width, time)."""
        branches = [branch(x) for branch in self.branches]
        if not channels_last(x):
            return self.fuse(torch.cat(branches, dim=1))
        return self.fuse(torch.cat([y.transpose(1, 2) for y in branches], dim=2).transpose(1, 2))
