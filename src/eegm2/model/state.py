"""States of the sequence mixers: explicit tensors that can be saved, batched and moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class MambaState(NamedTuple):
    """What a Mamba mixer remembers of the past.

    Attributes
    ----------
    conv : Tensor, shape (batch, d_conv - 1, conv channels)
        Last inputs of the causal convolution.
    ssm : Tensor, shape (batch, heads, headdim, d_state) or, for Mamba-1, (batch, d_inner, d_state)
        State of the selective scan, float32.
    """

    conv: Tensor
    ssm: Tensor

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return the state as a flat tuple."""
        return self.conv, self.ssm


def state_names(state: tuple[Tensor, ...]) -> tuple[str, ...]:
    """Return the names of a mixer state's tensors: its own, or numbers."""
    return getattr(state, "_fields", None) or tuple(f"state{i}" for i in range(len(state)))


def map_state(change: Callable[[Tensor], Tensor], state: Any) -> Any:
    """Return a mixer's state of the same kind with every tensor changed."""
    changed = [change(tensor) for tensor in state]
    return type(state)(*changed) if hasattr(state, "_fields") else tuple(changed)
