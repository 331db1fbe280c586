"""Laws of baselines: features are what options and papers say, and what is asked comes before defaults."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg, signal

from eegm2.contracts import some_people
from eegm2.errors import ConfigError
from eegm2.evaluation.baselines import BASELINES, baseline_runner, networks, registry, riemann
from eegm2.evaluation.baselines.class_power import band_power_by_class
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.labelled import LabelledWindows

RNG = np.random.default_rng(13)
RATE_HZ = 128.0
#: Values that are no baseline's default.
VALUES: dict[str, Any] = {
    "scaling": "robust", "c": 0.07, "threshold": "half", "centre": "running", "segment_s": 0.75,
    "stretches": 3, "bands": ("x=5:9", "y=11:17"), "estimator": "oas", "lr": 0.0123, "weight_decay": 0.3,
    "batch_size": 7, "max_epochs": 3, "patience": 2, "clip": 0.4, "class_weights": "none", "device": "cuda",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_an_option_comes_before_what_the_baseline_declares_and_that_before_the_usual(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = BASELINES[name]

    def factory(asked: str, sfreq_hz: float, options: Any) -> Any:
        return asked, sfreq_hz, options

    spied = dataclasses.replace(declared, factory=factory)
    monkeypatch.setattr(registry, "find_baseline", {name: spied}.__getitem__)
    asked, sfreq_hz, usual = baseline_runner(name, sfreq_hz=100)  # type: ignore[misc]
    assert (asked, sfreq_hz) == (name, 100.0)
    plain = declared.options()
    fields = [field.name for field in dataclasses.fields(plain)]
    assert {f: getattr(usual, f) for f in fields} == {
        f: declared.defaults.get(f, getattr(plain, f)) for f in fields
    }
    for field in fields:
        _, _, made = baseline_runner(name, sfreq_hz=100, options={field: VALUES[field]})  # type: ignore[misc]
        assert made == dataclasses.replace(usual, **{field: VALUES[field]}), field
        assert made != usual, field
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match=f"baseline {name}: got sfreq_hz {rate}, expected a rate in Hz"):
            baseline_runner(name, sfreq_hz=rate)


def features_of(name: str, data: LabelledWindows, options: dict[str, Any]) -> np.ndarray:
    runner: Any = baseline_runner(name, sfreq_hz=RATE_HZ, options=options)
    made = runner.prepare(data)
    return np.asarray(made[0] if isinstance(made, tuple) else made)


@pytest.mark.parametrize("segment_s", [0.25, 0.5, 1.0, 7.0])
@pytest.mark.parametrize("scaling", ["none", "zscore"])
def test_band_power_is_welchs_with_segments_as_long_as_asked(segment_s: float, scaling: str) -> None:
    """Of windows of a second, which is the longest segment that there can be."""
    x = 10 * RNG.standard_normal((5, 2, 128)) + 3
    data = LabelledWindows.from_arrays(x, np.arange(5) % 2)
    options = {"bands": ["a=4:9", "b=9:30"], "segment_s": segment_s, "scaling": scaling}
    found = features_of("band_power", data, options).reshape(5, 2, 2)
    if scaling == "zscore":
        x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    n = min(128, round(segment_s * RATE_HZ))
    frequency_hz, density = signal.welch(x, RATE_HZ, "hann", n, n // 2, detrend="constant")
    for i, (low, high) in enumerate(((4, 9), (9, 30))):
        rows = (frequency_hz >= low) & (frequency_hz < high)
        expected = 10 * np.log10(density[..., rows].sum(-1) * RATE_HZ / n)
        np.testing.assert_allclose(10 * found[..., i], expected, rtol=1e-3, atol=1e-3)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the affine-invariant distance of two covariances."""
    return float(np.sqrt((np.log(linalg.eigvalsh(a, b)) ** 2).sum()))


@pytest.mark.parametrize("bands", [(), ("low=4:12", "high=14:30")])
def test_tangent_vectors_are_as_long_as_covariances_are_far_from_the_mean_of_training(
    bands: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Barachant et al. (2012): from the Riemannian mean, distances are lengths, and training cancels."""
    pytest.importorskip("pyriemann")
    data, split = some_people()
    mixing = np.eye(3) + 0.4 * RNG.standard_normal((len(data), 3, 3))
    data = dataclasses.replace(data, x=(mixing @ data.x).astype(np.float32))
    seen: list[np.ndarray] = []

    def probe(features: np.ndarray, *_: Any, **__: Any) -> Outcome:
        seen.append(features)
        return Outcome("linear", 0, np.zeros((1, 2)))

    monkeypatch.setattr(riemann, "linear_probe", probe)
    runner: Any = baseline_runner("riemann", sfreq_hz=RATE_HZ, options={"bands": list(bands)})
    runner(data, split, 0)
    covariances = runner.prepare(data)
    n_bands = max(len(bands), 1)
    assert covariances.shape == (len(data), n_bands, 3, 3)
    vectors = seen[0].reshape(len(data), n_bands, 6)
    np.testing.assert_allclose(vectors[split.train].mean(0), 0, atol=1e-4)
    for band in range(n_bands):
        mean = covariances[split.train, band].mean(0)
        for _ in range(60):  # the mean from which training cancels, by its own definition
            root = linalg.sqrtm(mean).real
            inverse = linalg.inv(root)
            step = np.mean(
                [linalg.logm(inverse @ c @ inverse).real for c in covariances[split.train, band]], 0
            )
            mean = root @ linalg.expm(step) @ root
            if np.abs(step).max() < 1e-9:
                break
        expected = [distance(c, mean) for c in covariances[:, band]]
        np.testing.assert_allclose(np.linalg.norm(vectors[:, band], axis=1), expected, rtol=1e-3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_power_by_class_is_a_mean_over_people_of_means_over_windows(n_classes: int) -> None:
    """In decibels, of those who have every class, in the channel and the band where it is."""
    rng, t = np.random.default_rng(n_classes), np.arange(256) / RATE_HZ
    rows: list[tuple[str, int]] = []
    for person in range(4):
        classes = range(n_classes if person < 3 else 1)  # the last one has one class only
        rows += [(f"p{person}", y) for y in classes for _ in range(1 + int(rng.integers(3)))]
    gain = rng.uniform(2, 30, (len(rows), 2))
    x = gain[..., None] * np.stack([np.sin(2 * np.pi * f * t) for f in (6.0, 20.0)])
    who, y = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    shuffled = rng.permutation(len(rows))
    data = LabelledWindows.from_arrays(
        x[shuffled], y[shuffled], who[shuffled], classes=list("abc"[:n_classes])
    )
    found, bands = band_power_by_class(data, RATE_HZ, ("theta=4:8", "beta=13:30", "none=70:80"))
    assert bands == ("theta", "beta")
    assert found.shape == (n_classes, 2, 2)
    power_db = 10 * np.log10(gain**2 / 2)
    for i in range(n_classes):
        for band in (0, 1):  # the first channel has theta, the second beta
            own = [power_db[(who == f"p{p}") & (y == i), band].mean() for p in range(3)]
            assert found[i, band, band] == pytest.approx(np.mean(own), abs=0.05)
            assert found[i, band, 1 - band] < found[i, band, band] - 20


@pytest.mark.parametrize("n_chans", [2, 3, 6])
@pytest.mark.parametrize("gain", [1.0, 40.0])
def test_a_covariance_of_channels_that_say_the_same_is_definite_by_a_millionth(
    n_chans: int, gain: float
) -> None:
    """Of the mean variance, so that neither number nor unit of the channels counts."""
    pytest.importorskip("pyriemann")
    x = gain * np.repeat(RNG.standard_normal((4, 1, 200)), n_chans, axis=1)
    found = riemann.window_covariances(x, [], "scm", "b")[:, 0]
    values = np.linalg.eigvalsh(found)
    mean = np.trace(found, axis1=1, axis2=2) / n_chans
    np.testing.assert_allclose(values[:, 0], 1e-6 * mean + 1e-9, rtol=1e-3)


@pytest.mark.parametrize("scaling", ["none", "train", "zscore"])
def test_networks_are_given_windows_as_their_scaling_says(
    scaling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learning, stopping and judging alike; ``train`` is mean and spread of training's channels."""
    seen: list[torch.Tensor] = []

    class Network(torch.nn.Module):
        def __init__(self, n_features: int, n_outputs: int) -> None:
            super().__init__()
            self.last = torch.nn.Linear(n_features, n_outputs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return self.last(x.flatten(1))

    def build(models: Any, name: str, n_chans: int, n_times: int, n_outputs: int, sfreq_hz: float) -> Any:
        assert (name, n_chans, n_times, n_outputs, sfreq_hz) == ("eegnet", 3, 128, 2, 100.0)
        return Network(n_chans * n_times, n_outputs)

    monkeypatch.setattr(networks, "braindecode_models", lambda: None)
    monkeypatch.setattr(networks, "build_network", build)
    data, split = some_people()
    x = (data.x * [[1.0], [5.0], [30.0]] + [[0.0], [-20.0], [100.0]]).astype(np.float32)
    run = networks.network_runner("eegnet", 100.0, networks.NetworkOptions(scaling=scaling, max_epochs=1))
    run(dataclasses.replace(data, x=x), split, 0)
    if scaling == "train":
        own = x[split.train].astype(float)
        x = (x - own.mean((0, 2), keepdims=True)) / own.std((0, 2), keepdims=True)
    elif scaling == "zscore":
        x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    learnt = seen[0].numpy()
    order = [
        int(np.abs(x[split.train] - window).reshape(len(split.train), -1).sum(1).argmin())
        for window in learnt
    ]
    assert sorted(order) == list(range(len(split.train)))
    np.testing.assert_allclose(learnt, x[split.train][order], rtol=1e-3, atol=1e-3)
    for part, indices in zip(seen[-2:], (split.val, split.test), strict=True):
        np.testing.assert_allclose(part.numpy(), x[indices], rtol=1e-3, atol=1e-3)
