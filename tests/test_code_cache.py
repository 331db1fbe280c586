"""Compiled code on disk: the right one or none, whoever else writes there, and cheap to read."""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import event
from numba.core.caching import _CacheLocator

from eegm2.code_cache import CodeCache

SOURCE = Path(__file__).parents[1] / "src"
KERNEL = """
from eegm2.compiling import kernel

@kernel
def doubled(x):
    y = x.copy()
    for i in range(x.size):
        y[i] = 2 * x[i]
    return y
"""
DTYPES = (np.float32, np.float64, np.int32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "tiny.py").write_text(KERNEL)
    return tmp_path


def fresh(folder: Path) -> Any:
    """Return the kernel as a new process has it: nothing compiled, nothing read."""
    spec = importlib.util.spec_from_file_location("eegm2.tiny", folder / "tiny.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.doubled


def right(kernel: Any, dtype: Any) -> None:
    x = np.arange(5, dtype=dtype)
    y = kernel(x)
    assert y.dtype == dtype
    assert (y == 2 * x).all()


def hits(kernel: Any) -> tuple[int, int]:
    return sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache").rglob("*.nbc"))


def test_processes_that_compile_different_types_at_once_do_not_take_each_others_place(folder: Path) -> None:
    together = [fresh(folder) for _ in DTYPES]  # each has looked into an empty folder
    for kernel, dtype in zip(together, DTYPES):
        right(kernel, dtype)
    assert len(files(folder)) == len(DTYPES)
    later = fresh(folder)
    for dtype in DTYPES:
        right(later, dtype)
    assert hits(later) == (len(DTYPES), 0)


def test_code_compiled_in_another_way_is_not_taken(folder: Path) -> None:
    right(fresh(folder), np.float32)
    kernel = fresh(folder)
    kernel._cache = CodeCache(kernel.py_func, "otherwise")
    right(kernel, np.float32)
    assert hits(kernel) == (0, 1)


def test_nothing_is_collected_while_kernels_are_compiled_and_again_after_it(folder: Path) -> None:
    seen: list[bool] = []
    kernel = fresh(folder)
    save = kernel._cache.save_overload
    kernel._cache.save_overload = lambda *of: (seen.append(gc.isenabled()), save(*of))
    passes = []
    event.register("numba:run_pass", listener := Listener(passes))
    right(kernel, np.float32)
    event.unregister("numba:run_pass", listener)
    assert set(passes) == {False}
    assert seen == [True]
    assert gc.isenabled()


class Listener(event.Listener):
    def __init__(self, seen: list[bool]) -> None:
        self.seen = seen

    def on_start(self, event: Any) -> None:
        self.seen.append(gc.isenabled())

    def on_end(self, event: Any) -> None:
        pass


def test_damaged_code_is_compiled_again_and_mended(folder: Path) -> None:
    right(fresh(folder), np.float32)
    (path,) = files(folder)
    whole = path.read_bytes()
    for broken in (b"", whole[:20], whole[:-1], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        path.write_bytes(broken)
        kernel = fresh(folder)
        right(kernel, np.float32)
        assert hits(kernel) == (0, 1)
        kernel = fresh(folder)
        right(kernel, np.float32)
        assert hits(kernel) == (1, 0)


def test_the_code_of_another_type_or_source_is_not_taken(folder: Path) -> None:
    kernel = fresh(folder)
    right(kernel, np.float32)
    (single,) = files(folder)
    right(kernel, np.float64)
    (double,) = set(files(folder)) - {single}
    double.write_bytes(single.read_bytes())
    kernel = fresh(folder)
    right(kernel, np.float64)
    assert hits(kernel) == (0, 1)
    (folder / "tiny.py").write_text(KERNEL + "\n# of another day\n")
    kernel = fresh(folder)
    right(kernel, np.float32)
    assert hits(kernel) == (0, 1)
    assert len(files(folder)) == 2  # in place of the old one


def refuse(self: Any) -> None:
    raise PermissionError("read-only file system")


def test_a_folder_that_cannot_be_written_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right(fresh(folder), np.float32)
    before = {path: path.read_bytes() for path in folder.rglob("*.nbc")}
    monkeypatch.setattr(_CacheLocator, "ensure_cache_path", refuse)
    kernel = fresh(folder)
    right(kernel, np.float32)
    assert hits(kernel) == (1, 0)
    assert not kernel._cache.writable
    right(kernel, np.float64)  # compiled for this process alone
    assert {path: path.read_bytes() for path in folder.rglob("*.nbc")} == before


def test_a_folder_that_vanishes_or_fills_costs_only_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    right(fresh(folder), np.float32)
    assert not list((folder / "cache").rglob("*.*"))


@pytest.mark.slow  # that loading a model takes no compiler is in tests/model/test_shapes.py
def test_reading_makes_neither_the_compiler_nor_torch_compile_ready(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from eegm2 import ops; "
        "ops.symmetric_eigen(torch.eye(3, dtype=torch.float64)[None]); "
        "heavy = ('torch._dynamo', 'numba.np.arraymath', 'scipy.linalg', 'mne'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "NUMBA_CACHE_DIR": str(tmp_path)}
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        said.append(done.stdout.strip())
    assert "numba.np.arraymath" in said[0]
    assert said[1] == "[]"
