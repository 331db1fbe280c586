"""What a run leaves behind: tables, TensorBoard, best and last weights, and the state to go on from exactly.

A checkpoint is taken between optimiser steps only. It holds weights, optimiser, schedule, random states, the
place in the epoch and the running means, so that a run that goes on from it ends as if never interrupted: the
epoch simply goes on with the batches that are left.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.loggers import TensorBoardLogger

from eegm2.training.checkpoint import write_weights
from eegm2.training.interruption import Signals
from eegm2.training.pretrain_step import Place, PretrainStep
from eegm2.training.processes import gather
from eegm2.training.runfolder import Table, disk_errors
from eegm2.training.state import (
    FORMAT,
    Interrupted,
    peak_memory_mb,
    random_state,
    read_state,
    set_random_state,
    write_state,
)

STATE = "checkpoints/last.ckpt"
PERFORMANCE = ("epoch", "step", "train_s", "windows_per_s", "val_s", "peak_memory_mb")


class Recorder:
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
        self.board: TensorBoardLogger | None = None

    # State

    def state(self, step: PretrainStep) -> dict[str, Any]:
        """Return what a run goes on from besides weights and optimiser; every process must call it."""
        return {
            "format": FORMAT,
            "epoch": step.place.epoch,
            "batch": step.place.batch,
            "step": step.place.step,
            "means": step.train_means.sums,
            "interval": step.interval_means.sums,
            "skipped": step.skipped,
            "best": self.best,
            "worse_epochs": self.worse_epochs,
            "finished": self.finished,
            "last_row": self.last_row,
            "random": gather(random_state()),
        }

    def restore(self, path: Path, step: PretrainStep) -> None:
        """Take up the state that a file holds, at the place where the run stopped."""
        whole = read_state(path)
        step.restore(whole)
        self.restored = state = whole["eegm2"]
        step.place = Place(state["epoch"], state["batch"], state["step"])
        step.train_means.sums = list(state["means"])
        step.interval_means.sums = list(state["interval"])
        step.skipped = state["skipped"]
        self.best, self.worse_epochs = state["best"], state["worse_epochs"]
        self.last_row = state["last_row"]

    def begin(self, step: PretrainStep) -> None:
        """Cut tables and TensorBoard back to the checkpoint, and let chance go on from there."""
        place, fabric = step.place, step.fabric
        self.board = TensorBoardLogger(self.run / "logs", "", "tensorboard", purge_step=place.step)
        if fabric.is_global_zero:
            with disk_errors(self.run, "nothing was changed"):
                for table in (self.metrics, self.performance):
                    table.truncate(epoch=place.epoch, step=place.step)
                self.steps.truncate(epoch=place.epoch + 1, step=place.step)
        if self.restored is not None:
            states = self.restored["random"]
            if len(states) == fabric.world_size:
                set_random_state(states[fabric.global_rank])

    # Training

    def end_step(self, step: PretrainStep, *, last: bool) -> None:
        """Log a step, save, leave if asked to; the last of an epoch is validated and saved with the epoch."""
        self._log_step(step)
        if last:
            return
        every, leave = step.config.checkpoint_every_steps, self._leave(step)
        if leave or (every and step.place.step % every == 0):
            self.save(step)
        if leave:
            raise Interrupted(self.signals.caught or signal.SIGTERM)

    def _leave(self, step: PretrainStep) -> bool:
        """Return whether a signal came to any process."""
        return step.fabric.strategy.reduce_boolean_decision(self.signals.caught is not None, all=False)

    def _log_step(self, step: PretrainStep) -> None:
        place = step.place
        if place.step % step.config.log_every_steps:
            return
        row = {f"train_{name}": value for name, value in step.interval_means.values().items()}
        row |= {"lr": step.rate, "grad_norm": step.grad_norm}
        step.interval_means = step.learner.new_means()
        if step.fabric.is_global_zero:
            self._to_tensorboard({f"step/{name}": value for name, value in row.items()}, place.step)
            with disk_errors(self.run, "the last checkpoint is intact"):
                self.steps.append({"epoch": place.epoch + 1, "step": place.step, **row})

    def leave_at_once(self, step: PretrainStep) -> None:
        """Leave the validation if asked to; the run goes on from the last state on disk."""
        if self.signals.caught is not None and step.fabric.world_size == 1:
            raise Interrupted(self.signals.caught)

    def end_epoch(
        self, step: PretrainStep, val: dict[str, float], n_windows: int, train_s: float, val_s: float
    ) -> None:
        """Write the epoch's rows, keep the best weights, save everything, decide whether to stop.

        Parameters
        ----------
        step : PretrainStep
            At the end of the epoch, which does not count as done yet.
        val : dict
            Means of the validation, empty if there was none.
        n_windows : int
            That were trained on.
        train_s, val_s : float
            Seconds of training and validation.
        """
        place, train = step.place, step.train_means.values()
        self.last_row = {
            "epoch": place.epoch + 1,
            "step": place.step,
            **{f"train_{name}": value for name, value in train.items()},
            **{f"val_{name}": value for name, value in val.items()},
            "lr": step.rate,
            "skipped": step.skipped,
        }
        self.speed = {
            "train_s": round(train_s, 3),
            "windows_per_s": round(n_windows / max(train_s, 1e-9), 2),
            "val_s": round(val_s, 3),
            "peak_memory_mb": round(peak_memory_mb(), 1),
        }
        if step.fabric.is_global_zero:
            self._log_epoch()
        watched = (val or train).get("loss", float("inf"))
        better = self.best is None or watched < self.best or not math.isfinite(self.best)
        self.best, self.worse_epochs = (watched, 0) if better else (self.best, self.worse_epochs + 1)
        step.place = Place(place.epoch + 1, 0, place.step)
        step.train_means = step.learner.new_means()
        patience = step.config.patience
        self.finished = step.place.epoch >= step.config.n_epochs or 0 < patience <= self.worse_epochs
        self.save(step, best=better)
        if self._leave(step) and not self.finished:
            raise Interrupted(self.signals.caught or signal.SIGTERM)

    def _log_epoch(self) -> None:
        place = {name: self.last_row[name] for name in ("epoch", "step")}
        with disk_errors(self.run, "the last checkpoint is intact"):
            self.metrics.append(self.last_row)
            self.performance.append({**place, **self.speed})
        values = {name: value for name, value in self.last_row.items() if name not in place}
        self._to_tensorboard({**values, **self.speed}, place["step"])

    def _to_tensorboard(self, values: dict[str, Any], step: int) -> None:
        if self.board is not None:
            self.board.log_metrics(values, step)

    # Saving

    def save(self, step: PretrainStep, *, best: bool = False) -> None:
        """Write best and last weights, then the state; the state is what makes the others count.

        The state has the form of a checkpoint of Lightning.
        """
        folder, place = self.state_path.parent, step.place
        state = {
            "epoch": place.epoch if place.batch else place.epoch - 1,
            "global_step": place.step,
            "pytorch-lightning_version": lightning.__version__,
            "callbacks": {},
            **step.state(),
            "eegm2": self.state(step),
        }
        if step.fabric.is_global_zero:
            prefix = "model." if step.learner.average is None else "average.module."
            weights = {
                k.removeprefix(prefix): v for k, v in state["state_dict"].items() if k.startswith(prefix)
            }
            header = {
                **self.header,
                "epoch": self.last_row.get("epoch", 0),
                "step": place.step,
                "val_loss": self.last_row.get("val_loss"),
                "train_loss": self.last_row.get("train_loss"),
            }
            with disk_errors(folder, f"the previous state in {self.state_path} is whole"):
                for name in ("best", "last") if best else ("last",):
                    write_weights(folder / f"{name}.safetensors", weights, header)
                write_state(self.state_path, state)
        step.fabric.barrier()

    def close(self) -> None:
        """Close what is open, and give the signals back."""
        if self.board is not None:
            self.board.finalize("")
        self.signals.release()
