"""Linear layers with nothing between them: multiplied out to one, or taken where they cost least."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.model.layers import MultiBranchEmbedding, TimeConv, join
from eegm2.ops import Kept, as_made, compiled_inference


class Encoder(Protocol):
    """What begins a network, as far as it is multiplied out here."""

    @property
    def embedding(self) -> MultiBranchEmbedding | TimeConv:
        """First layer of (batch, n_chans, time)."""

    @property
    def linear1(self) -> nn.Linear:
        """Linear layer behind it."""


def weights(layer: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Return copies of weight and bias."""
    assert layer.bias is not None
    return layer.weight.detach().clone(), layer.bias.detach().clone()


def is_one_convolution(encoder: Encoder) -> bool:
    """Return whether embedding and first linear layer are as they were made, with no hook between them."""
    embedding = encoder.embedding
    if isinstance(embedding, TimeConv):
        convolutions: list[nn.Module] = [embedding]
    elif as_made(embedding, MultiBranchEmbedding):
        convolutions = [*embedding.branches, embedding.fuse]
    else:
        return False
    return as_made(encoder.linear1, nn.Linear) and all(as_made(conv, TimeConv) for conv in convolutions)


def embedding_weights(encoder: Encoder) -> tuple[Tensor, Tensor]:
    """Return the one convolution that equals embedding and first linear layer, (w, n_chans, k) and (w,).

    Differentiable: what changes it changes the weights that it was made of.
    """
    embedding = encoder.embedding
    if isinstance(embedding, MultiBranchEmbedding):
        branches = [branch for branch in embedding.branches if isinstance(branch, nn.Conv1d)]
        side = max(branch.weight.shape[2] for branch in branches) // 2
        padded = [F.pad(branch.weight, [side - branch.weight.shape[2] // 2] * 2) for branch in branches]
        bias = torch.cat([branch.bias for branch in branches if branch.bias is not None])
        weight, bias = compose(embedding.fuse, torch.cat(padded).double(), bias.double())
    else:
        assert embedding.bias is not None
        weight, bias = embedding.weight.double(), embedding.bias.double()
    linear = encoder.linear1
    weight, bias = compose(linear, weight, bias)
    return weight.to(linear.weight), bias.to(linear.weight)


def output_weights(conv: nn.Conv1d, output: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Return the one convolution that equals the last convolution and the output projection."""
    assert conv.bias is not None
    weight, bias = compose(output, conv.weight.double(), conv.bias.double())
    return weight.to(conv.weight), bias.to(conv.weight)


def compose(after: nn.Conv1d | nn.Linear, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply a convolution's weight (float64) and bias by the pointwise layer that follows it."""
    pointwise = after.weight.double().flatten(1)
    assert after.bias is not None
    total = pointwise @ bias + after.bias.double()
    return (pointwise @ weight.flatten(1)).unflatten(1, weight.shape[1:]), total


def join_and_convolve(
    skip: Tensor, x: Tensor, kept: Kept, conv: TimeConv, output: TimeConv | None = None
) -> Tensor:
    """Convolve ``join(skip, x)``, and put the result through a pointwise `output` if there is one.

    Where the kernels for inference can, the products of `x` are taken before it is interpolated: at half the
    rate they are half as many. `output` is then multiplied into the convolution.
    """
    layers = (conv,) if output is None else (conv, output)
    if skip.shape[-1] != 2 * x.shape[-1] or not all(layer.compiles(x) for layer in layers):
        y = conv(join(skip, x))
        return y if output is None else output(y)
    from eegm2.ops.cpu.conv import ConvWeights, convolved, taps_of

    def lay_out() -> tuple[ConvWeights, ConvWeights]:
        weight, bias = (conv.weight, conv.bias) if output is None else output_weights(conv, output)
        of_skip, of_x = weight.split([skip.shape[1], x.shape[1]], dim=1)
        return ConvWeights.of(of_skip, bias), taps_of(of_x)

    both = [tensor for layer in layers for tensor in layer.parameters()]
    direct, halved = kept.of(both, lay_out)
    raised = convolved(x.transpose(1, 2), halved)
    return convolved(skip.transpose(1, 2), direct, raised=raised).transpose(1, 2)


def pointwise(layer: nn.Linear, x: Tensor, kept: Kept) -> Tensor:
    """Apply a linear layer to (batch, time, channels), compiled where no gradient is asked for."""
    if not as_made(layer, nn.Linear) or not compiled_inference(x, (layer.weight, layer.bias)):
        result: Tensor = layer(x)
        return result
    from eegm2.ops.cpu.conv import ConvWeights, convolved

    both = (layer.weight, layer.bias)
    return convolved(x, kept.of(both, lambda: ConvWeights.of(layer.weight[:, :, None], layer.bias)))
