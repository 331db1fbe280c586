"""The real kernels of the GPU libraries against the float64 recurrence: on a GPU, or in Triton's interpreter.

On a GPU: ``pytest -m gpu tests/ops``. Without one, where triton and the libraries are installed:
``TRITON_INTERPRET=1 pytest -m slow tests/ops/test_gpu_kernels.py``.
"""

from __future__ import annotations

import os

import pytest
import torch
from scan_cases import NAMES, oracle, results, ssd_inputs, worst
from torch import Tensor
from triton_interpreter import prepare

from eegm2 import ops
from eegm2.ops import backends
from eegm2.ops.gpu import libraries
from eegm2.ops.gpu.ssd import ssd_fla, ssd_mamba

MAPPINGS = {"fla": ssd_fla, "mamba_ssm": ssd_mamba}
SIZES = {"heads": 4, "headdim": 64, "groups": 1, "d_state": 16}  # those of the network
TOLERANCE = 1e-4


@pytest.fixture
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is visible")
    return torch.device("cuda")


@pytest.fixture
def library(request: pytest.FixtureRequest, cuda: torch.device) -> str:
    problem = backends.library_problem(request.param)
    if problem is not None:
        pytest.skip(problem)
    return str(request.param)


def on(device: torch.device, inputs: list[Tensor]) -> list[Tensor]:
    return [tensor.to(device) for tensor in inputs]


def gpu_results(inputs: list[Tensor], device: torch.device, backend: str) -> list[Tensor]:
    def scan(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        y, state = ops.ssd(*on(device, list(arguments)), backend=backend)
        return y.cpu(), state.cpu()

    return results(scan, inputs)


@pytest.mark.gpu
@pytest.mark.parametrize("length", [1, 63, 64, 65, 257, 1600])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("library", MAPPINGS, indirect=True)
def test_on_the_gpu_outputs_state_and_gradients_equal_the_recurrence(
    library: str, groups: int, length: int, cuda: torch.device
) -> None:
    inputs = ssd_inputs(length, dtype=torch.float32, **{**SIZES, "groups": groups})
    assert worst(gpu_results(inputs, cuda, library), oracle("ssd", inputs)) < TOLERANCE


@pytest.mark.gpu
@pytest.mark.parametrize("place", range(7), ids=NAMES)
@pytest.mark.parametrize("library", MAPPINGS, indirect=True)
def test_on_the_gpu_one_percent_is_noticed(library: str, place: int, cuda: torch.device) -> None:
    inputs = ssd_inputs(65, dtype=torch.float32, **SIZES)
    changed = [tensor * 1.01 if i == place else tensor for i, tensor in enumerate(inputs)]
    assert worst(gpu_results(changed, cuda, library), oracle("ssd", inputs)) > 10 * TOLERANCE


@pytest.mark.gpu
@pytest.mark.parametrize("length", [1, 65, 257])
def test_on_the_gpu_the_torch_form_equals_the_recurrence(length: int, cuda: torch.device) -> None:
    inputs = ssd_inputs(length, dtype=torch.float32, **SIZES)
    assert worst(gpu_results(inputs, cuda, "chunked"), oracle("ssd", inputs)) < TOLERANCE


@pytest.fixture
def interpreted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("TRITON_INTERPRET is not 1")
    pytest.importorskip("triton", reason="triton is not installed")
    name = str(request.param)
    if libraries.installed(name) is None:
        pytest.skip(f"{name} is not installed")
    prepare(monkeypatch)
    libraries.library_problem.cache_clear()
    assert libraries.library_problem(name) is None
    return name


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 63, 65, 130])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("interpreted", MAPPINGS, indirect=True)
def test_interpreted_outputs_state_and_gradients_equal_the_recurrence(
    interpreted: str, groups: int, length: int
) -> None:
    inputs = ssd_inputs(length, batch=1, heads=2, headdim=16, groups=groups, d_state=16, dtype=torch.float32)
    assert worst(results(MAPPINGS[interpreted], inputs), oracle("ssd", inputs)) < 2e-5
