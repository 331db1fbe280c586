"""Checkpointed blocks that work through the batch a few windows at a time: the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch

from eegm2.model.config import EEGM2Config
from eegm2.model.network import EEGM2


@pytest.mark.parametrize("preset", ["eegm2", "s3"])
@pytest.mark.parametrize("windows", [1, 2, 8])
def test_outputs_and_gradients_are_the_same(preset: str, windows: int) -> None:
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset(preset, n_chans=3, width=4))
    other = copy.deepcopy(model).checkpoint_blocks(windows=windows)
    sizes: list[int] = []
    other.encoder.block1.mixer.register_forward_hook(
        lambda module, given, result: sizes.append(len(given[0]))
    )
    x = torch.randn(5, 3, 64)
    for each in (model, other):
        (each(x) - x).abs().mean().backward()
    assert max(sizes) == min(windows, 5)
    assert sum(sizes) == 10  # every window once in each pass
    for (name, wanted), found in zip(model.named_parameters(), other.parameters()):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-6, msg=name)
