"""The compiled forward pass: equal to the plain one, aware of changed weights, and only where it may be."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eegm2 import EEGM2, EEGM2Config
from eegm2.model.block import SequenceBlock
from eegm2.model.fused import join_and_convolve
from eegm2.model.layers import TimeConv, join
from eegm2.ops import Kept
from eegm2.ops.cpu import block as compiled
from eegm2.ops.cpu import selective


def network(preset: str = "eegm2", *, n_chans: int = 5, **sizes: Any) -> EEGM2:
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset(preset, n_chans=n_chans, **{"width": 8, **sizes})).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@contextmanager
def separately() -> Iterator[None]:
    """Networks take one operation after the other here, the scans in torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EEGM2_BACKEND", "chunked")
        yield


def both(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The compiled result, and that of the separate operations."""
    with torch.no_grad():
        found = model(x)
        with separately():
            return found, model(x)


@pytest.mark.parametrize("n_times", [8, 95, 96, 97, 768, 1544])
@pytest.mark.parametrize("preset", ["eegm2", "light", "s3"])
def test_lengths_that_no_block_divides_on_any_number_of_threads(preset: str, n_times: int) -> None:
    model, x = network(preset), torch.randn(3, 5, n_times, dtype=torch.float64)
    found, expected = both(model, x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        with torch.no_grad():
            torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("preset", ["eegm2", "s3"])
@pytest.mark.parametrize(("n_chans", "width"), [(1, 1), (2, 3), (63, 5), (64, 16), (256, 24)])
def test_channels_and_widths_that_are_no_multiple_of_a_vector(n_chans: int, width: int, preset: str) -> None:
    model = network(preset, n_chans=n_chans, width=width)
    found, expected = both(model, torch.randn(1, n_chans, 104, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "sizes", [ {"d_conv": 1}, {"d_conv": 4, "d_state": 3}, {"headdim": 5, "expand": 3}, {"d_state": 40},
    {"d_conv": 150}, ], ids=str,
)  # fmt: skip
@pytest.mark.parametrize("mixer", ["mamba2", "mamba1"])
def test_mixers_of_other_sizes(sizes: dict[str, int], mixer: str) -> None:
    found, expected = both(
        network("light", mixer=mixer, **sizes), torch.randn(2, 5, 200, dtype=torch.float64)
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("mixer", "module"), [("mamba2", compiled), ("mamba1", selective)])
def test_bitwise_equal_on_any_number_of_threads_and_in_any_pieces(
    monkeypatch: pytest.MonkeyPatch, mixer: str, module: Any
) -> None:
    model = network("light", width=64, mixer=mixer).float()
    x = torch.randn(1, 5, 3000)
    results = []
    with torch.no_grad():
        for threads, room in ((1, 8 << 20), (2, 8 << 20), (3, 8 << 20), (2, 1)):
            torch.set_num_threads(threads)
            monkeypatch.setattr(module, "ROOM", room)
            results.append(model(x))
    assert all(torch.equal(result, results[0]) for result in results[1:])


@pytest.mark.parametrize("mixer", ["mamba2", "mamba1"])
@pytest.mark.parametrize("norm_order", ["before_residual", "after_residual"])
@pytest.mark.parametrize("cut", [1, 7, 95, 96, 200])
def test_a_block_continues_from_its_state(norm_order: str, cut: int, mixer: str) -> None:
    torch.manual_seed(0)
    config = EEGM2Config(norm_order=norm_order, d_conv=4, mixer=mixer)  # type: ignore[arg-type]
    block = SequenceBlock(8, config).double()
    u = torch.randn(2, 201, 8, dtype=torch.float64)
    with separately():
        whole, end = block(u)
    assert block.compiled(u) is None
    with torch.no_grad():
        assert block.compiled(u) is not None
        first, state = block(u[:, :cut])
        before = [tensor.clone() for tensor in state.tensors()]
        second, last = block(u[:, cut:], state)
    assert all(map(torch.equal, before, state.tensors()))
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-10, atol=1e-10)
    for found, expected in zip(last.tensors(), end.tensors()):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        assert found.untyped_storage().nbytes() == found.numel() * 8  # keeps no block alive


@pytest.mark.parametrize("steps", [1, 2, 50, 97])
@pytest.mark.parametrize("with_output", [False, True])
def test_products_before_interpolation_equal_those_after(steps: int, with_output: bool) -> None:
    torch.manual_seed(0)
    conv = TimeConv(7, 33, 3).double()
    output = TimeConv(33, 2, 1).double() if with_output else None
    skip, x = (torch.randn(2, c, n, dtype=torch.float64) for c, n in ((3, 2 * steps), (4, steps)))
    expected = conv(join(skip, x))
    expected = expected if output is None else output(expected)
    with torch.no_grad():
        found = join_and_convolve(skip, x, Kept(), conv, output)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)


def in_place(model: EEGM2) -> None:
    with torch.no_grad():
        model.encoder.conv2.weight.mul_(1.5)


def through_data(model: EEGM2) -> None:
    model.encoder.block1.mixer.out_proj.weight.data[3, 4] += 1


def through_numpy(model: EEGM2) -> None:
    model.encoder.linear1.bias.detach().numpy()[0] += 1


def replaced(model: EEGM2) -> None:
    model.decoder.conv2.weight = nn.Parameter(model.decoder.conv2.weight.detach() * 2)  # type: ignore[union-attr]


def swapped(model: EEGM2) -> None:
    model.mediator.linear_in.weight.data = model.mediator.linear_in.weight.detach().flip(0)  # type: ignore


def loaded(model: EEGM2) -> None:
    model.load_state_dict(network(d_state=16).state_dict() | {"encoder.block1.norm.bias": torch.ones(8)})


@pytest.mark.parametrize("change", [in_place, through_data, through_numpy, replaced, swapped, loaded])
def test_a_change_of_weights_by_any_way_is_seen(change: Callable[[EEGM2], None]) -> None:
    model = network()
    x = torch.randn(1, 5, 64, dtype=torch.float64)
    before, _ = both(model, x)
    change(model)
    found, expected = both(model, x)
    assert not torch.equal(found, before)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_copies_and_files_leave_laid_out_weights_behind() -> None:
    model = network()
    x = torch.randn(1, 5, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        saved = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes
        for other in (copy.deepcopy(model), saved):
            kept = [k for m in other.modules() for k in vars(m).values() if isinstance(k, Kept)]
            assert kept
            assert all(k._made is None for k in kept)
            assert torch.equal(other(x), expected)


def test_hooks_on_layers_are_called() -> None:
    model = network("light")
    seen: list[str] = []
    for name in ("encoder.embedding.fuse", "encoder.block1.mixer.in_proj", "encoder.block1.norm"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))
    found, expected = both(model, torch.randn(1, 5, 64, dtype=torch.float64))
    assert len(seen) == 6
    model(torch.randn(1, 5, 64, dtype=torch.float64)).sum().backward()
    assert len(seen) == 9
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("grad", [True, False])
def test_a_batch_of_none_is_refused(grad: bool) -> None:
    with torch.set_grad_enabled(grad):
        with pytest.raises(
            ValueError, match=r"got shape \(0, 5, 64\), a batch of none; expected at least one"
        ):
            network("light")(torch.zeros(0, 5, 64, dtype=torch.float64))
        with pytest.raises(ValueError, match="zero batch"):
            SequenceBlock(8, EEGM2Config())(torch.zeros(0, 64, 8))


def test_what_is_not_a_number_stays_so_and_where_it_belongs() -> None:
    model = network("light").float()
    x = torch.randn(2, 5, 400)
    x[1, 2, 203] = torch.nan
    with torch.no_grad():
        y = model(x)
    assert torch.isfinite(y[0]).all()
    assert torch.isfinite(y[1, :, : (203 - 9) // 8]).all()
    assert torch.isnan(y[1, :, 26:]).all()
