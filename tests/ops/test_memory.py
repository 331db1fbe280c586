"""Memory for results: never that of a tensor that somebody still holds, and that of freed ones again."""

from __future__ import annotations

import threading

import pytest
import torch

from eegm2.ops.cpu import memory
from eegm2.ops.cpu.runtime import empty

SIZE = 50_000  # float32: above what is left to the C library


@pytest.fixture(autouse=True)
def _no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_blocks", memory._Blocks())


def made(count: int = SIZE) -> torch.Tensor:
    return empty((count // 10, 10), torch.float32)


def test_freed_memory_is_taken_again_and_no_other() -> None:
    first = made()
    place = first.data_ptr()
    assert place % memory.ALIGNED == 0
    assert made().data_ptr() != place
    view = first[3:, 4:5].transpose(0, 1)
    del first
    assert made().data_ptr() != place
    array = view.numpy()
    del view
    assert made().data_ptr() != place
    del array
    assert made().data_ptr() == place


def test_results_hold_what_they_say_however_many_there_are() -> None:
    held = [made().fill_(i) for i in range(40)]
    del held[::3]
    held += [made().fill_(40 + i) for i in range(40)]
    values = [float(tensor[0, 0]) for tensor in held]
    assert len(set(values)) == len(held)
    assert all(bool((tensor == value).all()) for tensor, value in zip(held, values))


def test_a_block_is_no_much_larger_than_asked_for() -> None:
    place = made().data_ptr()
    assert made(SIZE // 2).data_ptr() != place
    assert made(SIZE * 9 // 10).data_ptr() == place
    assert made(SIZE).data_ptr() == place


def test_a_thread_keeps_so_much_and_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KEPT", 18 * SIZE)  # four and a half
    held = [made() for _ in range(7)]
    assert [block.size for block in memory._blocks.all] == 4 * [4 * SIZE]
    del held
    empty((20 * SIZE,), torch.float32)
    assert [block.size for block in memory._blocks.all] == 4 * [4 * SIZE]
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(len(memory._blocks.all)))
    thread.start()
    thread.join()
    assert seen == [0]
