"""The libraries' own Triton kernels on a CPU: Triton's interpreter, and what launching asks of a GPU.

Only for `test_gpu_kernels.py`, in a process started with TRITON_INTERPRET=1 where triton and the libraries
are installed. Nothing of a kernel's arithmetic is replaced.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch


def prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let launchers run without a device; the first of the configurations to tune among is as good as any."""
    autotuner: Any = importlib.import_module("triton.runtime.autotuner")
    monkeypatch.setattr(autotuner.Autotuner, "_bench", lambda *_, **__: [1.0, 1.0, 1.0])
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(multi_processor_count=4)
    )
    if importlib.util.find_spec("fla") is not None:
        # Compiled, a loop's counter is a tensor; the interpreter counts in plain integers.
        place: Any = importlib.import_module("fla.ops.common.chunk_h")
        monkeypatch.setattr(place, "range", _range_of_tensors, raising=False)
    spec = importlib.util.find_spec("mamba_ssm")
    if spec is not None and "mamba_ssm" not in sys.modules:
        # Its package imports an extension compiled for CUDA, which the Triton kernels do not need.
        package = types.ModuleType("mamba_ssm")
        package.__path__ = list(spec.submodule_search_locations or [])
        monkeypatch.setitem(sys.modules, "mamba_ssm", package)


def _range_of_tensors(*bounds: Any) -> Iterator[Any]:
    import numpy as np
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    for value in builtins.range(*map(int, bounds)):
        yield tl.core.tensor(TensorHandle(np.array([value], dtype=np.int32), tl.int32), tl.int32)
