"""The chunked and the compiled scans against the float64 recurrence."""

from __future__ import annotations

import pytest
import torch
from scan_cases import LENGTHS, NAMES, oracle, results, scan_inputs, ssd_inputs, worst

from eegm2 import ops
from eegm2.ops.chunked import ssd_chunked

SCANS = {"ssd": ssd_inputs, "selective_scan": scan_inputs}
FORMS = [(name, backend) for name in SCANS for backend in ("chunked", "numba")]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("name", "backend"), FORMS)
def test_outputs_state_and_gradients_equal_the_recurrence(
    name: str, backend: str, length: int, dtype: torch.dtype
) -> None:
    inputs = SCANS[name](length, dtype=dtype)
    found = results(getattr(ops, name), inputs, backend=backend)
    assert worst(found, oracle(name, inputs)) < TOLERANCE[dtype]


@pytest.mark.parametrize("place", range(7), ids=NAMES)
@pytest.mark.parametrize(("name", "backend"), FORMS)
def test_one_percent_of_any_argument_is_noticed(name: str, backend: str, place: int) -> None:
    inputs = SCANS[name](65)
    changed = [tensor * 1.01 if i == place else tensor for i, tensor in enumerate(inputs)]
    found = results(getattr(ops, name), changed, backend=backend)
    assert worst(found, oracle(name, inputs)) > 10 * TOLERANCE[torch.float32]


@pytest.mark.parametrize("backend", ["chunked", "numba"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"heads": 2, "headdim": 1, "groups": 1, "d_state": 1},
        {"heads": 6, "headdim": 7, "groups": 3, "d_state": 5},
        {"heads": 3, "headdim": 17, "groups": 1, "d_state": 16},
        {"heads": 2, "headdim": 64, "groups": 2, "d_state": 33},
    ],
    ids=str,
)
def test_any_sizes(backend: str, sizes: dict[str, int]) -> None:
    inputs = ssd_inputs(70, **sizes)
    assert worst(results(ops.ssd, inputs, backend=backend), oracle("ssd", inputs)) < 1e-10


@pytest.mark.parametrize("chunk_size", [1, 7, 16, 256])
def test_chunk_size_does_not_change_the_result(chunk_size: int) -> None:
    inputs = ssd_inputs(257)
    found = results(ops.ssd, inputs, backend="chunked", chunk_size=chunk_size)
    assert worst(found, oracle("ssd", inputs)) < 1e-10


def test_many_chunks_join_in_several_levels() -> None:
    inputs = ssd_inputs(2100, batch=1, heads=2, headdim=2, groups=1, d_state=2)
    inputs[2] = inputs[2] * 0.01  # slow decay, so that early chunks reach the end
    expected = ops.ssd(*inputs, backend="recurrence")
    for found, wanted in zip(ssd_chunked(*inputs, 1), expected):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("backend", ["chunked", "numba"])
def test_slow_and_instant_decay(backend: str, scale: float) -> None:
    inputs = ssd_inputs(300, dtype=torch.float32)
    inputs[2] = inputs[2] * scale
    found, expected = results(ops.ssd, inputs, backend=backend), oracle("ssd", inputs)
    if scale > 1:  # the gradient of A vanishes, as a sum of terms of size 1: its own size is no measure
        assert (found.pop(4) - expected.pop(4)).abs().max() < 2e-4
    assert worst(found, expected) < 2e-4


@pytest.mark.parametrize("cut", [1, 32, 100])
@pytest.mark.parametrize(("name", "backend"), FORMS)
def test_split_and_carried_equals_the_whole(name: str, backend: str, cut: int) -> None:
    x, dt, A, B, C, D, state = SCANS[name](130)
    scan = getattr(ops, name)

    def in_two(x, dt, A, B, C, D, state):  # type: ignore[no-untyped-def]
        first, state = scan(x[:, :cut], dt[:, :cut], A, B[:, :cut], C[:, :cut], D, state, backend=backend)
        second, state = scan(x[:, cut:], dt[:, cut:], A, B[:, cut:], C[:, cut:], D, state, backend=backend)
        return torch.cat([first, second], dim=1), state

    inputs = [x, dt, A, B, C, D, state]
    assert worst(results(in_two, inputs), results(scan, inputs, backend=backend)) < 1e-11


@pytest.mark.parametrize(("name", "backend"), FORMS)
def test_outputs_do_not_see_the_future(name: str, backend: str) -> None:
    inputs = SCANS[name](100)
    changed = [tensor.clone() for tensor in inputs]
    for place in (0, 1, 3, 4):
        changed[place][:, 60:] = 7.0
    before = getattr(ops, name)(*inputs, backend=backend)[0]
    after = getattr(ops, name)(*changed, backend=backend)[0]
    torch.testing.assert_close(before[:, :60], after[:, :60], rtol=1e-12, atol=1e-12)
    assert (before[:, 60:] - after[:, 60:]).abs().max() > 0.1


@pytest.mark.parametrize(("name", "backend"), FORMS)
def test_gradcheck(name: str, backend: str) -> None:
    inputs = [tensor[:1] if tensor.ndim > 2 else tensor for tensor in SCANS[name](9)]
    inputs[1] = inputs[1] + 0.1
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    torch.autograd.gradcheck(lambda *args: getattr(ops, name)(*args, backend=backend), leaves, atol=1e-6)


@pytest.mark.parametrize(("name", "backend"), FORMS)
def test_optional_arguments_are_zeros_by_default(name: str, backend: str) -> None:
    inputs = SCANS[name](40)
    zeros = [*inputs[:5], torch.zeros_like(inputs[5]), torch.zeros_like(inputs[6])]
    for found, wanted in zip(
        getattr(ops, name)(*inputs[:5], backend=backend), getattr(ops, name)(*zeros, backend=backend)
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "backend"), FORMS)
def test_half_precision_keeps_its_dtype_and_a_float32_state(name: str, backend: str) -> None:
    inputs = SCANS[name](65, dtype=torch.float32)
    half = [tensor.bfloat16() if place in (0, 3, 4) else tensor for place, tensor in enumerate(inputs)]
    y, state = getattr(ops, name)(*half, backend=backend)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    wanted = getattr(ops, name)(*[tensor.float() for tensor in half], backend="recurrence")
    assert worst([state], [wanted[1]]) < 1e-4
    assert worst([y.float()], [wanted[0]]) < 1e-2


def test_autocast_leaves_the_scan_alone() -> None:
    inputs = ssd_inputs(65, dtype=torch.float32)
    plain = ops.ssd(*inputs, backend="chunked")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = ops.ssd(*inputs, backend="chunked")
    assert torch.equal(plain[0], cast[0])
    assert torch.equal(plain[1], cast[1])


def test_strided_slices_of_one_buffer_are_read_in_place() -> None:
    heads, headdim, groups, d_state = 4, 5, 2, 3
    sizes = [heads * headdim, groups * d_state, groups * d_state, heads]
    buffer = torch.randn(2, 90, sum(sizes), dtype=torch.float64)
    x, B, C, dt = torch.split(buffer, sizes, dim=-1)
    views = [
        x.unflatten(-1, (heads, headdim)),
        dt.abs(),
        -torch.ones(heads, dtype=torch.float64),
        B.unflatten(-1, (groups, d_state)),
        C.unflatten(-1, (groups, d_state)),
    ]
    expected = ops.ssd(*views, backend="recurrence")
    for found, wanted in zip(ops.ssd(*views, backend="numba"), expected):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    turned = [t if t.ndim == 1 else t.transpose(0, 1).contiguous().transpose(0, 1) for t in views]
    turned[0] = turned[0].transpose(2, 3).contiguous().transpose(2, 3)  # last axis not contiguous either
    for found, wanted in zip(ops.ssd(*turned, backend="numba"), expected):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_non_finite_input_stays_visible() -> None:
    inputs = ssd_inputs(80, dtype=torch.float32)
    inputs[0][0, 40, 1, 2] = torch.nan
    for backend in ("chunked", "numba"):
        y, state = ops.ssd(*inputs, backend=backend)
        assert torch.isnan(y[0, 40:, 1, 2]).all()
        assert torch.isnan(state[0, 1, 2]).all()
        assert torch.isfinite(y[1]).all()


def test_against_transformers_mamba2(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(
        "transformers.utils.is_torchaudio_available", lambda: False
    )  # its library may not load
    modeling = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    from transformers import Mamba2Config

    config = Mamba2Config(
        num_heads=8, head_dim=16, hidden_size=64, state_size=16, conv_kernel=2, n_groups=1, expand=2,
        chunk_size=32, use_conv_bias=True, use_bias=False, rms_norm=True, hidden_act="silu",
        layer_norm_epsilon=1e-5, time_step_limit=(0.0, float("inf")),
    )  # fmt: skip
    mixer = modeling.Mamba2Mixer(config, layer_idx=0).eval()
    u = torch.randn(2, 70, 64)
    with torch.no_grad():
        expected = mixer.torch_forward(u) if hasattr(mixer, "torch_forward") else mixer(u)
        y, _, _ = ops.mamba2_mix(
            mixer.in_proj(u), mixer.conv1d.weight[:, 0], mixer.conv1d.bias, mixer.dt_bias,
            -torch.exp(mixer.A_log.float()), mixer.D, mixer.norm.weight, 1e-5, None, None, 1, 16, 16,
        )  # fmt: skip
        found = mixer.out_proj(y)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
