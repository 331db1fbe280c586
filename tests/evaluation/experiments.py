"""Small experiments for tests of ``eegm2 evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from eegm2.cli.main import app

HEAD = """
seeds = [0, 1]
n_bootstrap = 40

[data]
store = "store"
window_s = 2.0
"""
OWN = """
[pretrain.own]
preset = "s5"
width = 4
epochs = 1
batch_size = 16
seed = 5
"""
MODELS: dict[str, str] = {
    "linear": 'protocol = "linear"\npretrained = "own"\nc = "validation"',
    "random": 'protocol = "linear"\npretrained = "random"\npreset = "s5"\nwidth = 4',
    "light": 'protocol = "light"\npretrained = "own"\nfit = {max_epochs = 3}',
    "fine": 'protocol = "fine"\npretrained = "own"\nfit = {max_epochs = 2, lr = 1e-3, head = "statistics"}',
    "scratch": 'protocol = "scratch"\npretrained = "own"\nfit = {max_epochs = 1, head = "statistics"}',
    "band_power": 'baseline = "band_power"\n'
    'options = {bands = ["low=1:6", "high=6:14"], segment_s = 1.0, c = "validation"}',
}
FOLDS = "\n[splits]\nn_folds = 2\nval = 0.34\n"


def model(name: str, text: str = "") -> str:
    """Return one [[models]] table."""
    return f'\n[[models]]\nname = "{name}"\n{text or MODELS[name]}\n'


def plan_text(*names: str, splits: str = FOLDS, own: str = OWN, tail: str = "", head: str = HEAD) -> str:
    """Return an experiment with some of MODELS."""
    return head + splits + own + "".join(model(name) for name in names) + tail


def write_plan(folder: Path, text: str) -> Path:
    """Write an experiment's file; its store is ``folder/store``."""
    path = folder / "evaluate.toml"
    path.write_text(text)
    return path


def evaluate(folder: Path, text: str, *options: str, out: str = "out") -> Result:
    """Run the command as a user does; errors are raised."""
    path = write_plan(folder, text)
    arguments = ["evaluate", str(path), "--out", str(folder / out), *options]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def rows_of(folder: Path, out: str = "out") -> list[dict[str, Any]]:
    """Return results.json."""
    rows: list[dict[str, Any]] = json.loads((folder / out / "results.json").read_text())
    return rows


def details_of(folder: Path, out: str = "out") -> dict[str, Any]:
    """Return details.json."""
    details: dict[str, Any] = json.loads((folder / out / "details.json").read_text())
    return details
