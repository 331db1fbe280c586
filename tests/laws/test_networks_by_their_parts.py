"""Laws of a network's parts, each used alone: what came before counts, what is not read is not trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config
from eegm2.model.covariance.electrodes import refuse_electrodes
from eegm2.model.heads import FeatureDownstream
from eegm2.model.network import EEGM2, build_model

COVARIANCE = {"n_chans": 5, "n_bands": 3, "trunk_width": 2, "width": 8, "sfreq_hz": 64.0}


def network(preset: str = "covariance", **changes: object) -> EEGM2:
    torch.manual_seed(0)
    options = COVARIANCE if preset == "covariance" else {"n_chans": 5, "width": 8}
    built = build_model(EEGM2Config.preset(preset, **{**options, **changes}))
    assert isinstance(built, EEGM2)
    return built.eval()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_samples_before_a_step_reach_its_cross_spectra(share: float) -> None:
    """As many as the filter has taps less one, none, or some between; with gradients and without."""
    trunk = network().trunk
    assert trunk is not None
    bank = trunk.tokens.bank
    before = round(share * (bank.taps - 1))
    x = torch.randn(2, 5, 6 * bank.step, generator=torch.Generator().manual_seed(1))
    whole = bank.cross_spectra(x, matrix=bank.matrix())
    cut = 2 * bank.step
    x_cut = torch.cat([torch.zeros(2, 5, cut - before), x[..., cut - before :]], dim=2)
    expected = bank.cross_spectra(x_cut, matrix=bank.matrix())[:, 2:]
    found = bank.cross_spectra(x[..., cut - before :], before, bank.matrix())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(
            bank.cross_spectra(x[..., cut - before :], before), found, rtol=1e-3, atol=1e-4
        )
    if share == 1.0:
        torch.testing.assert_close(found, whole[:, 2:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("preset", "kind"), [("covariance", "tangent"), ("eegm2", "statistics")])
def test_tuning_on_features_trains_the_encoder_and_leaves_the_decoder(preset: str, kind: str) -> None:
    one = FeatureDownstream(network(preset), kind, torch.zeros(1), torch.ones(1), 2)
    size = one.pooled(torch.randn(1, 5, 256)).shape[1]
    tuned = FeatureDownstream(network(preset), kind, torch.zeros(size), torch.ones(size), 2).train()
    tuned(torch.randn(3, 5, 256)).square().sum().backward()
    trained = {name for name, p in tuned.named_parameters() if p.requires_grad}
    assert not [name for name in trained if ".mediator." in name or ".decoder." in name]
    assert all(name.startswith(("network.", "head.")) for name in trained)
    if preset == "eegm2":
        reached = {
            name for name, p in tuned.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
        }
        assert trained == reached, "what has no part in the answer would only be worn by weight decay"


def test_a_montage_needs_four_channels_however_many_places_they_have() -> None:
    places = np.eye(3).repeat(2, 0) * np.array([1, -1] * 3)[:, None]
    refuse_electrodes(places)
    refuse_electrodes(places, n_chans=4)
    with pytest.raises(ConfigError, match="electrodes: got 3 "):
        refuse_electrodes(places, n_chans=3)  # six places of three pairs


def test_a_hidden_token_begins_half_as_large_as_a_state() -> None:
    token = torch.cat([network(trunk_width=w).trunk.hidden_token.flatten() for w in (4, 8, 16, 32)])  # type: ignore[union-attr]
    assert 0.4 < float(token.detach().std()) < 0.6
