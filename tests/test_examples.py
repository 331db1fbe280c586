"""The examples run, and the gallery shows them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
SHELL = sorted((ROOT / "examples").glob("*.sh"))
#: onnx_stream.py is tested where exported files are (tests/deploy).
OWN = [path for path in SCRIPTS if path.name != "onnx_stream.py"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_examples_compile(path: Path) -> None:
    compile(path.read_text(), str(path), "exec")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_examples_run(path: Path, tmp_path: Path) -> None:
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"))
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=580,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip(), "an example that shows nothing"
    assert {entry.name for entry in tmp_path.iterdir()} <= {"out"}, "it writes outside its folder"


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_examples_are_valid_and_use_options_that_exist(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    from tests.test_docs import check_command

    joined = path.read_text().replace("\\\n", " ")
    commands = [
        line[line.index("eegm2 pretrain") :] for line in joined.splitlines() if "eegm2 pretrain" in line
    ]
    assert commands
    for command in commands:
        words = [word.strip('"') for word in command.rstrip(" &").split()]
        # Shell variables stand for values; the checker wants a number where a number belongs.
        check_command(["1" if word.startswith("$") else word for word in words])


def test_the_gallery_names_every_example() -> None:
    gallery = (ROOT / "docs" / "examples.md").read_text()
    for path in (*SCRIPTS, *SHELL):
        assert f"`{path.name}`" in gallery, f"{path.name} is not in docs/examples.md"
