"""Features and heads said again in plain numbers: bands, tokens, weights over time, names, perceptrons."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import logm

from eegm2.model.config import EEGM2Config
from eegm2.model.covariance.bank import FilterBank, band_edges_hz, sampling_stride
from eegm2.model.covariance.tokens import CovarianceTokens, evidence, known_samples, running_sum, step_samples
from eegm2.model.covariance.trunk import CovarianceTrunk, pooled
from eegm2.model.features import KINDS, diagonal, feature_names, feature_views, n_features, window_features
from eegm2.model.heads import (
    Downstream,
    FeatureDownstream,
    FlattenHead,
    PooledHead,
    TokensHead,
    light_head,
)
from eegm2.model.network import EEGM2, build_model
from eegm2.model.statistics import SHRINKAGE, log_covariance, time_statistics

Array = np.ndarray


def shape(**changes: Any) -> EEGM2Config:
    return EEGM2Config.preset(
        "covariance", **{"n_chans": 3, "n_virtual": 0, "n_bands": 2, "width": 4, **changes}
    )


def drawn(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def known_by_counting(index: int, config: EEGM2Config) -> tuple[int, int]:
    """Samples after half a kernel that a token's own step, and its running window, hold."""
    step, half = config.token_step, config.kernel_taps // 2
    own = range(index * step, (index + 1) * step)
    window = range((index + 1 - config.window_tokens) * step, (index + 1) * step)
    return sum(t >= half for t in own), sum(t >= half for t in window)


@pytest.mark.parametrize("rate_hz", [64.0, 128.0, 250.0])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0])
def test_a_token_knows_the_samples_of_its_window_after_half_a_kernel(rate_hz: float, seconds: float) -> None:
    config = shape(sfreq_hz=rate_hz, covariance_s=seconds)
    assert config.token_step == 8 * max(1, round(rate_hz / 4 / 8))
    assert config.kernel_taps == round(rate_hz / 2)
    assert config.window_tokens == max(1, round(seconds * rate_hz / config.token_step))
    counted = [known_by_counting(i, config) for i in range(-2, 20)]
    index = torch.arange(-2, 20)
    assert step_samples(index, config).tolist() == [own for own, _ in counted]
    assert known_samples(index, config).tolist() == [window for _, window in counted]
    whole = config.window_tokens * config.token_step
    np.testing.assert_allclose(
        evidence(config, 3, 9), [known_by_counting(i, config)[1] / whole for i in range(3, 12)]
    )


def test_a_running_sum_ends_with_its_step() -> None:
    x = drawn(2, 7, 3)
    for window in (1, 2, 5):
        found = running_sum(x, window)
        for t in range(7):
            torch.testing.assert_close(found[:, t], x[:, max(0, t - window + 1) : t + 1].sum(1))


def test_bands_to_begin_with() -> None:
    usual = (1.0, 4.0, 8.0, 13.0, 20.0, 30.0, 40.0)
    assert band_edges_hz(6, 128.0) == usual
    np.testing.assert_allclose(band_edges_hz(3, 128.0), [1, 40 ** (1 / 3), 40 ** (2 / 3), 40])
    np.testing.assert_allclose(band_edges_hz(2, 64.0), [1, np.sqrt(0.45 * 64), 0.45 * 64])
    assert len(band_edges_hz(6, 64.0)) == 7
    rates = (16.0, 32.0, 63.0, 64.0, 100.0, 128.0, 250.0, 256.0, 1000.0)
    assert [sampling_stride(rate) for rate in rates] == [1, 1, 1, 2, 2, 4, 4, 8, 8]


@pytest.mark.parametrize("rate_hz", [128.0, 250.0])
def test_kernels_are_gabors_of_their_band(rate_hz: float) -> None:
    """A Gaussian whose full width at half maximum in frequency is the band's, about its middle."""
    config = EEGM2Config.preset("covariance", n_chans=3, n_virtual=0, sfreq_hz=rate_hz)
    found = FilterBank(config).kernels().detach().double().numpy()
    taps = round(rate_hz / 2)
    t = (np.arange(taps) - (taps - 1) / 2) / rate_hz
    edges = (1, 4, 8, 13, 20, 30, 40)
    for (low, high), (real, imaginary) in zip(itertools.pairwise(edges), found):
        sigma_hz = (high - low) / 2.354820045
        gauss = np.exp(-2 * (np.pi * sigma_hz * t) ** 2)
        gauss /= gauss.sum()
        cosine = gauss * np.cos(np.pi * (low + high) * t)
        np.testing.assert_allclose(real, cosine - gauss * cosine.sum(), atol=1e-6)
        np.testing.assert_allclose(imaginary, gauss * np.sin(np.pi * (low + high) * t), atol=1e-6)


def test_a_tangent_vector_is_the_logarithm_of_the_shrunk_covariance() -> None:
    config = shape(shrinkage=0.2)
    tokens = CovarianceTokens(config)
    with torch.no_grad():
        tokens.shrinkage_logit[1] = np.log(0.3 / 0.7)
    x = drawn(2, 2, 3, 8)
    covariances = x @ x.mT / 8
    found = tokens.tangent(covariances).detach()
    for window, band in np.ndindex(2, 2):
        share = (0.2, 0.3)[band]
        c = covariances[window, band].double().numpy()
        log = logm((1 - share) * c + (share * np.trace(c) / 3 + 1e-7) * np.eye(3))
        root = np.sqrt(2)
        rows = [log[0, 0], root * log[0, 1], root * log[0, 2], log[1, 1], root * log[1, 2], log[2, 2]]
        np.testing.assert_allclose(found[window, 6 * band : 6 * band + 6], rows, atol=1e-4)


def numbers_of(config: EEGM2Config, kind: str, representation: torch.Tensor, first: int) -> dict[str, float]:
    """Return a window's features by their names, one by one."""
    r = representation[0].double().numpy()
    steps = r.shape[1]
    known = np.array([known_by_counting(first + i, config)[1] for i in range(steps)], float)
    known = known / known.sum() if known.sum() else np.full(steps, 1 / steps)
    found: dict[str, float] = {}
    row = config.trunk_channels
    for channel in range(row):
        found[f"state_{channel:03d}"] = float(r[channel] @ known)
    for band in range(config.n_bands):
        for i in range(config.inner_chans):
            for j in range(i, config.inner_chans):
                mean = float(r[row] @ known)
                found[f"tangent_{band}_{i:02d}_{j:02d}"] = mean
                found[f"spread_{band}_{i:02d}_{j:02d}"] = float(np.sqrt((r[row] - mean) ** 2 @ known))
                if i == j:
                    found[f"log_variance_{band}_{i:02d}"] = mean
                row += 1
    return found


@pytest.mark.parametrize("first", [0, 1, 30])
@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("statistics", "covariance")])
def test_every_feature_is_what_its_name_says(kind: str, first: int) -> None:
    config = shape(trunk_width=1, covariance_s=1.5)
    representation = drawn(1, config.representation_channels, 6)
    found = window_features(representation, kind, config, first)[0]
    names = feature_names(len(found), kind, config)
    said = numbers_of(config, kind, representation, first)
    assert len(names) == len(set(names)) == len(found) == n_features(kind, config)
    np.testing.assert_allclose(found, [said[name] for name in names], atol=1e-5)
    order = {name: place for place, name in enumerate(("tangent", "log_variance", "spread", "state"))}
    ranks = [order[name.rstrip("_0123456789")] for name in names]
    assert ranks == sorted(ranks)
    for view, places in feature_views(kind, config).items():
        of_view = {names[place] for place in places}
        if view == "log_variance":
            assert of_view == {f"tangent_{b}_{i:02d}_{i:02d}" for b in range(2) for i in range(3)}
        else:
            assert of_view == {name for name in names if name.startswith(f"{view}_")}


def test_diagonals_are_where_rows_are_columns() -> None:
    for n_chans, n_bands in ((1, 3), (4, 2), (7, 1)):
        config = shape(n_chans=n_chans, n_bands=n_bands)
        rows, columns = np.triu_indices(n_chans)
        places = np.flatnonzero(np.tile(rows == columns, n_bands))
        assert diagonal(config) == places.tolist()


def test_statistics_are_what_their_names_say() -> None:
    x = drawn(2, 3, 17)
    found = time_statistics(x).numpy()
    names = feature_names(27)
    r = x.double().numpy()
    says: dict[str, Any] = {"min": np.min, "max": np.max, "mean": np.mean, "std": np.std}
    says |= {f"q{q:02d}": lambda v, q=q: np.percentile(v, q) for q in (5, 25, 50, 75, 95)}
    for place, name in enumerate(names):
        statistic, channel = name.split("_")
        expected = [says[statistic](window[int(channel)]) for window in r]
        np.testing.assert_allclose(found[:, place], expected, atol=1e-6, err_msg=name)
    assert names[0] == "min_000"
    assert names[-1] == "q95_002"


def test_covariances_are_what_their_names_say() -> None:
    x = drawn(1, 4, 50)
    found, names = log_covariance(x)[0].numpy(), feature_names(10, "covariance")
    c = np.cov(x[0].double().numpy(), bias=True)
    log = logm((1 - SHRINKAGE) * c + SHRINKAGE * np.trace(c) / 4 * np.eye(4))
    assert SHRINKAGE == 0.02
    for value, name in zip(found, names):
        i, j = map(int, name.split("_")[1:])
        assert value == pytest.approx(log[i, j] * (1 if i == j else 2**0.5), abs=1e-5), name


def test_features_of_states_are_of_the_trunk_alone() -> None:
    config = shape()
    r = drawn(2, config.representation_channels, 9)
    trunk = r[:, : config.trunk_channels]
    torch.testing.assert_close(window_features(r, "statistics", config), time_statistics(trunk))
    torch.testing.assert_close(window_features(r, "covariance", config), log_covariance(trunk))
    plain = EEGM2Config.preset("light", n_chans=3, width=2)
    x = drawn(2, 8, 9)
    torch.testing.assert_close(window_features(x, "statistics", plain), time_statistics(x))


def test_the_encoders_steps_are_averaged_token_by_token_and_a_token_is_held_until_the_next() -> None:
    config = shape(decoder=True)
    each = config.token_step // 8
    encoded = drawn(2, 16, 5 * each + each - 1)
    expected = torch.stack([encoded[..., i * each : (i + 1) * each].mean(-1) for i in range(5)], dim=1)
    torch.testing.assert_close(pooled(encoded, config), expected)
    trunk = CovarianceTrunk(config)
    state = drawn(2, 5, config.trunk_channels)
    raised = trunk.raised(state, 5 * each + 2)
    assert trunk.rise is not None
    risen = trunk.rise(state)
    for step in range(5 * each + 2):
        last = (step + 1) // each - 1  # the token that is complete with this step
        expected = risen[:, last] if last >= 0 else torch.zeros_like(risen[:, 0])
        torch.testing.assert_close(raised[..., step], expected)


def linear(layer: torch.nn.Linear, x: Array) -> Array:
    return np.asarray(x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy())


@torch.no_grad()
def test_perceptrons_are_those_of_the_paper() -> None:
    x = drawn(5, 12)
    light = light_head(12, 3).eval()
    a, b, c = (layer for layer in light if isinstance(layer, torch.nn.Linear))
    assert (a.out_features, b.out_features, c.out_features) == (128, 32, 3)
    hidden = np.maximum(linear(b, np.maximum(linear(a, x.double().numpy()), 0)), 0)
    np.testing.assert_allclose(light(x), linear(c, hidden), atol=1e-5)
    assert [layer.p for layer in light if isinstance(layer, torch.nn.Dropout)] == [0.5, 0.5]
    fine = FlattenHead(3, 4, 2).eval()
    window = drawn(5, 3, 4)
    assert fine.hidden.out_features == 128
    by_hand = np.maximum(linear(fine.hidden, window.double().numpy().reshape(5, 12)), 0)
    assert isinstance(fine.out, torch.nn.Linear)
    np.testing.assert_allclose(fine(fine.pooled(window)), linear(fine.out, by_hand), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["statistics", "attention"])
def test_a_pooled_head_is_a_norm_and_a_perceptron_on_what_it_pools(pooling: str) -> None:
    head, x = PooledHead(3, 2, pooling).eval(), drawn(4, 3, 11)
    r = x.double().numpy()
    if pooling == "attention":
        assert head.queries is not None
        scores = np.stack([linear(head.queries, window.T) for window in r])  # (batch, steps, 4)
        shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        made = np.einsum("bct,btq->bcq", r, shares).reshape(4, 12)
    else:
        made = time_statistics(x).double().numpy()
    np.testing.assert_allclose(head.pooled(x), made, atol=1e-5)
    centred = made - made.mean(1, keepdims=True)
    normed = centred / np.sqrt(centred.var(1, keepdims=True) + 1e-5)
    first = head.mlp[2]
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(head.out, torch.nn.Linear)
    expected = linear(head.out, np.maximum(linear(first, normed), 0))
    np.testing.assert_allclose(head(head.pooled(x)), expected, atol=1e-4)
    assert [layer.p for layer in head.mlp if isinstance(layer, torch.nn.Dropout)] == [0.5, 0.5]


@torch.no_grad()
def test_a_head_on_tokens_begins_as_the_linear_model_it_was_given() -> None:
    config = shape()
    head = TokensHead(config, 2)
    n = config.representation_channels
    mean, scale, weight, bias = drawn(n), 0.5 + drawn(n, seed=1).abs(), drawn(2, n, seed=2), drawn(2, seed=3)
    x = drawn(6, n, seed=4)
    head.begin_with(mean, scale, weight, bias)
    head.drop.p = 0.0
    expected = ((x - mean) / scale) @ weight.T + bias
    for training in (False, True):  # its standardisation stays as it is
        torch.testing.assert_close(head.train(training)(x), expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(head.norm.get_buffer("running_mean"), mean)
    representation = drawn(2, n, 7)
    torch.testing.assert_close(
        head.pooled(representation), window_features(representation, "tangent_state", config)
    )


@torch.no_grad()
def test_a_head_on_tokens_follows_its_features_by_a_tenth() -> None:
    config = shape()
    head = TokensHead(config, 1)
    x = 3 + 2 * drawn(8, config.representation_channels)
    head.train()
    head.drop.p = 0.0
    normed = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(head(x), head.out(normed), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(head.norm.get_buffer("running_mean"), 0.1 * x.mean(0))
    torch.testing.assert_close(head.norm.get_buffer("running_var"), 0.9 + 0.1 * x.var(0))
    before = head.norm.get_buffer("running_mean").clone()
    head(x[:1])
    torch.testing.assert_close(head.norm.get_buffer("running_mean"), before)


@torch.no_grad()
@pytest.mark.parametrize("head", ["flatten", "statistics", "attention"])
def test_a_value_comes_back_in_its_own_unit(head: Any) -> None:
    model = Downstream(build_model(EEGM2Config.preset("eegm2", n_chans=3, width=2)), 1, 32, head).eval()
    x = drawn(4, 3, 32)
    before = model(x)
    torch.testing.assert_close(model.answer(model.pooled(x)), before)
    model.in_units(40.0, 2.5)
    torch.testing.assert_close(model(x), 2.5 * before + 40, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_a_head_reads_of_its_network() -> None:
    network = build_model(EEGM2Config.preset("eegm2", n_chans=3, width=2)).eval()
    x = drawn(2, 3, 32)
    whole, middle = network(x), network.mediator(network.encode(x))
    torch.testing.assert_close(Downstream(network, 2, 32, "flatten").eval().pooled(x), whole.flatten(1))
    torch.testing.assert_close(
        Downstream(network, 2, 32, "statistics").eval().pooled(x), time_statistics(middle)
    )
    light = build_model(EEGM2Config.preset("light", n_chans=3, width=2)).eval()
    made = time_statistics(light.encode(x))
    torch.testing.assert_close(Downstream(light, 2, 32, "statistics").eval().pooled(x), made)
    mean, scale = made.mean(0), made.std(0) + 0.1
    tuned = FeatureDownstream(light, "statistics", mean, scale, 2).eval()
    torch.testing.assert_close(tuned.pooled(x), made)
    torch.testing.assert_close(tuned(x), tuned.head((made - mean) / scale))


@torch.no_grad()
@pytest.mark.parametrize("decoder", [False, True])
def test_a_network_with_tokens_is_put_together_as_described(decoder: bool) -> None:
    """Tokens of covariance and of the raw encoder joined, blocks over them, the last held at each step."""
    torch.manual_seed(0)
    network = EEGM2(shape(decoder=decoder)).eval()
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    x = drawn(2, 3, 200)
    trunk = network.trunk
    assert trunk is not None
    encoded, skips = network.encoder(x)
    tangent = trunk.tokens(x)
    raw = pooled(encoded, network.config)

    def normed(v: torch.Tensor, layer: torch.nn.LayerNorm) -> torch.Tensor:
        centred = v - v.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias
        )

    joined = normed(tangent, trunk.tangent_norm) @ trunk.tangent_linear.weight.T + trunk.tangent_linear.bias
    joined = joined + normed(raw, trunk.raw_norm) @ trunk.raw_linear.weight.T
    state = joined
    for block in trunk.blocks:
        state = block(state)[0]
    representation = torch.cat([state, tangent], dim=2).transpose(1, 2)
    torch.testing.assert_close(network.encode(x), representation, atol=1e-4, rtol=1e-4)
    if decoder:
        assert network.mediator is not None
        assert network.decoder is not None
        held = encoded + trunk.raised(state, encoded.shape[-1])
        expected = network.decoder(network.mediator(held), skips)
    else:
        expected = representation
    torch.testing.assert_close(network(x), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        network.features(x),
        window_features(representation, "tangent_state", network.config),
        atol=1e-4,
        rtol=1e-4,
    )


@torch.no_grad()
def test_hidden_steps_are_zero_to_the_encoder_and_a_learnt_token_to_the_trunk() -> None:
    network = EEGM2(shape()).eval()
    trunk = network.trunk
    assert trunk is not None
    x, step = drawn(2, 3, 200), network.config.token_step
    hidden = torch.zeros(2, 200 // step, dtype=torch.bool)
    hidden[0, 2:4] = hidden[1, 5] = True
    seen = x.clone()
    seen[0, :, 2 * step : 4 * step] = 0
    seen[1, :, 5 * step : 6 * step] = 0
    tangent = trunk.tokens(seen, hidden)
    joined = trunk.join(tangent, pooled(network.encoder(seen)[0], network.config))
    joined[hidden] = trunk.hidden_token
    found = network.tokens(x, hidden=hidden)
    torch.testing.assert_close(found.state, trunk.run(joined), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.tangent, tangent, atol=1e-5, rtol=1e-4)


def test_a_running_covariance_counts_what_is_not_hidden() -> None:
    config = shape(covariance_s=1.0)
    tokens = CovarianceTokens(config)
    x = drawn(2, 3, 320)
    hidden = torch.rand(2, 10, generator=torch.Generator().manual_seed(1)) < 0.4
    spectra = tokens.bank.cross_spectra(x).detach()
    found = tokens.covariances(x, hidden).detach()
    for window, end in np.ndindex(2, 10):
        inside = [i for i in range(max(0, end - config.window_tokens + 1), end + 1) if not hidden[window, i]]
        total = sum(known_by_counting(i, config)[0] for i in inside)
        expected = sum((spectra[window, i] for i in inside), torch.zeros_like(spectra[0, 0])) / max(total, 1)
        torch.testing.assert_close(found[window, end], expected, atol=1e-5, rtol=1e-4)
