"""Progress of a run: a bar on a terminal, one line per epoch and per half minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from eegm2.training.orders import BatchOrder, PooledOrder
from eegm2.training.pretrain_step import PretrainStep
from eegm2.training.recorder import Recorder

QUIET_S = 30.0


def printed(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


class Shown:
    """Shows how far the run is, and each epoch's losses and speed.

    Parameters
    ----------
    step : PretrainStep
        Whose place is shown.
    recorder : Recorder
        Whose numbers are shown.
    order : BatchOrder or PooledOrder
        Of the training's batches.
    say : callable
        Takes the lines of epochs; those in between, of a run without a terminal, are printed only.
    """

    def __init__(
        self,
        step: PretrainStep,
        recorder: Recorder,
        order: BatchOrder | PooledOrder,
        say: Callable[[str], None] = printed,
    ) -> None:
        self.step, self.recorder, self.order, self.say = step, recorder, order, say
        self.main = step.fabric.is_global_zero
        self.bar: tqdm[Any] | None = None
        self._shown = self._began = time.monotonic()
        self._steps_before = step.place.step
        self._done = 0

    def begin_epoch(self) -> None:
        """Open the epoch's bar."""
        self._done = self.order.start
        if self.main and sys.stderr.isatty():
            self.bar = tqdm(
                total=self.order.total,
                initial=self.order.start,
                desc=self._epoch(),
                unit="batch",
                leave=False,
                dynamic_ncols=True,
            )

    def end_batch(self) -> None:
        """Move on."""
        self._done += 1
        loss = self.step.train_means.values().get("loss", float("nan"))
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self.bar.update()
        elif self.main and time.monotonic() - self._shown > QUIET_S:
            place = f"{self._epoch()}  batch {self._done}/{self.order.total}"
            self._shown = time.monotonic()
            printed(f"{place}  loss {loss:.4g}{self._remaining()}")

    def end_epoch(self) -> None:
        """Say how the epoch went."""
        self.close()
        if self.main:
            row, speed = self.recorder.last_row, self.recorder.speed
            text = f"epoch {row['epoch']}/{self.step.config.n_epochs}"
            text += f"  train {row.get('train_loss', float('nan')):.5g}"
            if "val_loss" in row:
                text += f"  val {row['val_loss']:.5g}{' (best)' if self.recorder.worse_epochs == 0 else ''}"
            text += f"  lr {row['lr']:.2g}  {speed['windows_per_s']:.4g} windows/s"
            text += f"  {speed['peak_memory_mb']:.0f} MB"
            self._shown = time.monotonic()
            self.say(text + ("" if self.recorder.finished else self._remaining()))

    def close(self) -> None:
        """Leave the terminal tidy."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _epoch(self) -> str:
        return f"epoch {self.step.place.epoch + 1}/{self.step.config.n_epochs}"

    def _remaining(self) -> str:
        done = self.step.place.step - self._steps_before
        left = self.step.n_steps - self.step.place.step
        if done < 1:
            return ""
        seconds = (time.monotonic() - self._began) / done * left
        amount = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
        return f"  about {amount if seconds < 7200 else f'{seconds / 3600:.1f} h'} left"
