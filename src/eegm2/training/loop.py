"""The loop of pretraining: epochs of steps, each followed by a validation, recorded and shown."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric, seed_everything
from lightning.fabric.strategies import ParallelStrategy

from eegm2.training.learner import Learner
from eegm2.training.loaders import Batches
from eegm2.training.means import together
from eegm2.training.nonfinite import refuse_or_say
from eegm2.training.pretrain_step import PretrainStep
from eegm2.training.processes import added_up
from eegm2.training.recorder import Recorder
from eegm2.training.shown import Shown


def train(
    learner: Learner, fabric: Fabric, recorder: Recorder, state: Path | None, say: Callable[[str], None]
) -> None:
    """Train a learner from its beginning, or from a state on.

    Raises
    ------
    DataError
        If a loss is not finite and the run is to stop at such.
    Interrupted
        If a signal came: after a step or a batch of the validation.
    """
    fabric.launch()
    if isinstance(fabric.strategy, ParallelStrategy):  # chance begins anew when the processes do
        seed_everything(learner.config.seed, verbose=False)
    batches = Batches(
        learner.train_windows,
        learner.validated,
        learner.config,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        pin=fabric.device.type == "cuda",
    )
    step = PretrainStep(learner, fabric, batches.steps_per_epoch)
    if state is not None:
        recorder.restore(state, step)
    recorder.begin(step)
    shown = Shown(step, recorder, batches.order, say)
    try:
        while not recorder.finished:
            began = time.perf_counter()
            train_epoch(step, batches, recorder, shown)
            middle = time.perf_counter()
            val = validate(step, batches.val, lambda: recorder.leave_at_once(step))
            seconds = middle - began, time.perf_counter() - middle
            recorder.end_epoch(step, val, batches.windows_left(), *seconds)
            shown.end_epoch()
    finally:
        shown.close()


def train_epoch(step: PretrainStep, batches: Batches, recorder: Recorder, shown: Shown) -> None:
    """Take the steps that are left of an epoch; the last may be of fewer batches than the others."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    place, total = step.place, batches.order.total
    read = iter(batches.train(place.epoch, place.batch))
    shown.begin_epoch()
    while place.batch < total:
        n = min(step.config.accumulate, total - place.batch)
        step.take(islice(read, n), n, shown.end_batch)
        place.batch += n
        recorder.end_step(step, last=place.batch == total)


@torch.no_grad()
def validate(
    step: PretrainStep, batches: Iterable[dict[str, Any]] | None, seen: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Return the means of a validation by name: the stores' weighted by their shares of the training.

    Where there are several stores, the loss of each follows as ``loss/NAME``. A batch whose losses are not
    finite is left out. `seen` is called after each batch.
    """
    learner, fabric, windows = step.learner, step.fabric, step.learner.validated
    if batches is None or windows is None:
        return {}
    step.optimizer.zero_grad()  # memory that the validation can use
    means = {number: learner.new_means() for number in windows.numbers}
    left_out: list[int] = []
    modes = [(module, module.training) for module in learner.modules()]
    learner.eval()
    for batch in batches:
        losses = step.module(fabric.to_device(batch), step.place.epoch)[1]
        if all(map(math.isfinite, losses)):
            means[windows.store_of(int(batch["index"][0]))].add(losses, len(batch["x"]))
        else:
            left_out += batch["index"].tolist()
        seen()
    for module, training in modes:
        module.training = training
    counted = [value for mean in means.values() for value in mean.sums]
    sums = torch.tensor([*counted, len(left_out)], dtype=torch.float64)
    *counted, n_left_out = added_up(sums, fabric.device).tolist()
    for mean in means.values():
        mean.sums, counted = counted[: len(mean.sums)], counted[len(mean.sums) :]
    if n_left_out:
        found = f"epoch {step.place.epoch + 1}: validation loss of {n_left_out:.0f} windows is not finite"
        refuse_or_say(found, windows, left_out, step.config, say=fabric.is_global_zero)
    names = learner.train_windows.pool.names
    of_stores = {names[number]: mean for number, mean in means.items()}
    return together(of_stores, dict(zip(names, learner.shares)))
