"""Who is in which part, said again: sizes, official parts, folds, names of several stores, earlier splits."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.data.config import SplitConfig
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.splits import (
    EARLIER,
    SplitManifest,
    split_subjects,
    splits_of,
    subject_folds,
    units,
)
from eegm2.errors import DataError
from tests.laws.test_windows import people_of
from tests.training.stores import tiny_store

PARTS = ("train", "val", "test")


def sizes_of(n: int, val: float, test: float) -> tuple[int, int]:
    """Return how many of `n` validate and test: their share, one at least; who has most gives up for one."""
    found = {"val": val and max(1, round(val * n)), "test": test and max(1, round(test * n))}
    while found["val"] + found["test"] >= n:
        found["val" if found["val"] > found["test"] else "test"] -= 1
    return int(found["val"]), int(found["test"])


@pytest.mark.parametrize(
    ("val", "test"), [(0.15, 0.15), (0.2, 0.0), (0.0, 0.3), (0.5, 0.49), (0.1, 0.6), (0.0, 0.0)]
)
@pytest.mark.parametrize("official", [(), ("test",), ("val",), ("val", "test")])
def test_parts_are_as_large_as_their_shares_of_those_who_are_left(
    val: float, test: float, official: tuple[str, ...]
) -> None:
    """A part that the data set has is that, whole; the other is drawn of those whom it leaves to train on."""
    for n, by in itertools.product((5, 8, 13, 30), ("subject", "recording")):
        said = [
            official[i % len(official)] if official and i < 4 else (None, "train")[i % 2] for i in range(n)
        ]
        store = people_of([(f"p{i:02d}", "ab"[i % 3 == 0], part) for i, part in enumerate(said)])
        names = units(store, by)
        own = {part: {name for name, is_in in zip(names, said) if is_in == part} for part in PARTS}
        rest = n - len(own["val"]) - len(own["test"])
        wanted = (0.0 if own["val"] else val, 0.0 if own["test"] else test)
        if rest < 1 + sum(share > 0 for share in wanted):
            continue
        config = SplitConfig(seed=n, val=val, test=test, by=by)  # type: ignore[arg-type]
        found = split_subjects(store, config, dict(zip(names, "aab" * n)))
        n_val, n_test = sizes_of(rest, *wanted)
        assert len(found.val) == n_val + len(own["val"])
        assert len(found.test) == n_test + len(own["test"])
        assert own["val"] <= set(found.val)
        assert own["test"] <= set(found.test)
        assert Counter(found.train + found.val + found.test) == Counter(names)
        assert all(list(getattr(found, part)) == sorted(getattr(found, part)) for part in PARTS)
        assert (found.seed, found.by, found.manifest_sha256) == (n, by, store.manifest_sha256)


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_data_sets_own_parts_are_mixed_where_they_are_not_wanted(part: str) -> None:
    people = [(f"p{i}", "", part if i < 10 else "train") for i in range(20)]
    store, kept, drawn = people_of(people), set(), set()
    for seed in range(6):
        own = split_subjects(store, SplitConfig(seed=seed, val=0.3, test=0.3))
        mixed = split_subjects(store, SplitConfig(seed=seed, val=0.3, test=0.3, official=False))
        kept |= set(getattr(own, part)) ^ {f"p{i}" for i in range(10)}
        drawn |= set(mixed.train) & {f"p{i}" for i in range(10)}
        assert (len(mixed.val), len(mixed.test)) == (6, 6)
    assert kept == set()
    assert len(drawn) > 5


def test_whom_a_data_set_divides_is_refused_by_people_and_kept_by_recordings() -> None:
    people = [("q", "", "train"), ("p", "", "train"), ("p", "", "test"), ("q", "", "val"), ("r", "", "test")]
    people += [("s", "", None), ("s", "", "train"), ("t", "", "train"), ("u", "", "train")]
    store = people_of(people)
    with pytest.raises(DataError, match="own split divides these subjects: p, q; use --no-official"):
        split_subjects(store, SplitConfig())
    by_recording = split_subjects(store, SplitConfig(by="recording"))
    assert (by_recording.val, by_recording.test) == (("r3",), ("r2", "r4"))
    assert by_recording.selection("test") == {"recordings": ("r2", "r4")}
    mixed = split_subjects(store, SplitConfig(official=False))
    assert mixed.selection("val") == {"subjects": mixed.val}
    assert sorted(mixed.train + mixed.val + mixed.test) == [*"pqrstu"]


@pytest.mark.parametrize(
    ("val", "test", "needed"), [(0.2, 0.2, 3), (0.2, 0.0, 2), (0.0, 0.2, 2), (0.0, 0.0, 1)]
)
def test_every_part_that_is_asked_for_needs_somebody(val: float, test: float, needed: int) -> None:
    for n in range(1, 5):
        store = people_of([(f"p{i}", "", None) for i in range(n)])
        if n < needed:
            with pytest.raises(DataError, match=f"{n} subjects? .* cannot be divided into {needed} parts"):
                split_subjects(store, SplitConfig(val=val, test=test))
        else:
            found = split_subjects(store, SplitConfig(val=val, test=test))
            assert [bool(getattr(found, part)) for part in PARTS] == [True, val > 0, test > 0]


@pytest.mark.parametrize("n_folds", [2, 3, 5, 7])
@pytest.mark.parametrize("seed", range(3))
def test_folds_are_a_partition_that_follows_the_seed_and_nothing_else(n_folds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"s{number:02d}" for number in range(int(rng.integers(n_folds, 25)))]
    labels = {name: str(rng.choice([*"aab"])) for name in names[:-1]}
    folds = subject_folds(names, n_folds, seed=seed, labels=labels)
    assert len(folds) == n_folds
    assert Counter(name for _, test in folds for name in test) == Counter(names)
    for train, test in folds:
        assert list(test) == sorted(test)
        assert train == tuple(name for name in names if name not in test)
    for label in ("a", "b", ""):
        of = [sum(labels.get(name, "") == label for name in test) for _, test in folds]
        share = sum(of) / len(names)
        assert all(abs(n - share * len(test)) < 1 + 1e-9 for n, (_, test) in zip(of, folds))
    shuffled = [*rng.permutation(names), *names[:3]]
    assert subject_folds(shuffled, n_folds, seed=seed, labels=dict(reversed(labels.items()))) == folds
    other = [subject_folds(names, n_folds, seed=seed + more, labels=labels) for more in range(1, 5)]
    assert n_folds == len(names) or any(others != folds for others in other)


def test_names_of_several_stores_are_told_apart_and_put_back() -> None:
    """A name of several people counts as trained on, else as validated: nobody who was seen is tested."""
    names = {f"{a}{b}": (a, b) for a in PARTS for b in (*PARTS, "")}
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for name, (first, second) in names.items():
        parts[first].append(f"a/{name}")
        if second:
            parts[second].append(f"a-2/{name}")
    parts["train"].append("a-2/a/x")
    manifest = SplitManifest(
        *(tuple(sorted(parts[part])) for part in PARTS), 5, "subject", "all", {"a": "1f", "a-2": "2e"}
    )
    for store, which in (("a", 0), ("a-2", 1)):
        own = manifest.part_of(store)
        assert (own.seed, own.by, own.manifest_sha256) == (5, "subject", {"a": "1f", "a-2": "2e"}[store])
        assert own.stores == {}
        for part in PARTS:
            expected = {name for name, is_in in names.items() if is_in[which] == part}
            assert set(getattr(own, part)) - {"a/x"} == expected
        assert manifest.of_store({"a": "1f", "a-2": "2e"}[store]) == own
    assert manifest.of_store("all") is None
    one = manifest.part_of("a")
    assert one.of_store("1f") == one
    assert one.of_store("2e") is None
    assert one.all_names() == one
    joined = manifest.all_names()
    for part in PARTS:
        expected = {
            name
            for name, is_in in names.items()
            if min(map(PARTS.index, filter(None, is_in))) == PARTS.index(part)
        }
        assert set(getattr(joined, part)) - {"a/x"} == expected
    assert "a/x" in joined.train


def test_the_newest_of_earlier_splits_counts_if_it_divided_alike(tmp_path: Path) -> None:
    stores = [tiny_store(tmp_path / name, subjects=5, seconds=1.0, seed=n) for n, name in enumerate("ab")]
    people = [f"sub{i}" for i in range(5)]

    def said(test: str, store: int, **facts: Any) -> SplitManifest:
        rest = tuple(name for name in people if name not in (test, "sub0"))
        facts = {"manifest_sha256": stores[store].manifest_sha256, **facts}
        return SplitManifest(rest, ("sub0",), (test,), **facts)

    by_recording = said("sub4", 0, by="recording")
    newest, older = said("sub3", 0, seed=8), said("sub2", 0)
    for pool in (StorePool(stores[0]), StorePool(stores)):
        found = pool.split(SplitConfig(), [by_recording, said("sub1", 1), newest, older])
        own = found if len(pool) == 1 else found.part_of("a")
        assert (own.train, own.val, own.test) == (newest.train, newest.val, newest.test)
        if len(pool) > 1:
            assert found.part_of("b").test == ("sub1",)
            assert found.stores == {name: store.manifest_sha256 for name, store in zip("ab", stores)}
    alone = StorePool(stores[0]).split(SplitConfig(seed=3), [by_recording, said("sub1", 1)])
    assert alone == split_subjects(stores[0], SplitConfig(seed=3))


def test_splits_of_a_run_are_its_own_and_then_the_earlier_ones(tmp_path: Path) -> None:
    assert [f"splits-before-{n}.json" for n in range(1, 10)] == list(EARLIER)
    for name in (EARLIER[1], EARLIER[0], "splits.json"):
        (tmp_path / name).touch()
    assert [path.name for path in splits_of(tmp_path)] == ["splits.json", *EARLIER[:2]]


def test_official_parts_of_a_store_are_refused_only_where_they_count(tmp_path: Path) -> None:
    """A store too small to be divided is trained on whole, unless its own parts say who is tested."""
    large = tiny_store(tmp_path / "large", subjects=6, seconds=1.0)
    small = tiny_store(tmp_path / "small", subjects=2, seconds=1.0, seed=1, splits=("train", "test"))
    pool = StorePool([large, small])
    with pytest.raises(DataError, match=r"small.* cannot be divided into 2 parts"):
        pool.split(SplitConfig())
    whole = pool.split(SplitConfig(official=False)).part_of("small")
    assert (whole.train, whole.val, whole.test) == (("sub0", "sub1"), (), ())
    kept = pool.split(SplitConfig(val=0.0)).part_of("small")
    assert (kept.train, kept.val, kept.test) == (("sub0",), (), ("sub1",))
