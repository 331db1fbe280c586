"""The plain scan and network are right, plain, and what the bound is counted on."""

from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch

from eegm2.benchmark import plain as plain_module
from eegm2.benchmark.plain import PlainEEGM2, ssd_plain
from eegm2.benchmark.products import operations, product_shapes
from eegm2.benchmark.subject import (
    GateError,
    awake,
    build_subject,
    gate,
    gradient_gate,
    relative_error,
    scan_inputs,
)
from eegm2.benchmark.suites import Measurement
from eegm2.model.config import EEGM2Config
from eegm2.model.network import EEGM2
from eegm2.ops import ssd


def small(preset: str = "eegm2") -> EEGM2:
    torch.manual_seed(3)
    return EEGM2(EEGM2Config.preset(preset, n_chans=3, width=8)).eval()


@pytest.mark.parametrize("length", [1, 63, 64, 65, 257])
def test_the_plain_scan_equals_the_recurrence(length: int) -> None:
    torch.manual_seed(0)
    x, dt, A, B, C = scan_inputs(2, length)
    D = torch.randn(A.shape[0])
    expected = ssd(*[t.double() for t in (x, dt, A, B, C, D)], backend="recurrence")
    for chunk in (64, 256):
        y, state = ssd_plain(x, dt, A, B, C, D, chunk)
        assert relative_error(y.double(), expected[0]) < 1e-4
        assert relative_error(state.double(), expected[1]) < 1e-4
    wrong = ssd_plain(x, 1.01 * dt, A, B, C, D)[1]
    assert relative_error(wrong.double(), expected[1]) > 1e-3


def test_the_plain_scan_takes_groups() -> None:
    torch.manual_seed(0)
    x, dt, A = torch.randn(1, 70, 4, 5), torch.rand(1, 70, 4) / 10, -torch.rand(4)
    B, C = torch.randn(2, 1, 70, 2, 3)
    expected = ssd(*[t.double() for t in (x, dt, A, B, C)], backend="recurrence")[0]
    assert relative_error(ssd_plain(x, dt, A, B, C, chunk_size=16)[0].double(), expected) < 1e-4


@pytest.mark.parametrize("preset", ["eegm2", "light"])
def test_the_plain_network_runs_the_plain_scan(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(preset)
    x = torch.randn(2, 3, 100)
    with torch.no_grad():
        expected = model(x)
    calls = []
    monkeypatch.setattr(plain_module, "ssd_plain", lambda *a: calls.append(a[0].shape[1]) or ssd_plain(*a))
    with torch.no_grad():
        y = PlainEEGM2(copy.deepcopy(model))(x)
    assert calls == ([100, 12, 25, 50] if preset == "eegm2" else [100])
    assert relative_error(y, expected) < 1e-4


def test_the_gates_refuse_what_is_one_per_cent_off() -> None:
    model, x = awake(small()), torch.randn(2, 3, 64)
    m = Measurement("train", "eegm2", 64)
    assert gate(model, copy.deepcopy(model).double(), x, m) < 1e-4
    assert gradient_gate(model, copy.deepcopy(model).double(), x) < 5e-3
    assert all(p.grad is None for p in model.parameters())
    other = copy.deepcopy(model).double()
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.endswith("A_log"):
                parameter += 0.01  # every decay rate 1 % larger
    with pytest.raises(GateError, match=r"eegm2: error .* against float64, expected below 1e-04"):
        gate(model, other, x, m)
    other = copy.deepcopy(model).double()
    for parameter in other.parameters():
        parameter.register_hook(lambda gradient: 1.01 * gradient)
    with pytest.raises(GateError, match=r"gradients: error .*, expected below 5e-03"):
        gradient_gate(model, other, x)


def test_products_are_those_of_the_network() -> None:
    w, chans = 8, 3
    shapes = product_shapes(PlainEEGM2(small("light")), chans, 800, 2)
    rows = 2 * 800
    inner, heads = 8 * w, 1
    expected = {
        (rows, chans, w): 1,
        (rows, 3 * chans, w): 1,
        (rows, 7 * chans, w): 1,
        (rows, 3 * w, w): 1,  # the fusing convolution
        (rows, w, w): 1,
        (rows, w, 2 * inner + 32 + heads): 1,
        (rows, inner, w): 1,
        (rows / 2, 3 * w, 2 * w): 1,
        (rows / 4, 3 * 2 * w, 4 * w): 1,
    }
    assert dict(shapes) == expected
    assert operations(shapes) == sum(2 * r * k * n for r, k, n in expected)
    fewer = product_shapes(PlainEEGM2(small("light")), chans, 800, 2, composed=True)
    removed = {(rows, k * chans, w) for k in (1, 3, 7)} | {(rows, 3 * w, w), (rows, w, w)}
    assert set(expected) - set(fewer) == removed - {(rows, 7 * chans, w)}
    assert fewer[(rows, 7 * chans, w)] == 1
    whole = product_shapes(PlainEEGM2(small()), chans, 800, 2)
    assert operations(whole) > 2 * operations(shapes)


def test_a_training_step_trains_and_the_scan_alone_is_checked() -> None:
    m = Measurement("train", "eegm2", 64, n_chans=3, width=8)
    subject = build_subject(m)
    assert subject.plain is not None
    assert subject.facts["error"] < 1e-4
    subject.warm_up()
    subject.step(*subject.inputs)
    for model in ("eegm2", "light"):
        blocks = build_subject(Measurement("blocks", model, 64, n_chans=3, width=8))
        assert blocks.step(*blocks.inputs).shape == ((1, 3, 64) if model == "eegm2" else (1, 32, 8))
    for model in ("eegm2", "plain"):
        scan = build_subject(Measurement("scan-train", model, 40))
        assert scan.inputs[0].shape == (1, 40, 8, 64)
        scan.step(*scan.inputs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_lower_precision_is_lower(precision: Literal["bfloat16", "int8"]) -> None:
    m = Measurement("forward", "eegm2", 64, precision=precision, n_chans=3, width=8)
    assert 1e-4 < build_subject(m).facts["error"] < 0.5
