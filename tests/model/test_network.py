"""The network family: shapes, lengths, widths, causality of states, statistics, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eegm2 import EEGM2, EEGM2Config, build_model, time_statistics
from eegm2.errors import ConfigError
from eegm2.model.block import SequenceBlock
from eegm2.model.config import PRESETS
from eegm2.model.layers import TimeConv, join


@pytest.mark.parametrize("preset", [p for p in PRESETS if p != "light"])
@pytest.mark.parametrize("n_times", [8, 9, 63, 250])
def test_any_length_is_reconstructed_and_encoded(preset: str, n_times: int) -> None:
    model = build_model(EEGM2Config.preset(preset, n_chans=3, width=4)).eval()
    x = torch.randn(2, 3, n_times)
    with torch.no_grad():
        assert model(x).shape == x.shape
        assert model.encode(x).shape == (2, 16, n_times // 8)
        assert model.features(x).shape == (2, 9 * 16)
        assert torch.isfinite(model(x)).all()


@pytest.mark.parametrize(("width", "n_chans"), [(1, 1), (6, 19), (16, 14), (24, 2)])
def test_any_width_and_channel_count(width: int, n_chans: int) -> None:
    for preset in PRESETS:
        model = build_model(EEGM2Config.preset(preset, n_chans=n_chans, width=width))
        y = model(torch.randn(1, n_chans, 32))
        assert y.shape == ((1, 4 * width, 4) if preset == "light" else (1, n_chans, 32))


@pytest.mark.parametrize("mixer", ["mamba2", "mamba1"])
def test_a_block_split_in_two_and_carried_equals_the_whole(mixer: str) -> None:
    block = SequenceBlock(8, EEGM2Config(mixer=mixer)).double()
    u = torch.randn(2, 130, 8, dtype=torch.float64)
    whole, end = block(u)
    first, state = block(u[:, :65])
    second, state = block(u[:, 65:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-10, atol=1e-10)
    for carried, expected in zip(state.tensors(), end.tensors()):
        torch.testing.assert_close(carried, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("preset", ["eegm2", "s1", "s3", "s4", "s5", "unet", "light"])
def test_every_parameter_has_a_gradient(preset: str) -> None:
    model = build_model(EEGM2Config.preset(preset, n_chans=3, width=8))
    model(torch.randn(2, 3, 64)).square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_statistics_are_numpys() -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 31))
    expected = [
        x.min(-1),
        x.max(-1),
        x.mean(-1),
        x.std(-1),
        *(np.quantile(x, q, axis=-1) for q in (0.05, 0.25, 0.5, 0.75, 0.95)),
    ]
    np.testing.assert_allclose(
        time_statistics(torch.from_numpy(x)), np.concatenate(expected, axis=1), rtol=1e-12
    )


def test_statistics_of_one_step_are_finite() -> None:
    features = time_statistics(torch.tensor([[[3.0]]]))
    assert features.tolist() == [[3, 3, 3, 0, 3, 3, 3, 3, 3]]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 4, 64), r"got shape \(1, 4, 64\), expected \(batch, n_chans=3, n_times\)"),
        (torch.zeros(3, 64), r"got shape \(3, 64\)"),
        (torch.zeros(1, 3, 7), "got n_times=7, expected at least 8"),
        (torch.zeros(1, 3, 64, dtype=torch.int32), "got dtype torch.int32"),
    ],
)
def test_a_wrong_input_is_refused(x: torch.Tensor, message: str) -> None:
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=3, width=4))
    with pytest.raises(ValueError, match=message):
        model(x)
    with pytest.raises(ValueError, match=message):
        model.encode(x)


def test_wrong_configurations_are_refused() -> None:
    with pytest.raises(ConfigError, match="got 's2', expected one of eegm2, light"):
        EEGM2Config.preset("s2")
    with pytest.raises(ConfigError, match="unknown key 'widht'; did you mean 'width'"):
        EEGM2Config.preset("eegm2", widht=3)
    with pytest.raises(ConfigError, match="width is 0, expected at least 1"):
        EEGM2Config(width=0)
    with pytest.raises(ConfigError, match="ngroups is 3, which does not divide"):
        EEGM2(EEGM2Config(width=8, ngroups=3))


def test_configuration_survives_the_round_trip() -> None:
    for name in PRESETS:
        config = EEGM2Config.preset(name, n_chans=14, width=12)
        assert EEGM2Config.from_dict(config.to_dict()) == config
        assert config.preset_name == name


@pytest.mark.parametrize("n_times", [8, 9, 63, 250, 1031])
@pytest.mark.parametrize("preset", ["eegm2", "s1", "s3", "s5", "light"])
def test_inference_equals_the_forward_pass_with_gradients(preset: str, n_times: int) -> None:
    model = build_model(EEGM2Config.preset(preset, n_chans=3, width=8)).double().eval()
    x = torch.randn(3, 3, n_times, dtype=torch.float64)
    with torch.no_grad():
        found = model(x)
    torch.testing.assert_close(found, model(x).detach(), rtol=1e-10, atol=1e-10)


def test_joining_interpolates_as_torch_does() -> None:
    skip = torch.randn(2, 10, 3, dtype=torch.float64).transpose(1, 2)
    x = torch.randn(2, 5, 4, dtype=torch.float64).transpose(1, 2)
    up = torch.nn.functional.interpolate(x, size=10, mode="linear", align_corners=False)
    torch.testing.assert_close(join(skip, x), torch.cat([skip, up], dim=1), rtol=1e-12, atol=1e-12)
    assert join(skip, x).transpose(1, 2).is_contiguous()
    assert torch.equal(join(skip, x.requires_grad_()), join(skip, x.detach()))


@pytest.mark.parametrize("preset", ["eegm2", "s3", "s5"])
def test_checkpointed_blocks_have_equal_gradients_and_keep_less(preset: str) -> None:
    model = build_model(EEGM2Config.preset(preset, n_chans=3, width=8))
    x = torch.randn(2, 3, 600)

    def gradients() -> tuple[list[torch.Tensor], int]:
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(0)  # dropout
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(x).square().mean()
        held = sum(kept.values())
        return list(torch.autograd.grad(loss, list(model.parameters()))), held

    plain, all_held = gradients()
    assert model.checkpoint_blocks() is model
    found, held = gradients()
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert held < all_held * (0.8 if preset == "eegm2" else 0.5)  # whose compiled gradient keeps little
    model.checkpoint_blocks(False)
    assert gradients()[1] == all_held


def test_a_checkpointed_block_carries_its_state() -> None:
    block = SequenceBlock(8, EEGM2Config()).double()
    u = torch.randn(1, 40, 8, dtype=torch.float64)
    whole, _ = block(u)
    block.checkpointed = True
    first, state = block(u[:, :15])
    second, _ = block(u[:, 15:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions_and_their_gradients_are_torchs(kernel: int, batch: int) -> None:
    layer = TimeConv(4, 5, kernel).double()
    x = torch.randn(batch, 4, 9, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    expected = torch.nn.functional.conv1d(x, layer.weight, layer.bias, padding=kernel // 2)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    slope = torch.randn_like(y)
    leaves = [x, layer.weight, layer.bias]
    found = torch.autograd.grad(y, leaves, slope)
    for a, b in zip(found, torch.autograd.grad(expected, leaves, slope), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_convolution_under_autocast_keeps_its_gradients_in_float32() -> None:
    layer, x = TimeConv(4, 5, 3), torch.randn(2, 4, 50)
    expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    found = torch.autograd.grad(y.float().square().sum(), list(layer.parameters()))
    assert y.dtype == torch.bfloat16
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert float((a - b).abs().max() / b.abs().max()) < 0.05
