"""The module's books step by step, with a trainer that only says where the training is."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eegm2.data.windows.pool import StorePool
from eegm2.errors import DataError
from eegm2.training import lightning_module as of_module
from eegm2.training.config import PretrainConfig
from eegm2.training.lightning_module import PretrainModule
from eegm2.training.nonfinite import name_windows
from eegm2.training.objectives.base import window_seed
from eegm2.training.run_record import run_splits, run_windows
from tests.training.stores import tiny_store

CONFIG = PretrainConfig(width=4, window_s=1.0, batch_size=4, epochs=3, seed=3, workers=0)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("module")
    pool = StorePool(tiny_store(folder / "store", subjects=5, seconds=5.0))
    return run_windows(pool, run_splits(folder / "run", pool, CONFIG, write=False), CONFIG)


class Task(torch.nn.Module):
    """Gives a weight times the batch's script, and notes what it was asked."""

    terms = ("loss", "part")

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Parameter(torch.ones(1))
        self.scale, self.asked, self.followed = 1.0, [], []

    def losses(self, model: Any, x: Any, seeds: Sequence[int], origin: Any) -> Any:
        self.asked.append((model, list(seeds), origin))
        loss = self.scale * (model.weight.sum() + self.head.sum()) * len(x)
        return loss, loss.detach() + 1

    def follow(self, model: Any, progress: float) -> None:
        self.followed.append((model, progress))


def module_of(
    windows: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    *,
    val: bool = True,
    epoch: int = 1,
    **options: Any,
) -> PretrainModule:
    monkeypatch.setattr(of_module, "make_objective", lambda _: Task())
    config = dataclasses.replace(CONFIG, **options)
    model: Any = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    module = PretrainModule(model, config, windows[0], windows[1] if val else None)
    strategy = SimpleNamespace(model=module)
    module._trainer = SimpleNamespace(  # type: ignore[assignment]
        current_epoch=epoch,
        global_step=5,
        global_rank=0,
        world_size=1,
        is_global_zero=True,
        strategy=strategy,
    )
    return module


def validate(module: PretrainModule, *index: int) -> None:
    with torch.no_grad():
        module.validation_step(batch_of(*index), 0)


def batch_of(*index: int) -> dict[str, Any]:
    return {"index": torch.tensor(index), "x": torch.zeros(len(index), 3, 32)}


def step(module: PretrainModule, optimiser: torch.optim.Optimizer, *batches: dict[str, Any]) -> None:
    """Do what the trainer does in a step of the optimiser."""
    optimiser.zero_grad()
    for number, batch in enumerate(batches):
        module.training_step(batch, number).backward()
    module.configure_gradient_clipping(optimiser)
    monkey: Any = module
    monkey.optimizer_step(0, 0, optimiser, None)


@pytest.mark.parametrize(
    ("options", "steps", "n_val"),
    [
        ({}, 4, 5),
        ({"accumulate": 3}, 2, 5),
        ({"batch_size": 8}, 2, 5),
        ({"overfit_batches": 3}, 3, 12),
        ({"fast_dev_run": True}, 2, 5),
        ({"fast_dev_run": True, "batch_size": 1}, 2, 2),
    ],
    ids=str,
)
def test_an_epoch_has_every_batch_once_and_a_trial_has_two(
    options: dict[str, Any], steps: int, n_val: int, windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overfitting validates on what it trains on."""
    module = module_of(windows, monkeypatch, **options)
    assert [len(part) for part in windows] == [15, 5]
    assert module.steps_per_epoch() == steps
    trained = [i for batch in module.train_dataloader() for i in batch["index"].tolist()]
    validated = [i for batch in module.val_dataloader() for i in batch["index"].tolist()]
    assert (
        len(trained)
        == len(set(trained))
        == min(15, steps * module.config.accumulate * module.config.batch_size)
    )
    assert validated == list(range(n_val))
    assert module._validated is windows[0 if "overfit_batches" in options else 1]
    assert module.train_dataloader() is module.train_dataloader(), "its workers are kept"
    if not options:
        assert module_of(windows, monkeypatch, val=False).val_dataloader() == []


def test_processes_share_the_windows_of_an_epoch_among_them(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, validated = [], []
    for rank in (0, 1):
        module = module_of(windows, monkeypatch)
        module._trainer.global_rank, module._trainer.world_size = rank, 2
        trained += [i for batch in module.train_dataloader() for i in batch["index"].tolist()]
        validated += [i for batch in module.val_dataloader() for i in batch["index"].tolist()]
    assert len(trained) == len(set(trained)) == 14, "as many each"
    assert sorted(validated) == list(range(5))


def test_an_epoch_that_was_begun_is_gone_on_with_and_the_next_is_whole(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(windows, monkeypatch)
    whole = [batch["index"].tolist() for batch in module.train_dataloader()]
    module.start = (1, 2)
    assert [batch["index"].tolist() for batch in module.train_dataloader()] == whole[2:]
    module.start = (0, 2)
    assert [batch["index"].tolist() for batch in module.train_dataloader()] == whole


def test_losses_are_seeded_by_window_and_epoch_and_counted_by_window(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(windows, monkeypatch)
    for index in ((7, 2), (4,)):
        module.training_step(batch_of(*index), 0)
    asked: Any = module.objective.asked
    assert [seeds for _, seeds, _ in asked] == [
        [window_seed(3, 1, 7), window_seed(3, 1, 2)],
        [window_seed(3, 1, 4)],
    ]
    assert all(model is module.model and origin.windows is windows[0] for model, _, origin in asked)
    for means in (module.train_means, module.interval_means):
        assert means.values() == pytest.approx({"loss": (6 * 2 + 3) / 3, "part": (7 * 2 + 4) / 3})
    assert module._step_windows == [7, 2, 4]


@pytest.mark.parametrize("ema", [0.0, 0.75])
def test_the_average_follows_every_step_and_is_what_is_validated(
    ema: float, windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(windows, monkeypatch, ema_decay=ema)
    optimiser = torch.optim.SGD(module._trained(), lr=0.1)
    assert module.kept_model is (module.average.module if module.average is not None else module.model)
    expected: list[float] = []
    for number in range(3):
        step(module, optimiser, batch_of(number))
        now = float(module.model.weight.detach()[0, 0])
        expected.append(now if not expected else ema * expected[-1] + (1 - ema) * now)
        assert float(module.kept_model.weight.detach()[0, 0]) == pytest.approx(expected[-1])
        assert module._step_windows == []
    followed: Any = module.objective.followed
    assert [progress for _, progress in followed] == [6 / 12] * 3, "the sixth step of three epochs of four"
    assert all(model is module.model for model, _ in followed)
    module.on_validation_epoch_start()
    validate(module, 0, 1)
    assert module.objective.asked[-1][0] is module.kept_model
    if module.average is not None:
        assert not any(p.requires_grad for p in module.average.parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("how", ["skip", "stop"])
def test_a_step_with_a_loss_that_is_no_number_moves_nothing_and_names_its_windows(
    how: str,
    bad: float,
    windows: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = module_of(windows, monkeypatch, on_nonfinite=how, ema_decay=0.5)
    optimiser = torch.optim.SGD(module._trained(), lr=0.1)
    step(module, optimiser, batch_of(1))
    before = copy.deepcopy(module.state_dict())
    module.training_step(batch_of(3, 9), 0).backward()
    module.objective.scale = bad
    where = name_windows(windows[0], [3, 9, 4])
    said = re.escape(f"epoch 2, step 6: loss is {bad}; windows: {where}")
    if how == "stop":
        with pytest.raises(DataError, match=said):
            module.training_step(batch_of(4), 1)
        return
    module.training_step(batch_of(4), 1).backward()
    module.configure_gradient_clipping(optimiser)
    module.optimizer_step(0, 0, optimiser, None)
    assert all(torch.equal(a, before[name]) for name, a in module.state_dict().items())
    assert len(module.objective.followed) == 1
    assert module.skipped == 1
    assert "skipped: epoch 2, step 6" in capsys.readouterr().out
    module.objective.scale = 1.0
    step(module, optimiser, batch_of(5))
    assert not torch.equal(module.model.weight, before["model.weight"]), "the next one does"
    assert module.train_means.sums[-1] == 4


@pytest.mark.parametrize("limit", [0.0, 0.5, 100.0])
def test_the_gradient_of_network_and_heads_is_clipped_together(
    limit: float, windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(windows, monkeypatch, gradient_clip=limit)
    module.training_step(batch_of(0), 0).backward()
    module.configure_gradient_clipping(None)
    gradients = [float(g) for p in module._trained() for g in p.grad.flatten()]
    assert module.grad_norm == pytest.approx(3**0.5), "two weights and a head"
    assert gradients == pytest.approx([min(1.0, limit / 3**0.5) if limit else 1.0] * 3, rel=1e-4)


def test_a_gradient_that_is_no_number_is_a_step_that_is_left_out(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for precision, skipped in (("32-true", 1), ("16-mixed", 0)):
        module = module_of(windows, monkeypatch, on_nonfinite="skip", precision=precision, gradient_ema=0.5)
        module.training_step(batch_of(0), 0).backward()
        module.model.weight.grad[0, 0] = math.inf
        module.configure_gradient_clipping(None)
        assert module.skipped == skipped
        assert (module.model.weight.grad is None) == bool(skipped), "16 bits: the scaler deals with it"
        assert torch.isfinite(module.gradient_average.mean0).all()
    other = module_of(windows, monkeypatch, on_nonfinite="stop")
    other.training_step(batch_of(0), 0).backward()
    other.model.weight.grad[0, 0] = math.inf
    with pytest.raises(DataError, match=r"gradient norm is (inf|nan)"):
        other.configure_gradient_clipping(None)


def test_validation_counts_windows_and_tells_which_it_left_out(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = module_of(windows, monkeypatch, on_nonfinite="skip")
    for _ in range(2):  # the second forgets the first
        module.on_validation_epoch_start()
        for index in ((0, 1), (2,)):
            validate(module, *index)
        module.on_validation_epoch_end()
        assert module.val_values() == pytest.approx({"loss": (6 * 2 + 3) / 3, "part": (7 * 2 + 4) / 3})
    seeds: Any = [seeds for _, seeds, _ in module.objective.asked]
    assert seeds[:2] == seeds[2:], "and has the same masks"
    assert not capsys.readouterr().out
    module.on_validation_epoch_start()
    validate(module, 0)
    module.objective.scale = math.nan
    validate(module, 3, 4)
    module.on_validation_epoch_end()
    assert module.val_values() == pytest.approx({"loss": 3, "part": 4})
    said = capsys.readouterr().out
    assert "epoch 2: validation loss of 2 windows is not finite" in said
    assert f"windows: {name_windows(windows[1], [3, 4])}" in said


def test_what_processes_count_is_added_up_and_their_losses_averaged(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other of two processes has seen the same."""
    module = module_of(windows, monkeypatch)
    for name, answer in (("is_available", True), ("is_initialized", True), ("get_world_size", 2)):
        monkeypatch.setattr(of_module.dist, name, lambda answer=answer: answer)
    monkeypatch.setattr(of_module.dist, "all_reduce", lambda values: values.mul_(2))
    module.training_step(batch_of(0, 1), 0)
    assert module.train_means.values() == pytest.approx({"loss": 6, "part": 7})
    module.on_validation_epoch_start()
    validate(module, 0, 1)
    module.on_validation_epoch_end()
    (means,) = module.val_means.values()
    assert means.sums == [24, 28, 4]


def test_the_optimiser_has_network_and_heads_and_the_whole_cycle(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(windows, monkeypatch, accumulate=2, ema_decay=0.9)
    made = module.configure_optimizers()
    trained = [p for group in made["optimizer"].param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(module.model.weight), id(module.objective.head)}
    assert made["lr_scheduler"]["interval"] == "step"
    assert made["lr_scheduler"]["scheduler"].total_steps == 3 * 2
