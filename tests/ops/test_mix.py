"""The mixer with the compiled scan against the one with the recurrence."""

from __future__ import annotations

import pytest
import torch
from scan_cases import LENGTHS, mix_inputs, results, worst

from eegm2 import ops

NAMES = ("zxbcdt", "conv_weight", "conv_bias", "dt_bias", "A", "D", "norm_weight")
SIZES = [
    {},
    {"heads": 2, "headdim": 64, "groups": 1, "d_state": 16},
    {"heads": 6, "headdim": 7, "groups": 3, "d_state": 5, "taps": 4},
    {"heads": 3, "headdim": 17, "groups": 1, "d_state": 1, "taps": 1, "batch": 1},
]


def double(inputs: list) -> list:
    return [item.double() if isinstance(item, torch.Tensor) else item for item in inputs]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_separate_operations(length: int, sizes: dict[str, int], threads: int) -> None:
    torch.set_num_threads(threads)
    inputs = mix_inputs(length, **sizes, dtype=torch.float32)
    expected = ops.mamba2_mix(*double(inputs), backend="recurrence")
    found = [tensor.double() for tensor in ops.mamba2_mix(*inputs, backend="numba")]
    assert torch.equal(found[1], expected[1])
    assert worst([found[0], found[2]], [expected[0], expected[2]]) < 1e-5


def test_in_float64() -> None:
    inputs = mix_inputs(65)
    expected = ops.mamba2_mix(*inputs, backend="recurrence")
    assert worst(list(ops.mamba2_mix(*inputs, backend="numba")), list(expected)) < 1e-11


@pytest.mark.parametrize("place", [*range(7), 8, 9])
def test_one_percent_of_any_argument_is_noticed(place: int) -> None:
    inputs = mix_inputs(3, dtype=torch.float32)
    changed = [item * 1.01 if i == place else item for i, item in enumerate(inputs)]
    expected = ops.mamba2_mix(*inputs, backend="recurrence")
    assert worst(list(ops.mamba2_mix(*changed, backend="numba")), list(expected)) > 1e-4


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("blocks", [[1] * 7, [3, 60, 1, 33], [64, 33]], ids=str)
def test_blocks_of_time_equal_the_whole(blocks: list[int], taps: int) -> None:
    inputs = mix_inputs(sum(blocks), taps=taps)
    whole = ops.mamba2_mix(*inputs, backend="numba")
    conv_state, ssm_state, parts = inputs[8], inputs[9], []
    for part in torch.split(inputs[0], blocks, dim=1):
        y, conv_state, ssm_state = ops.mamba2_mix(
            part, *inputs[1:8], conv_state, ssm_state, *inputs[10:], backend="numba"
        )
        parts.append(y)
    found = [torch.cat(parts, dim=1), conv_state, ssm_state]
    assert max(float((a - b).abs().max()) for a, b in zip(found, whole) if a.numel()) < 1e-10


def test_states_are_zero_by_default_and_arguments_stay_as_they_were() -> None:
    inputs = mix_inputs(40)
    kept = [item.clone() if isinstance(item, torch.Tensor) else item for item in inputs]
    ops.mamba2_mix(*inputs, backend="numba")
    for before, after in zip(kept, inputs):
        assert torch.equal(before, after) if isinstance(before, torch.Tensor) else before == after
    zeros = [*inputs[:8], torch.zeros_like(inputs[8]), torch.zeros_like(inputs[9]), *inputs[10:]]
    absent = [*inputs[:8], None, None, *inputs[10:]]
    for found, wanted in zip(
        ops.mamba2_mix(*absent, backend="numba"), ops.mamba2_mix(*zeros, backend="numba")
    ):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("length", [1, 2, 65, 257])
def test_gradients_equal_those_of_the_recurrence(
    length: int, sizes: dict[str, int], dtype: torch.dtype
) -> None:
    inputs = mix_inputs(length, **sizes, dtype=dtype)
    expected = results(ops.mamba2_mix, double(inputs), backend="recurrence")
    found = results(ops.mamba2_mix, inputs, backend="numba")
    assert worst(found, expected) < (1e-8 if dtype == torch.float64 else 1e-3)


@pytest.mark.parametrize("place", [*range(7), 8, 9])
def test_one_percent_of_any_argument_is_noticed_in_the_gradients(place: int) -> None:
    inputs = mix_inputs(65)
    changed = [item * 1.01 if i == place else item for i, item in enumerate(inputs)]
    expected = results(ops.mamba2_mix, inputs, backend="recurrence")
    assert worst(results(ops.mamba2_mix, changed, backend="numba")[3:], expected[3:]) > 2e-3


def test_gradcheck() -> None:
    inputs = mix_inputs(5, batch=1, heads=2, headdim=3, groups=1, d_state=2)
    leaves = [item.requires_grad_() if isinstance(item, torch.Tensor) else item for item in inputs]
    torch.autograd.gradcheck(lambda *args: ops.mamba2_mix(*args, backend="numba"), leaves, atol=1e-6)


def test_strided_arguments() -> None:
    inputs = mix_inputs(70)
    expected = results(ops.mamba2_mix, inputs, backend="numba")
    wide = torch.zeros(2, 72, inputs[0].shape[-1] + 7, dtype=torch.float64)
    wide[:, 1:-1, 3:-4] = inputs[0]
    with torch.no_grad():
        for view in (wide[:, 1:-1, 3:-4], inputs[0].transpose(1, 2).contiguous().transpose(1, 2)):
            assert not view.is_contiguous()
            found = ops.mamba2_mix(view, *inputs[1:], backend="numba")
            assert worst(list(found), expected[:3]) < 1e-12


def test_extreme_activations() -> None:
    inputs = mix_inputs(40, dtype=torch.float32)
    inputs[0][0, 10:20] *= 1000
    expected = ops.mamba2_mix(*double(inputs), backend="recurrence")
    found = ops.mamba2_mix(*inputs, backend="numba")
    assert all(torch.isfinite(tensor).all() for tensor in found)
    assert worst([found[0].double()], [expected[0]]) < 1e-4
    inputs[0][1, 30, 0] = torch.nan
    y, _, _ = ops.mamba2_mix(*inputs, backend="numba")
    assert torch.isnan(y[1, 30]).any()
    assert torch.isfinite(y[0]).all()


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [
        (0, torch.zeros(2, 0, 69), "zxbcdt has zero length"),
        (0, torch.zeros(2, 5, 9), r"zxbcdt has shape \(2, 5, 9\), expected .* = \(2, 5, 56\)"),
        (1, torch.zeros(32, 2, dtype=torch.int64), "conv_weight has dtype torch.int64"),
        (4, torch.zeros(4, dtype=torch.float64), "A is float64 but"),
        (6, torch.zeros(20, device="meta"), "norm_weight is on meta but others are on cpu"),
        (9, torch.zeros(2, 4, 3, 5), r"ssm_state has shape \(2, 4, 3, 5\), expected .* = \(2, 4, 5, 3\)"),
        (8, torch.zeros(2, 3, 32), r"conv_state has shape \(2, 3, 32\)"),
        (10, 3, r"heads \(4\) is not divisible by ngroups \(3\)"),
        (12, 0, "headdim is 0, expected at least 1"),
    ],
)
def test_bad_arguments(place: int, value: object, match: str) -> None:
    inputs = mix_inputs(5, dtype=torch.float32)
    inputs[place] = value
    with pytest.raises((TypeError, ValueError), match=match):
        ops.mamba2_mix(*inputs)
