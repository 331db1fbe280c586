"""A first call that compiles says so in one line, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
SAYING = "compiling the CPU kernels"
SCALE = (
    "from eegm2.data.windows.scaling import scale_window; import numpy as np; "
    "scale_window(np.ones((2, 3, 64), 'f4'), 'robust')"
)
SCAN = (
    "import torch; from eegm2 import ops; x = torch.ones(1, 8, 1, 4); "
    "ops.ssd(x, x[..., 0], -torch.ones(1), x, x, backend='numba')"
)


@pytest.mark.parametrize("code", [SCALE, pytest.param(SCAN, marks=pytest.mark.slow)], ids=["data", "scan"])
def test_the_first_call_says_so_and_the_second_reads_the_cache(code: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "NUMBA_CACHE_DIR": str(tmp_path)}
    impatient = f"import eegm2.compiling as c; c.PATIENCE_S = 0.0; {code}; {code}"
    for expected in (1, 0):
        done = subprocess.run(
            [sys.executable, "-c", impatient], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stderr.count(SAYING) == expected, done.stderr
        assert done.stdout == ""
    assert any(tmp_path.rglob("*.nbc"))


def test_where_nothing_can_be_kept_it_says_that_and_other_peoples_kernels_are_their_own(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, numba, eegm2.compiling as c; from numba.core.caching import _CacheLocator\n"
        "def refuse(self): raise PermissionError('read-only file system')\n"
        "_CacheLocator.ensure_cache_path = refuse; c.PATIENCE_S = 0.0; c.announce_kernels()\n"
        "assert numba.njit(lambda x: x + 1)(2) == 3\n"
        f"print('theirs', file=sys.stderr, flush=True); {SCALE}"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    theirs, ours = done.stderr.split("theirs\n")
    assert theirs == ""
    assert "NUMBA_CACHE_DIR" in ours
    assert ours.count(SAYING) == 1
