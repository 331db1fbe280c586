"""Baselines: what they learn, what they see, and what they refuse."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eegm2.data.config import WindowConfig
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.baselines import BASELINES, baseline_runner
from eegm2.evaluation.baselines import library as library_module
from eegm2.evaluation.baselines.band_power import FLOOR_UV2, BandPowerOptions, log_band_power
from eegm2.evaluation.baselines.networks import NetworkOptions
from eegm2.evaluation.baselines.options import band_edges
from eegm2.evaluation.baselines.riemann import window_covariances
from eegm2.evaluation.baselines.slow import stretch_means
from eegm2.evaluation.baselines.windows import rescaled
from eegm2.evaluation.scores.crossval import cross_validate, subject_splits
from eegm2.evaluation.scores.outcome import evaluate
from eegm2.evaluation.windows.from_store import labelled_windows
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from tests.evaluation.helpers import SFREQ_HZ, installed_braindecode, labelled_arrays, labelled_store, rhythm

BANDS = ["delta=1:4", "theta=4:8", "alpha=8:13"]
HAS_PYRIEMANN = importlib.util.find_spec("pyriemann") is not None
needs_pyriemann = pytest.mark.skipif(not HAS_PYRIEMANN, reason="pyriemann is not installed (extra baselines)")
LINEAR = [
    "band_power",
    pytest.param("riemann", marks=needs_pyriemann),
    pytest.param("riemann_bands", marks=needs_pyriemann),
]
NETWORKS = ["eegnet", "shallow_fbcsp", "eegconformer", "biot"]


def bands_of(name: str) -> dict:
    """Return options that fit the helpers' 32 Hz."""
    return {"bands": BANDS} if name != "riemann" else {}


@pytest.fixture(scope="module")
def braindecode() -> object:
    """Return braindecode's models, or skip."""
    return installed_braindecode()


def loudness(n_subjects: int = 6, per_subject: int = 8) -> LabelledWindows:
    """Return noise whose class is its amplitude alone."""
    rng = np.random.default_rng(2)
    y = np.tile(np.arange(per_subject) % 2, n_subjects)
    x = rng.standard_normal((len(y), 3, 64)) * np.where(y, 30.0, 10.0)[:, None, None]
    subject = np.repeat([f"sub{i}" for i in range(n_subjects)], per_subject)
    return LabelledWindows.from_arrays(x, y, subject, classes=("soft", "loud"))


def thirds(data: LabelledWindows) -> Split:
    """Return a split by subject into three equal parts."""
    names = sorted(set(data.subject.tolist()))
    return Split(*(data.where_subject(names[part::3]) for part in range(3)))


@pytest.mark.parametrize("name", LINEAR)
def test_frequency_is_learnt_by_cross_validation(name: str) -> None:
    data = labelled_arrays(classes=2, n_times=64)
    runner = baseline_runner(name, sfreq_hz=SFREQ_HZ, options=bands_of(name))
    # two rhythms of equal phase and amplitude on every channel: a broadband covariance cannot tell them
    result = cross_validate(runner, data, subject_splits(data, 3), seeds=(0, 1, 2))
    assert result.seeds == (0,), "a deterministic runner says so and is run once"
    assert result.outcomes[0][0].protocol == name
    auroc = result.values("auroc").mean()
    assert auroc > 0.95 if name != "riemann" else 0 <= auroc <= 1


@pytest.mark.parametrize("name", LINEAR)
def test_amplitude_is_seen_unscaled_and_hidden_by_scaling(name: str) -> None:
    data = loudness()
    split = thirds(data)
    seen = baseline_runner(name, sfreq_hz=SFREQ_HZ, options=bands_of(name))(data, split, 0)
    assert evaluate(seen, data, split.test)["metrics"]["balanced_accuracy"] == 1.0
    options = {**bands_of(name), "scaling": "zscore"}
    hidden = baseline_runner(name, sfreq_hz=SFREQ_HZ, options=options)(data, split, 0)
    assert evaluate(hidden, data, split.test)["metrics"]["auroc"] < 0.9


def test_windows_of_a_store_are_read_again_in_microvolts(tmp_path: object) -> None:
    store = labelled_store(tmp_path / "store")  # type: ignore[operator]
    data = labelled_windows(store, WindowConfig(window_s=2.0))
    plain = labelled_windows(store, WindowConfig(window_s=2.0, scaling="none"))
    some = np.array([3, 0, 7])
    assert not np.allclose(data.batch(some), plain.batch(some))
    np.testing.assert_array_equal(rescaled(data, "none").batch(some), plain.batch(some))
    part = rescaled(data.take(some), "none")
    np.testing.assert_array_equal(part.batch(np.array([1])), plain.batch(some[1:2]))
    assert data.x.config.scaling == "quantile95", "the given windows are as they were"
    np.testing.assert_array_equal(rescaled(plain, "quantile95").batch(some), data.batch(some))


def test_other_datasets_are_refused() -> None:
    data = replace(labelled_arrays(), x=[{"x": torch.zeros(3, 32)}] * 48)
    with pytest.raises(ConfigError, match=r"scaling: list cannot give its windows with scaling 'none'"):
        rescaled(data, "none")


def test_features_are_computed_once_per_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    from eegm2.evaluation.baselines import band_power

    calls = []
    true = band_power.log_band_power
    monkeypatch.setattr(band_power, "log_band_power", lambda *a: calls.append(len(a[0])) or true(*a))
    data = loudness()
    runner = baseline_runner("band_power", sfreq_hz=SFREQ_HZ, options={"bands": BANDS})
    cross_validate(runner, data, subject_splits(data, 3))
    assert calls == [len(data)]
    runner(loudness(), thirds(data), 0)
    assert len(calls) == 2, "other windows, other features"


def test_log_band_power_of_a_sine() -> None:
    times = np.arange(512) / 128
    x = (8 * np.sin(2 * np.pi * 10 * times) + np.zeros((1, 2, 1))).astype(float)
    x[0, 1] = 0
    power = log_band_power(x, 128.0, {"theta": (4, 8), "alpha": (8, 13)}, 2.0).reshape(2, 2)
    assert power[0, 1] == pytest.approx(np.log10(8**2 / 2), abs=1e-6), "a sine of 8 µV has 32 µV²"
    assert power[0, 0] < -3
    np.testing.assert_allclose(power[1], np.log10(FLOOR_UV2))
    changed = log_band_power(1.01 * x, 128.0, {"alpha": (8, 13)}, 2.0)
    assert changed[0, 0] != pytest.approx(power[0, 1], abs=1e-6)


@pytest.mark.parametrize("name", LINEAR)
def test_short_single_channel_windows_with_a_flat_one(name: str) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(48) % 2
    x = rng.standard_normal((48, 1, 50)) * (1 + 9 * y)[:, None, None]
    x[0] = 0.0
    data = LabelledWindows.from_arrays(x, y, np.repeat(np.arange(6), 8))
    options = {"bands": ["alpha=8:13", "beta=13:30"]} if name != "riemann" else {}
    outcome = baseline_runner(name, sfreq_hz=100.0, options=options)(data, thirds(data), 0)
    assert np.isfinite(outcome.score).all()
    assert evaluate(outcome, data, thirds(data).test)["metrics"]["auroc"] == 1.0


@pytest.mark.parametrize("name", LINEAR)
def test_a_constant_channel_changes_nothing_much(name: str) -> None:
    data = loudness()
    x = data.x.copy()
    x[:, 1] = 5.0
    split = thirds(data)
    runner = baseline_runner(name, sfreq_hz=SFREQ_HZ, options=bands_of(name))
    outcome = runner(replace(data, x=x), split, 0)
    assert evaluate(outcome, data, split.test)["metrics"]["balanced_accuracy"] == 1.0


@pytest.mark.parametrize("name", LINEAR)
def test_all_flat_windows_are_refused(name: str) -> None:
    data = replace(loudness(), x=np.zeros((48, 3, 64), np.float32))
    with pytest.raises(DataError, match=r"features: all \d+ are constant over 16 training windows"):
        baseline_runner(name, sfreq_hz=SFREQ_HZ, options=bands_of(name))(data, thirds(data), 0)


@pytest.mark.parametrize("name", LINEAR)
def test_not_a_number_is_refused_by_recording(name: str) -> None:
    data = loudness()
    data.x[17, 0, 3] = np.nan
    with pytest.raises(
        DataError, match=rf"baseline {name}: window 17 \(recording sub2, from 0 s\) holds NaN"
    ):
        baseline_runner(name, sfreq_hz=SFREQ_HZ, options=bands_of(name))(data, thirds(data), 0)


@pytest.mark.parametrize("name", LINEAR)
def test_a_value_is_regressed(name: str) -> None:
    rng = np.random.default_rng(3)
    y = rng.uniform(1, 3, 60)
    x = rng.standard_normal((60, 2, 64)) * np.exp(y)[:, None, None]
    data = LabelledWindows.from_arrays(x, y, np.repeat(np.arange(6), 10))
    outcome = baseline_runner(name, sfreq_hz=SFREQ_HZ, options=bands_of(name))(data, thirds(data), 0)
    assert outcome.threshold is None
    assert evaluate(outcome, data, thirds(data).test)["metrics"]["pearson_r"] > 0.9


def test_test_windows_inform_nothing() -> None:
    data = loudness()
    split = thirds(data)
    other = data.y.copy()
    other[split.test] = 1 - other[split.test]
    for name in ["band_power"] + ["riemann"] * HAS_PYRIEMANN:
        runner = baseline_runner(name, sfreq_hz=SFREQ_HZ, options=bands_of(name))
        first, second = runner(data, split, 0), runner(replace(data, y=other), split, 0)
        np.testing.assert_array_equal(first.score, second.score)
        assert first.threshold == second.threshold
        x = data.x.copy()
        x[split.test[1:]] *= 100
        moved = runner(replace(data, x=x), split, 0)
        np.testing.assert_allclose(moved.score[0], first.score[0], rtol=1e-6)


def test_slow_potentials_see_the_offset_that_band_power_does_not() -> None:
    rng = np.random.default_rng(4)
    y = np.arange(48) % 2
    x = 5 * rng.standard_normal((48, 2, 64)) + np.where(y, 4.0, -4.0)[:, None, None]
    data = LabelledWindows.from_arrays(x, y, np.repeat(np.arange(6), 8))
    split = thirds(data)
    auroc = {}
    for name, options in (("slow_potentials", {}), ("band_power", {"bands": BANDS})):
        outcome = baseline_runner(name, sfreq_hz=SFREQ_HZ, options=options)(data, split, 0)
        assert outcome.facts["deterministic"]
        auroc[name] = evaluate(outcome, data, split.test)["metrics"]["auroc"]
    assert auroc["slow_potentials"] > 0.95
    assert auroc["band_power"] < 0.8
    means = stretch_means(x[:3], 3, "slow_potentials")
    assert means.shape == (3, 6)
    np.testing.assert_allclose(means[1, 3], x[1, 1, :22].mean())
    with pytest.raises(DataError, match=r"windows of 64 samples for 65 stretches"):
        baseline_runner("slow_potentials", sfreq_hz=SFREQ_HZ, options={"stretches": 65})(data, split, 0)
    with pytest.raises(ConfigError, match=r"stretches: got 0, expected above 0"):
        baseline_runner("slow_potentials", sfreq_hz=SFREQ_HZ, options={"stretches": 0})


@needs_pyriemann
def test_covariances_are_definite_and_scale_with_the_square() -> None:
    x = np.stack([rhythm(6, 20, np.random.default_rng(i)) for i in range(4)]).astype(float)
    for estimator in ("lwf", "oas", "scm"):
        one = window_covariances(x, [], estimator, "riemann")
        assert one.shape == (4, 1, 3, 3)
        assert np.linalg.eigvalsh(one).min() > 0
        np.testing.assert_allclose(window_covariances(3 * x, [], estimator, "riemann"), 9 * one, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bandpower", {}, r"baseline: got 'bandpower', expected one of band_power, eegnet"),
        ("band_power", {"band": 3}, r"baseline band_power: unknown key 'band'; did you mean 'bands'\?"),
        ("band_power", {"bands": ["alpha=13:8"]}, r"bands: got 'alpha=13:8', expected name=low:high in Hz"),
        ("band_power", {"bands": ["a=1:4", "a=4:8"]}, r"bands: a is given twice"),
        ("band_power", {"bands": []}, r"bands: got none"),
        ("band_power", {"c": 0.0}, r"c: got 0.0, expected above 0"),
        ("band_power", {"scaling": "train"}, r"scaling: got 'train', expected one of"),
        ("eegnet", {"lr": -1.0}, r"lr: got -1.0, expected above 0"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        baseline_runner(name, sfreq_hz=128.0, options=options)


def test_wrong_rates_and_windows_are_named() -> None:
    with pytest.raises(ConfigError, match=r"baseline band_power: got sfreq_hz 0, expected a rate"):
        baseline_runner("band_power", sfreq_hz=0)
    data = loudness()
    with pytest.raises(DataError, match=r"windows of 64 samples at 1 Hz resolve none of delta=1:4"):
        baseline_runner("band_power", sfreq_hz=1)(data, thirds(data), 0)
    short = replace(data, x=data.x[..., :1])
    with pytest.raises(DataError, match=r"windows of 1 sample have no spectrum"):
        baseline_runner("band_power", sfreq_hz=128)(short, thirds(data), 0)


@needs_pyriemann
def test_a_filter_bank_above_half_the_rate_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"baseline riemann_bands: band alpha is 8 to 13 Hz, expected above"
    ):
        baseline_runner("riemann_bands", sfreq_hz=20)


@pytest.mark.parametrize("name", NETWORKS)
def test_missing_braindecode_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.split(".")[0] == "braindecode"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "braindecode", None)
    with pytest.raises(ConfigError, match=r"braindecode .*pip install 'eegm2\[baselines\]'"):
        baseline_runner(name, sfreq_hz=128)


@pytest.mark.slow
def test_torchaudios_compiled_part_is_left_out_where_it_does_not_load(tmp_path: Path) -> None:
    files = {
        "torchaudio/__init__.py": "from . import _extension\nready = True\n",
        "torchaudio/_extension/__init__.py": "raise OSError('Could not load: torchaudio/lib/_torchaudio.so')",
        "braindecode/__init__.py": "import torchaudio\n",
        "braindecode/models.py": "import torchaudio\nNAMES = [torchaudio.ready]\n",
        "braindecode/broken.py": "raise OSError('no disk')",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = f"""
import os, sys
from eegm2.evaluation.baselines.library import braindecode_models as models
print(models().NAMES, models().NAMES)
os.chdir({str(tmp_path)!r})
os.replace("braindecode/broken.py", "braindecode/models.py")
del sys.modules["braindecode.models"]
models()
"""
    source = str(Path(library_module.__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), source])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[True] [True]", done.stderr
    assert "ConfigError: baseline: braindecode cannot be imported (no disk)" in done.stderr
    assert done.stderr.count("torchaudio's compiled part does not fit this torch") == 1


def test_missing_pyriemann_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyriemann.tangentspace", None)
    with pytest.raises(ConfigError, match=r"pyriemann is not installed; pip install 'eegm2\[baselines\]'"):
        baseline_runner("riemann", sfreq_hz=128)


def test_every_baseline_is_described_and_has_valid_defaults() -> None:
    for name, baseline in BASELINES.items():
        assert len(baseline.description) > 20, name
        made = baseline.options(**baseline.defaults)
        assert made.scaling in ("none", "zscore", "train", "quantile95"), name
    assert len(band_edges(BandPowerOptions().bands)) == 6
    assert NetworkOptions(lr=0.5).fit().lr == 0.5


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_learn_repeat_and_keep_the_test_part_out(name: str, braindecode: object) -> None:
    rng = np.random.default_rng(5)
    y = np.arange(48) % 2
    rates = np.where(y, 20.0, 6.0)
    times = np.arange(100) / 100.0
    phase = rng.random(48)
    x = 20 * np.sin(2 * np.pi * (rates[:, None] * times + phase[:, None]))[:, None, :]
    x = x + 2 * rng.standard_normal((48, 2, 100))
    data = LabelledWindows.from_arrays(x, y, np.repeat(np.arange(6), 8), classes=("slow", "fast"))
    split = thirds(data)
    epochs = 25 if name == "eegnet" else 8
    options = {"max_epochs": epochs, "patience": epochs, "lr": 2e-3, "batch_size": 8}
    runner = baseline_runner(name, sfreq_hz=100.0, options=options)
    outcome = runner(data, split, 0)
    assert evaluate(outcome, data, split.test)["metrics"]["auroc"] > 0.8
    assert not outcome.facts.get("deterministic")
    assert outcome.facts["train_loss"][-1] < outcome.facts["train_loss"][0]
    changed = data.y.copy()
    changed[split.test] = 1 - changed[split.test]
    short = {**options, "max_epochs": 2}
    first = baseline_runner(name, sfreq_hz=100.0, options=short)(data, split, 1)
    again = baseline_runner(name, sfreq_hz=100.0, options=short)(replace(data, y=changed), split, 1)
    np.testing.assert_array_equal(first.score, again.score)
    other = baseline_runner(name, sfreq_hz=100.0, options=short)(data, split, 2)
    assert not np.array_equal(first.score, other.score)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_take_half_a_second_and_a_value(name: str, braindecode: object) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((24, 1, 50)) * 10
    data = LabelledWindows.from_arrays(x, rng.standard_normal(24), np.repeat(np.arange(6), 4))
    split = thirds(data)
    options = {"max_epochs": 1, "scaling": "train"}
    outcome = baseline_runner(name, sfreq_hz=100.0, options=options)(data, split, 0)
    assert outcome.score.shape == (len(split.test),)
    assert np.isfinite(outcome.score).all()
    tiny = replace(data, x=data.x[..., :20])
    with pytest.raises(DataError, match=rf"baseline {name}: got windows of 20 samples, needs at least"):
        baseline_runner(name, sfreq_hz=100.0, options=options)(tiny, split, 0)
    data.x[3, 0, 0] = np.inf
    with pytest.raises(DataError, match=rf"baseline {name}: window 3 "):
        baseline_runner(name, sfreq_hz=100.0, options=options)(data, split, 0)


def test_train_scaling_uses_training_windows_only(braindecode: object) -> None:
    from eegm2.evaluation.baselines.networks import _standardisation

    data = loudness()
    split = thirds(data)
    x = data.x.copy()
    x[split.test] += 1e6
    x[:, 2] = 7.0
    offset, gain = _standardisation(replace(data, x=x), split, NetworkOptions(scaling="train"), "eegnet")
    train = x[split.train].astype(float)
    np.testing.assert_allclose(np.asarray(offset)[0, :, 0], train.mean((0, 2)), rtol=1e-5, atol=1e-6)
    expected = np.where(train.std((0, 2)) == 0, 1, train.std((0, 2)))
    np.testing.assert_allclose(np.asarray(gain)[0, :, 0], expected, rtol=1e-5)
