"""The mutation tester itself: what it plants, what it leaves, and that it tells dead from live."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.mutants import mutants
from tests.mutation.planting import forked
from tests.mutation.run import (
    HERE,
    RESULTS,
    ROOT,
    counts,
    equivalents,
    keep,
    load,
    pending,
    source_of,
    targets,
)

SOURCE = '''"""Two halves."""

import math


def half(x: float, *, of: int = 2) -> float:
    """Return a share of x."""
    if x < 0:
        raise ValueError(f"x: got {x + 1}")
    return round(x / of, ndigits=3) if x and x > 1 else x
'''


def test_every_kind_of_fault_is_planted_once_and_messages_stay() -> None:
    found = mutants(SOURCE)
    changes = {mutant.change for mutant in found}
    assert {
        "2 → 3", "x < 0 → x <= 0", "x < 0 → not x < 0", "x / of → x * of", "x and x > 1 → x or x > 1",
        "x and x > 1 → x", "x > 1 → x >= 1", "round(x / of, ndigits=3) → round(x / of)", "3 → 4",
    } <= changes  # fmt: skip
    assert {m.change for m in mutants("y = x.reshape(2, -1)")} == {"2 → 3", "2 → 1"}
    assert {m.change for m in mutants("axes.set_ylim(0, 1)\naxes.plot(x)")} == {"axes.plot(x) → pass"}
    assert not any("got" in change or "x + 1" in change for change in changes)
    assert len({mutant.key for mutant in found}) == len(found)
    for mutant in found:
        assert mutant.source != SOURCE
        compile(mutant.source, "mutant", "exec")
    assert [m.key for m in found] == [m.key for m in mutants(SOURCE)]
    moved = mutants(SOURCE.replace("import math\n", "import math\nimport os\n"))
    assert {m.key for m in moved} == {m.key for m in found}, "names outlast lines that move"


@pytest.mark.slow
def test_targets_and_excuses_name_what_there_is() -> None:
    known = targets()
    for group in tomllib.loads((HERE / "targets.toml").read_text())["group"]:
        assert all((ROOT / place.split("::")[0]).exists() for place in group["tests"])
    for module, excuses in equivalents().items():
        there = {mutant.name for mutant in mutants(source_of(module).read_text())}
        assert module in known
        assert set(excuses) <= there, f"{module}: excuses for what is no longer there"
        assert all(len(reason.split()) > 3 for reason in excuses.values())


def test_who_only_waits_is_ended_and_what_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.mutation.planting.LOOKS", 2)
    monkeypatch.setattr("tests.mutation.planting.LOOK_S", 0.01)
    assert forked(lambda: time.sleep(600), 5) == {"timeout": True}
    assert forked(lambda: {"lives": True}, 5) == {"lives": True}
    assert forked(lambda: 1 / 0, 5) == {"raised": "ZeroDivisionError('division by zero')"}


def test_kept_results_add_up() -> None:
    results = load(RESULTS)
    for module, entry in results["modules"].items():
        assert not set(entry["killed"]) & set(entry["survived"]), module
        assert len(entry["killed"]) + len(entry["survived"]) <= entry["mutants"], module
        assert set(entry["survived"]) | set(entry["killed"]) <= set(entry.get("first", ())), module
    found = counts(results)
    assert found["killed"] + found["equivalent"] + found["survived"] == found["tried"] > 0
    for verdicts in found["first"].values():
        assert set(verdicts) <= {"killed", "equivalent", "survived"}


def test_verdicts_hold_as_long_as_what_they_are_on() -> None:
    module = "data.windows.order"
    kept: dict[str, Any] = {}
    first, second = pending(module, 2, False, kept)
    keep(kept[module], module, first, lives=True, met="round 1")
    keep(kept[module], module, second, lives=False, met="round 1")
    assert pending(module, 2, False, kept) == []
    assert pending(module, 2, True, kept) == [first]
    keep(kept[module], module, first, lives=False, met="round 1")
    assert pending(module, 2, True, kept) == []
    kept[module]["killed"][second.key] = "other"
    assert pending(module, 2, False, kept) == [second]
    (third,) = pending(module, 0, False, kept, fresh=1)
    assert third.key not in (first.key, second.key), "what was met is not fresh, whatever became of it"
    results = {"in_all": {}, "modules": kept}
    assert counts(results)["killed"] == 1
    assert counts(results)["first"] == {"round 1": {"survived": 1, "killed": 1}}


@pytest.mark.slow
def test_dead_and_live_are_told_apart(tmp_path: Path) -> None:
    """The kept verdicts of a small module come out again."""
    module = "data.windows.order"
    command = [
        sys.executable,
        "-m",
        "tests.mutation.run",
        "--only",
        module,
        "--out",
        str(tmp_path / "m.json"),
    ]
    subprocess.run(command, cwd=ROOT, check=False, timeout=900)
    entry = load(tmp_path / "m.json")["modules"][module]
    assert len(entry["killed"]) >= 1
    kept = load(RESULTS)["modules"][module]
    for verdict in ("killed", "survived"):
        for key in set(kept[verdict]) & set(entry["killed"]) | set(kept[verdict]) & set(entry["survived"]):
            assert key in entry[verdict], (verdict, key)
