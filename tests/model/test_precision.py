"""Networks in other precisions: float64 throughout, half precision around a float32 state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eegm2 import EEGM2, EEGM2Config
from eegm2.model.block import SequenceBlock
from eegm2.ops import ssd

PRESETS = ["eegm2", "s3"]


def outcome(model: EEGM2, x: Tensor) -> list[Tensor]:
    """Reconstruction without and with gradients, and every gradient."""
    with torch.no_grad():
        plain = model(x)
    y = model(x)
    gradients = torch.autograd.grad(y.square().sum(), list(model.parameters()))
    return [plain, y.detach(), *gradients]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_double_network_computes_in_float64(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset(preset, n_chans=3, width=8)).double()
    x = torch.randn(2, 3, 131, dtype=torch.float64)
    found = outcome(model, x)
    monkeypatch.setenv("EEGM2_BACKEND", "recurrence")
    expected = outcome(model, x)
    assert all(tensor.dtype == torch.float64 for tensor in found)
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) < 1e-10 * max(1.0, float(b.abs().max()))
    single = model.float()(x.float()).double().detach()
    assert float((single - expected[0]).abs().max()) > 1e-10  # what float32 anywhere inside would cost


@pytest.mark.parametrize("mixer", ["mamba2", "mamba1"])
@pytest.mark.parametrize("grad", [False, True])
def test_autocast_keeps_the_state_in_float32(mixer: str, grad: bool) -> None:
    torch.manual_seed(0)
    block = SequenceBlock(8, EEGM2Config(mixer=mixer))
    u = torch.randn(2, 300, 8)
    with torch.no_grad():
        expected, end = block(u)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = block(u)
        again, _ = block(u, state)
    assert state.ssm.dtype == torch.float32
    assert float((state.ssm.detach() - end.ssm).abs().max() / end.ssm.abs().max()) < 0.02
    assert float((y.detach().float() - expected).abs().max() / expected.abs().max()) < 0.05
    assert torch.isfinite(again).all()


@pytest.mark.parametrize("mixer", ["mamba2", "mamba1"])
def test_a_half_precision_network_keeps_its_state_in_float32(mixer: str) -> None:
    torch.manual_seed(0)
    block = SequenceBlock(8, EEGM2Config(mixer=mixer))
    u = torch.randn(2, 300, 8)
    with torch.no_grad():
        expected, end = block(u)
    y, state = block.bfloat16()(u.bfloat16())
    assert (y.dtype, state.ssm.dtype) == (torch.bfloat16, torch.float32)
    assert float((state.ssm.detach() - end.ssm).abs().max() / end.ssm.abs().max()) < 0.05
    assert float((y.detach().float() - expected).abs().max() / expected.abs().max()) < 0.05


def test_groups_of_b_and_c_are_normed_apart_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    mixer = SequenceBlock(8, EEGM2Config(ngroups=2, headdim=8, expand=4)).double().mixer
    u = torch.randn(1, 20, 8, dtype=torch.float64)
    with torch.no_grad():
        plain, _ = mixer(u)
    z, xBC, dt = mixer.in_proj(u).split([32, 96, 4], dim=-1)
    past = torch.nn.functional.pad(xBC, (0, 0, 1, 0))[:, :-1]
    taps = mixer.conv1d.weight.squeeze(1)
    active = torch.nn.functional.silu(past * taps[:, 0] + xBC * taps[:, 1] + mixer.conv1d.bias)
    x, B, C = active.split([32, 32, 32], dim=-1)
    dt = torch.nn.functional.softplus(dt + mixer.dt_bias)
    x, B, C = x.unflatten(-1, (4, 8)), B.unflatten(-1, (2, 16)), C.unflatten(-1, (2, 16))
    y, _ = ssd(x, dt, -torch.exp(mixer.A_log), B, C, mixer.D, backend="recurrence")
    expected = mixer.out_proj(mixer.norm(y.flatten(2), z))
    torch.testing.assert_close(plain, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(mixer(u)[0], expected, rtol=1e-10, atol=1e-10)
