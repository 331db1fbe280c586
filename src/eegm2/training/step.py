"""A step of an optimiser, as pretraining, fine-tuning and the range test of the learning rate take it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class Step:
    """Moves parameters once against the gradient of some losses' sum.

    Parameters
    ----------
    parameters : iterable of Parameter
        Whose gradients are clipped, as one vector.
    optimizer : torch.optim.Optimizer
        Set up by `fabric` where there is one.
    clip : float
        Largest 2-norm of the gradient; 0 leaves it as it is.
    fabric : Fabric, optional
        Of losses in half precision or of several processes.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        optimizer: Any,
        clip: float,
        fabric: Fabric | None = None,
    ) -> None:
        self.parameters = list(parameters)
        self.optimizer = optimizer
        self.limit = clip or math.inf
        self.fabric = fabric

    def __call__(self, losses: Iterable[Tensor]) -> None:
        """Take a step; of losses that are computed one by one, only one is in memory at a time."""
        self.optimizer.zero_grad()
        for loss in losses:
            if self.fabric is None:
                loss.backward()
            else:
                self.fabric.backward(loss)
        if self.fabric is not None:
            self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
        self.bound()
        self.optimizer.step()

    def bound(self) -> None:
        """Clip the gradient, which is whole and not scaled."""
        nn.utils.clip_grad_norm_(self.parameters, self.limit)
