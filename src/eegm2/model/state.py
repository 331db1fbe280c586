"""States of the sequence mixers: explicit tensors that can be saved, batched and moved."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class MambaState:
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
