"""The validation of a run: means of the losses on windows that nothing is learnt from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from eegm2.training.means import together
from eegm2.training.nonfinite import refuse_or_say
from eegm2.training.pretrain_step import PretrainStep
from eegm2.training.processes import added_up


@torch.no_grad()
def validate(
    step: PretrainStep, batches: Iterable[dict[str, Any]], seen: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Return the validation's means by name: the stores' weighted by their shares of the training.

    Where there are several stores, the loss of each follows as ``loss/NAME``. A batch whose losses are not
    finite is left out.

    Parameters
    ----------
    step : PretrainStep
        What has learnt so far.
    batches : iterable of dict
        This process's.
    seen : callable
        Called after each batch.

    Raises
    ------
    DataError
        If a loss is not finite and the run is to stop at such.
    """
    learner, fabric = step.learner, step.fabric
    windows = learner.validated
    assert windows is not None
    means = {number: learner.new_means() for number in windows.numbers}
    left_out: list[int] = []
    with evaluating(learner):
        for batch in batches:
            batch = fabric.to_device(batch)
            losses = step.module(batch, step.place.epoch)[1]
            if all(map(math.isfinite, losses)):
                means[windows.store_of(int(batch["index"][0]))].add(losses, len(batch["x"]))
            else:
                left_out += batch["index"].tolist()
            seen()
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


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set a module and all in it to evaluation, and each back to what it was."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training
