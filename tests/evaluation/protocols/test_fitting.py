"""The loop that fits heads and networks, against a loop by hand, scripted losses and an interrupted self."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eegm2.errors import DataError
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.protocols.fitting import Task, fit, outputs, parameter_groups, target_scale
from eegm2.evaluation.protocols.resuming import FitState

RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.standard_normal((14, 3)).astype(np.float32)) + 1
CLASSES = np.array([0, 1, 0, 0, 2, 0, 1, 0, 0, 0, 1, 2, 0, 1])
VALUES = 30 + 4 * RNG.standard_normal(14).astype(np.float32)
TRAIN, VAL = np.array([0, 1, 2, 3, 4, 5, 6, 7]), np.arange(8, 14)


def task_of(y: np.ndarray, n_classes: int) -> Task:
    return Task(lambda i: X[torch.from_numpy(i)], y, TRAIN, VAL, n_classes)


def network_of(n_outputs: int, dropout: float = 0.0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.Dropout(dropout), torch.nn.Linear(4, n_outputs)
        )


def by_hand(network: torch.nn.Module, task: Task, config: FitConfig, seed: int) -> list[float]:
    """Train as the options say, written out; return the mean training loss of every epoch."""
    y = torch.from_numpy(task.y)
    if task.n_classes:
        counts = np.array([(task.y[TRAIN] == k).sum() for k in range(task.n_classes)])
        balanced = config.class_weights == "balanced"
        weight = torch.tensor(len(TRAIN) / (3 * counts), dtype=torch.float32) if balanced else None
    else:
        y = (y - y[TRAIN].mean()) / y[TRAIN].std(correction=0)
    decayed = [p for p in network.parameters() if config.decayed == "all" or p.dim() > 1]
    spared = [p for p in network.parameters() if not any(p is d for d in decayed)]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr)
    order, found = torch.Generator().manual_seed(seed), []
    for _ in range(config.max_epochs):
        drawn, losses = torch.from_numpy(TRAIN)[torch.randperm(8, generator=order)], []
        for batch in drawn.split(4 if config.batch_size == 5 else config.batch_size):
            out = network(X[batch])
            if task.n_classes:
                loss = F.cross_entropy(out, y[batch], weight=weight)
            else:
                loss = (out[:, 0] - y[batch]).square().mean()
            for p in network.parameters():
                p.grad = None
            loss.backward()
            norm = torch.stack([p.grad.norm() for p in network.parameters()]).norm()  # type: ignore[union-attr]
            if config.clip > 0 and norm > config.clip:
                for p in network.parameters():
                    p.grad *= config.clip / (norm + 1e-6)
            optimiser.step()
            losses.append(float(loss.detach()))
        found.append(sum(losses) / len(losses))
    return found


@pytest.mark.parametrize("kind", ["classes", "values"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip": 0.0},
        {"clip": 0.05, "weight_decay": 0.9},
        {"weight_decay": 0.9, "decayed": "all"},
        {"class_weights": "none"},
        {"batch_size": 5},
    ],
    ids=str,
)
def test_it_is_adamw_on_shuffled_batches_as_the_options_say(kind: str, options: dict[str, Any]) -> None:
    """Batches of at most `batch_size` are as even as can be: two of four for five."""
    task = dataclasses.replace(task_of(CLASSES, 3) if kind == "classes" else task_of(VALUES, 0), val=TRAIN)
    config = FitConfig(**{"lr": 0.02, "batch_size": 4, "max_epochs": 3, "patience": 9, **options})
    ours, theirs = network_of(task.n_outputs), network_of(task.n_outputs)
    before = torch.get_rng_state()
    history = fit(ours, task, config, 5)
    assert torch.equal(torch.get_rng_state(), before), "chance outside of it goes on as if it had not been"
    assert history.train_loss == pytest.approx(by_hand(theirs, task, config, 5), rel=1e-5)
    assert not ours.training
    assert history.best_epoch == 2, "the last is kept, so that weights can be compared"
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    other = network_of(task.n_outputs)
    fit(other, task, config, 6)
    assert not torch.equal(next(other.parameters()), next(ours.parameters())), "the seed decides the order"


class Scripted(torch.nn.Module):
    """Counts the epochs it was trained in, and after each validates with the next loss of a script."""

    def __init__(self, losses: Sequence[float]) -> None:
        super().__init__()
        self.losses = losses
        self.register_buffer("epochs", torch.tensor(0))
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return torch.full((len(x), 1), math.sqrt(self.losses[int(self.epochs)]))
        self.epochs += 1
        return x[:, :1] * 0 + self.weight


@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize("as_it_is", [False, True])
@pytest.mark.parametrize(
    "losses",
    [
        (9.0, 5.0, 4.0, 4.5, 3.0, 3.5, 3.2, 3.1, 2.0, 2.0, 2.0, 2.0),
        (1.0, 5.0, 6.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0),
        (2.0, 2.0, 2.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0),
        (4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.0),
    ],
)
def test_the_first_of_the_best_epochs_is_kept_and_patience_counts_from_it(
    losses: tuple[float, ...], as_it_is: bool, patience: int
) -> None:
    """The script begins with the loss before any training, which counts where the network counts as it is."""
    y = np.zeros(14)
    y[TRAIN] = np.array([-1.0, 1.0] * 4)  # of mean 0 and deviation 1, so that targets are what they are
    network = Scripted(losses)
    config = FitConfig(max_epochs=11, patience=patience, batch_size=100)
    history = fit(network, task_of(y, 0), config, 0, counts_as_it_is=as_it_is)
    best, run = 0 if as_it_is else 1, 0
    while run < 11 and run - best < patience:
        run += 1
        if losses[run] < losses[best]:
            best = run
    assert history.val_loss == pytest.approx(losses[1 : run + 1])
    assert (history.best_epoch, len(history.train_loss)) == (best - 1, run)
    assert int(network.epochs) == best


class Stopped(BaseException):
    """Stands for a signal that no code catches."""


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("kind", ["classes", "values"])
def test_a_fit_that_was_stopped_goes_on_to_the_same_weights(kind: str, stop: int, tmp_path: Path) -> None:
    """With dropout and shuffled batches: chance goes on too, and what was best before stays the best."""
    task = task_of(CLASSES, 3) if kind == "classes" else task_of(VALUES, 0)
    config = FitConfig(lr=0.1, batch_size=3, max_epochs=7, patience=3)

    def network() -> torch.nn.Module:
        return network_of(task.n_outputs, dropout=0.4)

    whole, cut, last = network(), network(), network()
    expected = fit(whole, task, config, 2)
    seen: list[tuple[int, int]] = []

    def watch(done: int, most: int) -> None:
        seen.append((done, most))
        if done == stop:
            raise Stopped

    with pytest.raises(Stopped):
        fit(cut, task, config, 2, state=FitState(tmp_path / "s.pt", "mark", watch))
    assert seen == [(i + 1, 7) for i in range(stop)]
    assert FitState(tmp_path / "s.pt", "another").read() is None
    found = fit(last, task, config, 2, state=FitState(tmp_path / "s.pt", "mark"))
    assert found == expected
    for a, b in zip(whole.parameters(), last.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_state_of_a_gpu_is_read_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = FitState(tmp_path / "s.pt", "mark")
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        state.write({"best": torch.ones(2)}, 1, 2)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(tmp_path / "s.pt", weights_only=True)
    found = state.read()
    assert found is not None
    assert found["best"].tolist() == [1.0, 1.0]
    assert found["best"].device.type == "cpu"


def test_values_are_standardised_on_those_learnt_from() -> None:
    """In double precision, whatever they come as; a single value has a spread to divide by."""
    task = task_of(VALUES, 0)
    mean, scale = VALUES[TRAIN].astype(float).mean(), VALUES[TRAIN].astype(float).std()
    assert task.target_scale() == pytest.approx((mean, scale), rel=1e-12)
    np.testing.assert_allclose(task.targets(), (VALUES.astype(float) - mean) / scale, rtol=1e-6, atol=1e-6)
    assert target_scale(np.float32([1e8, 1e8, 1e8 + 16])) == pytest.approx((1e8 + 16 / 3, 16 * 2**0.5 / 3))
    assert target_scale(np.array([3, 3])) == (3.0, 1.0)
    assert task_of(CLASSES, 3).targets().tolist() == CLASSES.tolist()
    assert (task.n_outputs, task_of(CLASSES, 3).n_outputs) == (1, 3)


def test_a_class_that_is_not_there_weighs_nothing_that_is_infinite() -> None:
    task = Task(lambda i: X[torch.from_numpy(i)], np.minimum(CLASSES, 1), TRAIN, VAL, 3)
    assert all(map(math.isfinite, fit(network_of(3), task, FitConfig(max_epochs=1), 0).val_loss))


def test_answers_do_not_depend_on_the_batch_and_dropout_is_off() -> None:
    network, task = network_of(3, dropout=0.9).train(), task_of(CLASSES, 3)
    one = outputs(network, task, VAL, FitConfig(batch_size=4))
    torch.testing.assert_close(one, outputs(network, task, VAL, FitConfig(batch_size=100)))
    torch.testing.assert_close(one, copy.deepcopy(network).eval()(X[8:]))
    assert not one.requires_grad


def test_a_loss_that_is_no_number_is_told_where_it_is() -> None:
    task = Task(lambda i: X[torch.from_numpy(i)] * torch.nan, VALUES, TRAIN, VAL, 0)
    with pytest.raises(DataError, match=r"fit: the loss is nan in epoch 0, step 0; lower lr \(0.5\)"):
        fit(network_of(1), task, FitConfig(lr=0.5), 0)


def test_what_is_frozen_is_not_trained_and_everything_frozen_is_refused() -> None:
    network = network_of(3).requires_grad_(False)
    with pytest.raises(DataError, match="every parameter is frozen"):
        parameter_groups(network, FitConfig())
    network[2].requires_grad_(True)
    groups = parameter_groups(network, FitConfig(weight_decay=0.3))
    assert [([p.dim() for p in g["params"]], g["weight_decay"]) for g in groups] == [([2], 0.3), ([1], 0.0)]
