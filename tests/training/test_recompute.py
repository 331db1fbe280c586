"""Recomputed blocks: the same numbers in less memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from eegm2.model.config import EEGM2Config
from eegm2.model.network import build_model
from eegm2.training.recompute import recompute_blocks


def saved_bytes(model: nn.Module, x: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Bytes kept for the backward pass, each storage once, and the loss."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = (model(x) - x).abs().mean()
    return sum(kept.values()), loss


@pytest.mark.parametrize("preset", ["eegm2", "s3"])
@pytest.mark.parametrize("windows", [1, 2, 8])
def test_outputs_and_gradients_are_the_same_and_memory_is_less(preset: str, windows: int) -> None:
    torch.manual_seed(0)
    model = build_model(EEGM2Config.preset(preset, n_chans=3, width=4))
    other = copy.deepcopy(model)
    assert recompute_blocks(other, windows) == 4
    assert list(other.state_dict()) == list(model.state_dict())
    x = torch.randn(5, 3, 64)
    whole, loss = saved_bytes(model, x)
    loss.backward()
    less, loss_again = saved_bytes(other, x)
    loss_again.backward()
    torch.testing.assert_close(loss_again, loss, rtol=1e-5, atol=0)
    for (name, wanted), found in zip(model.named_parameters(), other.parameters()):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert less < 0.5 * whole


def test_a_copy_has_weights_of_its_own() -> None:
    model = build_model(EEGM2Config.preset("eegm2", n_chans=3, width=4))
    recompute_blocks(model, 2)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    x = torch.randn(3, 3, 32, requires_grad=True)
    assert (other(x) - model(x)).abs().max() > 0


def test_without_a_gradient_and_without_blocks_nothing_changes() -> None:
    model = build_model(EEGM2Config.preset("eegm2", n_chans=3, width=4)).eval()
    x = torch.randn(3, 3, 40)
    with torch.no_grad():
        before = model(x)
        recompute_blocks(model, 1)
        assert torch.equal(model(x), before)
    assert recompute_blocks(build_model(EEGM2Config.preset("unet", n_chans=3, width=4)), 1) == 0
