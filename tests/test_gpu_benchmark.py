"""benchmarks/gpu.py would start: the same code at tiny sizes on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1700)
def test_the_dry_run_goes_through_everything() -> None:
    done = run("--dry-run")
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["dry_run"]
    assert max(result["scan_errors"].values()) < 1e-4
    assert result["network_difference"] < 1e-4
    rows = {(row["form"], row["length"], row["precision"]): row["loss"] for row in result["training"]}
    assert len(rows) == 12
    for (form, length, precision), loss in rows.items():
        assert loss == pytest.approx(rows["ours", length, "fp32"], rel=0.02), (form, length, precision)
    assert {row["form"] for row in result["forward"]} == {"ours", "light", "mamba_ssm"}
    assert result["pretraining"]["windows_per_s"] > 0


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so() -> None:
    done = run()
    assert done.returncode == 1
    assert "no CUDA device is visible; --dry-run or --predict need none" in done.stderr
