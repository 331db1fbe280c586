"""A moving average of the gradients, whose slow part is made stronger."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GradientAverage(nn.Module):
    """Adds to every gradient its own exponential moving average.

    ``m = decay m + (1 - decay) g``, then ``g + gain m`` in place of g.
    What changes slowly from step to step is amplified, what alternates is not. The averages are buffers, so
    that they are saved with a run and one that goes on does so exactly.

    Parameters
    ----------
    model : nn.Module
        Whose gradients.
    decay : float
        Of the average, e.g. 0.98.
    gain : float
        Weight of the average.

    References
    ----------
    Lee et al., "Grokfast: Accelerated Grokking by Amplifying Slow Gradients" (arXiv 2405.20233), algorithm 2.
    """

    def __init__(self, model: nn.Module, decay: float, gain: float) -> None:
        super().__init__()
        self.decay, self.gain = decay, gain
        for number, parameter in enumerate(model.parameters()):
            self.register_buffer(f"mean{number}", torch.zeros_like(parameter))

    @torch.no_grad()
    def apply_to(self, model: nn.Module) -> None:
        """Follow the gradients of `model` and add the averages to them; a missing gradient counts as zero."""
        for mean, parameter in zip(self.buffers(), model.parameters()):
            mean.mul_(self.decay)
            if parameter.grad is not None:
                mean.add_(parameter.grad, alpha=1 - self.decay)
                parameter.grad.add_(mean, alpha=self.gain)


def norm_of_gradients(model: nn.Module) -> Tensor:
    """Return the 2-norm of all gradients together."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
