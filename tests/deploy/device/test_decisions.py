"""Windows on a stream, centring, dense heads, smoothing: the arithmetic that devices do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from eegm2.deploy.device.decisions import SlidingWindows, StreamCentring, dense_probabilities

RNG = np.random.default_rng(3)


@pytest.mark.parametrize(("window", "hop"), [(6, 2), (6, 4), (5, 5), (3, 7), (1, 1)])
@pytest.mark.parametrize("block", [1, 2, 5, 12, 40])
def test_each_window_comes_once_whatever_the_blocks(window: int, hop: int, block: int) -> None:
    x = RNG.standard_normal((2, 3, 40))
    sliding = SlidingWindows(window, hop)
    found = [one for start in range(0, 40, block) for one in sliding.push(x[..., start : start + block])]
    assert [start for start, _ in found] == list(range(0, 40 - window + 1, hop))
    for start, held in found:
        np.testing.assert_array_equal(held, x[..., start : start + window])
    sliding.reset()
    assert [start for start, _ in sliding.push(x[..., :window])] == [0]


def test_the_running_mean_counts_windows_side_by_side_and_a_gap_begins_to_count_anew() -> None:
    centring = StreamCentring(4, warm_up=2)
    values = {4: 1.0, 6: 50.0, 8: 3.0, 10: 70.0}
    found = {end: centring.take(np.array([[value]]), end) for end, value in values.items()}
    assert found[4] is found[6] is None
    np.testing.assert_allclose([found[8], found[10]], [[[3.0 - 2.0]], [[70.0 - 2.0]]])
    centring.restart()
    np.testing.assert_allclose(centring.take(np.array([[5.0]]), 4), [[5.0 - 3.0]])


@pytest.mark.parametrize("link", ["softmax", "one-vs-rest"])
def test_each_row_is_a_window_of_its_own(link: str) -> None:
    """Standardised, one hidden layer, the link: by hand; far apart, no window moves or drowns another."""
    x = RNG.standard_normal((4, 5)) * np.array([[1.0], [2.0], [200.0], [3.0]])
    mean, scale = RNG.standard_normal(5), 1 + RNG.random(5)
    layers = [
        (RNG.standard_normal((6, 5)), RNG.standard_normal(6)),
        (RNG.standard_normal((3, 6)), np.ones(3)),
    ]
    hidden = np.maximum((x - mean) / scale @ layers[0][0].T + layers[0][1], 0)
    scores = hidden @ layers[1][0].T + layers[1][1]
    expected = softmax(scores, axis=1) if link == "softmax" else expit(scores)
    expected = expected / expected.sum(axis=1, keepdims=True)
    found = dense_probabilities(x, mean, scale, layers, link)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert found.sum(1) == pytest.approx(1)
    assert np.isfinite(found).all()


def test_a_single_score_is_that_of_the_second_class() -> None:
    x = np.array([[-2.0], [0.0], [5.0]])
    found = dense_probabilities(x, np.zeros(1), np.ones(1), [(np.ones((1, 1)), np.zeros(1))], "one-vs-rest")
    np.testing.assert_allclose(found, np.concatenate([expit(-x), expit(x)], axis=1))
