"""Linear layers that follow each other with nothing in between, multiplied out to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.model.layers import MultiBranchEmbedding

if TYPE_CHECKING:
    from eegm2.model.network import Encoder


def weights(layer: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Return copies of weight and bias."""
    assert layer.bias is not None
    return layer.weight.detach().clone(), layer.bias.detach().clone()


def embedding_weights(encoder: Encoder) -> tuple[Tensor, Tensor]:
    """Return the one convolution that equals embedding and first linear layer, (w, n_chans, k) and (w,)."""
    embedding = encoder.embedding
    if isinstance(embedding, MultiBranchEmbedding):
        branches = [weights(branch) for branch in embedding.branches if isinstance(branch, nn.Conv1d)]
        longest = max(weight.shape[2] for weight, _ in branches)
        padded = [F.pad(weight.double(), [(longest - weight.shape[2]) // 2] * 2) for weight, _ in branches]
        bias = torch.cat([bias.double() for _, bias in branches])
        weight, bias = compose(embedding.fuse, torch.cat(padded), bias)
    else:
        weight, bias = (tensor.double() for tensor in weights(embedding))
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
    pointwise = after.weight.detach().double().flatten(1)
    assert after.bias is not None
    total = pointwise @ bias.detach() + after.bias.detach().double()
    return torch.einsum("oi,ick->ock", pointwise, weight.detach()), total
