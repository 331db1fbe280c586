"""Where an input lies in memory changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eegm2 import EEGM2, EEGM2Config

LAYOUTS: dict[str, Tensor] = {
    "one channel for all": torch.randn(2, 1, 96).expand(2, 6, 96),
    "one entry for all": torch.randn(1, 6, 96).expand(2, 6, 96),
    "one sample for all": torch.randn(2, 6, 1).expand(2, 6, 96),
    "channels last": torch.randn(2, 96, 6).mT,
    "every second sample": torch.randn(2, 6, 192)[..., ::2],
    "a stretch": torch.randn(2, 6, 150)[..., 20:116],
    "every second channel": torch.randn(2, 12, 96)[:, ::2],
    "batch in the middle": torch.randn(6, 2, 96).transpose(0, 1),
}


@pytest.mark.parametrize(
    "preset",
    ["eegm2", "s3", "covariance", *(pytest.param(p, marks=pytest.mark.slow) for p in ("light", "s1", "s4"))],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_an_input_changes_nothing(preset: str, layout: str) -> None:
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset(preset, n_chans=6, width=2)).eval()
    x = LAYOUTS[layout]
    plain = x.clone(memory_format=torch.contiguous_format)
    with torch.no_grad():
        torch.testing.assert_close(model.encode(x), model.encode(plain))
    gradients = []
    for given in (x, plain):
        model.zero_grad()
        given = given.detach().requires_grad_()
        model.encode(given).square().mean().backward()
        assert given.grad is not None
        gradients.append([given.grad, *(p.grad for p in model.parameters() if p.grad is not None)])
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other)
