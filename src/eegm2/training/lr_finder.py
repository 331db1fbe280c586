"""A range test of the learning rate: a fresh network, a rate that grows with every step, and its losses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eegm2.atomic import write_atomic
from eegm2.data.windows.pool import StorePool, Stores
from eegm2.data.windows.pooled import PoolWindows
from eegm2.errors import DataError
from eegm2.plugins import consent
from eegm2.training.config import PretrainConfig
from eegm2.training.continued import Beginning
from eegm2.training.devices import make_fabric, quiet_lightning
from eegm2.training.first_network import first_network
from eegm2.training.learner import Learner
from eegm2.training.loaders import make_loader
from eegm2.training.optimiser import adamw, decay_groups
from eegm2.training.orders import batch_order
from eegm2.training.run_record import begin, run_splits, run_windows
from eegm2.training.runfolder import disk_errors
from eegm2.training.step import Step

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
SMOOTHING = 0.9  # of the moving average of the losses
DIVERGED = 4.0  # times the best smoothed loss


@dataclass(frozen=True)
class RangeTest:
    """What a range test found.

    Attributes
    ----------
    rates, losses, smoothed : ndarray, shape (n_steps,)
        Learning rate of each step, the loss before it, and its moving average.
    suggestion : float
        Rate at which the smoothed loss falls most steeply in the logarithm of the rate.
    table, plot : Path
        Files written.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float
    table: Path
    plot: Path


def find_learning_rate(
    store: Stores, run: str | Path, config: PretrainConfig, *, steps: int = STEPS
) -> RangeTest:
    """Try learning rates from 1e-6 to 1 on the windows that a run would train on; the run is not begun.

    Parameters
    ----------
    store : RecordingStore, path or URL, or a sequence of them
    run : str or Path
        Folder the run will have; ``RUN-lr.csv`` and ``RUN-lr.png`` are written beside it.
    config : PretrainConfig
        The run: its batches, objective, weight decay and clipping are used, its learning rate is not.
    steps : int
        Steps from the lowest rate to the highest; the test ends early when the loss diverges.

    Returns
    -------
    RangeTest

    Raises
    ------
    DataError
        If the loss is not finite from the beginning, or never falls.

    References
    ----------
    Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv 1506.01186), section 3.3.
    """
    consent(config)
    pool = StorePool(store)
    config, beginning = begin(Path(run), pool, config)
    windows = run_windows(pool, run_splits(Path(run), pool, config, beginning, write=False), config)[0]
    rates = np.geomspace(LOWEST, HIGHEST, steps)
    with quiet_lightning():
        losses = _losses(windows, config, beginning, rates)
    smoothed = smooth(losses)
    rates = rates[: len(losses)]
    suggestion = steepest(rates, smoothed)
    folder = Path(run).resolve()
    table, plot = (folder.with_name(f"{folder.name}-lr.{kind}") for kind in ("csv", "png"))
    lines = ["lr,loss,smoothed", *(f"{r:.8g},{a:.8g},{b:.8g}" for r, a, b in zip(rates, losses, smoothed))]
    with disk_errors(folder.parent, "nothing else was written"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(table, ["\n".join(lines).encode() + b"\n"])
        write_atomic(plot, [_plot(rates, losses, smoothed, suggestion)])
    return RangeTest(rates, losses, smoothed, suggestion, table, plot)


def smooth(losses: np.ndarray) -> np.ndarray:
    """Return the exponential moving average without its bias towards zero, shape (n_steps,)."""
    smoothed, mean = [], 0.0
    for step, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed.append(mean / (1 - SMOOTHING**step))
    return np.array(smoothed)


def steepest(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """Return the rate of the steepest fall of the logarithm of the loss before its minimum.

    Raises
    ------
    DataError
        If it never falls; the message gives the rates tried.
    """
    end = int(np.argmin(smoothed))
    if end < 2:
        raise DataError(
            f"find-lr: the loss only rises between the rates {rates[0]:.1g} and {rates[-1]:.1g}; "
            "look at the data (eegm2 verify) and the objective"
        )
    slope = np.gradient(np.log(smoothed[: end + 1]), np.log(rates[: end + 1]))
    return float(rates[int(np.argmin(slope))])


def _losses(
    windows: PoolWindows, config: PretrainConfig, beginning: Beginning | None, rates: np.ndarray
) -> np.ndarray:
    """Train a fresh network, one step at each rate, until the loss diverges."""
    torch.manual_seed(config.seed)
    alone = replace(config, devices="1", num_nodes=1, strategy="auto", ema_decay=0.0, gradient_ema=0.0)
    fabric = make_fabric(alone)
    learner = Learner(first_network(windows.pool, config, beginning), alone, windows, None)
    fabric.to_device(learner)
    groups = decay_groups(learner.trained.named_parameters(), config.weight_decay, config.decayed)
    optimizer: Any = fabric.setup_optimizers(adamw(groups, float(rates[0])))
    step = Step(learner.trained.parameters(), optimizer, config.gradient_clip, fabric)
    losses: list[float] = []
    batches = _endless(windows, config)

    def parts() -> Iterator[Tensor]:
        for batch in islice(batches, config.accumulate):
            with fabric.autocast():
                batch = fabric.to_device(batch)
                loss = learner.losses(learner.model, batch, 0, windows)[0] / config.accumulate
            losses[-1] += float(loss.detach())
            yield loss

    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        losses.append(0.0)
        step(parts())
        if not math.isfinite(losses[-1]):
            if len(losses) == 1:
                raise DataError(
                    f"find-lr: the first loss is {losses[0]}; look at the recordings with eegm2 verify"
                )
            losses.pop()
            break
        smoothed = smooth(np.array(losses))
        if smoothed[-1] > DIVERGED * smoothed.min():
            break
    return np.array(losses)


def _endless(windows: PoolWindows, config: PretrainConfig) -> Any:
    """Yield batches in the run's own order, epoch after epoch."""
    order = batch_order(windows, config)
    loader = make_loader(windows, order, workers=config.workers, pin=False)
    while True:
        yield from loader
        order.epoch += 1


def _plot(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestion: float) -> bytes:
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="0.75", linewidth=1, label="loss")
    axes.plot(rates, smoothed, color="C0", label="moving average")
    axes.axvline(suggestion, color="C3", linestyle="--", label=f"steepest fall: {suggestion:.2g}")
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="loss", title="Range test")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
