"""Windows of several stores under one numbering, counted one by one, and who is one person in them."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.data.config import WindowConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.store.recording_store import RecordingStore, StoreWriter
from eegm2.data.windows.dataset import WindowDataset, collate_windows
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.pooled import PoolWindows, pool_windows, shares
from eegm2.data.windows.splits import SplitManifest
from eegm2.training.objectives.base import Origin
from tests.laws.test_runs_by_the_book import people
from tests.laws.test_windows_by_counting import written
from tests.training.stores import tiny_store

LABELS = (LabelSpan(0.0, 1.0, "a"), LabelSpan(1.0, 2.0, "b"))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> StorePool:
    """Three stores; sample t of channel c of recording r of each is 10,000 r + 1,000 c + t."""
    folder = tmp_path_factory.mktemp("data")
    lengths = ({"r0": 100, "r1": 70}, {"r0": 64, "r1": 130, "r2": 40}, {"r0": 96, "r3": 64, "s": 33})
    stores = [
        written(folder / name, of, labels=[LABELS] * len(of)) for name, of in zip(("x", "y", "z"), lengths)
    ]
    return StorePool(stores)


CONFIG = WindowConfig(window_s=1.0, stride_s=0.5, scaling="none")


@pytest.mark.parametrize("numbers", [(0,), (0, 2), (2, 1), (0, 1, 2), (1,)])
def test_a_window_is_that_of_its_store_wherever_it_stands(pool: StorePool, numbers: tuple[int, ...]) -> None:
    datasets = {number: WindowDataset(pool.stores[number], CONFIG) for number in numbers}
    windows = PoolWindows(pool, datasets)
    expected: list[tuple[int, int, dict[str, Any]]] = []
    for number, data in datasets.items():
        expected += [(number, place, data[place]) for place in range(len(data))]
    assert len(windows) == len(expected) == sum(windows.sizes)
    assert windows.sizes == tuple(map(len, datasets.values()))
    assert windows.n_times == 32
    for window, (number, place, item) in enumerate(expected):
        data = datasets[number]
        row = data.index[place]
        assert windows.store_of(window) == number
        info = data.recordings[row["recording"]]
        assert windows.describe(window) == f"{pool.names[number]}/{info.id} at {row['start'] / 32:g} s"
        found = windows[window]
        assert (found["index"], found["y"]) == (window, item["y"])
        np.testing.assert_array_equal(found["x"], item["x"])
        assert float(found["x"][0, 0]) == 1e4 * row["recording"] + row["start"]
    first = 0
    for number, data in datasets.items():
        chosen = [first + place for place in (len(data) - 1, 0, 2, 1)]
        batch = collate_windows(windows.__getitems__(chosen))  # type: ignore[arg-type]
        assert batch["index"].tolist() == chosen
        assert batch["y"].tolist() == [expected[window][2]["y"] for window in chosen]
        for x, window in zip(batch["x"], chosen):
            np.testing.assert_array_equal(x, expected[window][2]["x"])
        rows = [int(data.index["recording"][window - first]) for window in chosen]
        assert windows.recordings_of(chosen) == rows
        origin = Origin.of(windows, chosen)
        assert (origin.store_number, origin.recording_numbers, origin.numbers) == (number, rows, chosen)
        assert windows.of_store(number) is data
        first += len(data)
    assert all(windows.of_store(number) is None for number in {0, 1, 2} - {*numbers})


def test_each_part_has_its_own_people_of_each_store(pool: StorePool) -> None:
    """People of a store that has nobody in a part are of no other store, though their names are the same."""
    parts = {"train": ("x/p0", "y/p1", "z/p0"), "val": ("y/p0",), "test": ("x/p1", "z/p1")}
    for part, names in parts.items():
        windows = pool_windows(pool, CONFIG, SplitManifest(**parts), part)
        assert windows is not None
        of = [
            (pool.names[number], person)
            for number, data in zip(windows.numbers, windows.datasets)
            for person in sorted(set(data.subjects))
        ]
        assert [f"{store}/{person}" for store, person in of] == list(names)
    assert pool_windows(pool, CONFIG, SplitManifest(("x/p0",), (), ("y/p0",)), "val") is None
    by_recording = SplitManifest(("r1",), ("r0",), (), by="recording")
    windows = pool_windows(StorePool(pool.stores[0]), CONFIG, by_recording, "val")
    assert windows is not None
    assert set(windows.datasets[0].recording_ids) == {"r0"}


@pytest.mark.parametrize("sizes", [(10, 30, 60), (7, 7, 1), (1, 1000, 10)])
def test_shares_are_those_asked_for_and_others_by_their_windows(
    pool: StorePool, sizes: tuple[int, ...]
) -> None:
    whole = sum(sizes)
    assert shares(pool, sizes, ()) == pytest.approx([size / whole for size in sizes])
    assert shares(pool, sizes, ("equal",)) == pytest.approx([1 / 3] * 3)
    for name, asked in itertools.product("xyz", (0.1, 0.75)):
        others = whole - sizes["xyz".index(name)]
        expected = [
            asked if other == name else (1 - asked) * size / others for other, size in zip("xyz", sizes)
        ]
        assert shares(pool, sizes, (f"{name}={asked}",)) == pytest.approx(expected)
    assert shares(pool, sizes, ("z=0.25", "x=0.5")) == pytest.approx([0.5, 0.25, 0.25])
    assert shares(pool, sizes, ("z=0.25", "x=0.5", "y=0.25")) == pytest.approx([0.5, 0.25, 0.25])


@pytest.mark.parametrize("seed", range(12))
def test_one_person_are_all_who_are_linked_by_name_and_files(seed: int, tmp_path: Path) -> None:
    """By any chain of stores, in whatever order they come; two names of a store are two people."""
    rng = np.random.default_rng(seed)
    said: list[list[tuple[str, str, None]]] = []
    for _ in range(4):
        count = int(rng.integers(2, 6))
        files = rng.choice([*"123456", ""], count, replace=True)
        said.append([(str(rng.choice([*"pq"])), str(file), None) for file in files])
    stores = [
        people(tmp_path / name, *of, channels=(f"{name.upper()}1", "Cz")) for name, of in zip("abcd", said)
    ]
    files_of = {
        (name, person): {file for who, file, _ in of if who == person} - {""}
        for name, of in zip("abcd", said)
        for person in {who for who, *_ in of}
    }
    linked = {key: {key} for key in files_of}
    for _ in files_of:
        for a, b in itertools.permutations(files_of, 2):
            if a[1] == b[1] and files_of[a] & files_of[b]:
                joined = linked[a] | linked[b]
                for key in joined:
                    linked[key] = joined
    expected = {frozenset(f"{store}/{person}" for store, person in group) for group in linked.values()}
    found = StorePool(stores).people()
    assert {frozenset(names) for names in found} == expected
    assert sum(map(len, found)) == len(files_of)


def test_a_window_is_scaled_by_its_own_recording_and_by_no_other(tmp_path: Path) -> None:
    """By its typical amplitude: whatever else is chosen, its windows and channels keep their proportions."""
    store = tiny_store(tmp_path / "s", subjects=4, seconds=4)
    writer = StoreWriter(tmp_path / "scaled", store.preprocessing, store.ch_names)
    factors = (1.0, 30.0, 0.2, 7.0)
    for info, factor in zip(store.recordings, factors):
        writer.write(info, factor * store.read(info.id))
    scaled = RecordingStore(tmp_path / "scaled")
    config = WindowConfig(window_s=1.0, scaling="recording")
    for chosen in (None, ("sub1", "sub3"), ("sub2",)):
        data = WindowDataset(scaled, config, subjects=chosen)
        plain = WindowDataset(scaled, dataclasses.replace(config, scaling="none"), subjects=chosen)
        batch, raw = (collate_windows(d.__getitems__(range(len(d)))) for d in (data, plain))  # type: ignore[arg-type]
        for window in range(len(data)):
            name = str(data.recording_ids[window])
            x = scaled.read(name)
            typical = np.median(
                [1.4826 * np.median(np.abs(row - np.median(row))) for row in x.astype(np.float64)]
            )
            np.testing.assert_allclose(batch["x"][window], raw["x"][window] / typical, rtol=1e-4)
            torch.testing.assert_close(data[window]["x"], batch["x"][window])
