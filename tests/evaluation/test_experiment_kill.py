"""An experiment that is killed at random moments ends with the same results, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.experiments import plan_text, write_plan
from tests.evaluation.helpers import labelled_store
from tests.training.kill_harness import run_killed, run_whole, warm_up


def evaluate_command(plan: str, out: str) -> None:
    """Evaluate as the command line does."""
    from eegm2.evaluation.experiment.reading import read_plan
    from eegm2.evaluation.experiment.run import run_experiment
    from eegm2.evaluation.experiment.state import Experiment

    run_experiment(Experiment(read_plan(plan), out))


def kept(out: Path) -> dict[str, bytes]:
    """Return what must be equal: the results and every cell's predictions."""
    files = [out / "results.json", out / "results.md", *(out / "cells").glob("*.npz")]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def campaign(folder: Path, *models: str, seeds: str, kills: int, seed: int) -> int:
    """Kill experiments until `kills` hit; return how many did."""
    labelled_store(folder / "store", seconds=12.0)
    text = plan_text(*models, tail='\n[[compare]]\na = "light"\nb = "linear"\n')
    plan = str(write_plan(folder, text.replace("seeds = [0, 1]", f"seeds = {seeds}")))
    run_whole(warm_up)
    seconds = run_whole(evaluate_command, plan, str(folder / "whole"))
    expected = kept(folder / "whole")
    hits = runs = 0
    while hits < kills:
        out = folder / f"killed{runs}"
        at_most = min(5, kills - hits)
        done = run_killed(
            evaluate_command, plan, str(out), kills=at_most, longest_s=seconds, seed=seed * 1000 + runs
        )
        hits, runs = hits + done.kills, runs + 1
        assert kept(out) == expected
        assert json.loads((out / "details.json").read_text())["failures"] == {}
        assert [path.name for path in out.rglob(".*")] == []
    return hits


def test_killed_at_random_moments(tmp_path: Path) -> None:
    assert campaign(tmp_path, "linear", "light", seeds="[0]", kills=2, seed=1) == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_thirty_random_moments(tmp_path: Path) -> None:
    models = ("linear", "random", "light", "fine", "band_power")
    assert campaign(tmp_path, *models, seeds="[0, 1]", kills=30, seed=2) == 30
