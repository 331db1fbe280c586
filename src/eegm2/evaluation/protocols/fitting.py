"""One small training loop for heads and whole networks on a downstream task."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from eegm2.errors import DataError
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.features.representation import usable_device
from eegm2.evaluation.protocols.centred import Centring
from eegm2.evaluation.protocols.resuming import FitState
from eegm2.training.optimiser import adamw, decay_groups
from eegm2.training.step import Step

Batch = Callable[[NDArray[np.int64]], Tensor]


@dataclass(frozen=True)
class Task:
    """What is learnt: the inputs by index, their targets, and which are for learning and for stopping.

    Attributes
    ----------
    batch : callable
        Indices → float32 inputs of the network.
    y : array, shape (n,)
        Class indices, or values where `n_classes` is 0.
    train, val : array of int
        Indices to learn from and to stop by.
    n_classes : int
        0 for regression.
    centring : Centring, optional
        Takes means of recordings off what the network's head decides on; the network then has ``pooled`` and
        ``answer``, see :class:`eegm2.model.heads.Downstream`.
    scaled_on : array of int, optional
        Indices by which values are standardised; `train` by default.
    """

    batch: Batch
    y: NDArray
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    n_classes: int
    centring: Centring | None = None
    scaled_on: NDArray[np.int64] | None = None

    @property
    def n_outputs(self) -> int:
        """Outputs of the network: one per class, or one value."""
        return self.n_classes or 1

    def targets(self) -> Tensor:
        """Return the targets; values are standardised on the training part."""
        if self.n_classes:
            return torch.from_numpy(np.asarray(self.y, dtype=np.int64))
        mean, scale = self.target_scale()
        return torch.from_numpy(((np.asarray(self.y, dtype=float) - mean) / scale).astype(np.float32))

    def target_scale(self) -> tuple[float, float]:
        """Return mean and standard deviation of the training targets (regression)."""
        return target_scale(self.y[self.train if self.scaled_on is None else self.scaled_on])


def target_scale(y: NDArray) -> tuple[float, float]:
    """Return mean and standard deviation of values, by which they are standardised for fitting."""
    values = np.asarray(y, dtype=float)
    return float(values.mean()), float(values.std()) or 1.0


@dataclass
class History:
    """What happened in a fit: one entry per epoch, and the epoch whose weights were kept."""

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    best_epoch: int = 0


def fit(
    network: nn.Module,
    task: Task,
    config: FitConfig,
    seed: int,
    groups: list[dict[str, Any]] | None = None,
    *,
    state: FitState | None = None,
    counts_as_it_is: bool = False,
) -> History:
    """Train `network` on a task with AdamW, clipping and early stopping on the validation loss.

    The network is set to training mode at the start of every epoch, so dropout stays on after each
    validation, and the optimiser is built from all parameters that require a gradient, head included.

    Parameters
    ----------
    network : nn.Module
        Trained in place; ends with the weights of its best validation epoch, in evaluation mode.
    task : Task
        Inputs and targets. Without a validation part all epochs are made, and the last one kept.
    config : FitConfig
        Settings.
    seed : int
        Seeds the order of windows and dropout.
    groups : list of dict, optional
        Optimiser parameter groups; :func:`parameter_groups` by default.
    state : FitState, optional
        Kept after every epoch, and where to go on from if there is one.
    counts_as_it_is : bool
        Keep the network as it comes (best epoch -1) where no epoch has a lower validation loss.

    Raises
    ------
    DataError
        If a loss is not finite; the message names epoch and step.

    References
    ----------
    EEGM2, arXiv 2502.17873, section 4.3; docs/differences.md lists the faults of the authors' loop
    that are avoided here.
    """
    device = usable_device(config.device)
    network.to(device)
    optimiser = adamw(groups or parameter_groups(network, config), config.lr)
    step = Step((p for group in optimiser.param_groups for p in group["params"]), optimiser, config.clip)
    loss_of = _loss(task, config, device)
    targets = task.targets().to(device)
    history, best, best_loss = History(), copy.deepcopy(network.state_dict()), math.inf
    if counts_as_it_is:
        best_loss = float(loss_of(outputs(network, task, task.val, config), targets[task.val]))
        history.best_epoch = -1
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if state is not None and (kept := state.read()) is not None:
            best, best_loss, history = kept["best"], kept["best_loss"], History(**kept["history"])
            _go_on(kept, network, optimiser, generator, device)
        for epoch in range(len(history.train_loss), config.max_epochs):
            if epoch - 1 - history.best_epoch >= config.patience and len(task.val):
                break
            batches = _begin_epoch(network, task, config, generator)
            network.train()
            losses: list[float] = []
            for indices in batches:
                loss = loss_of(_learning(network, task, indices, device), targets[indices])
                if not torch.isfinite(loss):
                    raise DataError(
                        f"fit: the loss is {loss.item()} in epoch {epoch}, step {len(losses)}; lower lr "
                        f"({config.lr})"
                    )
                step([loss])
                losses.append(float(loss.detach()))
            history.train_loss.append(float(np.mean(losses)))
            if len(task.val):
                found = loss_of(outputs(network, task, task.val, config), targets[task.val])
                history.val_loss.append(float(found))
            if not len(task.val) or history.val_loss[-1] < best_loss:
                best, history.best_epoch = copy.deepcopy(network.state_dict()), epoch
                best_loss = history.val_loss[-1] if len(task.val) else best_loss
            if state is not None:
                kept = _as_it_is(network, optimiser, generator, device)
                kept |= {"best": best, "best_loss": best_loss, "history": vars(history)}
                state.write(kept, epoch + 1, config.max_epochs)
    network.load_state_dict(best)
    network.eval()
    return history


def _as_it_is(
    network: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator, device: torch.device
) -> dict[str, Any]:
    """Return what the next epoch depends on, chance included."""
    return {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "order": generator.get_state(),
        "chance": torch.get_rng_state(),
        "chance_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _go_on(
    kept: dict[str, Any],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    device: torch.device,
) -> None:
    """Put back what :func:`_as_it_is` returned."""
    network.load_state_dict(kept["network"])
    optimiser.load_state_dict(kept["optimiser"])
    generator.set_state(kept["order"])
    torch.set_rng_state(kept["chance"])
    if device.type == "cuda" and kept["chance_cuda"] is not None:
        torch.cuda.set_rng_state(kept["chance_cuda"], device)


def _begin_epoch(
    network: nn.Module, task: Task, config: FitConfig, generator: torch.Generator
) -> list[NDArray[np.int64]]:
    """Return an epoch's batches; where features are centred, find what they are with the network as it is."""
    if task.centring is None:
        order = task.train[torch.randperm(len(task.train), generator=generator).numpy()]
        return np.array_split(order, math.ceil(len(order) / config.batch_size))
    task.centring.begin(lambda rows: _judged(network, network.pooled, task, rows, config), task.train)  # type: ignore[arg-type]
    return task.centring.batches(task.train, generator)


def _learning(network: nn.Module, task: Task, indices: NDArray[np.int64], device: torch.device) -> Tensor:
    """Return the outputs of a batch in training."""
    x = task.batch(indices).to(device)
    if task.centring is None:
        return network(x)
    return network.answer(task.centring.learning(network.pooled(x), indices))  # type: ignore[operator]


def outputs(network: nn.Module, task: Task, indices: NDArray[np.int64], config: FitConfig) -> Tensor:
    """Return the network's outputs in evaluation mode, (len(indices), n_outputs)."""
    if task.centring is None:
        return _judged(network, network, task, indices, config)
    features = task.centring.judging(
        lambda rows: _judged(network, network.pooled, task, rows, config),  # type: ignore[arg-type]
        indices,
    )
    with torch.no_grad():
        return network.answer(features)  # type: ignore[operator]


def _judged(
    network: nn.Module,
    what: Callable[[Tensor], Tensor],
    task: Task,
    indices: NDArray[np.int64],
    config: FitConfig,
) -> Tensor:
    """Return the network, or something of it, of windows in evaluation mode, (len(indices), n)."""
    network.eval()
    with torch.no_grad():
        parts = [
            what(task.batch(indices[start : start + config.batch_size]).to(config.device))
            for start in range(0, len(indices), config.batch_size)
        ]
    return torch.cat(parts)


def parameter_groups(
    network: nn.Module | Mapping[str, nn.Parameter], config: FitConfig
) -> list[dict[str, Any]]:
    """Return AdamW groups of all trainable parameters, see `eegm2.training.optimiser.decay_groups`.

    Parameters
    ----------
    network : nn.Module, or mapping of name to parameter
        What is trained.
    config : FitConfig
        Weight decay, and what it acts on.

    Raises
    ------
    DataError
        If nothing is left to train.
    """
    named = network.named_parameters() if isinstance(network, nn.Module) else network.items()
    groups = decay_groups(named, config.weight_decay, config.decayed)
    if not groups:
        raise DataError("fit: every parameter is frozen; loosen --freeze")
    return groups


def _loss(task: Task, config: FitConfig, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Return cross-entropy, weighted if asked, or the squared error of a value."""
    if not task.n_classes:
        return lambda out, y: F.mse_loss(out.squeeze(1), y)
    weight = None
    if config.class_weights == "balanced":
        counts = np.bincount(task.y[task.train].astype(np.int64), minlength=task.n_classes)
        weight = torch.tensor(
            len(task.train) / (task.n_classes * np.maximum(counts, 1)), dtype=torch.float32, device=device
        )
    return lambda out, y: F.cross_entropy(out, y, weight=weight)
