"""Compiled loops give what NumPy and SciPy give, to the bit, and without them everything still works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import signal

from eegm2.data.config import PrepareConfig, PreprocessingConfig
from eegm2.data.preparing.prepare import prepare
from eegm2.data.signal import compiled, filter_kernels, stat_kernels
from eegm2.data.signal.filters import Filters, filters
from eegm2.data.signal.order_statistics import medians, neighbours
from eegm2.data.signal.quality import array_quality, clipped_share, extremes, flat_channels
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.scaling import scale_stored, scale_window
from tests.data.samples import eeg, write_edf

WITHOUT = "torch"  # a value of EEGM2_BACKEND that leaves Numba aside


def run(chain: Filters, x: np.ndarray) -> np.ndarray:
    """Filter (n_times, n_chans) and return (n_out, n_chans)."""
    buffer = chain.buffer(*x.shape)
    chain.inside(buffer)[:] = x
    out = np.empty((chain.n_out(len(x)), x.shape[1]), np.float32)
    chain.run(buffer, np.zeros(x.shape[1]), out)
    return out


@pytest.mark.parametrize("n_chans", [1, 5, 64])
@pytest.mark.parametrize("n_times", [33, 700, 2001])
def test_the_cascade_is_sosfiltfilt(n_chans: int, n_times: int) -> None:
    x = eeg(n_chans, n_times, 160.0, offset_uv=4200).T
    chain = filters(PreprocessingConfig(notch_hz=50.0), 160.0)
    expected, buffer = x, chain.buffer(n_times, n_chans)
    padding = min(n_times - 1, 800)
    series = chain.inside(buffer)
    assert series.shape == x.shape
    series[:] = x
    for sos, settled in chain.sections:
        expected = signal.sosfiltfilt(sos, expected, axis=0, padlen=padding)
        buffer[:padding] = 2 * series[0] - series[padding:0:-1]
        buffer[padding + n_times :] = 2 * series[-1] - series[-2 : -padding - 2 : -1]
        for backwards in (False, True):
            state = settled[:, :, None] * buffer[-1 if backwards else 0]
            filter_kernels.cascade(buffer, sos, state, backwards)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(series, expected, rtol=1e-9, atol=1e-9 * scale)
    assert not np.allclose(series * 1.01, expected, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("sfreq_hz", [100.0, 128.0, 160.0, 249.97, 256.0, 1000.0])
@pytest.mark.parametrize("n_times", [40, 1001])
def test_filters_do_not_depend_on_numba(
    sfreq_hz: float, n_times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = filters(PreprocessingConfig(), sfreq_hz)
    x = eeg(3, n_times, sfreq_hz).T
    fast = run(chain, x)
    monkeypatch.setenv("EEGM2_BACKEND", WITHOUT)
    assert compiled.kernels("filter_kernels") is None
    slow = run(chain, x)
    np.testing.assert_allclose(fast, slow, rtol=1e-6, atol=1e-6)
    assert fast.shape == slow.shape == (chain.n_out(n_times), 3)
    assert not np.allclose(fast * 1.01, slow, rtol=1e-6, atol=1e-6)


def hard_rows() -> dict[str, np.ndarray]:
    """Rows that selection could stumble over."""
    generator = np.random.default_rng(0)
    x = (20 * generator.normal(size=(6, 300))).astype(np.float32)
    special = x.copy()
    special[0, :250] = 0.0
    special[1, 3] = -np.inf
    special[2, :4] = np.nan
    special[3, 5] = np.float32(1e-45)
    special[4, :] = -7.5
    one_bit = np.float32(1) + x * np.float32(1e-7)
    return {"normal": x, "rounded": np.round(x / 10), "special": special, "close": one_bit}


@pytest.mark.parametrize("kind", ["normal", "rounded", "special", "close"])
@pytest.mark.parametrize("n", [1, 2, 3, 50, 299, 300])
def test_counting_finds_what_sorting_finds(kind: str, n: int) -> None:
    x = hard_rows()[kind][:, :n]
    ordered = np.sort(x, axis=1)
    for rank in {0, n // 2, int(0.95 * (n - 1)), n - 1}:
        below, above = neighbours(x, rank)
        np.testing.assert_array_equal(below[:, 0], ordered[:, rank])
        np.testing.assert_array_equal(above[:, 0], ordered[:, min(rank + 1, n - 1)])
    finite = np.where(np.isfinite(x), x, 0)
    np.testing.assert_array_equal(medians(finite)[:, 0], np.median(finite, axis=1))


@pytest.mark.parametrize("method", ["quantile95", "robust", "zscore", "none"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("n_times", [1, 2, 77, 513])
def test_stored_windows_are_scaled_by_the_one_definition(
    method: Any, dtype: Any, n_times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = eeg(5, n_times).T.astype(dtype)
    if n_times > 2:
        stored[:, 2] = 0
    out = np.empty((5, n_times), np.float32)
    scale_stored(stored, method, out)
    monkeypatch.setenv("EEGM2_BACKEND", WITHOUT)
    expected = scale_window(np.ascontiguousarray(stored.T, np.float32), method)
    np.testing.assert_array_equal(out, expected)
    if method == "quantile95" and n_times > 2:
        quantile = np.quantile(np.abs(stored.T.astype(np.float64)), 0.95, axis=1, keepdims=True)
        np.testing.assert_allclose(out, stored.T / (quantile + 1e-8), rtol=1e-5)


def test_statistics_do_not_depend_on_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    x = np.asfortranarray(np.clip(generator.normal(size=(5, 3000)), -1.5, 1.5).astype(np.float32))
    x[1] = 2.0
    x[2, :3] = x[2].max()
    names = list("abcde")
    fast = (*extremes(x), clipped_share(x), flat_channels(x, names), array_quality(x, names))
    broken = x.copy(order="F")
    broken[3, 7] = np.nan
    assert extremes(broken)[2] is False
    broken[3, 7] = np.inf
    assert extremes(broken)[2] is False
    monkeypatch.setenv("EEGM2_BACKEND", WITHOUT)
    slow = (*extremes(x), clipped_share(x), flat_channels(x, names), array_quality(x, names))
    for one, other in zip(fast[:2], slow[:2]):
        np.testing.assert_array_equal(one, other)
    assert fast[2:] == slow[2:]
    assert fast[3] > 0
    assert extremes(broken)[2] is False


def test_clipping_counts_runs_of_three() -> None:
    x = np.array([[5, 5, 1, 5, 5, 5, 2, -1, -1, -1, -1, 0]], np.float32)
    counts = np.zeros(1, np.int64)
    stat_kernels.clipped(np.ascontiguousarray(x.T), x.min(1), x.max(1), counts)
    assert counts.tolist() == [7]
    assert clipped_share(x) == 7 / 12


def test_a_store_does_not_depend_on_numba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        write_edf(tmp_path / "in" / f"{number}.edf", eeg(3, 1600, 160.0, number), ["Fz", "Cz", "Pz"], 160.0)
    options = PrepareConfig(jobs=1, channels=("Fz-Cz", "Pz"))
    prepare(tmp_path / "in", tmp_path / "fast", options)
    monkeypatch.setenv("EEGM2_BACKEND", WITHOUT)
    prepare(tmp_path / "in", tmp_path / "slow", options)
    fast, slow = RecordingStore(tmp_path / "fast"), RecordingStore(tmp_path / "slow")
    for info in fast.recordings:
        np.testing.assert_allclose(fast.read(info.id), slow.read(info.id), rtol=1e-6, atol=1e-6)
        assert info.quality == slow[info.id].quality
