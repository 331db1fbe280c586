"""Several stores as one body of data: who is who, what is refused, which windows there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.data.config import SplitConfig, WindowConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.pooled import PoolWindows, pool_windows, shares
from eegm2.data.windows.splits import PARTS, SplitManifest, split_subjects
from eegm2.errors import ConfigError, DataError
from tests.training.stores import tiny_store

FOUR = ("Fp1", "Fp2", "O1", "O2")
SPLIT = SplitConfig(seed=1, val=0.25, test=0.25)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[RecordingStore]:
    folder = tmp_path_factory.mktemp("data")
    return [
        tiny_store(folder / "a", subjects=8),
        tiny_store(folder / "b", subjects=4, seed=1, channels=FOUR),
        tiny_store(folder / "other" / "a", subjects=1, seed=2),
    ]


def everybody(manifest: SplitManifest) -> list[str]:
    return [name for part in PARTS for name in getattr(manifest, part)]


def windows(pool: StorePool, part: str = "train") -> PoolWindows:
    found = pool_windows(pool, WindowConfig(window_s=1.0), pool.split(SPLIT), part)
    assert found is not None
    return found


class TestPeople:
    def test_equal_names_in_two_stores_are_two_people(self, three: list[RecordingStore]) -> None:
        pool = StorePool(three)
        assert pool.names == ("a", "b", "a-2")
        assert sorted(len(names) for names in pool.people()) == [1] * 13
        assert sorted(everybody(pool.split(SPLIT))) == sorted(
            [*(f"a/sub{i}" for i in range(8)), *(f"b/sub{i}" for i in range(4)), "a-2/sub0"]
        )

    def test_a_store_divides_as_it_would_alone(self, three: list[RecordingStore]) -> None:
        manifest = StorePool(three).split(SPLIT)
        for name, store in zip("ab", three):
            alone = split_subjects(store, SPLIT)
            assert manifest.part_of(name) == alone
            assert alone.val
            assert alone.test

    def test_a_store_of_one_person_is_trained_on_whole(self, three: list[RecordingStore]) -> None:
        assert StorePool(three).split(SPLIT).part_of("a-2").train == ("sub0",)
        with pytest.raises(DataError, match=r"1 subject \(sub0\) cannot be divided into 3 parts"):
            StorePool([three[2], tiny_store(Path(three[2].url).parent / "c", subjects=1)]).split(SPLIT)

    def test_an_official_test_part_is_never_trained_on(
        self, three: list[RecordingStore], tmp_path: Path
    ) -> None:
        official = tiny_store(tmp_path / "o", subjects=3, seed=5, splits=["train", "test", "train"])
        assert "o/sub1" in StorePool([three[0], official]).split(SPLIT).test
        too_small = tiny_store(tmp_path / "p", subjects=2, seed=6, splits=["train", "test"])
        with pytest.raises(DataError, match="cannot be divided into 2 parts"):
            StorePool([three[0], too_small]).split(SPLIT)

    def test_one_data_set_prepared_twice_is_the_same_people(
        self, three: list[RecordingStore], tmp_path: Path
    ) -> None:
        """The same source files with other channels: nobody may be on two sides."""
        again = tiny_store(tmp_path / "again", subjects=8, channels=FOUR)
        pool = StorePool([three[0], again])
        assert sorted(pool.people()) == [[f"a/sub{i}", f"again/sub{i}"] for i in range(8)]
        official = tiny_store(
            tmp_path / "official", subjects=8, channels=FOUR, splits=["test"] * 2 + ["train"] * 6
        )
        pool = StorePool([three[0], official])
        alone = split_subjects(three[0], SPLIT)
        manifest = pool.split(SPLIT)
        assert {"a/sub0", "a/sub1"} <= set(manifest.test)
        assert not {"sub0", "sub1"} <= set(alone.test), "the case tests nothing"
        sides = {name: part for part in PARTS for name in getattr(manifest, part)}
        for one, other in pool.people():
            assert sides[one] == sides[other]

    def test_the_manifest_survives_the_disk(self, three: list[RecordingStore], tmp_path: Path) -> None:
        pool = StorePool(three)
        manifest = pool.split(SPLIT)
        manifest.to_json(tmp_path / "s.json")
        read = SplitManifest.from_json(tmp_path / "s.json")
        assert read == manifest
        assert read.stores == {name: store.manifest_sha256 for name, store in zip(pool.names, three)}
        pool.refuse_unknown(read, "s.json")
        with pytest.raises(DataError, match=r"s\.json: subjects not in the store: sub9; .* such as a-2/sub0"):
            pool.refuse_unknown(SplitManifest(("sub9",), (), ()), "s.json")

    def test_a_single_store_keeps_its_own_names(self, three: list[RecordingStore], tmp_path: Path) -> None:
        manifest = StorePool(three[0]).split(SPLIT)
        assert manifest == split_subjects(three[0], SPLIT)
        manifest.to_json(tmp_path / "s.json")
        assert "stores" not in json.loads((tmp_path / "s.json").read_text())

    def test_what_another_store_sees_of_a_split(self, three: list[RecordingStore]) -> None:
        manifest = StorePool(three).split(SPLIT)
        assert manifest.of_store(three[1].manifest_sha256) == split_subjects(three[1], SPLIT)
        assert manifest.of_store("0" * 64) is None
        stranger = manifest.all_names()
        assert set(stranger.train) == {name.partition("/")[2] for name in manifest.train}
        assert len(everybody(stranger)) == len(set(everybody(stranger)))
        alone = split_subjects(three[0], SPLIT)
        assert alone.all_names() is alone
        assert alone.of_store(three[0].manifest_sha256) is alone
        assert alone.of_store(three[1].manifest_sha256) is None

    def test_a_store_keeps_the_parts_of_earlier_training(self, three: list[RecordingStore]) -> None:
        other = SplitConfig(seed=9, val=0.25, test=0.25)
        before = split_subjects(three[0], other)
        assert before != split_subjects(three[0], SPLIT), "the case tests nothing"
        assert StorePool(three[0]).split(SPLIT, [before]) == before
        pooled = StorePool(three[:2]).split(SPLIT, [before])
        assert pooled.part_of("a").train == before.train
        assert pooled.part_of("b") == split_subjects(three[1], SPLIT)
        assert StorePool(three[1]).split(SPLIT, [pooled]) == split_subjects(three[1], SPLIT)


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"sfreq_hz": 64.0}, r"prepared differently: sfreq_hz is 32\.0 and 64\.0"),
            ({"reference": "average"}, "reference is keep and average"),
            ({"amplitude": "any"}, "amplitude is microvolts and any"),
            ({"l_freq_hz": 1.0, "notch_hz": 10.0}, r"l_freq_hz is 0\.5 and 1\.0; notch_hz is 0\.0 and 10\.0"),
        ],
    )
    def test_other_rates_units_or_preprocessing(
        self, change: dict[str, Any], message: str, three: list[RecordingStore], tmp_path: Path
    ) -> None:
        other = tiny_store(tmp_path / "other", **change)
        with pytest.raises(ConfigError, match=message) as error:
            StorePool([three[0], other])
        assert all(store.url in str(error.value) for store in (three[0], other))
        assert "\n" not in str(error.value)

    def test_the_same_store_twice(self, three: list[RecordingStore]) -> None:
        with pytest.raises(ConfigError, match=r"the same recordings as .*; give a store once, --share says"):
            StorePool([three[0], three[1], three[0].url])

    def test_none(self) -> None:
        with pytest.raises(ConfigError, match="stores: got none"):
            StorePool([])


class TestWindows:
    def test_they_are_those_of_the_stores(self, three: list[RecordingStore]) -> None:
        pool = StorePool(three)
        data = windows(pool)
        alone = [
            WindowDataset(store, WindowConfig(window_s=1.0), subjects=pool.split(SPLIT).part_of(name).train)
            for name, store in zip(pool.names, three)
        ]
        assert data.sizes == tuple(map(len, alone))
        for place, own in enumerate(alone):
            first = int(data.starts[place])
            chosen = [first + 3, first, first + 5]
            batch = data.__getitems__(chosen).batch
            assert batch["index"].tolist() == chosen
            for row, window in enumerate((3, 0, 5)):
                assert torch.equal(batch["x"][row], own[window]["x"])
                assert torch.equal(data[first + window]["x"], own[window]["x"])
            assert {data.store_of(window) for window in chosen} == {place}
            recordings = own.index["recording"][[3, 0, 5]].tolist()
            assert data.recordings_of(chosen) == recordings
        assert windows(pool, "val").numbers == (0, 1)

    def test_messages_name_the_store(self, three: list[RecordingStore]) -> None:
        data = windows(StorePool(three))
        last = len(data) - 1
        assert data.describe(last) == "a-2/rec0 at 11 s"
        assert "/" not in windows(StorePool(three[0])).describe(0)


class TestShares:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ((), (0.5, 0.3, 0.2)),
            (("equal",), (1 / 3, 1 / 3, 1 / 3)),
            (("b=0.6",), (0.4 * 5 / 7, 0.6, 0.4 * 2 / 7)),
            (("a=0.2", "b=0.3", "a-2=0.5"), (0.2, 0.3, 0.5)),
        ],
    )
    def test_they_add_up(
        self, given: tuple[str, ...], expected: tuple[float, ...], three: list[RecordingStore]
    ) -> None:
        found = shares(StorePool(three), (50, 30, 20), given)
        np.testing.assert_allclose(found, expected)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                ("c=0.5",),
                r"share: got 'c=0\.5', expected equal, or a store and its share .* stores are a, b, a-2",
            ),
            (("a",), "share: got 'a', expected"),
            (("a=0",), "share: got 'a=0', expected"),
            (("a=0.1", "a=0.2"), r"share: got 'a=0\.2', .* each store once"),
            (("a=0.5", "b=0.5"), r"share: a=0\.5, b=0\.5 add up to 1, which leaves nothing to the others"),
            (("a=0.5", "b=0.3", "a-2=0.1"), r"add up to 0\.9, which is not 1"),
            (("a=0.9", "b=0.3"), r"add up to 1\.2, which is not 1"),
        ],
    )
    def test_or_are_refused(self, given: tuple[str, ...], message: str, three: list[RecordingStore]) -> None:
        with pytest.raises(ConfigError, match=message):
            shares(StorePool(three), (50, 30, 20), given)
