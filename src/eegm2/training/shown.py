"""Progress of a run: a bar on a terminal, one line per epoch and per half minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, Trainer
from tqdm import tqdm

from eegm2.training.lightning_module import PretrainModule
from eegm2.training.recorder import Recorder

QUIET_S = 30.0


def printed(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


class Shown(Callback):
    """Shows how far the run is, and each epoch's losses and speed.

    Parameters
    ----------
    recorder : Recorder
        Whose numbers are shown; it must come before in the trainer's callbacks.
    say : callable
        Takes the lines of epochs; those in between, of a run without a terminal, are printed only.
    """

    def __init__(self, recorder: Recorder, say: Callable[[str], None] = printed) -> None:
        self.recorder, self.say = recorder, say
        self.bar: tqdm[Any] | None = None
        self._shown = self._began = time.monotonic()
        self._steps_before = 0

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Start counting."""
        self._began, self._steps_before = time.monotonic(), trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        """Open the epoch's bar."""
        if trainer.is_global_zero and sys.stderr.isatty():
            assert module.order is not None
            self.bar = tqdm(
                total=module.order.total,
                initial=module.order.start,
                desc=f"epoch {trainer.current_epoch + 1}/{module.config.n_epochs}",
                unit="batch",
                leave=False,
                dynamic_ncols=True,
            )

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on."""
        loss = module.train_means.values().get("loss", float("nan"))
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self.bar.update()
        elif trainer.is_global_zero and time.monotonic() - self._shown > QUIET_S:
            assert module.order is not None
            done = module.order.start + batch_idx + 1
            epoch = f"epoch {trainer.current_epoch + 1}/{module.config.n_epochs}"
            place = f"{epoch}  batch {done}/{module.order.total}"
            self._shown = time.monotonic()
            printed(f"{place}  loss {loss:.4g}{self._remaining(trainer, module)}")

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Say how the epoch went."""
        self._close()
        if trainer.is_global_zero:
            row, speed = self.recorder.last_row, self.recorder.speed
            text = f"epoch {row['epoch']}/{module.config.n_epochs}"
            text += f"  train {row.get('train_loss', float('nan')):.5g}"
            if "val_loss" in row:
                text += f"  val {row['val_loss']:.5g}{' (best)' if self.recorder.worse_epochs == 0 else ''}"
            text += f"  lr {row['lr']:.2g}  {speed['windows_per_s']:.4g} windows/s"
            text += f"  {speed['peak_memory_mb']:.0f} MB"
            self._shown = time.monotonic()
            self.say(text + ("" if self.recorder.finished else self._remaining(trainer, module)))

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        """Leave the terminal tidy."""
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _remaining(self, trainer: Trainer, module: PretrainModule) -> str:
        done = trainer.global_step - self._steps_before
        left = module.config.n_epochs * module.steps_per_epoch() - trainer.global_step
        if done < 1:
            return ""
        seconds = (time.monotonic() - self._began) / done * left
        amount = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
        return f"  about {amount if seconds < 7200 else f'{seconds / 3600:.1f} h'} left"
