"""Compiled cross-spectra and tangent vectors equal the separate operations."""

from __future__ import annotations

import pytest
import torch

from eegm2 import EEGM2Config
from eegm2.model.covariance.tokens import SILENCE, CovarianceTokens
from eegm2.ops import choose_backend
from eegm2.ops.cpu.tangent import BankWeights, TangentWeights

pytestmark = pytest.mark.skipif(choose_backend("auto", torch.device("cpu")) != "numba", reason="no Numba")


def made(channels: int) -> CovarianceTokens:
    torch.manual_seed(0)
    tokens = CovarianceTokens(EEGM2Config.preset("covariance", n_chans=channels, width=4, n_virtual=0))
    with torch.no_grad():
        tokens.shrinkage_logit += torch.randn(tokens.config.n_bands)
    return tokens


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 5, 16, 40])
@pytest.mark.parametrize("before", [0, 20, 63])
def test_cross_spectra_are_those_of_separate_operations(channels: int, before: int) -> None:
    tokens = made(channels)
    bank, x = tokens.bank, torch.randn(2, channels, before + 150)
    expected = bank.cross_spectra(x, before, bank.matrix())
    assert expected.shape[1] == 4
    torch.testing.assert_close(bank.cross_spectra(x, before), expected, rtol=1e-4, atol=1e-5)
    last = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(bank.cross_spectra(last, before), bank.cross_spectra(x, before))
    with torch.enable_grad():
        assert bank.cross_spectra(x, before).requires_grad
    bank.double()
    torch.testing.assert_close(
        bank.cross_spectra(x.double(), before), expected.double(), rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_a_bank_of_no_whole_number_of_tiles() -> None:
    bank = made(3).bank
    matrix, x = bank.matrix()[:, :1, :5], torch.randn(1, 3, 96)
    filtered = torch.nn.functional.pad(x, (63, 0)).unfold(2, 95, 32) @ matrix[:, 0]
    expected = (filtered.transpose(1, 2) @ filtered.permute(0, 2, 3, 1))[:, :, None]
    found = BankWeights.of(matrix, 32, 2)(x, 0)
    torch.testing.assert_close(found, 2 * expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("batch", "ready", "channels"), [(1, 1, 16), (2, 3, 5), (1, 4, 1)])
def test_tangent_vectors_are_those_of_separate_operations(batch: int, ready: int, channels: int) -> None:
    tokens = made(channels)
    bands, window = tokens.config.n_bands, tokens.config.window_tokens
    signals = torch.randn(batch, ready + 3, bands, channels, 9)
    assert window == 4
    spectra = signals @ signals.mT
    totals = 1 + torch.arange(batch * ready, dtype=torch.float32).view(batch, ready)
    summed = spectra.unfold(1, window, 1).sum(-1) / totals[..., None, None, None]
    expected = tokens.tangent(summed)
    compiled = tokens.compiled(spectra)
    assert compiled is not None
    torch.testing.assert_close(compiled(spectra, totals), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tokens.running(spectra, totals), expected, rtol=1e-5, atol=1e-5)
    started = torch.cat(
        [torch.zeros_like(spectra[:, :3]), spectra], dim=1
    )  # before the start there is nothing
    more = torch.ones(batch, ready + 3)
    torch.testing.assert_close(compiled(spectra, more), compiled(started, more))
    spectra[-1, -1, 0, 0, 0] = torch.nan  # of the first band of the last step
    found = compiled(spectra, totals)
    hurt = torch.zeros_like(found, dtype=torch.bool)
    hurt[-1, -1, : channels * (channels + 1) // 2] = True
    assert torch.equal(found.isnan(), hurt)
    torch.testing.assert_close(found[~hurt], expected[~hurt], rtol=1e-5, atol=1e-5)
    assert torch.isfinite(compiled(torch.zeros_like(spectra), totals)).all()


@torch.no_grad()
def test_any_number_of_threads_gives_the_same_bits() -> None:
    tokens, x = made(7), torch.randn(3, 7, 1600)
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(tokens(x))
    assert torch.equal(*found)
    assert found[0].abs().max() > 1


@torch.no_grad()
def test_a_power_of_a_half_gives_its_logarithm() -> None:
    shares = torch.full((1,), 0.5, dtype=torch.float64)
    identity = torch.eye(3).view(1, 1, 1, 3, 3)
    (vector,) = TangentWeights(shares, 1, SILENCE)(identity, torch.full((1, 1), 2.0))[0]
    diagonal = vector[[0, 3, 5]]
    torch.testing.assert_close(diagonal, torch.full((3,), 0.5).log(), rtol=1e-6, atol=1e-6)
