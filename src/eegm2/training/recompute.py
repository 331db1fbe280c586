"""Training in less memory: sequence blocks forget what they computed and do it again in the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eegm2.model.block import SequenceBlock
from eegm2.model.state import MambaState


class RecomputedBlock(SequenceBlock):
    """A sequence block that keeps its input alone and works through the batch a few windows at a time.

    Windows do not see each other in a block, so that parts of a batch are exact. Only one part's inner
    signals (eight times the block's channels, several times over) exist at once, in both passes.

    Attributes
    ----------
    windows : int
        Windows per part.
    """

    windows: int

    def forward(self, u: Tensor, state: MambaState | None = None) -> tuple[Tensor, MambaState | None]:
        """Return the block's output, (batch, length, channels); without a gradient, as any other block."""
        if state is not None or not torch.is_grad_enabled():
            return super().forward(u, state)
        parts = [checkpoint(self._output, part, use_reentrant=False) for part in u.split(self.windows)]
        return torch.cat(parts), None

    def _output(self, u: Tensor) -> Tensor:
        return super().forward(u)[0]


def recompute_blocks(model: nn.Module, windows: int) -> int:
    """Let every sequence block of a network recompute in the backward pass, `windows` windows at a time.

    Returns
    -------
    int
        Number of blocks; weights and their names stay as they are.
    """
    blocks = [module for module in model.modules() if type(module) is SequenceBlock]
    for block in blocks:
        block.__class__ = RecomputedBlock
        block.windows = windows  # type: ignore[assignment]
    return len(blocks)
