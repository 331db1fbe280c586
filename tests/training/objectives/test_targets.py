"""Targets: oscillations without gain and slope, tangent vectors of patches, running standards; the terms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import logm

from eegm2.data.electrodes import electrode_spread
from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config
from eegm2.model.covariance.tokens import SILENCE, CovarianceTokens
from eegm2.training.objectives.montages import Montages
from eegm2.training.objectives.regularise import contrast_term, covariance_term, variance_term
from eegm2.training.objectives.targets import BandPower, Standard, Tangents, less_mean

SFREQ_HZ = 128.0


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestBandPower:
    def test_a_rhythm_stands_out_in_its_band_and_patch(self) -> None:
        x = noise(1, 2, 512)
        times = torch.arange(128) / SFREQ_HZ
        x[0, 1, 256:384] += 3 * torch.sin(2 * math.pi * 10 * times)
        target = BandPower(SFREQ_HZ, 128)(x).unflatten(-1, (2, 6))
        assert target.shape == (1, 4, 2, 6)
        place = np.unravel_index(int(target.argmax()), target.shape)
        assert place == (0, 2, 1, 2)  # 8 to 13 Hz

    def test_neither_gain_nor_slope_counts(self) -> None:
        """Power times f^-2 is a line in the logarithms, so it is taken off whole."""
        x = noise(2, 3, 256)
        band_power = BandPower(SFREQ_HZ, 128)
        torch.testing.assert_close(band_power(1e3 * x), band_power(x), atol=1e-3, rtol=1e-3)
        weights = band_power.get_buffer("weights").double().numpy()
        frequencies = np.fft.rfftfreq(128, 1 / SFREQ_HZ)[band_power.get_buffer("bins").numpy()]
        for line in (np.ones_like(frequencies), np.log(frequencies)):
            np.testing.assert_allclose(weights @ line, 0, atol=1e-5)

    def test_silence_is_finite_and_a_short_patch_is_refused(self) -> None:
        assert torch.isfinite(BandPower(SFREQ_HZ, 64)(torch.zeros(1, 2, 256))).all()
        with pytest.raises(ConfigError, match=r"patch_s: a patch of 0\.0625 s holds 2 frequencies"):
            BandPower(SFREQ_HZ, 8)


class TestTangents:
    config = EEGM2Config.preset("covariance", n_chans=3, n_virtual=0, n_bands=2, covariance_s=4.0)

    def test_patches_are_logarithms_of_their_own_covariances(self) -> None:
        tokens = CovarianceTokens(self.config)
        x = noise(2, 3, 512)
        patches, whole = Tangents(tokens, 64)(x)
        assert patches.shape == (2, 8, 12)
        step, late = self.config.token_step, 1
        spectra = tokens.bank.cross_spectra(x).detach().double()
        share = float(tokens.shrinkage_logit.detach().sigmoid()[1])
        found = patches[1, 3].detach().unflatten(-1, (2, 6))[1]
        first = 3 * 2 + late
        covariance = spectra[1, first : first + 2, 1].sum(0) / (2 * step)
        level = covariance.trace() / 3
        shrunk = (1 - share) * covariance + (share * level + SILENCE) * torch.eye(3)
        expected = logm(shrunk.numpy())[np.triu_indices(3)] * np.array([1, 2**0.5, 2**0.5, 1, 2**0.5, 1])
        np.testing.assert_allclose(found, expected, atol=1e-4)
        of_all = tokens.tangent(tokens.covariances(x)[:, -1:])
        assert whole.shape == (2, 12)
        assert self.config.window_tokens == 16, "the last token's window is the whole of x"
        torch.testing.assert_close(whole, of_all[:, 0])

    def test_they_do_not_follow_training(self) -> None:
        tokens = CovarianceTokens(self.config)
        tangents, x = Tangents(tokens, 64), noise(1, 3, 256)
        before = tangents(x)[1]
        with torch.no_grad():
            tokens.bank.log_centre_hz += 1
        assert torch.equal(tangents(x)[1], before)
        assert not any(parameter.requires_grad for parameter in tangents.parameters())

    def test_silence_is_finite(self) -> None:
        patches, whole = Tangents(CovarianceTokens(self.config), 64)(torch.zeros(1, 3, 256))
        assert torch.isfinite(patches).all()
        assert torch.isfinite(whole).all()


class TestStandard:
    def test_errors_of_the_mean_are_one(self) -> None:
        standard = Standard(2, 3)
        for seed in range(30):
            made = standard(5 + 2 * noise(64, 4, 3, seed=seed), 1)
        assert float(made.mean()) == pytest.approx(0, abs=0.1)
        assert float(made.square().mean()) == pytest.approx(1, abs=0.1)
        assert standard.get_buffer("batches").tolist() == [0, 30]
        assert float(standard.get_buffer("mean")[0].abs().max()) == 0, "the other store's is its own"

    def test_evaluation_leaves_it_and_artefacts_are_limited(self) -> None:
        standard = Standard(1, 3)
        standard(noise(64, 3), 0)
        before = {name: value.clone() for name, value in standard.state_dict().items()}
        standard.eval()
        assert float(standard(1e6 * torch.ones(2, 3), 0).max()) == 5
        assert all(torch.equal(value, before[name]) for name, value in standard.state_dict().items())


def test_less_the_mean_of_ones_own_recording() -> None:
    groups = torch.tensor([3, 3, 8, 3])
    target = noise(4, 5, 2)
    found = less_mean(target, groups)
    torch.testing.assert_close(found[groups == 3].mean((0, 1)), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[2].mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(less_mean(target[:, 0], groups)[2], torch.zeros(2), atol=1e-6, rtol=0)


class TestTerms:
    def test_variance_wants_a_spread_of_one(self) -> None:
        z = noise(500, 4)
        z = (z - z.mean(0)) / z.std(0)
        assert float(variance_term(2 * z)) == 0
        assert float(variance_term(0.25 * z)) == pytest.approx(0.75, abs=0.01)
        assert float(variance_term(torch.zeros(8, 4))) == pytest.approx(0.99)

    def test_covariance_is_of_different_columns(self) -> None:
        z = noise(4000, 1).expand(-1, 2)
        expected = 2 * float(z[:, 0].var()) ** 2 / 2
        assert float(covariance_term(z)) == pytest.approx(expected)
        assert float(covariance_term(noise(4000, 5))) < 0.01

    def test_contrast_knows_only_its_own_recording(self) -> None:
        z = torch.eye(4)
        alone = torch.arange(4)
        assert float(contrast_term(z, z, alone, 0.1)) == 0
        together = torch.zeros(4, dtype=torch.long)
        assert float(contrast_term(z, z, together, 0.1)) == pytest.approx(
            math.log(1 + 3 * math.exp(-10)), rel=1e-2
        )
        assert float(contrast_term(z, torch.ones(4, 4), together, 0.1)) == pytest.approx(math.log(4))
        mixed = torch.tensor([0, 0, 1, 2])
        assert float(contrast_term(z, torch.ones(4, 4), mixed, 0.1)) == pytest.approx(math.log(2))


def test_a_map_of_some_electrodes_is_theirs() -> None:
    names = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")
    montages = Montages([("Cz", "Pz", "F3", "F4"), names], 4)
    kept = torch.ones(2, 6, dtype=torch.bool)
    kept[1, [1, 4]] = False
    found = montages.spread(1, kept)
    full = torch.from_numpy(electrode_spread(names)).float()
    torch.testing.assert_close(found[0], full)
    torch.testing.assert_close(montages.spread(1), full)
    there = [name for name, stays in zip(names, kept[1].tolist()) if stays]
    torch.testing.assert_close(found[1][:, kept[1]], torch.from_numpy(electrode_spread(there)).float())
    assert not found[1][:, ~kept[1]].any()


def test_pairs_lie_midway_and_can_be_left_out() -> None:
    names = ("Fp1-F7", "F7-T7", "Fp2-F8", "F8-T8", "C3-P3")
    montages = Montages([names], 4)
    kept = torch.tensor([[True, False, True, True, True]])
    there = [name for name, stays in zip(names, kept[0].tolist()) if stays]
    torch.testing.assert_close(
        montages.spread(0, kept)[0][:, kept[0]], torch.from_numpy(electrode_spread(there)).float()
    )
    torch.testing.assert_close(montages.places(0).norm(dim=1), torch.ones(5))
