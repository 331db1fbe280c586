"""The mixer with prepared weights equals the mixer as separate operations, block after block."""

from __future__ import annotations

import pytest
import torch

from eegm2.ops import mamba2_mix
from eegm2.ops.cpu.prepared import PreparedMix


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
