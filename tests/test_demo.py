"""The demo, as a new user runs it: everything it promises is there, and a second run goes on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app

ROOT = Path(__file__).parents[1]


def test_the_demo_makes_what_it_names(tmp_path: Path) -> None:
    arguments = ["demo", "--out", str(tmp_path / "demo"), "--width", "4", "--epochs", "1"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "show the pipeline and not a finding" in result.output
    results = json.loads((tmp_path / "demo" / "probe" / "results.json").read_text())
    assert {row["protocol"] for row in results["protocols"]} == {"linear", "light"}
    assert results["task"]["split"] == "run"
    for name in ("last", "best"):
        assert (tmp_path / "demo" / "run" / "checkpoints" / f"{name}.safetensors").stat().st_size > 1000
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
    assert "had finished before" in CliRunner().invoke(app, arguments, catch_exceptions=False).output


def test_the_readme_has_its_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^python3 -m venv .*$", readme, flags=re.MULTILINE)
    assert [command.split(" && ")[-1] for command in commands] == [
        ".venv/bin/eegm2 demo",
        ".venv/bin/pytest -n 2",
    ]
    assert all("-c constraints.txt" in command for command in commands)


@pytest.mark.parametrize("path", ["src/eegm2", "tests", "docs", "benchmarks", "examples", "tools"])
def test_the_tree_of_the_readme_is_true(path: str) -> None:
    assert (ROOT / path).exists()
    assert path.split("/")[-1] in (ROOT / "README.md").read_text()
