"""Inputs, gradients and comparisons shared by the tests of the scans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from eegm2 import ops

NAMES = ("x", "dt", "A", "B", "C", "D", "initial_state")
LENGTHS = (1, 63, 64, 65, 257)


def ssd_inputs(
    length: int,
    batch: int = 2,
    heads: int = 4,
    headdim: int = 5,
    groups: int = 2,
    d_state: int = 3,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64).to(dtype)

    return [
        normal(batch, length, heads, headdim),
        torch.nn.functional.softplus(normal(batch, length, heads) - 2),
        -torch.linspace(0.5, 16, heads, dtype=dtype),
        normal(batch, length, groups, d_state),
        normal(batch, length, groups, d_state),
        normal(heads),
        normal(batch, heads, headdim, d_state),
    ]


def scan_inputs(
    length: int, batch: int = 2, channels: int = 6, d_state: int = 5, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64).to(dtype)

    return [
        normal(batch, length, channels),
        torch.nn.functional.softplus(normal(batch, length, channels) - 2),
        -torch.linspace(0.5, 16, channels * d_state, dtype=dtype).reshape(channels, d_state),
        normal(batch, length, d_state),
        normal(batch, length, d_state),
        normal(channels),
        normal(batch, channels, d_state),
    ]


def results(
    function: Callable[..., tuple[Tensor, ...]], inputs: list[Any], **options: object
) -> list[Tensor]:
    """Outputs, states and every gradient of a sum that weights all unevenly, as float64."""
    arguments = [item.clone().requires_grad_() if isinstance(item, Tensor) else item for item in inputs]
    outputs = [t for t in function(*arguments, **options) if t.numel()]
    loss = sum((torch.linspace(-1, 1, t.numel(), dtype=t.dtype).reshape(t.shape) * t).sum() for t in outputs)
    leaves = [item for item in arguments if isinstance(item, Tensor) and item.numel()]
    gradients = torch.autograd.grad(loss, leaves)
    return [tensor.detach().double() for tensor in (*outputs, *gradients)]


def worst(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, each tensor in units of its own largest value."""
    return max(
        float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))
        for a, b in zip(found, expected, strict=True)
    )


def oracle(name: str, inputs: list[Tensor]) -> list[Tensor]:
    return results(getattr(ops, name), [tensor.double() for tensor in inputs], backend="recurrence")


def mix_inputs(
    length: int,
    batch: int = 2,
    heads: int = 4,
    headdim: int = 5,
    groups: int = 2,
    d_state: int = 3,
    taps: int = 2,
    dtype: torch.dtype = torch.float64,
) -> list:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64).to(dtype)

    inner = heads * headdim
    channels = inner + 2 * groups * d_state
    return [
        normal(batch, length, inner + channels + heads),
        normal(channels, taps),
        normal(channels),
        normal(heads) - 2,
        -torch.linspace(0.5, 16, heads, dtype=dtype),
        normal(heads),
        normal(inner),
        1e-5,
        normal(batch, taps - 1, channels),
        normal(batch, heads, headdim, d_state),
        groups,
        d_state,
        headdim,
    ]
