"""Batches: every window once, the same on any number of processes, and on from any place."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch.utils.data import TensorDataset

from eegm2.training.loaders import BatchOrder, EvaluationOrder, make_loader


def flat(lists: Iterable[list[int]]) -> list[int]:
    return [item for one in lists for item in one]


def batches(**options: object) -> list[list[int]]:
    epoch = options.pop("epoch", 0)
    order = BatchOrder(23, batch_size=6, seed=5, **options)  # type: ignore[arg-type]
    order.epoch = epoch  # type: ignore[assignment]
    return list(order)


def test_an_epoch_is_every_window_once_in_an_order_of_its_own() -> None:
    first, second = batches(), batches(epoch=1)
    assert [len(batch) for batch in first] == [6, 6, 6, 5]
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(23))
    assert first != second
    assert first == batches()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_batches_of_one(world: int) -> None:
    parts = [batches(rank=rank, world_size=world) for rank in range(world)]
    for i, whole in enumerate(batches()):
        sizes = {len(part[i]) for part in parts}
        assert len(sizes) == 1
        together = set(flat(part[i] for part in parts))
        assert together == set(whole[: len(whole) - len(whole) % world])


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_it_goes_on_from_any_batch(start: int) -> None:
    order = BatchOrder(23, batch_size=6, seed=5)
    order.start = start
    assert len(order) == 4 - start
    assert list(order) == batches()[start:]


def test_limited_batches_are_the_first_windows() -> None:
    order = BatchOrder(23, batch_size=6, n_batches=2)
    assert list(order) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    order.epoch = 7
    assert flat(order) == list(range(12))


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size: got 6 over 4 processes, expected a multiple"):
        BatchOrder(23, batch_size=6, world_size=4)
    with pytest.raises(ValueError, match="devices: 6 processes for 5 windows"):
        BatchOrder(5, batch_size=6, world_size=6)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_is_every_window_once_over_all_processes(world: int) -> None:
    parts = [EvaluationOrder(23, batch_size=6, rank=rank, world_size=world) for rank in range(world)]
    assert sorted(window for part in parts for batch in part for window in batch) == list(range(23))
    assert all(len(list(part)) == len(part) for part in parts)


def test_iterating_draws_nothing_from_the_global_generator() -> None:
    loader = make_loader(TensorDataset(torch.arange(23)), BatchOrder(23, batch_size=6), workers=0, pin=False)
    before = torch.get_rng_state()
    assert sum(len(batch[0]) for batch in loader) == 23
    assert torch.equal(torch.get_rng_state(), before)
