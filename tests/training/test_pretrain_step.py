"""The books of pretraining step by step: what is read, counted, clipped, skipped, followed and validated."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric

from eegm2.data.windows.pool import StorePool
from eegm2.errors import DataError
from eegm2.training import learner as of_learner
from eegm2.training import processes
from eegm2.training.config import PretrainConfig
from eegm2.training.learner import Learner
from eegm2.training.loaders import Batches
from eegm2.training.loop import validate
from eegm2.training.nonfinite import name_windows
from eegm2.training.objectives.base import window_seed
from eegm2.training.pretrain_step import Place, PretrainStep
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


def step_of(
    windows: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    *,
    val: bool = True,
    epoch: int = 1,
    **options: Any,
) -> PretrainStep:
    """Return the step of a run whose network has two weights; five steps are taken."""
    monkeypatch.setattr(of_learner, "make_objective", lambda _: Task())
    config = dataclasses.replace(CONFIG, **options)
    model: Any = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    learner = Learner(model, config, windows[0], windows[1] if val else None)
    steps = -(-4 // config.accumulate)
    made = PretrainStep(learner, Fabric(accelerator="cpu", devices=1), steps)
    made.place = Place(epoch, 0, 5)
    return made


def batches_of(windows: tuple[Any, Any], *, val: bool = True, **options: Any) -> Batches:
    dealing = {name: options.pop(name) for name in ("rank", "world_size") if name in options}
    config = dataclasses.replace(CONFIG, **options)
    validated = windows[0] if config.overfit_batches else windows[1] if val else None
    return Batches(windows[0], validated, config, **dealing)


def read(loader: Any) -> list[int]:
    return [i for batch in loader for i in batch["index"].tolist()]


def batch_of(*index: int) -> dict[str, Any]:
    return {"index": torch.tensor(index), "x": torch.zeros(len(index), 3, 32)}


def take(step: PretrainStep, *batches: dict[str, Any]) -> None:
    step.take(batches, len(batches), lambda: None)


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
    batches = batches_of(windows, **options)
    learner = step_of(windows, monkeypatch, **options).learner
    assert [len(part) for part in windows] == [15, 5]
    assert batches.steps_per_epoch == steps
    trained, config = read(batches.train(1)), learner.config
    assert len(trained) == len(set(trained)) == min(15, steps * config.accumulate * config.batch_size)
    assert read(batches.val) == list(range(n_val))
    assert learner.validated is windows[0 if "overfit_batches" in options else 1]
    assert batches.train(1) is batches.train(2), "its workers are kept"
    if not options:
        assert batches_of(windows, val=False).val is None
        nobody = step_of(windows, monkeypatch, val=False)
        assert nobody.learner.validated is None
        assert validate(nobody, None) == {}


def test_processes_share_the_windows_of_an_epoch_among_them(windows: tuple[Any, Any]) -> None:
    trained, validated = [], []
    for rank in (0, 1):
        batches = batches_of(windows, rank=rank, world_size=2)
        trained += read(batches.train(1))
        validated += read(batches.val)
    assert len(trained) == len(set(trained)) == 14, "as many each"
    assert sorted(validated) == list(range(5))


def test_an_epoch_that_was_begun_is_gone_on_with_and_the_next_is_whole(windows: tuple[Any, Any]) -> None:
    batches = batches_of(windows)
    whole = [batch["index"].tolist() for batch in batches.train(1)]
    assert batches.windows_left() == 15
    assert [batch["index"].tolist() for batch in batches.train(1, 2)] == whole[2:]
    assert batches.windows_left() == 8
    assert [batch["index"].tolist() for batch in batches.train(1)] == whole
    assert [batch["index"].tolist() for batch in batches.train(2)] != whole


def test_losses_are_seeded_by_window_and_epoch_and_counted_by_window(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = step_of(windows, monkeypatch)
    take(step, batch_of(7, 2), batch_of(4))
    asked: Any = step.learner.objective.asked
    assert [seeds for _, seeds, _ in asked] == [
        [window_seed(3, 1, 7), window_seed(3, 1, 2)],
        [window_seed(3, 1, 4)],
    ]
    assert all(model is step.learner.model and origin.windows is windows[0] for model, _, origin in asked)
    for means in (step.train_means, step.interval_means):
        assert means.values() == pytest.approx({"loss": (6 * 2 + 3) / 3, "part": (7 * 2 + 4) / 3})
    assert step._windows == [7, 2, 4]


def test_batches_of_a_step_are_read_when_their_turn_comes_and_their_gradients_added_up(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gradient of the two is a fifth: as if there were as many batches as the run accumulates."""
    step = step_of(windows, monkeypatch, accumulate=5, gradient_clip=0.0)
    happened: list[Any] = []

    def batches() -> Iterator[dict[str, Any]]:
        for index in ((7, 2), (4,)):
            happened.append(index)
            yield batch_of(*index)

    step.take(batches(), 2, lambda: happened.append(step.learner.model.weight.grad.tolist()))  # type: ignore[operator, union-attr]
    assert happened == [(7, 2), [[pytest.approx(2 / 5)] * 2], (4,), [[pytest.approx(3 / 5)] * 2]]
    assert step.place == Place(1, 0, 6)


@pytest.mark.parametrize("ema", [0.0, 0.75])
def test_the_average_follows_every_step_and_is_what_is_validated(
    ema: float, windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = step_of(windows, monkeypatch, ema_decay=ema, max_lr=0.1)
    learner: Any = step.learner
    assert learner.kept_model is (learner.average.module if learner.average is not None else learner.model)
    expected: list[float] = []
    for number in range(3):
        take(step, batch_of(number))
        now = float(learner.model.weight.detach()[0, 0])
        expected.append(now if not expected else ema * expected[-1] + (1 - ema) * now)
        assert float(learner.kept_model.weight.detach()[0, 0]) == pytest.approx(expected[-1])
    assert expected[-1] < expected[0] - 0.01
    followed = learner.objective.followed
    assert [progress for _, progress in followed] == [6 / 12, 7 / 12, 8 / 12], "of three epochs of four steps"
    assert all(model is learner.model for model, _ in followed)
    validate(step, [batch_of(0, 1)])
    assert learner.objective.asked[-1][0] is learner.kept_model
    if learner.average is not None:
        assert not any(p.requires_grad for p in learner.average.parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("how", ["skip", "stop"])
def test_a_step_with_a_loss_that_is_no_number_moves_nothing_and_names_its_windows(
    how: str,
    bad: float,
    windows: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = step_of(windows, monkeypatch, on_nonfinite=how, ema_decay=0.5)
    learner: Any = step.learner
    take(step, batch_of(1))
    before = copy.deepcopy(learner.state_dict())

    def batches() -> Iterator[dict[str, Any]]:
        yield batch_of(3, 9)
        learner.objective.scale = bad
        yield batch_of(4)

    where = name_windows(windows[0], [3, 9, 4])
    said = re.escape(f"epoch 2, step 7: loss is {bad}; windows: {where}")
    if how == "stop":
        with pytest.raises(DataError, match=said):
            step.take(batches(), 2, lambda: None)
        return
    step.take(batches(), 2, lambda: None)
    assert all(torch.equal(a, before[name]) for name, a in learner.state_dict().items())
    assert len(learner.objective.followed) == 1
    assert step.skipped == 1
    assert step.place.step == 7
    assert re.search(f"^skipped: {said}", capsys.readouterr().out)
    learner.objective.scale = 1.0
    take(step, batch_of(5))
    assert step._windows == [5]
    assert not torch.equal(learner.model.weight, before["model.weight"]), "the next one does"
    assert step.train_means.sums[-1] == 4


@pytest.mark.parametrize("limit", [0.0, 0.5, 100.0])
def test_the_gradient_of_network_and_heads_is_clipped_together(
    limit: float, windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = step_of(windows, monkeypatch, gradient_clip=limit)
    take(step, batch_of(0))
    gradients = [float(g) for p in step.parameters for g in p.grad.flatten()]  # type: ignore[union-attr]
    assert step.grad_norm == pytest.approx(3**0.5), "two weights and a head"
    assert gradients == pytest.approx([min(1.0, limit / 3**0.5) if limit else 1.0] * 3, rel=1e-4)


def test_a_gradient_that_is_no_number_is_a_step_that_is_left_out(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_gradient(**options: Any) -> Any:
        step: Any = step_of(windows, monkeypatch, **options)
        step.module(batch_of(0), 1)[0].backward()
        step.learner.model.weight.grad[0, 0] = math.inf
        return step

    for precision, skipped in (("32-true", 1), ("16-mixed", 0)):
        step = with_gradient(on_nonfinite="skip", precision=precision, gradient_ema=0.5)
        step.bound()
        assert step.skipped == skipped
        weight = step.learner.model.weight
        assert (weight.grad is None) == bool(skipped), "16 bits: the scaler deals with it"
        assert torch.isfinite(step.learner.gradient_average.mean0).all()
    with pytest.raises(DataError, match=r"gradient norm is (inf|nan)"):
        with_gradient(on_nonfinite="stop").bound()


def test_validation_counts_windows_and_tells_which_it_left_out(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = step_of(windows, monkeypatch, on_nonfinite="skip")
    learner: Any = step.learner
    learner.objective.eval()  # as a teacher may be
    for _ in range(2):  # the second forgets the first
        found = validate(step, [batch_of(0, 1), batch_of(2)])
        assert found == pytest.approx({"loss": (6 * 2 + 3) / 3, "part": (7 * 2 + 4) / 3})
        assert (learner.training, learner.model.training, learner.objective.training) == (True, True, False)
    seeds = [seeds for _, seeds, _ in learner.objective.asked]
    assert seeds[:2] == seeds[2:], "and has the same masks"
    assert not capsys.readouterr().out

    def batches() -> Iterator[dict[str, Any]]:
        yield batch_of(0)
        learner.objective.scale = math.nan
        yield batch_of(3, 4)

    assert validate(step, batches()) == pytest.approx({"loss": 3, "part": 4})
    said = capsys.readouterr().out
    assert "epoch 2: validation loss of 2 windows is not finite" in said
    assert f"windows: {name_windows(windows[1], [3, 4])}" in said


def test_what_processes_count_is_added_up_and_their_losses_averaged(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = step_of(windows, monkeypatch)
    others: list[Iterable[float]] = [(8.0, 9.0), (30.0, 20.0, 1.0, 0.0)]  # losses; sums, windows, left out

    def add(values: torch.Tensor) -> None:
        values.add_(torch.tensor(others.pop(0), dtype=values.dtype))

    for name, answer in (("is_available", True), ("is_initialized", True), ("get_world_size", 2)):
        monkeypatch.setattr(processes.dist, name, lambda answer=answer: answer)
    monkeypatch.setattr(processes.dist, "all_reduce", add)
    take(step, batch_of(0, 1))
    assert step.train_means.values() == pytest.approx({"loss": (6 + 8) / 2, "part": (7 + 9) / 2})
    step.learner.model.weight.data.fill_(1.0)  # type: ignore[operator, union-attr]
    step.learner.objective.head.data.fill_(1.0)  # type: ignore[operator, union-attr]
    found = validate(step, [batch_of(0, 1)])
    assert found == pytest.approx({"loss": (12 + 30) / 3, "part": (14 + 20) / 3})


def test_the_optimiser_has_network_and_heads_and_the_whole_cycle(
    windows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = step_of(windows, monkeypatch, accumulate=2, ema_decay=0.9)
    learner: Any = step.learner
    trained = [p for group in step.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(learner.model.weight), id(learner.objective.head)}
    assert step.scheduler.total_steps == 3 * 2  # type: ignore[attr-defined]
    rates = [step.rate]
    for number in range(5):
        take(step, batch_of(number), batch_of(number))
        rates.append(step.rate)
    assert len(set(rates)) == 6, "every step has its own"
    assert rates == sorted(rates, reverse=True)
