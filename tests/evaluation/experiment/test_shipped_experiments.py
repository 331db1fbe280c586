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


def test_what_the_readmes_say_of_results_is_what_they_are() -> None:
    found = {}
    for folder in ("demo", "representation"):
        for row in json.loads((ROOT / "experiments" / folder / "results.json").read_text()):
            if row["metric"] == "auroc":
                found[row["model"], row.get("train_subjects")] = row
    demo = [
        f"{row['mean']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
        for row in (found["oscillations", None], found["band power", None])
    ]
    said = " ".join((ROOT / "README.md").read_text().split())
    assert f"an AUROC of {demo[0]}; log band power on the same splits gives {demo[1]}" in said
    weights = ROOT / "src" / "eegm2" / "zoo" / "weights" / "oscillations" / "model.safetensors"
    assert f"`oscillations` ({weights.stat().st_size / 1e6:.2f} MB, any electrodes" in said
    few, random = (
        ["{:.3f}".format(found[f"{model}, {n} subjects", n]["mean"]) for n in (5, 10)]
        for model in ("pretrained_state", "random")
    )
    card = (ROOT / "tools" / "shipped" / "oscillations.toml").read_text()
    assert f"AUROC {few[0]} with 5 and {few[1]} with 10 labelled people, {random[0]} and {random[1]}" in card


def test_there_are_some() -> None:
    assert {"scp1.toml", "scp2.toml", "fingers.toml"} <= {path.name for path in FILES}
