"""What is asked of a protocol reaches it, and what it learnt answers as it did; on tiny arrays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import EmbedConfig, FitConfig, ProbeConfig
from eegm2.evaluation.features.centring import centred
from eegm2.evaluation.features.embedding import embed
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.features.transfer import adapt_channels
from eegm2.evaluation.probing import run as probing
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe
from eegm2.evaluation.protocols.layers import LEVELS, level_of
from eegm2.evaluation.protocols.modes import run_protocol
from eegm2.evaluation.reconstruct import run as reconstructing
from eegm2.evaluation.reconstruct.overlap import reconstruct_array
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.model.config import EEGM2Config
from eegm2.model.features import feature_views
from eegm2.model.network import EEGM2
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint
from tests.evaluation.helpers import fake_run, labelled_arrays, labelled_store, tiny_model


def by_subject(data: LabelledWindows) -> Split:
    parts = (["sub0", "sub1", "sub2", "sub3"], ["sub4"], ["sub5"])
    return Split(*(data.where_subject(names) for names in parts))


def data_of(kind: str) -> LabelledWindows:
    data = labelled_arrays(classes=3 if kind == "3" else 2)
    return data if kind != "value" else dataclasses.replace(data, y=40.0 + 3 * data.y, classes=())


KINDS = ["2", "3", "value"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", ["linear", "light"])
def test_the_head_that_is_kept_answers_as_the_probe_did(protocol: str, kind: str) -> None:
    """Arrays alone, in the units of the target; of classes by the link that they say."""
    data = data_of(kind)
    split = by_subject(data)
    x = (
        np.random.default_rng(0).standard_normal((48, 5)) * [1, 2, 3, 4, 5]
        + 2
        + (data.y - data.y.mean())[:, None]
    )
    config = FitConfig(lr=1e-2, max_epochs=3, threshold="half")
    made = (
        linear_probe(x, data, split) if protocol == "linear" else light_probe(x, data, split, config=config)
    )
    head = made.learnt
    h = (x - head.mean) / head.scale
    for i, (weight, bias) in enumerate(head.layers):
        h = (np.maximum(h, 0) if i else h) @ weight.T + bias
    if head.link == "value":
        answer = h[:, 0]
    elif head.link == "softmax":
        answer = np.exp(h) / np.exp(h).sum(1, keepdims=True)
    else:
        odds = 1 / (1 + np.exp(-h))
        answer = np.concatenate([1 - odds, odds], 1) if h.shape[1] == 1 else odds / odds.sum(1, keepdims=True)
    assert head.link == {"value": "value"}.get(kind, "one-vs-rest" if protocol == "linear" else "softmax")
    np.testing.assert_allclose(answer[split.test], made.score, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(answer[split.val], made.val_score, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", ["fine", "scratch"])
def test_the_network_that_is_kept_answers_as_it_did_in_the_test(protocol: str, kind: str) -> None:
    data = data_of(kind)
    split = by_subject(data)
    config = FitConfig(lr=1e-3, max_epochs=1, head="statistics")
    made = run_protocol(protocol, data, split, model=tiny_model(), seed=4, config=config)
    with torch.no_grad():
        out = made.learnt.eval()(data.batch(split.test)).double()
    answer = out[:, 0] if kind == "value" else out.softmax(1)
    np.testing.assert_allclose(made.score, answer.numpy(), rtol=1e-4, atol=1e-5)
    assert made.seed == 4
    other = run_protocol(protocol, data, split, model=tiny_model(), seed=5, config=config)
    assert not np.array_equal(other.score, made.score)


@pytest.mark.parametrize("name", ["linear", "light"])
def test_features_that_are_known_are_taken_and_others_extracted(name: str) -> None:
    data, model = labelled_arrays(), tiny_model()
    split, features = by_subject(data), extract_features(model, data)
    usual = run_protocol(name, data, split, model=model)
    np.testing.assert_array_equal(
        usual.score, run_protocol(name, data, split, model=model, features=features).score
    )
    turned = run_protocol(name, data, split, model=model, features=features[::-1])
    assert not np.array_equal(usual.score, turned.score)
    assert usual.threshold is not None
    half = run_protocol(name, data, split, model=model, config=FitConfig(threshold="half", max_epochs=1))
    assert half.threshold is None
    with pytest.raises(ConfigError, match="protocol: got 'x', expected one of linear"):
        run_protocol("x", data, split, model=model)


def test_what_can_be_frozen_is_named_by_its_module() -> None:
    data = labelled_arrays()
    config = FitConfig(freeze=("network.nothing",))
    with pytest.raises(
        ConfigError, match=r"matches no parameter; there are head.*, network\.encoder\.embedding, "
    ):
        run_protocol("fine", data, by_subject(data), model=tiny_model(), config=config)


def test_tuning_begins_with_the_probe_of_classes_that_are_not_equally_many() -> None:
    """Score and intercept of the probe: a network that has not moved says what it says."""
    data = labelled_arrays(n_times=64)
    few = np.sort(np.concatenate([np.flatnonzero(data.y == 0), np.flatnonzero(data.y == 1)[::4]]))
    data = data.take(few)
    split = by_subject(data)
    model = EEGM2(EEGM2Config.preset("covariance", n_chans=3, width=4, n_virtual=0, sfreq_hz=32.0)).eval()
    config = FitConfig(max_epochs=1, lr=1e-30, head="statistics", begin="probe", threshold="half")
    made = run_protocol("fine", data, split, model=model, config=config)
    probe = probing_of(data, split, model)
    np.testing.assert_allclose(made.score, probe.score, atol=1e-4)
    assert abs(np.log(probe.score.mean(0))).max() > 0.3, "the intercept counts"


def probing_of(data: LabelledWindows, split: Split, model: EEGM2) -> Any:
    features = extract_features(model, data, kind="tangent_state")
    views = feature_views("tangent_state", model.config)
    return linear_probe(features, data, split, c="people", views=views)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"protocols": ("light", "linear"), "seeds": 2},
        {"c": "validation", "threshold": "half", "centre": "recording"},
        {"c": "0.3", "centre": "running", "seeds": 1},
    ],
    ids=str,
)
def test_every_option_of_a_probe_reaches_its_protocols(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job for what has no chance in it, one per seed for what has; progress counts them."""
    seen: list[tuple[str, Any]] = []
    monkeypatch.setattr(probing, "linear_probe", lambda *a, **k: seen.append(("linear", (a, k))))
    monkeypatch.setattr(probing, "light_probe", lambda *a, **k: seen.append(("light", (a, k))))
    monkeypatch.setattr(probing, "feature_views", lambda kind, config: {kind: config})
    config = ProbeConfig(**{"protocols": ("linear", "light"), "features": "state", **options})
    checkpoint: Any = SimpleNamespace(model=SimpleNamespace(config="shape"))
    split: Any = SimpleNamespace(indices="parts")
    told: list[tuple[Any, ...]] = []
    list(probing._outcomes(checkpoint, "f", "d", split, config, lambda *a: told.append(a)))  # type: ignore[arg-type]
    linear = {"c": config.penalty(), "threshold": config.threshold, "centre": config.centre}
    expected = []
    for name in config.protocols:
        if name == "linear":
            expected.append((name, (("f", "d", "parts"), {**linear, "views": {"state": "shape"}})))
            continue
        for seed in range(config.seeds):
            how = {"seed": seed, "config": config.light(), "centre": config.centre}
            expected.append((name, (("f", "d", "parts"), how)))
    assert seen == expected
    assert told == [("protocols", i, len(expected)) for i in range(len(expected) + 1)]


@pytest.mark.parametrize("options", [{}, {"mode": "whole"}, {"overlap": 0.25, "batch_size": 3}], ids=str)
def test_every_option_of_a_reconstruction_reaches_every_part_of_the_recording(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of less than the network's eight samples stays as it is."""
    seen: list[tuple[int, dict[str, Any]]] = []

    def watched(model: Any, x: np.ndarray, **how: Any) -> np.ndarray:
        seen.append((x.shape[1], how))
        return -x

    monkeypatch.setattr(reconstructing, "reconstruct_array", watched)
    x = np.random.default_rng(0).standard_normal((2, 40)).astype(np.float32)
    made: Any = SimpleNamespace(array=x, parts=[slice(0, 8), slice(8, 15), slice(15, 40)])
    checkpoint: Any = SimpleNamespace(model=None, windows=SimpleNamespace(scaling="robust"))
    config = dataclasses.replace(reconstructing.ReconstructConfig(), **options)
    cleaned = reconstructing._by_parts(checkpoint, made, 16, config, print)
    how = {
        "scaling": "robust",
        "n_times": None if config.mode == "whole" else 16,
        "overlap": config.overlap,
        "batch_size": config.batch_size,
        "device": config.device,
        "progress": print,
    }
    assert seen == [(8, how), (25, how)]
    np.testing.assert_array_equal(cleaned[:, 8:15], x[:, 8:15])
    np.testing.assert_array_equal(cleaned[:, 15:], -x[:, 15:])


def test_the_shortest_recording_has_eight_samples() -> None:
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    how: dict[str, Any] = {"scaling": "none", "n_times": None}
    assert reconstruct_array(tiny_model(), x, **how).shape == (3, 8)
    with pytest.raises(DataError, match="reconstruct: got 7 samples, expected at least 8"):
        reconstruct_array(tiny_model(), x[:, :7], **how)


def test_a_network_of_virtual_channels_takes_electrodes_by_name_and_is_copied() -> None:
    config = EEGM2Config.preset("covariance", n_chans=4, width=4, n_virtual=4, sfreq_hz=32.0)
    model = EEGM2(config).eval()
    with pytest.raises(ConfigError, match="needs to know which electrodes; give ch_names"):
        adapt_channels(model, 5)
    made = adapt_channels(model, 5, ch_names=["Fz", "Cz", "Pz", "Oz", "C3"])
    kept = dict(model.named_parameters())
    for name, parameter in made.named_parameters():
        assert torch.equal(parameter, kept[name]), "nothing is new"
        assert parameter is not kept[name]


def test_the_sequence_has_no_features_to_centre(tmp_path: Any) -> None:
    config = EmbedConfig(kind="sequence", centre="running")
    with pytest.raises(ConfigError, match="centre: the sequence has no features to centre"):
        embed("nowhere", "nothing", tmp_path / "out.npz", config)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RecordingStore]:
    """A run that was pretrained without the first four seconds of every recording, and a store."""
    folder = tmp_path_factory.mktemp("doors")
    store = labelled_store(folder / "store")
    run = fake_run(folder / "run", store)
    kept = run / "checkpoints" / "best.safetensors"
    header = load_checkpoint(run).header
    header["windows"] = {**header["windows"], "exclude_s": ["0:4"]}
    save_checkpoint(kept, tiny_model(), header)
    return run, store


@pytest.mark.parametrize(("centre", "stride_s"), [("recording", 2.0), ("running", 2.0), ("running", 0.75)])
def test_an_embedding_has_every_window_and_is_centred_if_asked(
    centre: Any, stride_s: float, place: tuple[Path, RecordingStore], tmp_path: Path
) -> None:
    run, store = place
    plain = embed(run, store.url, tmp_path / "a.npz", EmbedConfig(stride_s=stride_s))
    assert len(plain.values) == 6 * (int((24 - 2) / stride_s) + 1), "what pretraining left out included"
    assert plain.values.ndim == 2
    made = embed(run, store.url, tmp_path / "b.npz", EmbedConfig(centre=centre, stride_s=stride_s))
    expected = centred(plain.values.astype(float), plain.recording, centre, plain.start_s, 2.0)
    np.testing.assert_allclose(made.values, expected, rtol=1e-5, atol=1e-6)
    sequence = embed(run, store.url, tmp_path / "c.npz", EmbedConfig(kind="sequence"))
    assert sequence.values.ndim == 3


def test_a_probe_tells_how_far_it_is(place: tuple[Path, RecordingStore], tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []
    config = ProbeConfig(protocols=("linear",), exclude_s=())
    run, store = place
    probing.probe(run, store.url, tmp_path / "probe", config, progress=lambda *a: told.append(a))
    assert told[0][0] == "features"
    assert told[-2:] == [("protocols", 0, 1), ("protocols", 1, 1)]


def test_a_parameter_that_no_level_names_is_the_deepest() -> None:
    assert level_of("network.of_somebody_else.weight") == len(LEVELS) - 1
    assert level_of("head.out.weight") == 0
