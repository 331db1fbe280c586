"""Covariance tokens against independent computations; causality; windows that tell nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eegm2 import EEGM2, EEGM2Config
from eegm2.deploy.device.features import array_features
from eegm2.errors import ConfigError
from eegm2.model.covariance.bank import FilterBank, band_edges_hz, sampling_stride
from eegm2.model.covariance.tokens import CovarianceTokens, evidence
from eegm2.model.features import (
    KINDS,
    OF_TOKENS,
    diagonal,
    feature_names,
    feature_views,
    window_features,
)

LAYOUT = ("token_step", "window_tokens", "kernel_taps")


def config(**changes: object) -> EEGM2Config:
    return EEGM2Config.preset("covariance", **{"n_chans": 5, "width": 4, "n_virtual": 0, **changes})


def noise(batch: int, n_chans: int, n_times: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, n_chans, n_times, generator=torch.Generator().manual_seed(seed))


def by_hand(x: np.ndarray, tokens: CovarianceTokens) -> np.ndarray:
    """Covariances of one window (n_chans, n_times) by convolution and a loop: (n_tokens, bands, n, n)."""
    shape, kernels = tokens.config, tokens.bank.kernels().detach().double().numpy()
    step, window, stride = shape.token_step, shape.window_tokens, sampling_stride(shape.sfreq_hz)
    found = []
    for real, imaginary in kernels:
        z = np.stack([np.convolve(row, (real + 1j * imaginary)[::-1])[: x.shape[1]] for row in x])
        of_band = []
        for end in range(step, x.shape[1] + 1, step):
            begin = max(0, end - window * step)
            known = end - begin - max(0, shape.kernel_taps // 2 - begin)
            some = z[:, begin + stride - 1 : end : stride]
            of_band.append(stride * (some @ some.conj().T).real / max(known, 1))
        found.append(of_band)
    return np.array(found).swapaxes(0, 1)


def test_covariances_are_those_of_a_convolution_and_a_loop() -> None:
    tokens = CovarianceTokens(config(covariance_s=1.0)).double()
    x = noise(2, 5, 400).double()
    expected = np.stack([by_hand(window, tokens) for window in x.numpy()])
    found = tokens.covariances(x).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(tokens.covariances(1.01 * x).detach().numpy(), expected, atol=1e-6)


def test_tangent_vectors_are_pyriemanns() -> None:
    tangentspace = pytest.importorskip("pyriemann.utils.tangentspace")
    tokens = CovarianceTokens(config()).double()
    covariances = tokens.covariances(noise(1, 5, 640).double()).detach()[0, -1]
    share = tokens.shrinkage_logit.sigmoid()[:, None, None]
    level = torch.stack([torch.trace(c) for c in covariances])[:, None, None] / 5
    shrunk = (1 - share) * covariances + (share * level + 1e-7) * torch.eye(5, dtype=torch.float64)
    expected = tangentspace.tangent_space(shrunk.detach().numpy(), np.eye(5), metric="logeuclid")
    np.testing.assert_allclose(tokens.tangent(covariances).detach().numpy(), expected.ravel(), atol=1e-10)


def test_gradients_reach_kernels_and_shrinkage() -> None:
    tokens = CovarianceTokens(config(n_bands=2, n_chans=3)).double()
    x = noise(1, 3, 96).double().requires_grad_()
    parameters = tuple(tokens.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: tokens(x), (x, *parameters), atol=1e-4)


def test_kernels_pass_their_band_and_no_constant() -> None:
    bank = FilterBank(config())
    kernels = bank.kernels().detach().double()
    assert kernels.sum(-1).abs().max() < 1e-6
    response = torch.fft.fft(torch.complex(kernels[:, 0], kernels[:, 1]), n=1280).abs()
    peaks = response[:, :640].argmax(-1) / 10
    for peak, low, high in zip(peaks.tolist(), band_edges_hz(6, 128.0)[:-1], band_edges_hz(6, 128.0)[1:]):
        assert low - 0.5 <= peak <= high + 0.5
    assert band_edges_hz(6, 128.0) == (1.0, 4.0, 8.0, 13.0, 20.0, 30.0, 40.0)
    assert [sampling_stride(rate) for rate in (32.0, 100.0, 128.0, 250.0, 500.0, 2048.0)] == [
        1,
        2,
        4,
        4,
        8,
        8,
    ]
    few, slow = band_edges_hz(3, 128.0), band_edges_hz(6, 64.0)
    assert (few[0], len(few)) == (1.0, 4)
    assert slow[-1] == pytest.approx(28.8)


@torch.no_grad()
@pytest.mark.parametrize("decoder", [False, True])
def test_tokens_do_not_see_the_future(decoder: bool) -> None:
    torch.manual_seed(0)
    model = EEGM2(config(decoder=decoder)).eval()
    x, step = noise(2, 5, 640), model.config.token_step
    whole = model.encode(x)
    for n_times in (step, 5 * step + 9, 600):
        known = max(0, n_times - 9) // step  # the raw encoder looks 9 samples ahead
        torch.testing.assert_close(model.encode(x[..., :n_times])[..., :known], whole[..., :known])
        tangent = model.tokens(x[..., :n_times]).tangent
        torch.testing.assert_close(tangent, model.tokens(x).tangent[:, : n_times // step])


@torch.no_grad()
@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 5, 512),
        torch.full((2, 5, 512), 3.0),
        noise(2, 1, 512).expand(2, 5, 512),  # one rank
        torch.cat([noise(2, 4, 512), torch.zeros(2, 1, 512)], dim=1),  # a flat channel
        1e-6 * noise(2, 5, 512),
        1e6 * noise(2, 5, 512),
        noise(2, 5, 32),  # one token
    ],
    ids=["zero", "constant", "rank 1", "flat channel", "tiny", "huge", "one token"],
)
def test_windows_that_tell_little_give_finite_features(x: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = EEGM2(config()).eval()
    for kind in (*OF_TOKENS, "statistics"):
        assert torch.isfinite(model.features(x, kind=kind)).all()


@torch.no_grad()
def test_more_channels_than_samples() -> None:
    torch.manual_seed(0)
    model = EEGM2(config(n_chans=40, n_bands=2)).eval()
    assert torch.isfinite(model.features(noise(1, 40, 32))).all()


@torch.no_grad()
def test_nan_stays_nan_and_does_not_crash() -> None:
    torch.manual_seed(0)
    model, x = EEGM2(config()).eval(), noise(2, 5, 256)
    x[1, 2, 100] = torch.nan
    features = model.features(x)
    assert features[1].isnan().any()
    torch.testing.assert_close(features[0], model.features(x[:1])[0])


@torch.no_grad()
def test_hidden_steps_leave_no_trace() -> None:
    torch.manual_seed(0)
    model = EEGM2(config()).eval()
    x = noise(2, 5, 640)
    hidden = torch.zeros(2, 20, dtype=torch.bool)
    hidden[0, 4:9] = True
    step = model.config.token_step
    other = x.clone()
    other[0, :, 4 * step : 9 * step] = 7 * noise(1, 5, 5 * step, seed=5)[0]
    for a, b in zip(model.tokens(x, hidden=hidden), model.tokens(other, hidden=hidden)):
        torch.testing.assert_close(a, b)
    assert not torch.equal(model.encode(x)[0], model.encode(other)[0])
    nothing = torch.zeros(2, 20, dtype=torch.bool)
    torch.testing.assert_close(model.tokens(x, hidden=nothing).state, model.tokens(x).state)


@torch.no_grad()
def test_features_are_parts_of_one_average() -> None:
    torch.manual_seed(0)
    model = EEGM2(config()).eval()
    x, shape = noise(3, 5, 512), model.config
    tokens = model.tokens(x)
    weights = evidence(shape, 0, 16)
    assert weights.tolist() == [0.0, 0.25, 0.5, 0.75, *[1.0] * 12]
    mean = (tokens.tangent * weights[None, :, None]).sum(1) / weights.sum()
    torch.testing.assert_close(model.features(x, kind="tangent"), mean)
    torch.testing.assert_close(model.features(x), model.features(x, kind="tangent_state"))
    names = feature_names(0, "tangent", shape)
    assert [names[place] for place in diagonal(shape)[:6]] == [
        *(f"tangent_0_0{i}_0{i}" for i in range(5)),
        "tangent_1_00_00",
    ]
    torch.testing.assert_close(model.features(x, kind="log_variance"), mean[:, diagonal(shape)])
    both = model.features(x, kind="tangent_state")
    torch.testing.assert_close(both[:, : shape.tangent_size], mean)
    torch.testing.assert_close(both[:, shape.tangent_size :], model.features(x, kind="state"))
    views = feature_views("tangent_state", shape)
    assert list(views) == ["log_variance", "tangent", "state"]
    for name, columns in views.items():
        torch.testing.assert_close(both[:, columns], model.features(x, kind=name))
    assert list(feature_views("tangent", shape)) == ["log_variance", "tangent"]
    assert feature_views("state", shape) == feature_views("statistics", shape) == {}
    later = window_features(model.encode(x)[..., 8:], "tangent", shape, first=8)
    torch.testing.assert_close(later, tokens.tangent[:, 8:].mean(1))


@torch.no_grad()
def test_spread_is_the_weighted_deviation_over_time() -> None:
    torch.manual_seed(0)
    model = EEGM2(config()).eval()
    x, shape = noise(3, 5, 512), model.config
    tangent, weights = model.tokens(x).tangent.double(), evidence(shape, 0, 16).double()
    weights = weights[None, :, None] / weights.sum()
    spread = (tangent.square() * weights).sum(1) - (tangent * weights).sum(1).square()
    made = model.features(x, kind="tangent_spread_state")
    parts = made.split([shape.tangent_size, shape.tangent_size, shape.trunk_channels], dim=1)
    torch.testing.assert_close(parts[1], spread.sqrt().float(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.cat([parts[0], parts[2]], dim=1), model.features(x))
    torch.testing.assert_close(made[:, : 2 * shape.tangent_size], model.features(x, kind="tangent_spread"))
    names = feature_names(made.shape[1], "tangent_spread_state", shape)
    assert (len(names), len(set(names))) == (made.shape[1],) * 2
    assert names[shape.tangent_size] == "spread_0_00_00"
    views = feature_views("tangent_spread_state", shape)
    for name, part in zip(("tangent", "spread", "state"), parts, strict=True):
        torch.testing.assert_close(made[:, views[name]], part)
    one = window_features(model.encode(x)[..., 8:9], "tangent_spread", shape, first=8)
    assert not one[:, shape.tangent_size :].any()


def test_a_signal_that_does_not_change_has_a_spread_with_a_slope() -> None:
    representation = torch.zeros(1, config().representation_channels, 4, requires_grad=True)
    window_features(representation, "tangent_spread", config()).sum().backward()
    assert representation.grad is not None
    assert torch.isfinite(representation.grad).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [0, 5])
def test_a_device_makes_the_same_features(kind: str, first: int) -> None:
    shape = config()
    tokens = {"diagonal": diagonal(shape), **{name: getattr(shape, name) for name in LAYOUT}}
    facts = {"trunk_channels": shape.trunk_channels, "tokens": tokens}
    window = noise(1, shape.representation_channels, 9)
    expected = window_features(window, kind, shape, first)[0].numpy()
    np.testing.assert_allclose(array_features(window[0].numpy(), kind, facts, first), expected, atol=2e-5)


def test_networks_without_tokens_say_so() -> None:
    model = EEGM2(EEGM2Config.preset("light", n_chans=3, width=4))
    with pytest.raises(ConfigError, match="got 'tangent', which the covariance embedding has"):
        model.features(torch.zeros(1, 3, 64), kind="tangent")
    with pytest.raises(ConfigError, match="only 'covariance' has tokens"):
        model.tokens(torch.zeros(1, 3, 64))
    with pytest.raises(ConfigError, match="no virtual channels"):
        model(torch.zeros(1, 3, 64), spread=torch.zeros(24, 3))
    with pytest.raises(ValueError, match="got n_times=31, expected at least 32"):
        EEGM2(config())(torch.zeros(1, 5, 31))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_s": 1.5}, "kernel_s is 1.5, expected 0.05 to 1"),
        ({"n_virtual": 40}, "n_virtual is 40"),
        ({"n_virtual": 8, "n_chans": 3}, "n_chans is 3, expected at least 4 electrodes"),
        ({"n_virtual": 8, "decoder": True}, "virtual channels are not reconstructed"),
        ({"architecture": "unet"}, "of architecture 'eegm2' only"),
        ({"shrinkage": 0.0}, "shrinkage is 0.0"),
    ],
)
def test_options_that_make_no_network_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_records_of_other_networks_stay_as_they_were() -> None:
    plain = EEGM2Config.preset("eegm2", n_chans=3)
    assert set(plain.to_dict()) == {
        *("n_chans", "width", "architecture", "embedding", "mixer", "norm_order", "decoder", "d_state"),
        *("d_conv", "expand", "headdim", "ngroups", "n_heads", "dropout"),
    }
    made = config(token_hz=8.0)
    assert EEGM2Config.from_dict(made.to_dict()) == made
    assert made.preset_name == "covariance"
    assert (made.token_step, config(sfreq_hz=100.0).token_step) == (16, 24)


def test_every_parameter_has_a_gradient() -> None:
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset("covariance", n_chans=6, width=4))
    hidden = torch.zeros(2, 8, dtype=torch.bool)
    hidden[:, 3] = True
    sum(t.square().sum() for t in model.tokens(noise(2, 6, 256), hidden=hidden)).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []
