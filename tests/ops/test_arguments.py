"""Every argument that does not fit is refused before any kernel runs, with the name and the value."""

from __future__ import annotations

import pytest
import torch
from scan_cases import scan_inputs, ssd_inputs
from torch import Tensor

from eegm2 import ops
from eegm2.errors import ConfigError
from eegm2.ops import backends

BAD_SSD = [
    (0, lambda t: t[:, :0], "x has zero length"),
    (0, lambda t: t[:0], "x has zero batch"),
    (0, lambda t: t[0], r"x has shape \(10, 4, 5\), expected \(batch, length, heads, headdim\)"),
    (0, lambda t: t.numpy(), "x is ndarray, expected a torch.Tensor"),
    (0, lambda t: t.long(), "x has dtype torch.int64, expected floating point"),
    (0, lambda t: t.double(), "x is float64 but"),
    (1, lambda t: t[:, :-1], r"dt has shape \(2, 9, 4\), expected .* = \(2, 10, 4\)"),
    (1, lambda t: t.to("meta"), "dt is on meta but others are on cpu"),
    (2, lambda t: t[:3], r"A has shape \(3,\)"),
    (3, lambda t: t[..., :0], "B has zero d_state"),
    (3, lambda t: torch.cat([t, t[:, :, :1]], dim=2), r"heads \(4\) is not divisible by ngroups \(3\)"),
    (4, lambda t: t[..., :1], r"C has shape \(2, 10, 2, 1\)"),
    (5, lambda t: t[None], r"D has shape \(1, 4\)"),
    (6, lambda t: t.transpose(2, 3), r"initial_state has shape \(2, 4, 3, 5\)"),
]


@pytest.mark.parametrize(("place", "change", "match"), BAD_SSD, ids=[case[2] for case in BAD_SSD])
def test_ssd_refuses(place: int, change, match: str) -> None:  # type: ignore[no-untyped-def]
    inputs: list[Tensor] = ssd_inputs(10, dtype=torch.float32)
    inputs[place] = change(inputs[place])
    with pytest.raises((TypeError, ValueError), match=match):
        ops.ssd(*inputs)


BAD_SCAN = [
    (0, lambda t: t[:, :0], "x has zero length"),
    (1, lambda t: t[..., :-1], r"dt has shape \(2, 10, 5\)"),
    (2, lambda t: t[:, 0], r"A has shape \(6,\), expected \(channels, d_state\)"),
    (3, lambda t: t.int(), "B has dtype torch.int32"),
    (4, lambda t: t.to("meta"), "C is on meta but others are on cpu"),
    (5, lambda t: t.double(), "D is float64 but"),
    (6, lambda t: t[..., 1:], r"initial_state has shape \(2, 6, 4\)"),
]


@pytest.mark.parametrize(("place", "change", "match"), BAD_SCAN, ids=[case[2] for case in BAD_SCAN])
def test_selective_scan_refuses(place: int, change, match: str) -> None:  # type: ignore[no-untyped-def]
    inputs: list[Tensor] = scan_inputs(10, dtype=torch.float32)
    inputs[place] = change(inputs[place])
    with pytest.raises((TypeError, ValueError), match=match):
        ops.selective_scan(*inputs)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_non_finite_values_are_refused_on_request(value: float) -> None:
    for scan, inputs in ((ops.ssd, ssd_inputs(10)), (ops.selective_scan, scan_inputs(10))):
        inputs[1][1, 4] = value
        with pytest.raises(ValueError, match=r"dt holds .* non-finite values of"):
            scan(*inputs, check_finite=True)


def test_chunk_size_and_backend_names() -> None:
    with pytest.raises(ValueError, match="chunk_size is 0, expected at least 1"):
        ops.ssd(*ssd_inputs(4), chunk_size=0)
    with pytest.raises(
        ValueError, match="backend: got 'cuda', expected one of auto, recurrence, chunked, numba"
    ):
        ops.ssd(*ssd_inputs(4), backend="cuda")


def test_conv_refuses() -> None:
    x, weight, bias = torch.zeros(2, 5, 3), torch.zeros(3, 2), torch.zeros(3)
    with pytest.raises(ValueError, match="x has zero length"):
        ops.causal_conv1d(x[:, :0], weight, bias)
    with pytest.raises(TypeError, match=r"weight has dtype torch.int64, expected floating point"):
        ops.causal_conv1d(x, weight.long(), bias)
    with pytest.raises(ValueError, match="bias is on meta but others are on cpu"):
        ops.causal_conv1d(x, weight, bias.to("meta"))
    with pytest.raises(ValueError, match=r"weight has shape \(2, 2\)"):
        ops.causal_conv1d(x, weight[:2], bias)
    with pytest.raises(ValueError, match=r"state has shape \(2, 2, 3\), expected .* = \(2, 1, 3\)"):
        ops.causal_conv1d(x, weight, bias, torch.zeros(2, 2, 3))


@pytest.mark.parametrize("kernel", [1, 2, 4])
def test_conv_equals_torch_and_carries_its_state(kernel: int) -> None:
    x, weight, bias = torch.randn(2, 50, 3), torch.randn(3, kernel), torch.randn(3)
    padded = torch.nn.functional.pad(x.transpose(1, 2), (kernel - 1, 0))
    expected = torch.nn.functional.conv1d(padded, weight[:, None], bias, groups=3).transpose(1, 2)
    whole, state = ops.causal_conv1d(x, weight, bias)
    torch.testing.assert_close(whole, expected)
    assert torch.equal(state, x[:, 50 - kernel + 1 :])
    carried, parts = None, []
    for part in torch.split(x, [1, 1, 20, 28], dim=1):
        y, carried = ops.causal_conv1d(part, weight, bias, carried)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    assert torch.equal(carried, state)


@pytest.mark.parametrize(
    ("value", "backend"),
    [("torch", "chunked"), ("chunked", "chunked"), ("recurrence", "recurrence"), ("", "numba")],
)
def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch, value: str, backend: str) -> None:
    monkeypatch.setenv("EEGM2_BACKEND", value)
    assert backends.choose_backend("auto", torch.device("cpu")) == backend
    assert ops.backend_report()["cpu"]["backend"] == backend


def test_an_unknown_value_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EEGM2_BACKEND", "fast")
    with pytest.raises(ConfigError, match="EEGM2_BACKEND: got 'fast', expected one of auto, recurrence"):
        ops.ssd(*ssd_inputs(4))


def test_without_numba_the_torch_form_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "numba_problem", lambda: "Numba cannot be imported (test)")
    assert backends.choose_backend("auto", torch.device("cpu")) == "chunked"
    assert ops.backend_report()["cpu"] == {"backend": "chunked", "why": "Numba cannot be imported (test)"}
    with pytest.raises(ValueError, match="'numba' cannot be used: Numba cannot be imported"):
        ops.ssd(*ssd_inputs(4), backend="numba")


def test_other_devices_use_the_torch_form() -> None:
    assert backends.choose_backend("auto", torch.device("cuda")) == "chunked"
    with pytest.raises(ValueError, match="'numba' cannot be used: tensors are on cuda"):
        backends.choose_backend("numba", torch.device("cuda"))
