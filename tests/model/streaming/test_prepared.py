"""Mixer and tangent vectors with prepared weights equal the separate operations, block after block."""

from __future__ import annotations

import pytest
import torch

from eegm2 import EEGM2Config
from eegm2.model.covariance.tokens import SILENCE, CovarianceTokens
from eegm2.ops import mamba2_mix
from eegm2.ops.cpu.prepared import PreparedMix
from eegm2.ops.cpu.prepared_tangent import PreparedTangent


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize(("batch", "heads", "headdim"), [(1, 3, 64), (2, 2, 5)])
def test_blocks_of_any_length_equal_the_separate_operations(
    taps: int, batch: int, heads: int, headdim: int
) -> None:
    torch.manual_seed(0)
    inner, d_state = heads * headdim, 6
    channels = inner + 2 * d_state
    weights = (
        torch.randn(channels, taps),
        torch.randn(channels),
        torch.randn(heads),
        -torch.rand(heads),
        torch.randn(heads),
        torch.randn(inner),
    )
    prepared = PreparedMix(weights, 1e-5, d_state, headdim)
    conv = ssm = conv_ = ssm_ = None
    for length in (1, 2, 1, 7, 40, 3):
        zx = torch.randn(batch, length, inner + channels + heads)
        before = [t.clone() for t in (zx, *(t for t in (conv, ssm) if t is not None))]
        given = (zx, conv, ssm)
        y, conv, ssm = prepared(zx, conv, ssm)
        for kept, now in zip(before, (t for t in given if t is not None)):
            assert torch.equal(kept, now)
        arguments = (conv_, ssm_, 1, d_state, headdim)
        y_, conv_, ssm_ = mamba2_mix(zx, *weights, 1e-5, *arguments, backend="chunked")
        for got, expected in ((y, y_), (conv, conv_), (ssm, ssm_)):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        assert conv.untyped_storage().nbytes() == conv.numel() * 4  # keeps no block alive


@torch.no_grad()
@pytest.mark.parametrize(("batch", "ready", "channels"), [(1, 1, 16), (2, 3, 5), (1, 4, 1)])
def test_prepared_tangent_vectors_are_those_of_separate_operations(
    batch: int, ready: int, channels: int
) -> None:
    torch.manual_seed(0)
    shape = EEGM2Config.preset("covariance", n_chans=channels, width=4, n_virtual=0)
    tokens = CovarianceTokens(shape)
    tokens.shrinkage_logit += torch.randn(shape.n_bands)
    window, signals = shape.window_tokens, torch.randn(batch, ready + 3, shape.n_bands, channels, 9)
    assert window == 4
    spectra = (signals @ signals.mT).flatten(2)
    totals = 1 + torch.arange(batch * ready, dtype=torch.float32).view(batch, ready)
    summed = spectra.unfold(1, window, 1).sum(-1) / totals[..., None]
    expected = tokens.tangent(summed.unflatten(2, (shape.n_bands, channels, channels)))
    prepared = PreparedTangent(tokens.shrinkage_logit.sigmoid(), channels, window, SILENCE)
    torch.testing.assert_close(prepared(spectra, totals), expected, rtol=1e-5, atol=1e-5)
    spectra[-1, -1, 0] = torch.nan  # of the first band of the last step
    made = prepared(spectra, totals)
    hurt = torch.zeros_like(made, dtype=torch.bool)
    hurt[-1, -1, : channels * (channels + 1) // 2] = True
    assert torch.equal(made.isnan(), hurt)
    torch.testing.assert_close(made[~hurt], expected[~hurt], rtol=1e-5, atol=1e-5)
    silent = prepared(torch.zeros_like(spectra), totals)
    assert torch.isfinite(silent).all()
