"""Every experiment file in the repository can be read, and its baselines take their options."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eegm2.evaluation.experiment.reading import read_plan
from eegm2.evaluation.experiment.settings import baseline_options
from eegm2.evaluation.experiment.tables import choice_lines, markdown

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "experiments").rglob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_it_is_a_plan(path: Path) -> None:
    plan = read_plan(path)
    assert plan.models
    for model in plan.models:
        if model.baseline:
            options = baseline_options(model)
            changed = {key: value for key, value in model.options.items() if not isinstance(value, list)}
            assert {key: getattr(options, key) for key in changed} == changed


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").rglob("details.json")), ids=lambda path: path.parent.name
)
def test_its_tables_are_those_of_its_numbers(path: Path) -> None:
    details = json.loads(path.read_text())
    rows = json.loads((path.parent / "results.json").read_text())
    unfinished, chosen = [*details["failures"], *details["missing"]], choice_lines(details.get("choices", []))
    table = markdown(rows, details["comparisons"], unfinished, chosen)
    assert (path.parent / "results.md").read_text() == table


def test_its_figures_are_drawn_from_its_results(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "tools" / "draw_experiments.py", "--out", tmp_path]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    page = (ROOT / "docs" / "evidence.md").read_text()
    shown = set(re.findall(r"\(results/(experiment-\w+\.svg)\)", page))
    assert {path.name for path in tmp_path.iterdir()} == shown
    assert all((ROOT / "docs" / "results" / name).stat().st_size > 10_000 for name in shown)


def test_there_are_some() -> None:
    assert {"scp1.toml", "scp2.toml", "fingers.toml"} <= {path.name for path in FILES}
