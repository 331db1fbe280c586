"""What a run leaves behind: tables, TensorBoard, best and last weights, and the state to go on from exactly.

A checkpoint is taken between optimiser steps only. It holds weights, optimiser, schedule, random states, the
place in the epoch and the running means, so that a run that goes on from it ends as if never interrupted. The
trainer's own loop counters are not kept: the epoch simply goes on with the batches that are left.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from eegm2.training.checkpoint import write_weights
from eegm2.training.interruption import Signals
from eegm2.training.lightning_module import PretrainModule
from eegm2.training.runfolder import Table, disk_errors
from eegm2.training.state import FORMAT, Interrupted, gather, peak_memory_mb, random_state, set_random_state

STATE = "checkpoints/last.ckpt"
PERFORMANCE = ("epoch", "step", "train_s", "windows_per_s", "val_s", "peak_memory_mb")


class Recorder(Callback):
    """Keeps a run: logs, checkpoints, early stopping, orderly interruption.

    Parameters
    ----------
    run : Path
        Folder of the run.
    header : dict
        Facts for the checkpoints' headers.
    terms : sequence of str
        The loss and its terms, as the objective has them.
    stores : sequence of str
        Names of the stores whose validation losses are kept besides that of all.
    """

    def __init__(
        self, run: Path, header: dict[str, Any], terms: Sequence[str], stores: Sequence[str] = ()
    ) -> None:
        self.run, self.header = run, header
        self.state_path = run / STATE
        train, val = (tuple(f"{part}_{name}" for name in terms) for part in ("train", "val"))
        each = tuple(f"val_loss/{name}" for name in stores)
        columns = ("epoch", "step", *train, *val, "lr", "skipped", *each)
        self.metrics = Table(run / "logs" / "metrics.csv", columns)
        self.steps = Table(run / "logs" / "steps.csv", ("epoch", "step", *train, "lr", "grad_norm"))
        self.performance = Table(run / "logs" / "performance.csv", PERFORMANCE)
        self.best: float | None = None
        self.worse_epochs = 0
        self.finished = False
        self.last_row: dict[str, Any] = {}
        self.speed: dict[str, float] = {}
        self.signals = Signals()
        self.restored: dict[str, Any] | None = None
        self._place = (0, 0)
        self._train_s = self._val_s = 0.0
        self._clock = 0.0

    # State

    def on_save_checkpoint(self, trainer: Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Add our state to the trainer's checkpoint."""
        checkpoint.pop("loops", None)
        checkpoint["eegm2"] = {
            "format": FORMAT,
            "epoch": self._place[0],
            "batch": self._place[1],
            "step": trainer.global_step,
            "means": module.train_means.sums,
            "interval": module.interval_means.sums,
            "skipped": module.skipped,
            "best": self.best,
            "worse_epochs": self.worse_epochs,
            "finished": self.finished,
            "last_row": self.last_row,
            "random": gather(random_state()),
        }

    def on_load_checkpoint(self, trainer: Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Take up our state and set the trainer to the place where the run stopped."""
        state = checkpoint["eegm2"]
        self.restored = state
        self._place = module.start = (state["epoch"], state["batch"])
        module.train_means.sums = list(state["means"])
        module.skipped = state["skipped"]
        module.interval_means.sums = list(state["interval"])
        self.best, self.worse_epochs = state["best"], state["worse_epochs"]
        self.last_row = state["last_row"]
        epochs: Any = trainer.fit_loop.epoch_progress
        for progress in (epochs.current, epochs.total):
            progress.ready = progress.started = progress.processed = progress.completed = state["epoch"]
        step = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
        step.ready = step.completed = state["step"]

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Cut the tables back to the checkpoint, restore the random states, catch signals."""
        epoch, step = self._place[0], trainer.global_step
        if trainer.is_global_zero:
            with disk_errors(self.run, "nothing was changed"):
                for table in (self.metrics, self.performance):
                    table.truncate(epoch=epoch, step=step)
                self.steps.truncate(epoch=epoch + 1, step=step)
        if self.restored is not None:
            states = self.restored["random"]
            if len(states) == trainer.world_size:
                set_random_state(states[trainer.global_rank])
        self.signals.catch()

    # Training

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        """Start the clock."""
        self._train_s, self._val_s, self._clock = 0.0, 0.0, time.perf_counter()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimiser step: log, save, leave if asked to."""
        assert module.order is not None
        done = module.order.start + batch_idx + 1
        last = done == module.order.total
        if done % module.config.accumulate and not last:
            return
        self._place = (trainer.current_epoch, done)
        step = trainer.global_step
        self._log_step(trainer, module, step)
        if last:
            return  # validated and saved together with the epoch
        every = module.config.checkpoint_every_steps
        leave = trainer.strategy.reduce_boolean_decision(self.signals.caught is not None, all=False)
        if leave or (every and step % every == 0):
            self.save(trainer, module)
        if leave:
            raise Interrupted(self.signals.caught or signal.SIGTERM)

    def _log_step(self, trainer: Trainer, module: PretrainModule, step: int) -> None:
        if step % module.config.log_every_steps:
            return
        row = {f"train_{name}": value for name, value in module.interval_means.values().items()}
        row |= {"lr": _rate(trainer), "grad_norm": module.grad_norm}
        module.interval_means = module.new_means()
        if trainer.is_global_zero:
            self._to_tensorboard(trainer, {f"step/{name}": value for name, value in row.items()}, step)
            with disk_errors(self.run, "the last checkpoint is intact"):
                self.steps.append({"epoch": trainer.current_epoch + 1, "step": step, **row})

    def on_validation_start(self, trainer: Trainer, module: Any) -> None:
        """Stop the training clock."""
        self._train_s += time.perf_counter() - self._clock
        self._clock = time.perf_counter()

    def on_validation_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Leave at once if asked to; the run goes on from the last state on disk."""
        if self.signals.caught is not None and trainer.world_size == 1:
            raise Interrupted(self.signals.caught)

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        """Stop the validation clock."""
        self._val_s += time.perf_counter() - self._clock
        self._clock = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Write the epoch's rows, keep the best weights, save everything, decide whether to stop."""
        self._train_s += time.perf_counter() - self._clock
        epoch, step = trainer.current_epoch + 1, trainer.global_step
        train, val = module.train_means.values(), module.val_values()
        self.last_row = {
            "epoch": epoch,
            "step": step,
            **{f"train_{name}": value for name, value in train.items()},
            **{f"val_{name}": value for name, value in val.items()},
            "lr": _rate(trainer),
            "skipped": module.skipped,
        }
        self._log_epoch(trainer, module)
        watched = (val or train).get("loss", float("inf"))
        better = self.best is None or watched < self.best or not math.isfinite(self.best)
        self.best, self.worse_epochs = (watched, 0) if better else (self.best, self.worse_epochs + 1)
        self._place = (epoch, 0)
        module.start = (epoch, 0)
        module.train_means = module.new_means()
        patience = module.config.patience
        self.finished = epoch >= module.config.n_epochs or bool(patience and self.worse_epochs >= patience)
        self.save(trainer, module, best=better)
        leave = trainer.strategy.reduce_boolean_decision(self.signals.caught is not None, all=False)
        if self.finished:
            trainer.should_stop = True
        elif leave:
            raise Interrupted(self.signals.caught or signal.SIGTERM)

    def _log_epoch(self, trainer: Trainer, module: PretrainModule) -> None:
        assert module.order is not None
        order = module.order
        windows = min((order.total - order.start) * order.batch_size, order.n_windows)
        speed = {
            "train_s": round(self._train_s, 3),
            "windows_per_s": round(windows / max(self._train_s, 1e-9), 2),
            "val_s": round(self._val_s, 3),
            "peak_memory_mb": round(peak_memory_mb(), 1),
        }
        self.speed = speed
        if not trainer.is_global_zero:
            return
        place = {name: self.last_row[name] for name in ("epoch", "step")}
        with disk_errors(self.run, "the last checkpoint is intact"):
            self.metrics.append(self.last_row)
            self.performance.append({**place, **speed})
        values = {name: value for name, value in self.last_row.items() if name not in place}
        self._to_tensorboard(trainer, {**values, **speed}, place["step"])

    @staticmethod
    def _to_tensorboard(trainer: Trainer, values: dict[str, Any], step: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(values, step)

    # Saving

    def save(self, trainer: Trainer, module: PretrainModule, *, best: bool = False) -> None:
        """Write best and last weights, then the state; the state is what makes the others count."""
        folder = self.state_path.parent
        state = trainer.strategy.lightning_module_state_dict()
        intact = f"the previous state in {self.state_path} is whole"
        with disk_errors(folder, intact):
            if trainer.is_global_zero:
                prefix = "average.module." if module.average is not None else "model."
                weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
                header = {
                    **self.header,
                    "epoch": self.last_row.get("epoch", 0),
                    "step": trainer.global_step,
                    "val_loss": self.last_row.get("val_loss"),
                    "train_loss": self.last_row.get("train_loss"),
                }
                for name in ("best", "last") if best else ("last",):
                    write_weights(folder / f"{name}.safetensors", weights, header)
            trainer.save_checkpoint(self.state_path)


def _rate(trainer: Trainer) -> float:
    """Return the learning rate of the next step."""
    return float(trainer.optimizers[0].param_groups[0]["lr"])
