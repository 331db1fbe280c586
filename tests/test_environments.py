"""Unusual ways to start Python: without a compiler, without docstrings; and MNE's names as they change."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

from tests.hostile import writers


def run(code: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=250
    )


def test_without_a_compiler_the_torch_forms_run() -> None:
    code = """
import numpy as np, torch
from eegm2 import EEGM2, EEGM2Config, StreamingEEGM2
from eegm2.ops.backends import backend_report
from eegm2.data.signal.compiled import kernels
model = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=2))
model(torch.zeros(1, 2, 64)).sum().backward()
StreamingEEGM2(model.eval()).push(np.zeros((1, 2, 64), np.float32))
assert kernels("filter_kernels") is None
print(backend_report()["cpu"]["why"])
"""
    done = run(code, NUMBA_DISABLE_JIT="1")
    assert done.stdout == "NUMBA_DISABLE_JIT is set, so nothing is compiled\n", done.stderr[-500:]


def test_without_docstrings_it_is_said(tmp_path: Path) -> None:
    source, out = str(tmp_path / "in"), str(tmp_path / "out")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "m.edf").write_bytes(writers.edf())
    done = run(
        f"from eegm2.data.files.readers import read_raw; read_raw({str(tmp_path / 'in' / 'm.edf')!r})", "-OO"
    )
    assert "cannot be imported under python -OO" in done.stderr.splitlines()[-1]
    code = f"import sys; sys.argv[1:] = ['prepare', {source!r}, '--out', {out!r}]"
    done = run(f"{code}; from eegm2.cli.main import main; main()", "-OO")
    assert done.returncode == 0, done.stderr[-500:]
    assert (tmp_path / "out" / "store.json").is_file()


def test_positions_come_without_a_warning() -> None:
    from eegm2.data.positions import electrode_positions

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {"Cz", "Fp1", "O2"} <= electrode_positions().keys()
