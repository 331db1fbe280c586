"""The page for BCI users runs as it is printed, from an empty folder to a decision on a device."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "start" / "bci.md"


def run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_an_empty_folder_to_a_decision(tmp_path: Path) -> None:
    pytest.importorskip("brainflow")
    pytest.importorskip("onnxscript")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    lines = [line for block in blocks(PAGE, "bash") for line in block.splitlines()]
    assert sum(line.startswith("eegm2 ") for line in lines) >= 9
    for line in lines:
        if line.startswith("pip "):
            continue
        command = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-800:]}{done.stderr[-800:]}"
    streamed = [json.loads(line) for line in (tmp_path / "second.jsonl").read_text().splitlines()]
    assert streamed[0]["calibration"] is not None
    assert any(line["type"] == "decision" for line in streamed)
    device = next(block for block in blocks(PAGE, "python") if "eegm2_runtime" in block)
    environment["PYTHONPATH"] = str(tmp_path / "device")
    done = subprocess.run(
        [sys.executable, "-c", device],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 5
    assert (tmp_path / "ann-device.json").exists()
