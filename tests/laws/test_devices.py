"""Laws of devices: features, scale and windows of a stream, stated once more in plain NumPy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal
from scipy.linalg import logm

from eegm2.data.config import WindowConfig
from eegm2.deploy.device.decisions import SlidingWindows, StreamCentring, dense_probabilities
from eegm2.deploy.device.features import array_features
from eegm2.deploy.device.filters import BlockFilter
from eegm2.deploy.device.flat import FlatWatch
from eegm2.deploy.device.scale import RunningScale
from eegm2.deploy.device.timeline import TimeLine
from eegm2.deploy.heads import as_streamed
from eegm2.deploy.heads.as_streamed import StreamedAs, streamed_windows
from eegm2.deploy.heads.decisions import steps_of
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.windowed import WindowedFeatures, WindowedHead
from eegm2.deploy.live.placing import Placing
from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config
from eegm2.model.features import window_features
from tests.data.samples import write_store

RNG = np.random.default_rng(3)


def statistics(x: np.ndarray) -> np.ndarray:
    """Return minimum, maximum, mean, deviation and five quantiles of every channel, kind by kind."""
    parts = [x.min(1), x.max(1), x.mean(1), np.sqrt(((x - x.mean(1, keepdims=True)) ** 2).mean(1))]
    return np.concatenate([*parts, *(np.quantile(x, q, axis=1) for q in (0.05, 0.25, 0.5, 0.75, 0.95))])


def log_covariance(x: np.ndarray) -> np.ndarray:
    """Return the upper triangle of the logarithm of the covariance, 2 % shrunk, as a vector of its length."""
    n = len(x)
    covariance = np.cov(x, bias=True)
    shrunk = 0.98 * covariance + 0.02 * np.trace(covariance) / n * np.eye(n)
    logarithm = np.real(logm(shrunk))
    return np.array([logarithm[i, j] * (1 if i == j else 2**0.5) for i in range(n) for j in range(i, n)])


@pytest.mark.parametrize(("kind", "by_hand"), [("statistics", statistics), ("covariance", log_covariance)])
def test_features_are_what_they_are_called_on_a_device_and_in_the_network(kind: str, by_hand: Any) -> None:
    x = RNG.standard_normal((4, 11)) * [[1.0], [5.0], [0.2], [1.0]] + [[0.0], [3.0], [1.0], [-2.0]]
    x[3] += x[0]
    np.testing.assert_allclose(array_features(x, kind, {"trunk_channels": 4}), by_hand(x), rtol=1e-6)
    config = EEGM2Config.preset("light", n_chans=4, width=4)
    made = window_features(torch.from_numpy(x)[None], kind, config)
    np.testing.assert_allclose(made[0], by_hand(x), rtol=1e-6)


@pytest.mark.parametrize("first", [0, 5])
def test_of_tokens_each_counts_by_what_it_knows(first: int) -> None:
    """A token of 4 samples' step sees a window of 16, half a kernel late; the first know little."""
    tokens = {"token_step": 4, "window_tokens": 4, "kernel_taps": 10, "diagonal": [0, 2]}
    facts = {"trunk_channels": 2, "tokens": tokens}
    x = RNG.standard_normal((5, 6))
    known = np.array(
        [
            sum(0 <= s < 4 * (i + 1) - 5 for s in range(4 * (i + 1) - 21, 4 * (i + 1) - 5))
            for i in first + np.arange(6)
        ]
    )
    weight = known / known.sum()
    mean = x @ weight
    spread = np.sqrt(((x - mean[:, None]) ** 2) @ weight)
    for kind, expected in {
        "state": mean[:2],
        "tangent": mean[2:],
        "log_variance": mean[[2, 4]],
        "tangent_state": [*mean[2:], *mean[:2]],
        "tangent_spread": [*mean[2:], *spread[2:]],
        "tangent_spread_state": [*mean[2:], *spread[2:], *mean[:2]],
    }.items():
        np.testing.assert_allclose(array_features(x, kind, facts, first), expected, err_msg=kind)


@pytest.mark.parametrize("method", ["zscore", "quantile95", "robust"])
def test_a_scale_moves_with_each_whole_window_and_no_further_than_it_may(method: str) -> None:
    """Exponentially with its time constant; a window counts as 1.5 times at most, offsets as one scale."""
    rate_hz, window, adapt_s = 16.0, 32, 5.0
    x = RNG.standard_normal((2, 32 * 7)) * np.repeat([1, 1.2, 30, 0.01, 1, 2, 1], 32) + np.repeat(
        [0, 0.5, 90, -90, 0, 1, 2], 32
    )
    scale = RunningScale(method, rate_hz, window_s=2.0, calibration_s=4.0, adapt_s=adapt_s)
    cuts = np.cumsum(RNG.integers(1, 40, 30))
    made = np.concatenate([scale.push(part) for part in np.split(x, cuts[cuts < x.shape[1]], axis=1)], axis=1)

    def measured(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if method == "zscore":
            return part.mean(1), part.std(1)
        if method == "quantile95":
            return np.zeros(2), np.quantile(np.abs(part), 0.95, axis=1)
        low, middle, high = np.quantile(part, (0.25, 0.5, 0.75), axis=1)
        return middle, (high - low) / 1.3489795

    both = [measured(x[:, :32]), measured(x[:, 32:64])]
    offset, size = (np.median(values, axis=0) for values in zip(*both))
    rate = 1 - np.exp(-2.0 / adapt_s)
    for begin in range(64, x.shape[1], window):
        part = x[:, begin : begin + window]
        expected = (part - offset[:, None]) / size[:, None]
        np.testing.assert_allclose(made[:, begin - 64 : begin - 32], expected, rtol=2e-4, atol=1e-5)
        o, s = measured(part)
        o = np.clip(o, offset - size, offset + size)
        size = size ** (1 - rate) * np.clip(s, size / 1.5, size * 1.5) ** rate
        offset = (1 - rate) * offset + rate * o


@pytest.mark.parametrize(("window", "hop"), [(4, 1), (4, 3), (3, 4), (2, 5)])
def test_windows_slide_by_their_hop_however_a_stream_is_cut(window: int, hop: int) -> None:
    x = np.arange(40.0)[None, None]
    cuts = np.cumsum(RNG.integers(0, 7, 12))
    sliding = SlidingWindows(window, hop)
    found = [one for part in np.split(x, cuts[cuts < 40], axis=2) for one in sliding.push(part)]
    starts = list(range(0, 40 - window + 1, hop))
    assert [start for start, _ in found] == starts
    for start, values in found:
        np.testing.assert_array_equal(values[0, 0], np.arange(start, start + window))


def test_a_stream_is_centred_on_windows_side_by_side_and_says_nothing_before() -> None:
    """Windows of 4 steps, one a step: the mean is of those that end at 4, 8, 12 …"""
    features = RNG.standard_normal((30, 3))
    centring = StreamCentring(4, warm_up=3)
    counted: list[np.ndarray] = []
    for end in range(4, 30):
        found = centring.take(features[end][None], end)
        if end % 4 == 0:
            counted.append(features[end])
        if len(counted) < 3:
            assert found is None
        else:
            assert found is not None
            np.testing.assert_allclose(found[0], features[end] - np.mean(counted, 0))


@pytest.mark.parametrize("chunk", [1, 7, 32, 33, 200])
def test_a_filter_is_that_of_scipy_for_whom_the_first_sample_was_there_for_ever(chunk: int) -> None:
    """A high offset does not ring: what is constant comes out at once as what the filter makes of it."""
    sos = np.concatenate([signal.butter(2, 0.02, "high", output="sos"), signal.butter(4, 0.3, output="sos")])
    settled = signal.sosfilt_zi(sos)
    x = np.array([[400.0], [-90.0]]) + RNG.standard_normal((2, 200))
    own = BlockFilter(sos, settled)
    made = np.concatenate([own.push(x[:, i : i + chunk]) for i in range(0, 200, chunk)], axis=1)
    for row, found in zip(x, made):
        expected, _ = signal.sosfilt(sos, row, zi=settled * row[0])
        np.testing.assert_allclose(found, expected, atol=1e-9)
    own.reset()
    np.testing.assert_allclose(own.push(np.full((1, 50), 7.0)), 0.0, atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_flat_is_a_second_without_a_move(chunk: int) -> None:
    """0.01 µV and less from sample to sample is no move; channels that are not used never count."""
    x = np.cumsum(RNG.choice([-1.0, 1.0], (3, 60)), axis=1)
    x[0, 10:40] = x[0, 9] + 0.009 * (np.arange(30) % 2)
    x[1, 20:28] = x[1, 19]
    x[2, 5:55] = x[2, 4]
    watch = FlatWatch(np.array([True, True, False]), 16.0)
    flat = np.zeros((3, 60), bool)
    now = np.zeros(3, bool)
    for begin in range(0, 60, chunk):
        changes = dict(watch.push(x[:, begin : begin + chunk]))
        for i in range(begin, min(begin + chunk, 60)):
            now = changes.get(i - begin, now)
            flat[:, i] = now
    still = np.abs(np.diff(x, axis=1, prepend=x[:, :1])) <= 0.01
    expected = np.array([[i >= 16 and row[i - 15 : i + 1].all() for i in range(60)] for row in still])
    expected[2] = False
    np.testing.assert_array_equal(flat, expected)
    assert expected.any()


def test_the_time_of_a_sample_is_on_the_sources_clock() -> None:
    """At half the rate, sample m is the source's sample 2 m; the newest stamp says where that lies."""
    line = TimeLine(100.0, 1, 2)
    assert line.last_s == 0.0
    line.push(50, 7.0)
    line.push(10, 7.2)
    assert line.time_s(29.5) == pytest.approx(7.2)
    assert line.time_s(0) == pytest.approx(7.2 - 0.59)
    assert line.time_s(30) == pytest.approx(7.21), "the end of the last"


def heads_arrays(**changed: Any) -> list[Any]:
    """Return mean, scale and two layers of a head of 3 features, 4 hidden numbers and 2 classes."""
    arrays = {
        "mean": np.zeros(3), "scale": np.ones(3), "weight0": np.ones((4, 3)), "bias0": np.zeros(4),
        "weight1": np.ones((2, 4)), "bias1": np.zeros(2),
    } | changed  # fmt: skip
    layers = [(arrays["weight0"], arrays["bias0"]), (arrays["weight1"], arrays["bias1"])]
    return [arrays["mean"], arrays["scale"], layers]


@pytest.mark.parametrize(
    "changed",
    [
        {"mean": np.zeros(2)}, {"mean": np.zeros((3, 1))}, {"mean": np.zeros(0), "scale": np.ones(0)},
        {"scale": np.ones(4)}, {"scale": np.ones((3, 1))}, {"scale": np.array([1.0, 0.0, 1.0])},
        {"scale": np.array([1.0, np.inf, 1.0])}, {"mean": np.array([0.0, np.nan, 0.0])},
        {"weight0": np.ones(12)}, {"weight0": np.ones((3, 4))}, {"weight0": np.ones((4, 3, 1))},
        {"bias0": np.zeros(3)}, {"bias0": np.zeros((4, 1))}, {"weight1": np.ones((2, 3))},
        {"weight1": np.full((2, 4), np.nan)}, {"bias1": np.zeros(3)}, {"weight0": np.full((4, 3), "1")},
        {"weight1": np.ones((3, 4)), "bias1": np.zeros(3)},
    ],
)  # fmt: skip
def test_arrays_that_make_no_head_are_refused(changed: dict[str, np.ndarray]) -> None:
    DenseHead(*heads_arrays(), ("a", "b"))
    with pytest.raises(ConfigError, match=r"^(mean, scale|layer \d|classes|an array)"):
        DenseHead(*heads_arrays(**changed), ("a", "b"))


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_an_event_is_placed_at_the_sample_that_was_taken_then(late: float) -> None:
    placing = Placing(100.0)
    placing.push(0, 5 + late + np.arange(100) / 100)
    placing.join()
    placing.push(100, 9 + late + np.arange(50) / 100)
    for time_s, sample in ((5.0, 0), (5.25, 25), (5.994, 99), (7.0, 100), (9.1, 110), (9.49, 149)):
        assert placing.place(time_s + late) == sample, time_s
    assert placing.place(9.6 + late) is None
    assert placing.place(0.0) == 0


@pytest.mark.parametrize("centre", ["none", "running"])
def test_a_head_of_windows_sees_the_last_window_alone(centre: str) -> None:
    """Its own samples, scaled by themselves, at the end that it says; scores become probabilities."""

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, 0]

        def pooled(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, -1]

        def answer(self, features: torch.Tensor) -> torch.Tensor:
            return 2 * features

    head = WindowedHead(Network(), ("a", "b"), {"n_times": 8, "scaling": "none", "centre": centre})
    x = RNG.standard_normal((2, 30))
    made = WindowedFeatures(head, 5).push(x[:, :17])
    assert [end for end, _ in made] == [8, 13]
    for end, features in made:
        expected = x[:, end - 1] if centre == "running" else x[:, end - 8]
        np.testing.assert_allclose(features[0], expected, rtol=1e-5)
        scores = np.exp(2 * expected if centre == "running" else expected)
        np.testing.assert_allclose(head(features)[0], scores / scores.sum(), rtol=1e-5)


def test_layers_are_joined_by_their_positive_parts() -> None:
    """Standardise, dense, cut at 0, dense; then softmax, or a sigmoid each divided by their sum."""
    x, mean, scale = RNG.standard_normal((5, 3)), RNG.standard_normal(3), RNG.uniform(1, 3, 3)
    one = (RNG.standard_normal((4, 3)), RNG.standard_normal(4))
    two = (RNG.standard_normal((3, 4)), RNG.standard_normal(3))
    hidden = np.maximum((x - mean) / scale @ one[0].T + one[1], 0)
    scores = hidden @ two[0].T + two[1]
    softmax = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    odds = 1 / (1 + np.exp(-scores))
    for link, expected in (("softmax", softmax), ("one-vs-rest", odds / odds.sum(1, keepdims=True))):
        np.testing.assert_allclose(dense_probabilities(x, mean, scale, [one, two], link), expected)
    alone = (two[0][:1], two[1][:1])
    found = dense_probabilities(x, mean, scale, [one, alone], "one-vs-rest")
    np.testing.assert_allclose(found, np.stack([1 - odds[:, 0], odds[:, 0]], 1))


def test_a_duration_is_whole_steps() -> None:
    assert [steps_of("x", s, 128.0, 8) for s in (0.0625, 0.5, 2.0)] == [1, 8, 32]
    for wrong in (0.0, 0.03, 0.1):
        with pytest.raises(ConfigError, match=r"expected a positive multiple of 0\.0625 s"):
            steps_of("x", wrong, 128.0, 8)


@pytest.mark.parametrize("hop_s", [0.5, 0.75, 2.0, 2.5])
def test_a_stream_is_learnt_from_in_windows_that_do_not_overlap(
    hop_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are; labels are those that cover a window on the stream's own clock."""
    store = write_store(tmp_path / "s", 2, ch_names=("Fz", "Cz"))

    def stream(model: Any, store: Any, info: Any, how: Any, length: int, hop: int, raw: Any) -> Any:
        starts = np.arange(0, 1280 - length * 8 + 1, hop * 8).astype(float)
        return starts, starts[:, None].astype(np.float32), starts >= 512

    monkeypatch.setattr(as_streamed, "_one_stream", stream)
    model: Any = SimpleNamespace(config=SimpleNamespace(step_samples=8))
    how = StreamedAs("statistics", "zscore", 2.0, hop_s, 4.0)
    made = streamed_windows(
        model, store, list(store.recordings), WindowConfig(window_s=2.0), ("closed", "open"), how
    )
    every = np.arange(0, 1280 - 256 + 1, round(hop_s * 128))
    label = np.where(every + 256 <= 640, 1, np.where(every >= 640, 0, -1))
    apart, last = np.zeros(len(every), bool), -256
    for i, start in enumerate(every):
        apart[i] = start >= last + 256
        last = start if apart[i] else last
    there = label >= 0
    for subject in ("s0", "s1"):
        mine = made.subjects == subject
        np.testing.assert_array_equal(made.features[mine, 0], every[there])
        np.testing.assert_array_equal(made.y[mine], label[there])
        np.testing.assert_array_equal(made.apart[mine], apart[there])
        np.testing.assert_array_equal(made.decided[mine], every[there] >= 512)
