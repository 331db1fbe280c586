"""Damaged files of our own are used or refused in one line, by everything that reads them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile.own_files import make, names, try_one, uses


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    make(folder)
    return folder


def count(made: Path, numbers: range, folder: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for number in numbers:
        kind, said = try_one(made, number, folder / "copy")
        assert kind != "escaped", f"{number}: {said}"
        counts[kind] += 1
        shutil.rmtree(folder / "copy")
    return counts


def test_the_folder_is_sound(made: Path) -> None:
    assert len(names(made)) > 12
    every = [use for name in names(made) for use in uses(made, name)]
    different = {(use.__qualname__, use.__code__.co_firstlineno): use for use in every}
    assert len(different) > 7
    for use in different.values():
        use()
    shutil.rmtree(made / "shared")


def test_some_damaged_files(made: Path, tmp_path: Path) -> None:
    assert count(made, range(12), tmp_path).total() == 12


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_many_damaged_files(made: Path, tmp_path: Path) -> None:
    counts = count(made, range(1000, 1600), tmp_path)
    assert min(counts["read"], counts["refused"]) > 50
