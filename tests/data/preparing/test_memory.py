"""The stored measurements of memory: what sound files take lies below the limit, and the page says them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
KEPT = ROOT / "docs" / "results" / "memory.json"
ROWS = json.loads(KEPT.read_text())["rows"]
LIBRARIES_MB = 320.0


def script() -> ModuleType:
    """Return ``benchmarks/memory.py`` as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_memory", ROOT / "benchmarks" / "memory.py")
    assert spec is not None
    assert spec.loader is not None
    before = list(sys.path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


def test_every_format_was_measured_below_its_limit_and_four_times_its_file() -> None:
    assert {row["format"] for row in ROWS} == set(script().FORMATS)
    for row in ROWS:
        packed = 3 if "compressed" in row["format"] else 1
        assert row["mapped_mb"] < row["limit_mb"], row
        assert row["resident_mb"] <= 4 * packed * row["file_mb"] + LIBRARIES_MB, row


def test_the_page_says_what_was_measured() -> None:
    assert KEPT.with_suffix(".md").read_text() == script().table(json.loads(KEPT.read_text()))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted({row["format"] for row in ROWS}))
def test_a_larger_file_takes_at_most_four_times_as_much_more(name: str, tmp_path: Path) -> None:
    """Measure again: beyond what libraries take, memory grows with the file and no faster."""
    measure = script().measured
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    small, large = measure(name, 4, tmp_path / "a"), measure(name, 48, tmp_path / "b")
    packed = 3 if "compressed" in name else 1
    more = large["resident_mb"] - small["resident_mb"]
    assert more <= 4 * packed * (large["file_mb"] - small["file_mb"]) + 64
    assert large["mapped_mb"] < large["limit_mb"]
