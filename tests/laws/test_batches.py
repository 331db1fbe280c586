"""Batches said again: what every process takes of them, in which order, and from where a run goes on."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from eegm2.training.orders import BatchOrder, EvaluationOrder, PooledOrder

Make = Any


def recordings(n: int, each: int) -> np.ndarray:
    """Return recordings of `n` windows, of `each` windows and a few more in turn."""
    lengths = itertools.cycle([each, each + 1, each + 3])
    return np.repeat(np.arange(n), list(itertools.islice(lengths, n)))[:n]


SIZES, TOGETHER = (37, 22, 51), 2
GROUPS = [recordings(size, 4) for size in SIZES]
STARTS = np.cumsum([0, *SIZES])


def one_store(**options: Any) -> BatchOrder:
    return BatchOrder(SIZES[0], batch_size=12, seed=7, groups=GROUPS[0], **options)


def in_proportion(**options: Any) -> PooledOrder:
    shares = [size / sum(SIZES) for size in SIZES]
    return PooledOrder(SIZES, shares, batch_size=12, seed=7, groups=GROUPS, **options)


def by_shares(**options: Any) -> PooledOrder:
    return PooledOrder(SIZES, (0.5, 0.3, 0.2), batch_size=12, seed=7, groups=GROUPS, **options)


def epoch_of(order: BatchOrder | PooledOrder, epoch: int, start: int = 0) -> list[list[int]]:
    order.epoch, order.start = epoch, start
    found = list(order)
    assert len(order) == len(found)
    return found


def store_of(batch: Sequence[int]) -> int:
    (store,) = {int(np.searchsorted(STARTS, window, side="right")) - 1 for window in batch}
    return store


def every(batches: Iterable[Sequence[int]]) -> list[int]:
    return [window for batch in batches for window in batch]


MAKES = pytest.mark.parametrize("make", [one_store, in_proportion, by_shares])


@MAKES
@pytest.mark.parametrize(("world", "together"), [(2, 1), (3, 1), (4, 1), (2, TOGETHER), (3, TOGETHER)])
def test_processes_deal_out_the_batches_of_one(make: Make, world: int, together: int) -> None:
    """Each as many, none twice, less what does not divide; sets of a recording stay at a process."""
    whole = make(together=together)
    each = [make(together=together, rank=rank, world_size=world) for rank in range(world)]
    for epoch in (0, 3):
        batches = [batch for batch in epoch_of(whole, epoch) if len(batch) >= world]
        parts = [epoch_of(order, epoch) for order in each]
        assert {len(part) for part in parts} == {len(batches)}
        for batch, *of_processes in zip(batches, *parts):
            even = batch[: len(batch) - len(batch) % world]
            if together == 1:
                assert of_processes == [even[rank::world] for rank in range(world)]
            else:
                size = len(even) // world
                assert of_processes == [even[rank * size : (rank + 1) * size] for rank in range(world)]


@pytest.mark.parametrize("make", [one_store, in_proportion, "by_shares"])
def test_a_batch_is_of_one_store_and_its_sets_are_of_one_recording(make: Make) -> None:
    """But for what is left of a recording beyond whole sets, which comes last in a pass."""
    sizes = SIZES if make != "by_shares" else (36, 22, 52)  # whole sets go into a pass
    groups = [recordings(size, 4) for size in sizes]
    order = (
        PooledOrder(sizes, (0.5, 0.3, 0.2), batch_size=12, seed=7, groups=groups, together=2)
        if make == "by_shares"
        else make(together=2)
    )
    of = np.concatenate([1000 * store + own for store, own in enumerate(groups)])
    left = {store: sum(np.bincount(own) % 2) for store, own in enumerate(groups)}
    for epoch in range(3):
        apart: Counter[int] = Counter()
        for batch in epoch_of(order, epoch):
            assert len(batch) <= 12
            (store,) = {int(of[window] // 1000) for window in batch}
            apart[store] += sum(of[a] != of[b] for a, b in zip(batch[::2], batch[1::2]))
        passes = {s: -(-drawn // size) + 1 for s, (drawn, size) in enumerate(zip(order.drawn, sizes))}
        assert all(n <= passes[store] * (left[store] + 1) / 2 for store, n in apart.items())


@MAKES
@pytest.mark.parametrize("together", [1, TOGETHER])
def test_a_run_goes_on_from_any_batch_on_any_process(make: Make, together: int) -> None:
    for rank, world in ((0, 1), (1, 2)):
        order = make(together=together, rank=rank, world_size=world)
        for epoch in (0, 2):
            batches = epoch_of(order, epoch)
            for start in range(len(batches) + 1):
                assert epoch_of(order, epoch, start) == batches[start:]
        assert order.n_windows == sum(order.drawn)


@MAKES
@pytest.mark.parametrize("together", [1, TOGETHER])
def test_seed_and_epoch_decide_and_nothing_else(make: Make, together: int) -> None:
    def drawn(seed: int, epoch: int) -> list[list[int]]:
        order = make(together=together)
        for one in (order, *getattr(order, "stores", ())):
            one.seed = seed
        return epoch_of(order, epoch)

    found = [drawn(seed, epoch) for seed in (7, 8) for epoch in (0, 1, 2)]
    assert found[0] == epoch_of(make(together=together), 0)
    assert all(one != other for one, other in itertools.combinations(found, 2))
    if make is not one_store:  # the stores take turns in an order of the epoch's own
        turns = [tuple(map(store_of, batches)) for batches in found]
        assert len(set(turns)) > 3
        assert all(Counter(turn) == Counter(turns[0]) for turn in turns)


@pytest.mark.parametrize("together", [1, TOGETHER])
def test_passes_over_a_store_follow_each_other_across_epochs(together: int) -> None:
    """What an epoch leaves of a permutation the next one takes first: nobody waits, nobody is seen twice."""
    order = by_shares(together=together)
    whole = sum(-(-size // 12) for size in SIZES)
    assert sum(order.counts) == order.total == whole
    seen: list[list[int]] = [[], [], []]
    for epoch in range(7):
        for batch in epoch_of(order, epoch):
            assert len(batch) == 12
            seen[store_of(batch)] += batch
    for store, size in enumerate(SIZES):
        passes = [seen[store][i : i + size] for i in range(0, len(seen[store]), size)]
        assert len(passes) > 2
        assert all(len(set(one)) == len(one) for one in passes)
        assert all(set(one) == {*range(STARTS[store], STARTS[store + 1])} for one in passes[:-1])
        assert len({tuple(one) for one in passes}) == len(passes)
    assert order.drawn == [12 * count for count in order.counts]


@pytest.mark.parametrize("make", [one_store, in_proportion])
@pytest.mark.parametrize("together", [1, TOGETHER])
def test_an_epoch_is_every_window_once_in_as_many_batches_as_they_fill(make: Make, together: int) -> None:
    order = make(together=together)
    sizes = SIZES[:1] if make is one_store else SIZES
    for epoch in range(3):
        batches = epoch_of(order, epoch)
        assert sorted(every(batches)) == list(range(sum(sizes)))
        assert len(batches) == sum(-(-size // 12) for size in sizes)
        assert order.drawn == list(sizes)


@pytest.mark.parametrize("n_batches", [1, 2, 4, 7, 50])
def test_to_try_a_run_the_first_windows_of_each_store_in_turns(n_batches: int) -> None:
    """In ascending order, whatever the epoch; as many batches as asked for and as there are."""
    for make, sizes in ((one_store, SIZES[:1]), (by_shares, SIZES)):
        order = make(n_batches=n_batches, together=TOGETHER)
        turns = [n_batches // len(sizes) + (store < n_batches % len(sizes)) for store in range(len(sizes))]
        expected = []
        for store, (size, turn) in enumerate(zip(sizes, turns)):
            windows = [*range(STARTS[store], STARTS[store] + min(size, 12 * turn))]
            expected += [windows[i : i + 12] for i in range(0, len(windows), 12)]
        assert epoch_of(order, 0) == epoch_of(order, 5) == expected
        assert order.n_windows == len(every(expected))
        assert order.drawn == [min(size, 12 * turn) for size, turn in zip(sizes, turns)]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 12])
@pytest.mark.parametrize("first", [None, (5, 0, 60)])
def test_validation_is_every_window_once_in_order_store_by_store(
    world: int, batch_size: int, first: tuple[int, ...] | None
) -> None:
    limits = SIZES if first is None else [min(size, limit) for size, limit in zip(SIZES, first)]
    wanted = [window for start, n in zip(STARTS, limits) for window in range(start, start + n)]
    seen = []
    for rank in range(world):
        order = EvaluationOrder(SIZES, batch_size=batch_size, rank=rank, world_size=world, first=first)
        batches = list(order)
        assert len(batches) == len(order)
        assert max(map(len, batches)) == max(1, batch_size // world)
        assert every(batches) == sorted(every(batches))
        for batch in batches:
            store_of(batch)
        of_store = Counter(store_of([window]) for window in every(batches))
        assert all(abs(of_store[store] - n / world) < 1 for store, n in enumerate(limits))
        seen += every(batches)
    assert sorted(seen) == wanted
    alone = EvaluationOrder(SIZES[0], batch_size=batch_size)
    assert every(alone) == list(range(SIZES[0]))


def test_a_batch_must_divide_among_processes_and_sets() -> None:
    for world, together, good in ((5, 1, False), (4, 1, True), (4, 2, False), (2, 3, True), (3, 4, True)):
        if good:
            one_store(world_size=world, together=together)
            continue
        with pytest.raises(ValueError, match="batch_size: got 12 over"):
            one_store(world_size=world, together=together)
    with pytest.raises(ValueError, match="devices: 3 processes for 2 windows"):
        BatchOrder(2, batch_size=3, world_size=3)
    assert len(BatchOrder(3, batch_size=3, world_size=3)) == 1


def test_recordings_are_mixed_whatever_comes_together() -> None:
    """Sets, and what is left of recordings after them, come in an order of the epoch's own."""
    groups = np.repeat(np.arange(12), 5)
    order = BatchOrder(60, batch_size=12, seed=3, groups=groups, together=2)
    firsts, lasts, rising = [], [], []
    for epoch in range(20):
        of = groups[every(epoch_of(order, epoch))]
        sets = of[:48].reshape(24, 2)
        assert (sets[:, 0] == sets[:, 1]).all()
        assert Counter(sets[:, 0].tolist()) == dict.fromkeys(range(12), 2)
        assert sorted(of[48:]) == list(range(12))
        firsts.append(int(of[0]))
        lasts.append(int(of[-1]))
        rising += [np.corrcoef(sets[:, 0], np.arange(24))[0, 1], np.corrcoef(of[48:], np.arange(12))[0, 1]]
        assert len(set(sets[:6, 0].tolist())) >= 3
    assert len(set(firsts)) > 5
    assert len(set(lasts)) > 5
    assert abs(np.mean(rising)) < 0.2
    assert len({tuple(every(epoch_of(order, epoch))[:2]) for epoch in range(20)}) > 15
