"""Targets of the windows around: whose neighbours count, what is taken off, and that they can be learnt."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from eegm2.data.windows.dataset import INDEX_DTYPE, WindowDataset
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.pooled import PoolWindows
from eegm2.errors import ConfigError
from eegm2.training.config import PretrainConfig
from eegm2.training.objectives.base import Origin
from eegm2.training.objectives.neighbours import neighbour_means
from tests.training.objectives.test_oscillatory import FOUR, TINY, parts
from tests.training.stores import tiny_store


def index(*rows: tuple[int, int]) -> np.ndarray:
    return np.array([(recording, start, -1) for recording, start in rows], INDEX_DTYPE)


def test_neighbours_are_of_the_same_recording_do_not_overlap_and_are_near() -> None:
    rows = index((0, 0), (0, 10), (0, 15), (0, 40), (1, 0), (1, 10), (1, 99))
    vectors = torch.tensor([1.0, 2.0, 4.0, 9.0, 100.0, 300.0, 500.0])[:, None]
    found = neighbour_means(vectors, rows, n_times=10, reach=15)[:, 0]
    first, second = vectors[:4].mean(), vectors[4:].mean()
    expected = [3 - first, 1 - first, 1 - first, torch.nan, 300 - second, 100 - second, torch.nan]
    torch.testing.assert_close(found, torch.tensor([float(v) for v in expected]), equal_nan=True)


def test_a_constant_of_the_person_is_no_target() -> None:
    rows = index(*((r, 10 * i) for r in range(2) for i in range(6)))
    vectors = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    moved = vectors + torch.tensor([[5.0], [-7.0]]).repeat_interleave(6, 0)
    torch.testing.assert_close(neighbour_means(moved, rows, 10, 20), neighbour_means(vectors, rows, 10, 20))


@torch.no_grad()
def test_the_term_sees_the_windows_of_the_batch_and_is_finite_without_neighbours(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store", subjects=2, seconds=20, channels=FOUR)
    windows = PoolWindows(StorePool([store]), {0: WindowDataset(store, TINY.window_config())})
    network, objective = parts([store], neighbours=2.0, neighbours_s=4.0, network=())
    batch = windows.__getitems__([0, 1, 5]).batch["x"]
    named = dict(
        zip(objective.terms, map(float, objective(network, batch, [0, 1, 2], Origin.of(windows, [0, 1, 5]))))
    )
    others = dict(
        zip(objective.terms, map(float, objective(network, batch, [0, 1, 2], Origin.of(windows, [2, 3, 6]))))
    )
    assert named["neighbours"] > 0
    assert named["neighbours"] != others["neighbours"]
    alone = dataclasses.replace(TINY, neighbours=1.0, neighbours_s=2.0)
    assert alone.neighbours_s == alone.window_s
    with pytest.raises(ConfigError, match="which windows a batch holds"):
        objective(network, batch, [0, 1, 2], Origin(0, [0, 0, 1]))


def test_a_reach_within_the_window_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"neighbours_s: got 3 with windows of 4 s"):
        PretrainConfig(objective="oscillatory", neighbours=1.0, neighbours_s=3.0)
