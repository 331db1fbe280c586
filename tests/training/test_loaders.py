"""Batches: every window once, the same on any number of processes, and on from any place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from eegm2.training.loaders import make_loader
from eegm2.training.orders import BatchOrder, EvaluationOrder, PooledOrder


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


def pooled(
    shares: tuple[float, ...] = (0.5, 0.25, 0.25), sizes: tuple[int, ...] = (40, 20, 20), **options: Any
) -> PooledOrder:
    return PooledOrder(sizes, shares, **{"batch_size": 6, "seed": 5, **options})


RECORDINGS = np.repeat([0, 1, 2], [9, 8, 6])


class TestTogether:
    def order(self, **options: Any) -> BatchOrder:
        return BatchOrder(23, batch_size=8, seed=5, groups=RECORDINGS, together=4, **options)

    def test_windows_of_a_recording_come_together(self) -> None:
        for epoch in range(3):
            order = self.order()
            order.epoch = epoch
            found = flat(order)
            assert sorted(found) == list(range(23))
            sets = np.array(found[:20]).reshape(5, 4)
            assert all(len(set(RECORDINGS[one])) == 1 for one in sets)

    def test_other_windows_meet_in_every_epoch(self) -> None:
        order = self.order()
        first = flat(order)
        order.epoch = 1
        assert {frozenset(first[i : i + 4]) for i in range(0, 20, 4)} != {
            frozenset(flat(order)[i : i + 4]) for i in range(0, 20, 4)
        }

    def test_a_set_stays_at_one_process(self) -> None:
        parts = [list(self.order(rank=rank, world_size=2)) for rank in range(2)]
        for i, whole in enumerate(list(self.order())[:2]):
            assert flat([parts[0][i], parts[1][i]]) == whole
            assert all(len(set(RECORDINGS[part[i]])) == 1 for part in parts)
        with pytest.raises(ValueError, match="got 8 over 4 processes with 4 windows of a recording together"):
            self.order(world_size=4)

    def test_several_stores(self) -> None:
        order = pooled(
            (0.2, 0.6, 0.2), batch_size=4, together=2, groups=[np.arange(40) // 4] + [np.arange(20) // 4] * 2
        )
        for batch in order:
            recordings = (np.array(batch) // 4).reshape(2, 2)
            assert (recordings[:, 0] == recordings[:, 1]).all()


class TestPooledOrder:
    def test_in_proportion_an_epoch_is_every_window_once(self) -> None:
        order = pooled()
        for epoch in (0, 1):
            order.epoch = epoch
            assert sorted(flat(order)) == list(range(80))
            assert len(list(order)) == order.total == 7 + 4 + 4

    def test_a_batch_is_of_one_store_and_the_stores_are_mixed(self) -> None:
        stores = [{np.searchsorted([40, 60, 80], w, side="right") for w in batch} for batch in pooled()]
        assert all(len(store) == 1 for store in stores)
        turns = [store.pop() for store in stores]
        assert turns != sorted(turns)

    def test_shares_hold_and_all_windows_are_seen_equally_often(self) -> None:
        order = pooled((0.2, 0.6, 0.2))
        assert order.counts == [3, 9, 3]
        seen = np.zeros(80, int)
        for epoch in range(20):
            order.epoch = epoch
            for batch in order:
                assert len(batch) == 6
                np.add.at(seen, batch, 1)  # two passes may meet in a batch
        assert seen.sum() == 20 * 15 * 6
        for part in (seen[:40], seen[40:60], seen[60:]):
            assert part.max() - part.min() <= 1

    @pytest.mark.parametrize("start", [0, 4, 14])
    def test_it_goes_on_from_any_batch(self, start: int) -> None:
        order = pooled((0.2, 0.6, 0.2))
        order.epoch = 3
        whole = list(order)
        order.start = start
        assert len(order) == len(whole) - start
        assert list(order) == whole[start:]

    @pytest.mark.parametrize("world", [2, 3])
    def test_processes_share_the_batches_of_one(self, world: int) -> None:
        parts = [list(pooled((0.2, 0.6, 0.2), rank=rank, world_size=world)) for rank in range(world)]
        for i, whole in enumerate(pooled((0.2, 0.6, 0.2))):
            assert set(flat(part[i] for part in parts)) == set(whole)
            assert len({len(part[i]) for part in parts}) == 1

    def test_limited_batches_take_turns(self) -> None:
        order = pooled(n_batches=4)
        assert list(order) == [[*range(6)], [*range(6, 12)], [*range(40, 46)], [*range(60, 66)]]

    def test_a_share_below_one_batch_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"share: 0\.01 of 15 batches is less than one"):
            pooled((0.01, 0.5, 0.49))

    def test_evaluation_keeps_the_stores_apart(self) -> None:
        order = EvaluationOrder((40, 20), batch_size=30)
        assert list(order) == [[*range(30)], [*range(30, 40)], [*range(40, 60)]]
        assert len(order) == 3
        assert list(EvaluationOrder((40, 20), batch_size=30, first=[2, 3])) == [[0, 1], [40, 41, 42]]
