"""What a run trains: a network, the objective's heads, and the averages that follow them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from eegm2.data.windows.pooled import PoolWindows, shares
from eegm2.model.network import EEGM2
from eegm2.model.unet import UNet
from eegm2.training.config import PretrainConfig
from eegm2.training.gradient import GradientAverage
from eegm2.training.means import Means
from eegm2.training.objectives.base import Origin, Setting, make_objective, window_seed
from eegm2.training.processes import mean_of_all

VALIDATION_EPOCH = -1


class Learner(nn.Module):
    """A network that learns from windows by itself; its state is what a run goes on from.

    Parameters
    ----------
    model : EEGM2 or UNet
        The network.
    config : PretrainConfig
        The run.
    train, val : PoolWindows
        Windows of one store or several; `val` may be None.

    Attributes
    ----------
    shares : tuple of float
        Share of the training of each store of `train`.
    """

    def __init__(
        self, model: EEGM2 | UNet, config: PretrainConfig, train: PoolWindows, val: PoolWindows | None
    ) -> None:
        super().__init__()
        self.model = model
        self.average = (
            AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
            if config.ema_decay
            else None
        )
        if self.average is not None:
            self.average.requires_grad_(False)
        self.gradient_average = (
            GradientAverage(model, config.gradient_ema, config.gradient_ema_gain)
            if config.gradient_ema
            else None
        )
        self.config = config
        self.train_windows, self.val_windows = train, val
        self.shares = shares(train.pool, train.sizes, config.share)
        self.objective = make_objective(Setting(config, model, train.pool))

    @property
    def kept_model(self) -> nn.Module:
        """The weights that are validated and saved: the moving average where there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def validated(self) -> PoolWindows | None:
        """The windows that are validated on; a run that overfits takes those that it trains on."""
        return self.train_windows if self.config.overfit_batches else self.val_windows

    @property
    def trained(self) -> nn.Module:
        """The network and the objective's heads."""
        return nn.ModuleList([self.model, self.objective])

    def new_means(self) -> Means:
        """Return running means of the objective's loss and terms, with nothing counted."""
        return Means(self.objective.terms)

    def losses(
        self, model: nn.Module, batch: dict[str, Any], epoch: int, windows: PoolWindows
    ) -> Sequence[Tensor]:
        """Return one batch's loss and its terms."""
        index = batch["index"].tolist()
        seeds = [window_seed(self.config.seed, epoch, int(window)) for window in index]
        origin = Origin.of(windows, index)
        return self.objective.losses(model, batch["x"], seeds, origin)

    def forward(self, batch: dict[str, Any], epoch: int) -> tuple[Tensor, list[float]]:
        """Return a batch's loss, and loss and terms as numbers.

        In training the numbers are means of all processes, and where that of the loss is not finite, a loss
        without a gradient takes its place. In evaluation they are of the weights that are kept, with masks
        and noise that are the same in every epoch.
        """
        if not self.training:
            assert self.validated is not None
            losses = self.losses(self.kept_model, batch, VALIDATION_EPOCH, self.validated)
            return losses[0], [float(value) for value in losses]
        losses = self.losses(self.model, batch, epoch, self.train_windows)
        values = mean_of_all(torch.stack([losses[0].detach(), *losses[1:]]))
        if math.isfinite(values[0]):
            return losses[0], values
        return torch.stack([p.sum() for p in self.trained.parameters()]).sum() * 0.0, values
