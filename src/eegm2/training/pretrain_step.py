"""A step of pretraining: its losses and what they are on average, numbers that are not finite, averages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lightning.fabric import Fabric
from torch import Tensor, nn

from eegm2.training.gradient import norm_of_gradients
from eegm2.training.learner import Learner
from eegm2.training.nonfinite import refuse_or_say
from eegm2.training.optimiser import adamw_and_cycle
from eegm2.training.step import Step


@dataclass
class Place:
    """How far a run is.

    Attributes
    ----------
    epoch : int
        Whole passes over the windows.
    batch : int
        Batches of the pass that follows.
    step : int
        Steps of the optimiser.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0


class PretrainStep(Step):
    """Steps over the batches of a run.

    Parameters
    ----------
    learner : Learner
        What moves; it is put on the process's device.
    fabric : Fabric
        Launched.
    steps_per_epoch : int
        Of a whole epoch.

    Attributes
    ----------
    module : nn.Module
        The learner, for several processes and half precision; what is called to get losses.
    place : Place
        Where the run is; a step counts itself, the loop the rest.
    train_means, interval_means : Means
        Of the losses of the epoch, and since the last entry in the log.
    skipped : int
        How often a loss or gradient was not finite.
    grad_norm : float
        2-norm of the last gradient, before clipping.
    """

    fabric: Fabric

    def __init__(self, learner: Learner, fabric: Fabric, steps_per_epoch: int) -> None:
        config = learner.config
        self.learner, self.config = learner, config
        self.module = fabric.setup_module(learner)
        self.sharded = None
        if config.strategy == "fsdp":
            from eegm2.training.sharded import Sharded

            self.sharded = Sharded(self.module)
        optimizer, self.scheduler = adamw_and_cycle(learner.trained, config, steps_per_epoch)
        super().__init__(
            learner.trained.parameters(), fabric.setup_optimizers(optimizer), config.gradient_clip, fabric
        )
        self.place = Place()
        self.n_steps = config.n_epochs * steps_per_epoch
        self.train_means, self.interval_means = learner.new_means(), learner.new_means()
        self.skipped = 0
        self.grad_norm = 0.0
        self._skip = False
        self._windows: list[int] = []

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def take(self, batches: Iterable[dict[str, Any]], n: int, seen: Callable[[], None]) -> None:
        """Step over `n` batches, which are read one by one; `seen` is called after each.

        Raises
        ------
        DataError
            If the loss or the gradient is not finite and such steps are not to be skipped.
        """
        self._skip, self._windows = False, []
        self(self._losses(batches, n, seen))
        if not self._skip:
            if self.learner.average is not None:
                self.learner.average.update_parameters(self.learner.model)
            self.learner.objective.follow(self.learner.model, (self.place.step + 1) / self.n_steps)
        self.place.step += 1
        self.scheduler.step()

    def _losses(
        self, batches: Iterable[dict[str, Any]], n: int, seen: Callable[[], None]
    ) -> Iterator[Tensor]:
        """Give the losses of a step's batches; processes add up their gradients after the last."""
        for number, batch in enumerate(batches, start=1):
            with self.fabric.no_backward_sync(self.module, enabled=number < n):
                batch = self.fabric.to_device(batch)
                loss, values = self.module(batch, self.place.epoch)
                self._count(batch, values)
                yield loss / self.config.accumulate
            seen()

    def _count(self, batch: dict[str, Any], values: list[float]) -> None:
        self._windows += batch["index"].tolist()
        if not math.isfinite(values[0]):
            return self._nonfinite("loss", values[0])
        for means in (self.train_means, self.interval_means):
            means.add(values, len(batch["x"]))

    def bound(self) -> None:
        """Clip the gradient's norm; a skipped step loses its gradients, so that nothing moves."""
        if not self._skip:
            self._follow_gradients()
            self.grad_norm = float(self._clip())
            if not math.isfinite(self.grad_norm) and self.config.precision != "16-mixed":
                self._nonfinite("gradient norm", self.grad_norm)
        if self._skip:
            for parameter in self.parameters:
                parameter.grad = None

    def _follow_gradients(self) -> None:
        """Add the gradients' moving average to them; what is not finite does not enter it."""
        average, model = self.learner.gradient_average, self.learner.model
        if average is not None and math.isfinite(float(norm_of_gradients(model))):
            average.apply_to(model)

    def _clip(self) -> Tensor:
        if self.sharded is not None:
            return self.sharded.clip(self.limit)
        return nn.utils.clip_grad_norm_(self.parameters, self.limit)

    def _nonfinite(self, what: str, value: float) -> None:
        """Stop with the names of the step's windows, or mark the step as skipped; all processes alike."""
        self.skipped += 1
        self._skip = True
        found = f"epoch {self.place.epoch + 1}, step {self.place.step + 1}: {what} is {value}"
        windows = self.learner.train_windows
        refuse_or_say(found, windows, self._windows, self.config, say=self.fabric.is_global_zero)

    def state(self) -> dict[str, Any]:
        """Return what the next step depends on; every process must call it, the first one gets it whole."""
        optimizer, precision = self.optimizer.optimizer, self.fabric.strategy.precision
        if self.sharded is None:
            weights, of_optimizer = self.learner.state_dict(), optimizer.state_dict()
        else:
            weights, of_optimizer = self.sharded.state(optimizer)
        scale = precision.state_dict()
        return {
            "state_dict": weights,
            "optimizer_states": [of_optimizer],
            "lr_schedulers": [self.scheduler.state_dict()],
            **({type(precision).__qualname__: scale} if scale else {}),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Set what :meth:`state` returned."""
        optimizer, precision = self.optimizer.optimizer, self.fabric.strategy.precision
        if self.sharded is None:
            self.learner.load_state_dict(state["state_dict"])
            optimizer.load_state_dict(state["optimizer_states"][0])
        else:
            self.sharded.restore(optimizer, state["state_dict"], state["optimizer_states"][0])
        self.scheduler.load_state_dict(state["lr_schedulers"][0])
        if scale := state.get(type(precision).__qualname__):
            precision.load_state_dict(scale)
