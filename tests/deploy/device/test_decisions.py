"""Windows on a stream, centring, dense heads: the arithmetic that devices do, against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from eegm2.deploy.device.decisions import (
    Decider,
    DecisionRule,
    SlidingWindows,
    StreamCentring,
    dense_probabilities,
)
from eegm2.errors import ConfigError

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
    x = RNG.standard_normal((4, 5)) * np.array([[1.0], [2.0], [1e5], [3.0]])
    mean, scale = RNG.standard_normal(5), 1 + RNG.random(5)
    first = RNG.standard_normal((6, 5)), RNG.standard_normal(6)
    layers = [first, (RNG.standard_normal((3, 6)), np.ones(3))]
    hidden = np.maximum((x - mean) / scale @ layers[0][0].T + layers[0][1], 0)
    scores = hidden @ layers[1][0].T + layers[1][1]
    expected = softmax(scores, axis=1) if link == "softmax" else expit(scores)
    expected = expected / expected.sum(axis=1, keepdims=True)
    found = dense_probabilities(x, mean, scale, layers, link)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.sum(1), 1)


def test_a_single_score_is_that_of_the_second_class() -> None:
    x = np.array([[-2.0], [0.0], [5.0]])
    found = dense_probabilities(x, np.zeros(1), np.ones(1), [(np.ones((1, 1)), np.zeros(1))], "one-vs-rest")
    np.testing.assert_allclose(found, np.concatenate([expit(-x), expit(x)], axis=1))


def decided(rule: DecisionRule, *probabilities: tuple[float, ...]) -> list[int | None]:
    return [rule.push(np.array(p)) for p in probabilities]


def test_of_two_classes_a_threshold_decides_from_it_on_and_always() -> None:
    rule = DecisionRule(enter=0.9, leave=0.8, threshold=0.3)
    assert decided(rule, (0.75, 0.25), (0.7, 0.3), (0.5, 0.5), (0.71, 0.29)) == [0, 1, 1, 0]
    assert decided(DecisionRule(threshold=0.3), (0.2, 0.3, 0.5), (0.4, 0.3, 0.3)) == [None, None]
    assert decided(DecisionRule(smooth=0.5, threshold=0.5), (1.0, 0.0), (0.0, 1.0), (1.0, 0.0)) == [0, 1, 0]


def test_without_one_a_class_is_entered_kept_and_left_at_their_own_levels() -> None:
    rule = DecisionRule(enter=0.6, leave=0.4)
    assert decided(rule, (0.41, 0.59), (0.4, 0.6), (0.6, 0.4), (0.4, 0.6)) == [None, 1, 0, 1]
    assert decided(rule, (0.59, 0.41), (0.61, 0.39)) == [1, 0]
    three = DecisionRule(enter=0.4, leave=0.3)
    assert decided(three, (0.4, 0.35, 0.25), (0.3, 0.35, 0.35), (0.29, 0.36, 0.35)) == [0, 0, None]
    assert decided(three, (0.3, 0.4, 0.3), (0.45, 0.45, 0.1), (0.5, 0.45, 0.05)) == [1, 1, 0]
    assert decided(DecisionRule(enter=0.5, leave=0.5), (0.5, 0.5), (0.4, 0.6)) == [0, 1]
    for wrong in (
        {"smooth": 1.0},
        {"smooth": -0.1},
        {"enter": 1.1},
        {"leave": -0.1},
        {"enter": 0.5, "leave": 0.6},
    ):
        with pytest.raises(ConfigError, match="expected 0 <= smooth < 1 and 0 <= leave <= enter <= 1"):
            DecisionRule(**wrong)
    DecisionRule(smooth=0.99, enter=1.0, leave=0.0)


def test_features_become_decisions_by_name_and_a_gap_begins_anew() -> None:
    def head(features: np.ndarray) -> np.ndarray:
        p = expit(features[:, :1])
        return np.concatenate([1 - p, p], axis=1)

    decider = Decider(head, ("shut", "open"), DecisionRule(smooth=0.5, enter=0.6, leave=0.5))
    first = decider.push(np.array([[2.0]]), 4)
    assert first == {"probabilities": [round(1 - expit(2.0), 6), round(expit(2.0), 6)], "decided": "open"}
    second = decider.push(np.array([[-1.0]]), 8)
    assert second is not None
    assert second["probabilities"][1] == pytest.approx((expit(2.0) + expit(-1.0)) / 2, abs=1e-6)
    decider.reset()
    third = decider.push(np.array([[0.0]]), 4)
    assert third == {"probabilities": [0.5, 0.5], "decided": None}
    centred = Decider(head, ("shut", "open"), DecisionRule(), StreamCentring(4, warm_up=2))
    assert centred.push(np.array([[5.0]]), 4) is None
    found = centred.push(np.array([[9.0]]), 8)
    assert found is not None
    assert found["probabilities"][1] == pytest.approx(expit(9.0 - 7.0), abs=1e-6)
    centred.reset()
    again = centred.push(np.array([[7.0]]), 4)
    assert again is not None
    assert again["probabilities"] == [0.5, 0.5], (
        "the mean is the person's and stays; the window counts for it"
    )
