"""The compiled gradients: those of the separate operations, each argument felt, the same bits again."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eegm2 import EEGM2, EEGM2Config
from eegm2.model.block import SequenceBlock
from eegm2.ops.cpu import block_gradient
from tests.model.test_inference import network, separately

SIZES: list[dict[str, Any]] = [
    {},
    {"d_conv": 1, "d_state": 3},
    {"d_conv": 4, "headdim": 5, "expand": 3},
    {"d_state": 40, "norm_order": "after_residual"},
    {"d_conv": 150},
]


def block(channels: int = 8, **sizes: Any) -> SequenceBlock:
    """A block in float64 whose weights are all of some size, and whose scan moves its states."""
    torch.manual_seed(0)
    made = SequenceBlock(channels, EEGM2Config(**sizes)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        made.mixer.get_parameter("dt_bias").add_(2)
    return made


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Those of an uneven sum, in the input and every parameter, and the output."""
    x = x.clone().requires_grad_()
    y = model(x)
    y = y[0] if isinstance(y, tuple) else y
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape).sin_()
    names, leaves = zip(*[("input", x), *model.named_parameters()])
    found = torch.autograd.grad((weights * y).sum(), leaves, materialize_grads=True)
    return {"output": y.detach(), **dict(zip(names, found))}


def errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Largest differences, each in units of the largest value, but no less than a thousandth of any's."""
    floor = 1e-3 * max(float(value.abs().max()) for value in expected.values())
    return {
        name: float((found[name].double() - value).abs().max()) / max(float(value.abs().max()), floor)
        for name, value in expected.items()
    }


def largest_error(model: nn.Module, x: Tensor) -> float:
    with separately():
        expected = gradients(copy.deepcopy(model).double(), x.double())
    return max(errors(gradients(model, x), expected).values())


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("length", [1, 95, 96, 97, 300])
def test_a_block_has_the_gradients_of_the_separate_operations(length: int, sizes: dict[str, Any]) -> None:
    assert largest_error(block(**sizes), torch.randn(2, length, 8, dtype=torch.float64)) < 1e-7


@pytest.mark.parametrize(("channels", "batch"), [(1, 1), (3, 9), (24, 2), (70, 1), (128, 1)])
def test_widths_and_batches(channels: int, batch: int) -> None:
    x = torch.randn(batch, 101, channels)
    assert largest_error(block(channels), x.double()) < 1e-7
    assert largest_error(block(channels).float(), x) < 1e-3


def test_rows_of_other_strides() -> None:
    model, x = block(), torch.randn(2, 8, 130, dtype=torch.float64).transpose(1, 2)
    assert max(errors(gradients(model, x), gradients(model, x.contiguous())).values()) == 0
    wide = torch.randn(2, 130, 11, dtype=torch.float64)
    found, expected = (gradients(model, t) for t in (wide[:, 1:-1, 2:10], wide[:, 1:-1, 2:10].contiguous()))
    assert max(errors(found, expected).values()) == 0


def test_gradcheck() -> None:
    model = block(2, expand=2, d_state=2)
    u = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    names, leaves = zip(*model.named_parameters())

    def run(u: Tensor, *values: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(model, dict(zip(names, values)), (u,))[0]
        return y

    assert torch.autograd.gradcheck(run, (u, *leaves), atol=1e-6)


@pytest.mark.parametrize("name", [name for name, _ in block().named_parameters()])
def test_one_percent_of_any_parameter_is_noticed_in_the_gradients(name: str) -> None:
    model, x = block(), torch.randn(2, 130, 8, dtype=torch.float64)
    with separately():
        expected = gradients(model, x)
    with torch.no_grad():
        model.get_parameter(name).mul_(1.01)
    assert max(errors(gradients(model, x), expected).values()) > 1e-4


def test_the_same_bits_again_and_on_any_number_of_threads() -> None:
    model, x = block(64).float(), torch.randn(3, 300, 64)
    runs = []
    for threads in (1, 1, 2, 3):
        torch.set_num_threads(threads)
        runs.append(gradients(model, x))
    assert all(torch.equal(run[name], value) for run in runs[1:] for name, value in runs[0].items())


def test_kept_for_the_gradient_are_states_and_what_is_as_wide_as_the_input() -> None:
    model, x = block(16).float(), torch.randn(1, 960, 16, requires_grad=True)
    y, _ = model(x)
    kept = y.grad_fn.saved_tensors  # type: ignore[union-attr]
    given = {t.data_ptr() for t in (x, *model.parameters())}
    weights = sum(p.numel() for p in model.parameters())
    size = sum(t.numel() for t in kept if t.data_ptr() not in given) - 1.5 * weights  # laid out once more
    assert 0 < size <= 960 * (16 + 1) + 10 * 16 * 8 * 16  # half of one row of the expanded channels


def test_a_state_returned_in_training_says_that_it_has_no_gradient() -> None:
    model, u = block(), torch.randn(2, 40, 8, dtype=torch.float64)
    y, state = model(u)
    with pytest.raises(RuntimeError, match="start from zeros"):
        (y.sum() + state.ssm.sum()).backward()
    zeros = type(state)(*(torch.zeros_like(t) for t in state))
    y, state = model(u, zeros)
    (y.sum() + state.ssm.sum()).backward()
    assert model.mixer.get_parameter("A_log").grad.abs().sum() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("preset", ["eegm2", "light", "s1", "s3", "s4", "covariance"])
def test_a_network_has_the_gradients_of_the_separate_operations(preset: str) -> None:
    sizes = {"n_virtual": 0, "trunk_blocks": 2} if preset == "covariance" else {}
    model = network(preset, **sizes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("dt_bias", "dt_proj.bias")):
                parameter.add_(3)
    assert largest_error(model, torch.randn(2, 5, 264, dtype=torch.float64)) < 1e-7


@pytest.mark.parametrize("name", ["embedding.branches.1.weight", "embedding.fuse.bias", "linear1.weight"])
def test_one_percent_of_the_embedding_is_noticed(name: str) -> None:
    model, x = network("light").encoder, torch.randn(2, 5, 64, dtype=torch.float64)
    with separately():
        expected = gradients(_Embedding(model), x)
    with torch.no_grad():
        model.get_parameter(name).mul_(1.01)
    assert max(errors(gradients(_Embedding(model), x), expected).values()) > 1e-4


class _Embedding(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.embedding, self.linear1, self.encoder = encoder.embedding, encoder.linear1, [encoder]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.encoder[0].embed(x)
        return y


def test_the_compiled_gradient_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    back = block_gradient._backward
    monkeypatch.setattr(block_gradient, "_backward", lambda *args: (taken.append(1), back(*args))[1])
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=3, width=4))
    model(torch.randn(1, 3, 64)).sum().backward()
    assert len(taken) == 4
    with separately():
        model(torch.randn(1, 3, 64)).sum().backward()
    assert len(taken) == 4
