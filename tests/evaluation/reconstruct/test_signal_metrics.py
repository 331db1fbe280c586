"""Figures of merit of a reconstruction, by their formulas in plain loops; scores of a whole recording."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eegm2.errors import DataError
from eegm2.evaluation.reconstruct.run import reconstruction_scores
from eegm2.evaluation.reconstruct.signal_metrics import (
    acmse,
    acmse_authors_code,
    channel_correlation,
    spectral_error,
)

RNG = np.random.default_rng(4)
X, Y = RNG.standard_normal((4, 3, 7)) * 10 + 3, RNG.standard_normal((4, 3, 7)) * 10


def test_acmse_is_the_papers_and_the_authors_code_is_its_own() -> None:
    n, chans, times = X.shape
    by_channel = [
        sum((X[i, c] - Y[i, c]) @ (X[i, c] - Y[i, c]) for i in range(n)) / (n * times) for c in range(chans)
    ]
    assert acmse(X, Y) == pytest.approx(sum(by_channel) / chans)
    mean = (X - Y).mean(0)
    theirs = sum(float(mean[c] @ mean[c]) / times for c in range(chans)) / times
    assert acmse_authors_code(X, Y) == pytest.approx(theirs)
    assert acmse(X, X) == acmse_authors_code(X, X) == 0
    for a, b in ((X, Y[:3]), (X[0], Y[0]), (X[:0], Y[:0])):
        with pytest.raises(DataError, match="expected two equal"):
            acmse(a, b)


def test_correlations_are_of_each_channel_alone() -> None:
    a, b = X[0], Y[0] + 2 * X[0]
    found = channel_correlation(a, b)
    np.testing.assert_allclose(found, [np.corrcoef(a[c], b[c])[0, 1] for c in range(3)])
    constant = a.copy()
    constant[1] = 5.0
    found = channel_correlation(constant, b)
    assert np.isnan(found[1])
    assert np.isfinite(found[[0, 2]]).all()


def test_the_spectral_error_is_relative_and_summed_over_channels() -> None:
    a, b = np.abs(np.fft.rfft(X[0])), np.abs(np.fft.rfft(Y[0]))
    assert spectral_error(X[0], Y[0]) == pytest.approx(((a - b) ** 2).sum() / (a**2).sum())
    assert spectral_error(7 * X[0], 7 * Y[0]) == pytest.approx(spectral_error(X[0], Y[0]))
    assert spectral_error(X[0], 0 * X[0]) == pytest.approx(1)
    assert spectral_error(X[0], -X[0]) == pytest.approx(0)
    assert math.isnan(spectral_error(0 * X[0], X[0]))


def test_whole_and_short_numbers_count_as_double_ones() -> None:
    """Samples in int8, whose squares and sums do not fit it, and in float32."""
    for short in (X.astype(np.float32), Y.astype(np.float32)):
        other = (short * 1.1).astype(np.float32)
        for figure in (acmse, acmse_authors_code, spectral_error):
            assert figure(short, other) == figure(short.astype(float), other.astype(float))
        found = channel_correlation(short[0], other[0])
        np.testing.assert_array_equal(
            found, channel_correlation(short[0].astype(float), other[0].astype(float))
        )
    x, y = (np.array([[100, -100, 90, 3], [7, 9, -120, 5]], np.int8) for _ in range(2))
    y = (y // 3).astype(np.int8)
    for figure, a, b in (
        (acmse, x[None], y[None]),
        (acmse_authors_code, x[None], y[None]),
        (spectral_error, x, y),
    ):
        assert figure(a, b) == pytest.approx(figure(a.astype(float), b.astype(float)))
    np.testing.assert_allclose(
        channel_correlation(x, y), channel_correlation(x.astype(float), y.astype(float))
    )


@pytest.mark.parametrize("scaling", ["none", "zscore", "quantile95", "recording"])
def test_scores_of_a_recording_are_over_it_and_over_its_windows(scaling: str) -> None:
    """23 samples are two windows of 10: in microvolts all count, in the training's scale whole windows do."""
    x = RNG.standard_normal((2, 23)) * np.array([[5.0], [50.0]]) + 3
    y = x + RNG.standard_normal((2, 23))
    found = reconstruction_scores(x, y, ["Fz", "Cz"], 10, scaling)  # type: ignore[arg-type]
    assert found["acmse_uv2"] == pytest.approx(((x - y) ** 2).mean())
    errors = [x[:, s : s + 10] - y[:, s : s + 10] for s in (0, 10)]
    gains = []
    for start in (0, 10):
        window = x[:, start : start + 10]
        gains.append(
            {
                "none": np.ones((2, 1)),
                "zscore": window.std(1, keepdims=True),
                "quantile95": np.quantile(np.abs(window), 0.95, axis=1, keepdims=True),
                "recording": np.full((2, 1), 0.0),
            }[scaling]
        )
    if scaling == "recording":
        ratio = found["acmse_uv2"] * 23 / 20 / found["acmse_scaled"]
        assert found["acmse_scaled"] > 0
        half = reconstruction_scores(x, x + (y - x) / 2, ["Fz", "Cz"], 10, "recording")
        assert half["acmse_scaled"] == pytest.approx(found["acmse_scaled"] / 4)
        assert ratio > 0
    else:
        scaled = np.stack([error / gain for error, gain in zip(errors, gains)])
        assert found["acmse_scaled"] == pytest.approx((scaled**2).mean(), rel=1e-4)
        expected = acmse_authors_code(scaled, 0 * scaled)
        assert found["acmse_authors_code_scaled"] == pytest.approx(expected, rel=1e-4)
    for i, name in enumerate(("Fz", "Cz")):
        each = found["channels"][name]
        assert each["mse_uv2"] == pytest.approx(((x[i] - y[i]) ** 2).mean())
        assert each["correlation"] == pytest.approx(np.corrcoef(x[i], y[i])[0, 1])
        assert each["spectral_error"] == pytest.approx(spectral_error(x[i], y[i]))
    assert found["mean_correlation"] == pytest.approx(
        np.mean([c["correlation"] for c in found["channels"].values()])
    )
    assert found["spectral_error"] == pytest.approx(spectral_error(x, y))


def test_a_flat_channel_has_no_correlation_and_spoils_no_other() -> None:
    x = RNG.standard_normal((2, 20))
    x[1] = 0
    found = reconstruction_scores(x, x + 0.1 * RNG.standard_normal((2, 20)), ["a", "b"], 30, "none")
    assert found["channels"]["b"]["correlation"] is found["channels"]["b"]["spectral_error"] is None
    assert found["mean_correlation"] == found["channels"]["a"]["correlation"] > 0.9
    flat = reconstruction_scores(0 * x, x, ["a", "b"], 30, "none")
    assert flat["mean_correlation"] is flat["spectral_error"] is None
