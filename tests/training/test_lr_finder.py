"""The range test of the learning rate: where it points, what it writes, what it leaves alone."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import DataError
from eegm2.training import lr_finder
from eegm2.training.config import PretrainConfig
from eegm2.training.lr_finder import HIGHEST, LOWEST, find_learning_rate, smooth, steepest
from tests.training.stores import tiny_store

TINY = PretrainConfig(
    width=4,
    window_s=1.0,
    batch_size=8,
    seed=3,
    accelerator="cpu",
    checkpoint_blocks=True,
    checkpoint_windows=4,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return tiny_store(tmp_path_factory.mktemp("data") / "store")


def test_the_steepest_fall_is_found() -> None:
    rates = np.geomspace(1e-6, 1, 61)
    losses = 1 + 9 / (1 + (rates / 1e-3) ** 2) + 100 * np.maximum(0, rates - 0.1) ** 2
    assert steepest(rates, losses) == pytest.approx(2e-3, rel=0.5)  # of the logarithm: above the middle, 1e-3
    with pytest.raises(ValueError, match=r"find-lr: the loss only rises between the rates 1e-06 and 1;"):
        steepest(rates, 1 + rates)


def test_a_fall_takes_two_steps() -> None:
    rates = np.array([1e-3, 1e-2, 1e-1, 1.0])
    assert steepest(rates, np.array([4.0, 3.0, 1.0, 9.0])) == 1e-1
    with pytest.raises(ValueError, match="the loss only rises"):
        steepest(rates, np.array([4.0, 3.0, 3.5, 9.0]))


def test_it_clips_accumulates_and_starts_as_the_run_would(store: RecordingStore, tmp_path: Path) -> None:
    def losses(**changes: Any) -> list[float]:
        config = dataclasses.replace(TINY, **changes)
        found = find_learning_rate(store, tmp_path / "run", config, steps=6)
        return found.losses.tolist()

    plain = losses()
    assert losses(seed=4)[0] != plain[0]
    for change in ({"gradient_clip": 1e-6}, {"weight_decay": 50.0}):
        other = losses(**change)
        assert other[0] == plain[0]
        assert other[-1] != plain[-1], change
    halves = losses(batch_size=4, accumulate=2)
    assert halves[0] == pytest.approx(plain[0], rel=0.2), "a mean over the parts, not their sum"


def test_smoothing_has_no_bias_towards_zero() -> None:
    assert smooth(np.full(5, 3.0)) == pytest.approx(np.full(5, 3.0))
    assert smooth(np.array([1.0, 2.0])) == pytest.approx([1.0, (0.9 * 0.1 + 0.2) / 0.19])


def test_it_trains_at_growing_rates_and_is_repeatable(store: RecordingStore, tmp_path: Path) -> None:
    first = find_learning_rate(store, tmp_path / "a", TINY, steps=24)
    again = find_learning_rate(store, tmp_path / "b", TINY, steps=24)
    assert np.array_equal(first.losses, again.losses)
    assert first.rates[0] == pytest.approx(LOWEST)
    assert first.losses.min() < 0.9 * first.losses[0]  # it learns
    assert LOWEST < first.suggestion < HIGHEST
    lines = first.table.read_text().splitlines()
    assert lines[0] == "lr,loss,smoothed"
    assert len(lines) == 1 + len(first.rates)
    assert first.plot.read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "a").exists()


def test_a_run_is_as_it_would_be_without(store: RecordingStore, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["pretrain", store.url, "--out", str(run), "--width", "4", "--window-s", "1"]
    command += ["--epochs", "1", "--batch-size", "8", "--accelerator", "cpu"]
    found = CliRunner().invoke(app, [*command, "--find-lr"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    assert "suggestion --max-lr" in found.output
    assert not run.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-lr.csv", "run-lr.png"]


def test_float16_is_refused_on_a_cpu(store: RecordingStore, tmp_path: Path) -> None:
    config = PretrainConfig(width=4, window_s=1.0, accelerator="cpu", precision="16-mixed")
    with pytest.raises(ValueError, match="precision: got 16-mixed on a CPU"):
        find_learning_rate(store, tmp_path / "a", config)


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cpu", "mps"])
def test_it_runs_where_the_run_would_on_one_device(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[PretrainConfig] = []

    def make_fabric(config: PretrainConfig) -> Any:
        asked.append(config)
        return true_fabric(dataclasses.replace(config, accelerator="cpu"))

    true_fabric = lr_finder.make_fabric
    monkeypatch.setattr(lr_finder, "make_fabric", make_fabric)
    Descent([2.0]).patch(monkeypatch)
    config = dataclasses.replace(
        TINY, accelerator=accelerator, devices="4", num_nodes=2, strategy="ddp", precision="bf16-mixed"
    )
    lr_finder._losses(SimpleNamespace(pool=None), config, None, np.array([0.1]))  # type: ignore[arg-type]
    (found,) = asked
    assert (found.accelerator, found.precision) == (accelerator, "bf16-mixed")
    assert (found.devices, found.num_nodes, found.strategy) == ("1", 1, "auto")


def test_batches_are_those_of_one_epoch_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    order: Any = SimpleNamespace(epoch=0)
    monkeypatch.setattr(lr_finder, "batch_order", lambda *_: order)
    monkeypatch.setattr(lr_finder, "make_loader", lambda *_, **__: Epochs(order))
    batches = lr_finder._endless(object(), TINY)  # type: ignore[arg-type]
    assert [next(batches) for _ in range(5)] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


class Epochs:
    """Gives two batches of the epoch that its order is in."""

    def __init__(self, order: Any) -> None:
        self.order = order

    def __iter__(self) -> Any:
        return iter([(self.order.epoch, i) for i in range(2)])


def test_the_figure_has_the_losses_their_average_and_the_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), savefig(figure, *a, **k))[1]
    )
    rates = np.geomspace(1e-4, 1e-1, 4)
    png = lr_finder._plot(rates, np.array([4.0, 3, 2, 9]), np.array([4.0, 3.5, 3, 5]), 1e-3)
    assert png.startswith(b"\x89PNG")
    (axes,) = drawn[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["loss", "moving average", "steepest fall: 0.001"]
    np.testing.assert_array_equal(lines["loss"].get_xydata(), np.c_[rates, [4, 3, 2, 9]])
    np.testing.assert_array_equal(lines["moving average"].get_xydata(), np.c_[rates, [4, 3.5, 3, 5]])
    assert list(lines["steepest fall: 0.001"].get_xdata()) == [1e-3, 1e-3]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(lines)


class Descent:
    """One weight that a run of the finder moves, on batches whose loss is what a script makes of it."""

    def __init__(self, losses: list[float]) -> None:
        self.losses, self.seen = losses, [0]

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        batch = {"index": torch.tensor([0]), "x": torch.zeros(1, 1, 1)}
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(model.weight)
        watched = self

        class Learner(torch.nn.Module):
            def __init__(self, model: torch.nn.Module, *_: Any) -> None:
                super().__init__()
                self.model = self.trained = model

            def losses(self, model: Any, batch: Any, epoch: int, windows: Any) -> Any:
                loss = watched.losses[watched.seen[0]]
                watched.seen[0] += 1
                return (loss + 10 * (model.weight - model.weight.detach()).sum(),)

        monkeypatch.setattr(lr_finder, "first_network", lambda *_: model)
        monkeypatch.setattr(lr_finder, "Learner", Learner)
        monkeypatch.setattr(lr_finder, "_endless", lambda *_: itertools.repeat(batch))
        return model


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_every_step_is_at_its_rate_on_as_many_batches_as_the_run_takes(
    accumulate: int, clip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of AdamW with one gradient always the same, the first steps move by the rate; losses are means."""
    model = Descent([4.0, 6.0, 3.0, 5.0, 2.0, 4.0]).patch(monkeypatch)
    config = dataclasses.replace(TINY, accumulate=accumulate, gradient_clip=clip, weight_decay=0.0)
    norms: list[float] = []
    clipping = torch.nn.utils.clip_grad_norm_

    def watched(parameters: Any, limit: float) -> Any:
        norms.append(limit)
        return clipping(parameters, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
    pool: Any = SimpleNamespace(pool=None)
    rates = np.array([0.1, 0.2, 0.4][: 6 // accumulate])
    losses = lr_finder._losses(pool, config, None, rates)
    expected = [4.0, 6.0, 3.0] if accumulate == 1 else [5.0, 4.0, 3.0]
    assert losses.tolist() == expected
    assert float(model.weight.detach()) == pytest.approx(-rates.sum(), rel=1e-4)
    assert norms == [clip or np.inf] * 3
    assert float(model.weight.grad) == pytest.approx(clip or 10.0, rel=1e-4)


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        ([2.0, 1.0, 1.0, 1e6, 1.0], 4),
        ([2.0, 1.0, float("nan"), 1.0, 1.0], 2),
        ([2.0, float("inf"), 1.0, 1.0, 1.0], 1),
        ([2.0, 2.25, 2.5, 2.25, 2.0], 5),
    ],
)
def test_it_ends_where_the_loss_diverges(
    losses: list[float], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss that is too high is the last; one that is no number is none."""
    Descent(losses).patch(monkeypatch)
    pool: Any = SimpleNamespace(pool=None)
    found = lr_finder._losses(pool, dataclasses.replace(TINY, accumulate=1), None, np.full(5, 0.1))
    assert found.tolist() == losses[:kept]
    Descent([float("nan")]).patch(monkeypatch)
    with pytest.raises(DataError, match="find-lr: the first loss is nan"):
        lr_finder._losses(pool, TINY, None, np.full(5, 0.1))


def test_the_average_has_no_bias_towards_zero() -> None:
    np.testing.assert_allclose(smooth(np.full(6, 3.0)), np.full(6, 3.0))
    weights = lr_finder.SMOOTHING ** np.array([2, 1, 0])
    assert smooth(np.array([1.0, 5.0, 2.0]))[-1] == pytest.approx(weights @ [1, 5, 2] / weights.sum())
