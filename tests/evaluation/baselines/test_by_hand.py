"""What baselines compute, by hand; where bands end; and that their options reach the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import signal

from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.baselines import BASELINES, baseline_runner
from eegm2.evaluation.baselines.band_power import (
    FLOOR_UV2,
    BandPowerOptions,
    log_band_power,
    segment_length,
    usable_bands,
)
from eegm2.evaluation.baselines.options import band_edges
from eegm2.evaluation.baselines.riemann import (
    FILTER_ORDER,
    RIDGE,
    RiemannOptions,
    _filters,
    window_covariances,
)
from eegm2.evaluation.baselines.riemann import (
    FLOOR_UV2 as RIEMANN_FLOOR,
)
from eegm2.evaluation.baselines.slow import stretch_means
from eegm2.evaluation.windows.labelled import LabelledWindows
from tests.evaluation.baselines.test_baselines import LINEAR, bands_of, loudness, needs_pyriemann, thirds
from tests.evaluation.helpers import SFREQ_HZ

RNG = np.random.default_rng(9)


def test_band_power_is_the_sum_of_welchs_density_from_the_low_edge_to_below_the_high() -> None:
    x = RNG.standard_normal((5, 2, 300)) * 10
    bands = {"theta": (4.0, 8.0), "alpha": (8.0, 13.0)}
    found = log_band_power(x, 100.0, bands, 1.0).reshape(5, 2, 2)
    frequency_hz, density = signal.welch(x, 100.0, nperseg=100)
    for i, wanted in enumerate(([4, 5, 6, 7], [8, 9, 10, 11, 12])):
        rows = [int(np.flatnonzero(frequency_hz == f)[0]) for f in wanted]
        np.testing.assert_allclose(10 ** found[..., i] - FLOOR_UV2, density[..., rows].sum(-1), rtol=1e-9)
    half = log_band_power(x, 100.0, {"alpha": (8.0, 13.0)}, 2.0)[:, 0]
    finer = signal.welch(x[:, 0], 100.0, nperseg=200)
    inside = (finer[0] >= 8) & (finer[0] < 13)
    np.testing.assert_allclose(10**half - FLOOR_UV2, finer[1][:, inside].sum(-1) * 0.5, rtol=1e-9)


def test_bands_without_a_frequency_are_left_out_and_others_end_at_half_the_rate() -> None:
    bands = ("low=0.1:0.4", "alpha=8:13", "gamma=30:45", "cut=15:99", "above=16:20", "edge=1:2")
    options = BandPowerOptions(bands=bands)
    assert usable_bands(options, 32.0, 64, "b") == {"alpha": (8, 13), "cut": (15, 16), "edge": (1, 2)}
    assert usable_bands(options, 100.0, 200, "b")["gamma"] == (30, 45)
    with pytest.raises(DataError, match="windows of 2 samples at 32 Hz resolve none of low"):
        usable_bands(options, 32.0, 2, "b")
    with pytest.raises(DataError, match="windows of 1 sample have no spectrum"):
        usable_bands(options, 32.0, 1, "b")
    cases = [(2.0, 100.0, 500, 200), (2.0, 100.0, 150, 150), (0.001, 100.0, 500, 2), (0.5, 33.0, 99, 16)]
    for segment_s, sfreq_hz, n_times, expected in cases:
        assert segment_length(segment_s, sfreq_hz, n_times) == expected


@pytest.mark.parametrize(
    ("text", "edges"),
    [("a=0:4", (0, 4)), ("a=.5:1e1", (0.5, 10)), ("a=3:4", (3, 4))],
)
def test_a_band_is_a_name_and_two_edges(text: str, edges: tuple[float, float]) -> None:
    assert band_edges((text, "other=1:2")) == {"a": edges, "other": (1, 2)}


@pytest.mark.parametrize(
    "text", ["=1:4", "a1:4", "a=14", "a=1:", "a=:4", "a=4:4", "a=5:4", "a=-1:4", "a=x:4", ""]
)
def test_what_is_no_band_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected name=low:high in Hz such as alpha=8:13"):
        band_edges((text,))


@needs_pyriemann
def test_covariances_are_of_the_filtered_windows_less_their_means_and_definite() -> None:
    x = RNG.standard_normal((4, 3, 60)) * 10 + np.array([[5.0], [50.0], [-20.0]])
    sections = signal.butter(FILTER_ORDER, (4, 10), "bandpass", fs=50.0, output="sos")
    found = window_covariances(x, [sections], "scm", "riemann")
    plain = window_covariances(x, [], "scm", "riemann")
    centred = x - x.mean(-1, keepdims=True)
    filtered = signal.sosfiltfilt(sections, centred, axis=-1, padlen=3 * (2 * FILTER_ORDER + 1))
    for made, of in ((found, filtered), (plain, centred)):
        assert made.shape == (4, 1, 3, 3)
        for i in range(4):
            covariance = np.cov(of[i])
            expected = covariance + (RIDGE * np.trace(covariance) / 3 + RIEMANN_FLOOR) * np.eye(3)
            np.testing.assert_allclose(made[i, 0], expected, rtol=0.03)
            assert made[i, 0, 0, 1] / made[i, 0, 0, 0] == pytest.approx(
                covariance[0, 1] / covariance[0, 0], rel=1e-4
            )
    flat = window_covariances(np.zeros((1, 3, 60)), [], "scm", "riemann")
    np.testing.assert_allclose(flat[0, 0], RIEMANN_FLOOR * np.eye(3))
    short = window_covariances(x[..., :5], [sections], "scm", "riemann")
    assert np.linalg.eigvalsh(short).min() > 0
    with pytest.raises(DataError, match="windows of 1 sample have no covariance"):
        window_covariances(x[..., :1], [], "scm", "riemann")
    made = _filters(RiemannOptions(bands=("a=4:10", "b=12:20")), 50.0, "riemann")
    for filters, edges in zip(made, ((4, 10), (12, 20)), strict=True):
        expected = signal.butter(FILTER_ORDER, edges, "bandpass", fs=50.0, output="sos")
        np.testing.assert_allclose(filters, expected)
    for band in ("a=0:4", "a=4:25", "a=4:26"):
        with pytest.raises(ConfigError, match="expected above 0 and below half of 50 Hz"):
            baseline_runner("riemann", sfreq_hz=50.0, options={"bands": [band]})
    baseline_runner("riemann", sfreq_hz=50.0, options={"bands": ["a=4:24.9"]})


def test_stretches_are_as_equal_as_they_can_be() -> None:
    x = RNG.standard_normal((2, 3, 8))
    np.testing.assert_allclose(stretch_means(x, 8, "b"), x.reshape(2, -1))
    found = stretch_means(x, 3, "b").reshape(2, 3, 3)
    for i, part in enumerate((slice(0, 3), slice(3, 6), slice(6, 8))):
        np.testing.assert_allclose(found[..., i], x[..., part].mean(-1))


@pytest.mark.parametrize("name", [*LINEAR, "slow_potentials"])
def test_options_reach_the_linear_model_and_what_is_declared_is_so(name: str) -> None:
    """Penalty, threshold and centring; a value that is not the default changes what is learnt."""
    data = loudness()
    split, options = thirds(data), bands_of(name) if name != "slow_potentials" else {}
    made = {}
    changes = {
        "plain": {},
        "c": {"c": 0.003},
        "half": {"threshold": "half"},
        "centre": {"centre": "recording"},
    }
    for what, change in changes.items():
        runner = baseline_runner(name, sfreq_hz=SFREQ_HZ, options={**options, **change})
        made[what] = runner(data, split, 0)
        assert made[what].protocol == name
        assert made[what].facts["options"].items() >= change.items()
    assert made["c"].facts["c"] == 0.003
    assert (made["half"].threshold, made["plain"].threshold is None) == (None, False)
    for what in ("c", "centre"):
        assert not np.array_equal(made[what].score, made["plain"].score), what
    declared = BASELINES[name]
    assert declared.deterministic is made["plain"].facts["deterministic"] is True
    assert declared.requires == (("pyriemann",) if "riemann" in name else ())
    assert bool(declared.reference) == ("riemann" in name)
    if "band" in name and name != "riemann_bands":
        assert made["plain"].facts["bands"] == ["delta", "theta", "alpha"]
    for length in ("segment_s", "stretches"):
        if hasattr(declared.options(), length):
            with pytest.raises(ConfigError, match=f"{length}: got 0"):
                baseline_runner(name, sfreq_hz=SFREQ_HZ, options={**options, length: 0})
    with pytest.raises(ConfigError, match=r"c: got 0\.0, expected above 0"):
        baseline_runner(name, sfreq_hz=SFREQ_HZ, options={**options, "c": 0.0})


def test_windows_are_read_in_parts_in_order_and_the_first_bad_one_is_named() -> None:
    x = RNG.standard_normal((600, 1, 16))
    data = LabelledWindows.from_arrays(x, np.arange(600) % 2, np.arange(600) // 100)
    runner = baseline_runner("slow_potentials", sfreq_hz=16.0, options={"stretches": 16})
    np.testing.assert_allclose(runner.prepare(data), x[:, 0], rtol=1e-6)
    for first in (255, 256, 520):
        bad = x.copy()
        bad[first, 0, 3] = np.inf
        bad[599] = np.nan
        with pytest.raises(DataError, match=rf"window {first} \(recording {first // 100}, from 0 s\)"):
            runner.prepare(replace(data, x=bad.astype(np.float32)))


def test_baselines_say_whether_chance_plays_a_part_and_what_they_need() -> None:
    """The networks learn from a seed; what is fitted in closed form or to convergence does not."""
    of_networks = {name for name, baseline in BASELINES.items() if not baseline.deterministic}
    assert of_networks == {"eegnet", "shallow_fbcsp", "eegconformer", "biot"}
    needs = {name: baseline.requires for name, baseline in BASELINES.items()}
    assert {name for name, needed in needs.items() if "pyriemann" in needed} == {"riemann", "riemann_bands"}
    assert all("braindecode" in needs[name] for name in of_networks)
