"""The range test of the learning rate: where it points, what it writes, what it leaves alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.store.recording_store import RecordingStore
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
