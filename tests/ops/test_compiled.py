"""The compiled kernels: same bits every time, nothing touched outside the arrays, tracing falls back."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from scan_cases import results, scan_inputs, ssd_inputs
from torch import Tensor

from eegm2 import EEGM2Config, ops
from eegm2.model.block import SequenceBlock
from eegm2.ops.cpu import entries, runtime, simd, ssd_kernels
from eegm2.ops.cpu import threads as native
from eegm2.ops.cpu.ssd import ssd_operator

SCANS = {"ssd": ssd_inputs, "selective_scan": scan_inputs}
GUARD = 12345.0


@pytest.mark.parametrize("name", SCANS)
def test_bitwise_equal_again_and_on_any_number_of_threads(name: str) -> None:
    inputs = SCANS[name](257, dtype=torch.float32)
    runs = []
    for threads in (1, 1, 2, 3):
        torch.set_num_threads(threads)
        runs.append(results(getattr(ops, name), inputs, backend="numba"))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0]))


def test_threads_of_ours_give_the_same_bits_as_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(3)
    inputs = ssd_inputs(300, batch=1, dtype=torch.float32)
    expected = results(ops.ssd, inputs, backend="numba")
    pools = []
    pool = native._threads
    monkeypatch.setattr(native, "_own_process", -1)  # as after a fork
    monkeypatch.setattr(native, "_threads", lambda count: pools.append(count) or pool(count))
    found = results(ops.ssd, inputs, backend="numba")
    assert pools
    assert set(pools) <= {1, 2}
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_numba_of_other_ways_is_called_as_it_calls_itself(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    torch.set_num_threads(threads)
    inputs = ssd_inputs(300, batch=1, dtype=torch.float32)
    expected = results(ops.ssd, inputs, backend="numba")
    entered = []

    def plain(worker: Any, signature: Any) -> Any:
        on_range = entries.plain_entry(worker, signature)
        return lambda *words: (entered.append(worker), on_range(*words))[1]

    monkeypatch.setattr(entries, "_ARRAY", (*entries._ARRAY, "integer"))  # one word more than there is
    monkeypatch.setattr(native, "plain_entry", plain)
    monkeypatch.setattr(runtime, "_native", runtime._native.__wrapped__)
    signature, compiled = next(iter(ssd_kernels.ssd_forward.overloads.items()))
    with pytest.raises(entries.UnfamiliarError, match=r"Numba .*: i32 from pointer, pointer"):
        entries.compile_entries(compiled, signature, None)
    monkeypatch.setattr(entries, "_ARRAY", entries._ARRAY[:-1])
    monkeypatch.setattr(native, "compile_entries", unfamiliar)
    found = results(ops.ssd, inputs, backend="numba")
    assert entered
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


def unfamiliar(*_: Any) -> Any:
    raise entries.UnfamiliarError("another way")


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere kernels have threads of their own"
)
def test_kernels_run_in_the_openmp_library_of_torch() -> None:
    assert native._openmp() is not None


def test_a_kernel_that_fails_says_so() -> None:
    @runtime.kernel
    def failing(array, sizes, start, stop):  # type: ignore[no-untyped-def]
        if sizes[0] == start:
            raise MemoryError

    runtime.launch(failing, (torch.zeros(3),), [5], 4, 1)
    with pytest.raises(MemoryError, match="CPU kernel"):
        runtime.launch(failing, (torch.zeros(3),), [0], 4, 1)


def guarded(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A view with guard values before, after and between its rows, and the whole that it lies in."""
    whole = torch.full(
        (tensor.shape[0], tensor.shape[1] + 2, *tensor.shape[2:-1], tensor.shape[-1] + 7), GUARD
    )
    whole = whole.to(tensor.dtype)
    view = whole[:, 1:-1, ..., 3 : 3 + tensor.shape[-1]]
    view.copy_(tensor)
    return view, whole


def test_inputs_and_what_lies_around_them_stay_as_they_were() -> None:
    plain = ssd_inputs(70, dtype=torch.float32)
    pairs = [guarded(tensor) if tensor.ndim > 2 else (tensor, tensor) for tensor in plain]
    before = [whole.clone() for _, whole in pairs]
    found = results(ops.ssd, [view for view, _ in pairs], backend="numba")
    assert all(torch.equal(whole, kept) for (_, whole), kept in zip(pairs, before))
    assert all(torch.equal(a, b) for a, b in zip(found, results(ops.ssd, plain, backend="numba")))


@pytest.mark.parametrize(
    "sizes", [{}, {"headdim": 16, "d_state": 16}, {"headdim": 17, "d_state": 1}], ids=str
)
def test_kernels_write_only_their_own_arrays(monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int]) -> None:
    made: list[np.ndarray] = []
    words_of = runtime.words_of

    def with_guards(tensor: Tensor | None) -> tuple[int, int]:
        _, size = words_of(tensor)
        whole = np.full(size + 128, GUARD, f"f{tensor.element_size() if tensor is not None else 4}")
        if tensor is not None and size:
            whole[64:-64] = tensor.detach().as_strided((size,), (1,)).numpy()
        made.append(whole)
        return whole.ctypes.data + 64 * whole.itemsize, size

    inputs = ssd_inputs(70, dtype=torch.float32, **sizes)
    both = [SequenceBlock(6, EEGM2Config(mixer=mixer, **sizes)) for mixer in ("mamba2", "mamba1")]
    u = torch.randn(2, 70, 6)
    monkeypatch.setattr(runtime, "words_of", with_guards)
    results(ops.ssd, inputs, backend="numba")
    results(ops.selective_scan, scan_inputs(70, dtype=torch.float32), backend="numba")
    for block in both:
        block(u)[0].sum().backward()
        with torch.no_grad():
            block(u)
    assert len(made) > 100
    for whole in made:
        assert (whole[:64] == GUARD).all()
        assert (whole[-64:] == GUARD).all()


def test_compiled_code_is_kept_under_a_name_that_follows_every_source_file(tmp_path: Path) -> None:
    source = Path(runtime.__file__).parent
    for path in source.glob("*.py"):
        shutil.copy(path, tmp_path)
    assert runtime.sources_digest(tmp_path) == runtime.SOURCES
    ops.ssd(*ssd_inputs(3), backend="numba")
    assert runtime.SOURCES in ssd_kernels.ssd_forward._cache._cache_file.name(((), ()))
    digests = {runtime.SOURCES}
    for path in sorted(tmp_path.glob("*.py")):
        path.write_text(path.read_text() + "\n# changed\n")
        digests.add(runtime.sources_digest(tmp_path))
    assert len(digests) == 1 + len(list(tmp_path.glob("*.py"))) > 6


@pytest.mark.parametrize("keep", [False, True])
def test_operator_is_well_formed(keep: bool) -> None:
    inputs = [
        tensor.requires_grad_(keep) for tensor in ssd_inputs(300, batch=1, heads=2, dtype=torch.float64)
    ]
    arguments = (*inputs, keep)
    torch.library.opcheck(ssd_operator.overload, arguments, test_utils=("test_schema", "test_faketensor"))


def test_gradient_without_kept_states_is_refused() -> None:
    inputs = [tensor.requires_grad_() for tensor in ssd_inputs(5)]
    y, _, _ = ssd_operator(*inputs, False)
    with pytest.raises(RuntimeError, match="scan was called with keep=False"):
        y.sum().backward()


def test_only_boundary_states_are_kept() -> None:
    inputs = ssd_inputs(1000, batch=1, heads=2, dtype=torch.float32)
    _, _, spans = ssd_operator(*inputs, True)
    assert spans.shape == (1, 2, 3, 3, 5)
    assert ssd_operator(*inputs, False)[2].numel() == 0


class Both(torch.nn.Module):
    def forward(
        self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor
    ) -> tuple[Tensor, Tensor]:
        return ops.ssd(x, dt, A, B, C, D)


def test_export_serves_every_length() -> None:
    import torch.fx.experimental._config as config
    from torch.export import Dim

    axes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    with config.patch(backed_size_oblivious=True):
        program = torch.export.export(
            Both(),
            tuple(ssd_inputs(100, dtype=torch.float32)[:6]),
            dynamic_shapes=(axes, axes, None, axes, axes, None),
        )
    assert "eegm2" not in str(program.graph)
    for length, batch in ((1, 1), (31, 2), (33, 3), (1500, 1)):
        inputs = ssd_inputs(length, batch=batch, dtype=torch.float32)[:6]
        for found, wanted in zip(program.module()(*inputs), ops.ssd(*inputs)):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_torch_compile_falls_back() -> None:
    inputs = ssd_inputs(70, dtype=torch.float32)[:6]
    compiled = torch.compile(Both(), backend="eager", fullgraph=True)
    for found, wanted in zip(compiled(*inputs), ops.ssd(*inputs, backend="chunked")):
        torch.testing.assert_close(found, wanted)


def test_exponential_and_activations_match_torch() -> None:
    x = torch.cat([torch.linspace(-200, 200, 200_001), torch.linspace(-1, 1, 100_000), torch.tensor([0.0])])
    x = torch.cat([x, torch.tensor([torch.inf, -torch.inf, torch.nan])])
    x = torch.nn.functional.pad(x, (0, -x.numel() % 16))
    out = np.empty_like(x.numpy())
    double = x.double()
    wanted = {
        "exponential": torch.exp(double).float(),
        "silu": torch.nn.functional.silu(double).float(),
        "softplus": torch.nn.functional.softplus(double, threshold=1000).float(),
        "sigmoid": torch.sigmoid(double).float(),
        "power_of_two": torch.exp2(double).where(double <= 127.5, torch.inf).float(),
    }

    for name, expected in wanted.items():
        operation = getattr(simd, name)

        @numba.njit
        def everywhere(source, target):  # type: ignore[no-untyped-def]
            for i in range(0, source.size, 16):
                simd.store(target, i, operation(simd.load(source, i)))  # noqa: B023

        everywhere(x.numpy(), out)
        finite = torch.isfinite(double)
        found = torch.from_numpy(out.copy())
        assert name == "sigmoid" or torch.isnan(found[torch.isnan(double)]).all()
        torch.testing.assert_close(found[finite], expected[finite], rtol=3e-7, atol=1e-35)


def test_a_kernel_can_be_called_from_python_and_has_its_way_in_only_then() -> None:
    @runtime.kernel
    def doubled(array, sizes, start, stop):  # type: ignore[no-untyped-def]
        for i in range(start, stop):
            array[i] *= sizes[0]

    x = torch.arange(4.0)
    runtime.launch(doubled, (x,), [3], 4, 1)
    assert x.tolist() == [0, 3, 6, 9]
    ((_, compiled),) = doubled.overloads.items()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # code that an earlier run compiled shows less of itself
        assert "cpython" not in compiled.library.get_llvm_str()
    doubled(x.numpy(), np.array([2]), 1, 3)
    assert x.tolist() == [0, 6, 12, 9]


def test_a_kernel_is_compiled_once_for_constants_and_variables() -> None:
    @runtime.kernel
    def shifted(x, i, by):  # type: ignore[no-untyped-def]
        return x[i + by]

    @runtime.kernel
    def whole(x, i):  # type: ignore[no-untyped-def]
        return shifted(x, 0, 2) + shifted(x, i, 1) + shifted(x, i + 1, i)

    x, n_x = numba.float32[::1], numba.int64
    runtime.prepare(whole, (x, n_x))
    assert list(shifted.signatures) == [(x, n_x, n_x)]
    assert whole(np.arange(4, dtype=np.float32), np.int64(1)) == 2 + 2 + 3


def test_a_second_gradient_is_refused_in_words() -> None:
    inputs = [tensor.requires_grad_() for tensor in ssd_inputs(5)]
    y, _ = ops.ssd(*inputs, backend="numba")
    (slope,) = torch.autograd.grad(y.square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match=r"eegm2::ssd_backward has no gradient; EEGM2_BACKEND=chunked"):
        slope.sum().backward()


def _in_a_fork(inputs: list[Tensor], queue: multiprocessing.Queue) -> None:
    torch.set_num_threads(2)
    queue.put(float(ops.ssd(*inputs, backend="numba")[0].sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_works_in_a_forked_worker() -> None:
    inputs = ssd_inputs(70, dtype=torch.float32)
    torch.set_num_threads(2)
    expected = float(ops.ssd(*inputs, backend="numba")[0].sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_in_a_fork, args=(inputs, queue))
    worker.start()
    assert queue.get(timeout=60) == expected
    worker.join(10)
