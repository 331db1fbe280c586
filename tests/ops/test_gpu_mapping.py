"""The mapping onto the GPU libraries, with stand-ins for their functions, and the choice between them."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from gpu_stand_ins import STAND_INS
from scan_cases import NAMES, oracle, results, scan_inputs, ssd_inputs, worst

from eegm2 import ops
from eegm2.ops import backends
from eegm2.ops.gpu import libraries
from eegm2.ops.gpu import ssd as gpu_ssd

MAPPINGS = {"fla": gpu_ssd.ssd_fla, "mamba_ssm": gpu_ssd.ssd_mamba}
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_F32_DEFAULT", raising=False)
    monkeypatch.setenv("TRITON_F32_DEFAULT", "ieee")
    libraries.library_problem.cache_clear()
    yield
    libraries.library_problem.cache_clear()


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_ssd, "load", STAND_INS.__getitem__)


def install(monkeypatch: pytest.MonkeyPatch, name: str, version: str, function: object = None) -> None:
    """Put a library of a version, with the stand-in for its function, where an import finds it."""
    library = libraries.LIBRARIES[name]
    before = libraries.importlib.metadata.version

    def find(distribution: str) -> str:
        if distribution in library.distributions:
            return version
        if any(distribution in other.distributions for other in libraries.LIBRARIES.values()):
            raise libraries.importlib.metadata.PackageNotFoundError(distribution)
        return before(distribution)

    monkeypatch.setattr(libraries.importlib.metadata, "version", find)
    place = library.module
    while place:
        monkeypatch.setitem(sys.modules, place, types.ModuleType(place))
        place = place.rpartition(".")[0]
    setattr(sys.modules[library.module], library.function, function or STAND_INS[name])


@pytest.mark.parametrize("length", [1, 63, 65])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("name", MAPPINGS)
def test_outputs_state_and_gradients_equal_the_recurrence(
    name: str, groups: int, length: int, stand_ins: None
) -> None:
    inputs = ssd_inputs(length, groups=groups)
    assert worst(results(MAPPINGS[name], inputs), oracle("ssd", inputs)) < 1e-10


@pytest.mark.parametrize("place", range(7), ids=NAMES)
@pytest.mark.parametrize("name", MAPPINGS)
def test_one_percent_of_any_argument_is_noticed(name: str, place: int, stand_ins: None) -> None:
    inputs = ssd_inputs(40)
    changed = [tensor * 1.01 if i == place else tensor for i, tensor in enumerate(inputs)]
    assert worst(results(MAPPINGS[name], changed), oracle("ssd", inputs)) > 1e-3


@pytest.mark.parametrize("name", MAPPINGS)
def test_optional_arguments_are_zeros_by_default(name: str, stand_ins: None) -> None:
    inputs = ssd_inputs(20)
    expected = ops.ssd(*inputs[:5], backend="recurrence")
    for found, wanted in zip(MAPPINGS[name](*inputs[:5]), expected):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MAPPINGS)
def test_split_and_carried_equals_the_whole(name: str, stand_ins: None) -> None:
    x, dt, A, B, C, D, state = ssd_inputs(50)
    whole, last = MAPPINGS[name](x, dt, A, B, C, D, state)
    first, between = MAPPINGS[name](x[:, :17], dt[:, :17], A, B[:, :17], C[:, :17], D, state)
    second, end = MAPPINGS[name](x[:, 17:], dt[:, 17:], A, B[:, 17:], C[:, 17:], D, between)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(end, last)


@pytest.mark.parametrize("name", MAPPINGS)
def test_the_operator_calls_the_library(name: str, monkeypatch: pytest.MonkeyPatch, stand_ins: None) -> None:
    """Through `ops.ssd` itself, with half precision in and a float32 state out."""
    monkeypatch.setattr(backends, "gpu_problem", lambda *_: None)
    inputs = ssd_inputs(33, dtype=torch.float32)
    half = [tensor.bfloat16() if place in (0, 3, 4) else tensor for place, tensor in enumerate(inputs)]
    y, state = ops.ssd(*half, backend=name)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    wanted = ops.ssd(*[tensor.float() for tensor in half], backend="recurrence")
    assert worst([state], [wanted[1]]) < 1e-5
    assert worst([y.float()], [wanted[0]]) < 1e-2


@pytest.mark.parametrize(("name", "version"), [("fla", "0.6.0"), ("mamba_ssm", "2.3.2.post1")])
def test_an_installed_library_is_chosen_on_cuda(
    name: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, name, version)
    assert libraries.library_problem(name) is None
    assert backends.choose_backend("auto", CUDA, torch.float32, (64, 16)) == name
    assert backends.choose_backend("auto", CUDA, scan="selective_scan") == "chunked"
    assert backends.choose_backend("auto", torch.device("cpu")) == "numba"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    report = ops.backend_report()["cuda"]
    assert (report["backend"], report[name]) == (name, f"{version} installed")


def test_the_environment_asks_for_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "mamba_ssm", "2.3.0")
    monkeypatch.setenv("EEGM2_BACKEND", "mamba_ssm")
    assert backends.choose_backend("auto", CUDA, torch.float32, (64, 16)) == "mamba_ssm"
    assert backends.choose_backend("auto", torch.device("cpu")) == "numba"
    monkeypatch.setenv("EEGM2_BACKEND", "fla")
    assert backends.choose_backend("auto", CUDA, torch.float32, (64, 16)) == "chunked"


@pytest.mark.parametrize(
    ("device", "dtype", "sizes", "message"),
    [
        ("cpu", torch.float32, (64, 16), "tensors are on cpu, not on a CUDA device"),
        ("cuda", torch.float64, (64, 16), "the scan is to be computed in torch.float64"),
        ("cuda", torch.float32, (8, 16), "headdim is 8, its kernels take multiples of 16 up to 256"),
        ("cuda", torch.float32, (64, 24), "d_state is 24, its kernels take multiples of 16"),
    ],
)
@pytest.mark.parametrize("name", MAPPINGS)
def test_what_its_kernels_cannot_take_falls_back(
    name: str,
    device: str,
    dtype: torch.dtype,
    sizes: tuple[int, int],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, name, "0.6.0" if name == "fla" else "2.3.0")
    fallback = "chunked" if device == "cuda" else "numba"
    assert backends.choose_backend("auto", torch.device(device), dtype, sizes) == fallback
    with pytest.raises(ValueError, match=f"'{name}' cannot be used: {message}"):
        backends.choose_backend(name, torch.device(device), dtype, sizes)


def without_states(q, k, v, g, scale):  # type: ignore[no-untyped-def]
    return q


@pytest.mark.parametrize(
    ("version", "function", "message"),
    [
        ("0.4.1", None, r"fla-core is 0\.4\.1, expected >=0\.5,<1"),
        ("1.0", None, r"fla-core is 1\.0, expected >=0\.5,<1"),
        ("0.7.0", without_states, r"of 0\.7\.0 does not take initial_state, output_final_state"),
    ],
)
def test_other_releases_are_not_trusted(
    version: str, function: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "fla", version, function)
    with pytest.raises(ValueError, match=message):
        backends.choose_backend("fla", CUDA, torch.float32, (64, 16))
    assert backends.choose_backend("auto", CUDA, torch.float32, (64, 16)) == "chunked"


def test_a_broken_installation_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "mamba_ssm", "2.2.4")
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.triton.ssd_combined", None)
    problem = libraries.library_problem("mamba_ssm")
    assert problem is not None
    assert "cannot be imported" in problem
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    report = ops.backend_report()["cuda"]
    assert report["backend"] == "chunked"
    assert "cannot be imported" in report["mamba_ssm"]
    assert "fla-core is not installed" in report["fla"]


def test_neither_serves_mamba_1(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "fla", "0.6.0")
    with pytest.raises(ValueError, match="'fla' cannot be used: it has no selective_scan that fits ours"):
        ops.selective_scan(*scan_inputs(5), backend="fla")


def test_float32_products_stay_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_F32_DEFAULT")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    install(monkeypatch, "fla", "0.6.0")
    libraries.load("fla")
    assert libraries.os.environ["TRITON_F32_DEFAULT"] == "tf32x3"
