"""The Lightning module of pretraining: one step, its optimiser, and the guard against non-finite numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from eegm2.data.windows.pooled import PoolWindows, shares
from eegm2.errors import DataError
from eegm2.model.network import EEGM2
from eegm2.model.unet import UNet
from eegm2.training.config import PretrainConfig
from eegm2.training.gradient import GradientAverage, norm_of_gradients
from eegm2.training.loaders import make_loader
from eegm2.training.means import Means, together
from eegm2.training.nonfinite import name_windows
from eegm2.training.objectives.base import Origin, Setting, make_objective, window_seed
from eegm2.training.optimiser import adamw_and_cycle
from eegm2.training.orders import BatchOrder, EvaluationOrder, PooledOrder, batch_order

VALIDATION_EPOCH = -1


class PretrainModule(LightningModule):
    """Self-supervised training of one network of the family.

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
        self.train_means, self.interval_means = self.new_means(), self.new_means()
        self.val_means: dict[int, Means] = {}
        self.order: BatchOrder | PooledOrder | None = None
        self.start = (0, 0)
        self.skipped = 0
        self.grad_norm = 0.0
        self._skip_step = False
        self._step_windows: list[int] = []
        self._left_out: list[int] = []
        self._loaders: dict[str, Any] = {}

    def new_means(self) -> Means:
        """Return running means of the objective's loss and terms, with nothing counted."""
        return Means(self.objective.terms)

    @property
    def kept_model(self) -> nn.Module:
        """The weights that are validated and saved: the moving average where there is one."""
        return self.model if self.average is None else self.average.module

    def steps_per_epoch(self) -> int:
        """Return the optimiser steps of a whole epoch."""
        return -(-self._order().total // self.config.accumulate)

    # Data

    def _order(self) -> BatchOrder | PooledOrder:
        if self.order is None:
            self.order = batch_order(
                self.train_windows,
                self.config,
                rank=self.trainer.global_rank,
                world_size=self.trainer.world_size,
                n_batches=2 if self.config.fast_dev_run else (self.config.overfit_batches or None),
            )
        return self.order

    def train_dataloader(self) -> Any:
        """Return the loader, set to what is left of the current epoch; its workers are kept."""
        order = self._order()
        order.epoch = self.trainer.current_epoch
        order.start = self.start[1] if self.start[0] == order.epoch else 0
        return self._loader("train", self.train_windows, order)

    def val_dataloader(self) -> Any:
        """Return the loader of the validation windows."""
        size, first = self.config.batch_size, None
        if self.config.overfit_batches:
            windows, first = self.train_windows, self._order().drawn
        elif self.val_windows is None:
            return []
        else:
            windows = self.val_windows
        if self.config.fast_dev_run:
            first = [2 * size for _ in windows.sizes]
        order = EvaluationOrder(
            windows.sizes,
            batch_size=size,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            first=first,
        )
        return self._loader("val", windows, order)

    def _loader(self, name: str, windows: PoolWindows, order: Any) -> Any:
        if name not in self._loaders:
            pin = self.device.type == "cuda"
            self._loaders[name] = make_loader(windows, order, workers=self.config.workers, pin=pin)
        return self._loaders[name]

    # Steps

    def losses(
        self, model: nn.Module, batch: dict[str, Any], epoch: int, windows: PoolWindows
    ) -> Sequence[Tensor]:
        """Return one batch's loss and its terms."""
        index = batch["index"].tolist()
        seeds = [window_seed(self.config.seed, epoch, int(window)) for window in index]
        origin = Origin.of(windows, index)
        return self.objective.losses(model, batch["x"], seeds, origin)

    def _mean_over_processes(self, values: Tensor) -> list[float]:
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(values)
            values = values / dist.get_world_size()
        return values.cpu().double().tolist()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss; one that is not finite stops the run, or its whole step is skipped."""
        losses = self.losses(self.model, batch, self.current_epoch, self.train_windows)
        values = self._mean_over_processes(torch.stack([losses[0].detach(), *losses[1:]]))
        self._step_windows += batch["index"].tolist()
        if not math.isfinite(values[0]):
            self._nonfinite("loss", values[0])
            return torch.stack([p.sum() for p in self._trained()]).sum() * 0.0
        for means in (self.train_means, self.interval_means):
            means.add(values, len(batch["x"]))
        return losses[0]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count the losses of one batch, with masks and noise that are the same in every epoch."""
        found = self.losses(self.kept_model, batch, VALIDATION_EPOCH, self._validated)
        losses = [float(value) for value in found]
        if all(map(math.isfinite, losses)):
            self.val_means[self._validated.store_of(int(batch["index"][0]))].add(losses, len(batch["x"]))
        else:
            self._left_out += batch["index"].tolist()

    @property
    def _validated(self) -> PoolWindows:
        """The windows that are validated on."""
        data = self.train_windows if self.config.overfit_batches else self.val_windows
        assert data is not None
        return data

    def on_validation_epoch_start(self) -> None:
        """Forget the previous validation."""
        self.val_means = {number: self.new_means() for number in self._validated.numbers}
        self._left_out = []

    def on_validation_epoch_end(self) -> None:
        """Add up what the processes counted; name the windows of losses that are not finite."""
        counted = [value for means in self.val_means.values() for value in means.sums]
        sums = torch.tensor([*counted, len(self._left_out)], dtype=torch.float64)
        if dist.is_available() and dist.is_initialized():
            sums = sums.to(self.device)
            dist.all_reduce(sums)
        *counted, left_out = sums.tolist()
        for means in self.val_means.values():
            means.sums, counted = counted[: len(means.sums)], counted[len(means.sums) :]
        if left_out:
            where = f"epoch {self.current_epoch + 1}: validation loss of {left_out:.0f} windows is not finite"
            self._stop_or_say(f"{where}; windows: {name_windows(self._validated, self._left_out)}")

    def val_values(self) -> dict[str, float]:
        """Return the validation's means by name: the stores' weighted by their shares of the training.

        Where there are several stores, the loss of each follows as ``loss/NAME``.
        """
        names = self.train_windows.pool.names
        counted = {names[number]: means for number, means in self.val_means.items()}
        return together(counted, dict(zip(names, self.shares)))

    def _nonfinite(self, what: str, value: float) -> None:
        """Stop with the names of the step's windows, or mark the step as skipped; all processes alike."""
        self.skipped += 1
        self._skip_step = True
        where = f"epoch {self.current_epoch + 1}, step {self.trainer.global_step + 1}: {what} is {value}"
        self._stop_or_say(f"{where}; windows: {name_windows(self.train_windows, self._step_windows)}")

    def _stop_or_say(self, found: str) -> None:
        if self.config.on_nonfinite == "stop":
            raise DataError(f"{found}; look at these recordings, lower --max-lr, or use --on-nonfinite skip")
        if self.trainer.is_global_zero:
            print(f"skipped: {found}", flush=True)

    # Optimiser

    def configure_optimizers(self) -> Any:
        """Return AdamW and its one-cycle rate, stepped after every optimiser step."""
        trained = nn.ModuleList([self.model, self.objective])
        optimizer, scheduler = adamw_and_cycle(trained, self.config, self.steps_per_epoch())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the gradient's norm; a skipped step loses its gradients, so that nothing moves."""
        if not self._skip_step:
            self._follow_gradients()
            self.grad_norm = float(self._clip())
            if not math.isfinite(self.grad_norm) and self.config.precision != "16-mixed":
                self._nonfinite("gradient norm", self.grad_norm)
        if self._skip_step:
            for parameter in self._trained():
                parameter.grad = None

    def _trained(self) -> list[nn.Parameter]:
        """Return the parameters of the network and of the objective's heads."""
        found = (*self.model.parameters(), *self.objective.parameters())
        return [parameter for parameter in found if parameter.requires_grad]

    def _follow_gradients(self) -> None:
        """Add the gradients' moving average to them; what is not finite does not enter it."""
        if self.gradient_average is not None and math.isfinite(float(norm_of_gradients(self.model))):
            self.gradient_average.apply_to(self.model)

    def _clip(self) -> Tensor:
        limit = self.config.gradient_clip or math.inf
        sharded: Any = self.trainer.strategy.model
        if hasattr(sharded, "clip_grad_norm_"):  # FSDP: each process holds a part of every gradient
            return sharded.clip_grad_norm_(limit)
        return nn.utils.clip_grad_norm_(self._trained(), limit)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then follow with the moving average."""
        super().optimizer_step(*args, **kwargs)
        if not self._skip_step:
            if self.average is not None:
                self.average.update_parameters(self.model)
            whole = self.config.n_epochs * self.steps_per_epoch()
            self.objective.follow(self.model, (self.trainer.global_step + 1) / whole)
        self._skip_step = False
        self._step_windows = []
