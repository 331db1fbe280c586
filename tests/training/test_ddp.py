"""Two processes at the same global batch learn as one does."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.stores import tiny_store

ROOT = Path(__file__).parents[2]
OPTIONS = ["--width", "4", "--window-s", "1", "--epochs", "3", "--batch-size", "4", "--accelerator", "cpu"]


def pretrain(store: Path, run: Path, *options: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "eegm2", "pretrain", str(store), "--out", str(run), *OPTIONS, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(run: Path) -> list[float]:
    with (run / "logs" / "metrics.csv").open() as file:
        return [
            float(row[name]) for row in csv.DictReader(file) for name in ("train_loss", "val_loss", "val_l1")
        ]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_processes_learn_as_one_from_two_stores(tmp_path: Path) -> None:
    """What compares windows of a batch (centring, variance, covariance) is each process's own: left out."""
    tiny_store(tmp_path / "a", seconds=16, channels=("Fp1", "Fp2", "C3", "C4", "O1", "O2"))
    tiny_store(tmp_path / "b", seconds=16, seed=1, channels=("TP9", "AF7", "AF8", "TP10"))
    options = [*OPTIONS, "--preset", "covariance", "--network", "n_virtual=4", "--objective", "oscillatory"]
    options += [
        "--window-s",
        "2",
        "--windows-per-recording",
        "2",
        "--share",
        "b=0.4",
        "--channel-subsets",
        "0.5",
    ]
    options += [
        "--centre-targets",
        "window",
        "--variance",
        "0",
        "--covariance",
        "0",
        "--log-every-steps",
        "1",
    ]
    runs = []
    for name, devices in (("one", ["--devices", "1"]), ("two", ["--devices", "2", "--strategy", "ddp"])):
        pretrain(tmp_path / "a", tmp_path / name, str(tmp_path / "b"), *options, *devices)
        with (tmp_path / name / "logs" / "steps.csv").open() as file:
            runs.append([float(row["train_loss"]) for row in csv.DictReader(file)])
    assert len(runs[0]) == 24
    assert runs[1] == pytest.approx(runs[0], rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("objective", ["reconstruction", "masked"])
def test_two_gloo_processes_learn_as_one(objective: str, tmp_path: Path) -> None:
    tiny_store(tmp_path / "store")
    pretrain(tmp_path / "store", tmp_path / "one", "--objective", objective, "--devices", "1")
    both = ["--objective", objective, "--devices", "2", "--strategy", "ddp"]
    text = pretrain(tmp_path / "store", tmp_path / "two", *both)
    assert "2 processes" in text
    assert "distributed_backend" not in text, "which Lightning would say"
    assert text.count("finished after 3 epochs") == 1
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 9
    assert two == pytest.approx(one, rel=1e-4)
    again = pretrain(tmp_path / "store", tmp_path / "two", *both)
    assert "had finished before" in again
