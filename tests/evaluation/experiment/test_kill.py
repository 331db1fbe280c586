"""An experiment that is killed at random moments ends with the same results, bit for bit."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from eegm2.evaluation.experiment.weights import weights_sha256
from eegm2.training.runfolder import LOCK
from tests.evaluation.experiments import model, plan_text, write_plan
from tests.evaluation.helpers import labelled_store
from tests.training.kill_harness import run_killed, run_whole, warm_up


def evaluate_command(plan: str, out: str) -> None:
    """Evaluate as the command line does."""
    from eegm2.evaluation.experiment.reading import read_plan
    from eegm2.evaluation.experiment.run import run_experiment
    from eegm2.evaluation.experiment.state import Experiment

    run_experiment(Experiment(read_plan(plan), out))


def kept(out: Path) -> dict[str, bytes]:
    """Return what must be equal: the results, every cell's predictions and the pretrained weights."""
    files = [out / "results.json", out / "results.md", *(out / "cells").glob("*.npz")]
    found = {path: path.read_bytes() for path in files}
    for path in (out / "pretrained").rglob("*.safetensors"):
        found[path] = weights_sha256(path).encode()  # the header has the path of the split
    return {str(path.relative_to(out)): value for path, value in found.items()}


def differences(expected: dict[str, bytes], out: Path) -> list[str]:
    """Return in what a killed experiment differs, and what it left behind."""
    found = kept(out)
    differing = sorted(name for name in {*expected, *found} if found.get(name) != expected.get(name))
    failed = json.loads((out / "details.json").read_text())["failures"]
    return (
        differing
        + [f"failed: {cell}" for cell in failed]
        + [f"left: {path.name}" for path in out.rglob(".*")]
    )


def campaign(folder: Path, *models: str, kills: int, seed: int) -> dict[str, Any]:
    """Kill experiments (pretraining, a choice among models and a comparison) until `kills` hit.

    Returns
    -------
    dict
        kills, runs, and failures: the differences from the experiment that was left alone.
    """
    labelled_store(folder / "store", seconds=12.0)
    names = ", ".join(f'"{name}"' for name in ("linear", "light", *models))
    choice = model("chosen", f"choose = [{names}]")
    text = plan_text("linear", "light", *models, tail=choice + '\n[[compare]]\na = "light"\nb = "linear"\n')
    plan = str(write_plan(folder, text.replace("seeds = [0, 1]", "seeds = [0]")))
    run_whole(warm_up)
    seconds = run_whole(evaluate_command, plan, str(folder / "whole"))
    expected = kept(folder / "whole")
    hits = runs = 0
    failures: list[str] = []
    while hits < kills:
        out = folder / f"killed{runs}"
        at_most = min(5, kills - hits)
        done = run_killed(
            evaluate_command, plan, str(out), kills=at_most, longest_s=seconds, seed=seed * 1000 + runs
        )
        hits, runs = hits + done.kills, runs + 1
        failures += [f"{out.name}: {what}" for what in differences(expected, out)]
    return {"kills": hits, "runs": runs, "failures": failures}


@pytest.mark.forks
def test_killed_at_random_moments(tmp_path: Path) -> None:
    result = campaign(tmp_path, kills=1, seed=1)
    assert result["kills"] == 1
    assert result["failures"] == []
    whole = tmp_path / "whole"
    expected = kept(whole)
    run = next((whole / "pretrained").rglob("run.json")).parent  # killed when its pretraining had just ended
    (run / LOCK).write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname(), "started": 1e9}))
    for path in (whole / "cells").glob("light-*"):
        path.unlink()
    run_whole(evaluate_command, str(next(tmp_path.glob("*.toml"))), str(whole))
    assert differences(expected, whole) == []
    assert any(name.startswith("cells/chosen-fold0") for name in expected)  # and a difference would be seen
    (tmp_path / "whole" / "results.json").write_text("[]")
    (tmp_path / "whole" / ".tmp-left").touch()
    assert differences(expected, tmp_path / "whole") == ["results.json", "left: .tmp-left"]


@pytest.mark.forks
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_fifty_random_moments(tmp_path: Path) -> None:
    result = campaign(tmp_path, "band_power", kills=50, seed=2)
    assert result["kills"] == 50
    assert result["failures"] == []
