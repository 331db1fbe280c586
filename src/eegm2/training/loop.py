"""The loop of pretraining: epochs of steps, each followed by a validation, recorded and shown."""

from __future__ import annotations

from itertools import islice

from eegm2.training.loaders import Batches
from eegm2.training.pretrain_step import PretrainStep
from eegm2.training.recorder import Recorder
from eegm2.training.shown import Shown
from eegm2.training.validation import validate


def train(step: PretrainStep, batches: Batches, recorder: Recorder, shown: Shown) -> None:
    """Train from where `step` is to the last epoch, or until the validation has not got better for too long.

    Raises
    ------
    DataError
        If a loss is not finite and the run is to stop at such.
    Interrupted
        If a signal came: after a step or a batch of the validation.
    """
    recorder.begin(step)
    try:
        while not recorder.finished:
            train_epoch(step, batches, recorder, shown)
            val = validate_epoch(step, batches, recorder)
            recorder.end_epoch(step, val, batches.windows_left())
            shown.end_epoch()
    finally:
        shown.close()


def train_epoch(step: PretrainStep, batches: Batches, recorder: Recorder, shown: Shown) -> None:
    """Take the steps that are left of an epoch; the last may be of fewer batches than the others."""
    place, order = step.place, batches.order
    read = iter(batches.train(place.epoch, place.batch))
    recorder.begin_epoch()
    shown.begin_epoch()
    while place.batch < order.total:
        n = min(step.config.accumulate, order.total - place.batch)
        step.take(islice(read, n), n, shown.end_batch)
        place.batch += n
        recorder.end_step(step, last=place.batch == order.total)


def validate_epoch(step: PretrainStep, batches: Batches, recorder: Recorder) -> dict[str, float]:
    """Return the means of a validation, empty where there are no windows for one."""
    read = batches.val()
    if read is None:
        return {}
    recorder.begin_validation()
    step.optimizer.zero_grad()  # memory that the validation can use
    val = validate(step, read, lambda: recorder.end_validation_batch(step))
    recorder.end_validation()
    return val
