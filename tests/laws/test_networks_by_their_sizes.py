"""Laws of networks: sizes follow from rates and lengths, limits hold at both ends, files give them back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eegm2.errors import ConfigError
from eegm2.model.authors import authors_state_dict, load_authors_checkpoint
from eegm2.model.config import EEGM2Config, MixerOptions, largest_divisor, stated_sizes
from eegm2.model.network import EEGM2, build_model


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        # step: 8 samples times the nearest whole number of them in a token; window: whole tokens
        ({"sfreq_hz": 128.0, "token_hz": 4.0}, {"token_step": 32, "window_tokens": 4, "kernel_taps": 64}),
        ({"sfreq_hz": 100.0, "token_hz": 4.0}, {"token_step": 24, "window_tokens": 4, "kernel_taps": 50}),
        ({"sfreq_hz": 100.0, "token_hz": 4.0, "covariance_s": 2.0}, {"token_step": 24, "window_tokens": 8}),
        ({"sfreq_hz": 250.0, "token_hz": 4.0, "kernel_s": 0.25}, {"token_step": 64, "kernel_taps": 62}),
        ({"sfreq_hz": 250.0, "token_hz": 16.0}, {"token_step": 16, "window_tokens": 16}),
        ({"sfreq_hz": 64.0, "token_hz": 16.0, "covariance_s": 0.25}, {"token_step": 8, "window_tokens": 2}),
        ({"sfreq_hz": 128.0, "token_hz": 1.0, "covariance_s": 0.25}, {"token_step": 128, "window_tokens": 1}),
    ],
)  # fmt: skip
def test_tokens_are_laid_out_by_the_rate(options: dict[str, float], sizes: dict[str, int]) -> None:
    config = EEGM2Config.preset("covariance", **options)
    assert {name: getattr(config, name) for name in sizes} == sizes
    assert config.step_samples == config.token_step


@pytest.mark.parametrize(("n_chans", "n_virtual"), [(5, 0), (5, 6), (70, 16)])
def test_channels_of_a_representation_are_counted(n_chans: int, n_virtual: int) -> None:
    """The trunk's, and of each band the upper triangle between the channels that the network works on."""
    config = EEGM2Config.preset(
        "covariance", n_chans=n_chans, n_virtual=n_virtual, n_bands=3, trunk_width=2, width=8
    )
    inner = n_virtual or n_chans
    assert (config.inner_chans, config.any_electrodes) == (inner, n_virtual > 0)
    assert config.trunk_channels == 16
    assert config.tangent_size == 3 * sum(range(1, inner + 1))
    assert config.representation_channels == config.trunk_channels + config.tangent_size
    plain = EEGM2Config.preset("eegm2", n_chans=n_chans, width=8)
    assert (plain.representation_channels, plain.step_samples, plain.any_electrodes) == (32, 8, False)
    assert plain.at_rate(250.0) == plain
    assert config.at_rate(250.0).sfreq_hz == 250.0


LIMITS: dict[str, tuple[Any, Any]] = {
    "n_virtual": (0, 32), "harmonics_order": (1, 8), "n_bands": (1, 64), "sfreq_hz": (16, 1e5),
    "kernel_s": (0.05, 1.0), "token_hz": (0.25, 16.0), "covariance_s": (0.25, 60.0),
    "shrinkage": (1e-4, 0.999), "trunk_width": (1, 64), "trunk_blocks": (1, 64),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_an_option_of_tokens_has_its_limits_and_says_them(name: str) -> None:
    low, high = LIMITS[name]
    for value in (low, high):
        assert getattr(EEGM2Config.preset("covariance", **{name: value}), name) == value
    step = 1 if isinstance(low, int) and isinstance(high, int) else 1e-5
    for value in (low - step, high + step):
        with pytest.raises(ConfigError, match=rf"{name} is .*, expected {low:g} to {high:g}"):
            EEGM2Config.preset("covariance", **{name: value})
        EEGM2Config.preset("eegm2", **{name: value})


@pytest.mark.parametrize(
    "name", ["n_chans", "width", "d_state", "d_conv", "expand", "headdim", "ngroups", "n_heads"]
)
def test_a_size_is_one_at_least(name: str) -> None:
    assert getattr(EEGM2Config(**{name: 1}), name) == 1
    with pytest.raises(ConfigError, match=f"{name} is 0, expected at least 1"):
        EEGM2Config(**{name: 0})


@pytest.mark.parametrize(
    ("number", "limit", "divisor"), [(64, 64, 64), (96, 64, 48), (70, 64, 35), (13, 12, 1), (8, 99, 8)]
)
def test_the_largest_divisor_is_below_its_limit(number: int, limit: int, divisor: int) -> None:
    assert largest_divisor(number, limit) == divisor


OPTIONS: dict[str, dict[str, int]] = {
    "eegm2": {"expand": 4, "d_state": 8, "d_conv": 3, "headdim": 16},
    "s1": {"expand": 2, "d_state": 16, "d_conv": 2, "headdim": 64},
    "s3": {"expand": 2, "d_state": 4, "d_conv": 4},
    "s4": {"expand": 3, "d_state": 16, "d_conv": 2},
    "light": {"expand": 6, "d_state": 5, "d_conv": 2, "headdim": 8},
    "s5": {},
    "unet": {},
}


@pytest.mark.parametrize("preset", OPTIONS)
def test_a_file_of_the_authors_tells_every_size(preset: str) -> None:
    """Channels, width, kernel, state, expansion and heads, from shapes alone; and the same answer."""
    torch.manual_seed(0)
    sizes = {"n_chans": 5, "width": 8, **OPTIONS[preset]}
    model = build_model(EEGM2Config.preset(preset, **sizes)).eval()
    back = load_authors_checkpoint(authors_state_dict(model))
    assert {name: getattr(back.config, name) for name in sizes} == sizes
    assert back.config.preset_name == preset
    x = torch.randn(2, 5, 80)
    torch.testing.assert_close(back.encode(x), model.encode(x), rtol=0, atol=0)


def test_sizes_that_are_stated_arrive_as_numbers() -> None:
    assert stated_sizes(["d_state=8", "dropout=0.5", "n_bands=3"]) == {
        "d_state": 8,
        "dropout": 0.5,
        "n_bands": 3,
    }
    for wrong in ("n_chans=4", "width=8", "sfreq_hz=9", "mixer=1", "nothing=1", "d_state"):
        with pytest.raises(ConfigError, match="network: got"):
            stated_sizes([wrong])
    changed = MixerOptions(mixer="mamba1", d_state=8, expand=3, headdim=0).changes(["n_heads=2"])
    assert changed == {"mixer": "mamba1", "d_state": 8, "expand": 3, "n_heads": 2}
    with pytest.raises(ConfigError, match="expand: given by itself and in network"):
        MixerOptions(expand=3).changes(["expand=3"])


@pytest.mark.parametrize("preset", ["eegm2", "light", "s1", "s3", "s4", "s5", "unet", "covariance"])
def test_a_preset_is_called_by_its_name_whatever_its_sizes(preset: str) -> None:
    config = EEGM2Config.preset(preset, n_chans=9, width=24, d_state=3)
    assert config.preset_name == preset
    assert EEGM2Config.from_dict(config.to_dict()) == config
    assert ("n_bands" in config.to_dict()) == (preset == "covariance")
    other = {"before_residual": "after_residual", "after_residual": "before_residual"}[config.norm_order]
    assert config.replace(norm_order=other).preset_name == "custom"


def test_light_is_the_whole_network_without_its_decoder() -> None:
    whole, light = (EEGM2(EEGM2Config.preset(name, n_chans=3, width=4)) for name in ("eegm2", "light"))
    assert whole.decoder is not None
    assert light.decoder is None
    kept = {name for name in whole.state_dict() if name.startswith("encoder.")}
    assert set(light.state_dict()) == kept
