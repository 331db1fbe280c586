"""Laws of protocols: nobody is in two parts, frozen is what is named, and options reach what learns."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.deploy.device.decisions import dense_scores
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.estimators import base
from eegm2.evaluation.estimators.sklearn import EEGM2Encoder
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.protocols import modes, tuning
from eegm2.evaluation.protocols.fitting import History, Task
from eegm2.evaluation.protocols.frozen import linear_probe
from eegm2.evaluation.protocols.kept import HeadArrays
from eegm2.evaluation.protocols.layers import freeze, layer_groups
from eegm2.evaluation.protocols.modes import fine_tune, run_protocol
from eegm2.evaluation.protocols.resuming import FitState
from eegm2.evaluation.scores.metrics import best_threshold
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.model.config import EEGM2Config
from eegm2.model.features import feature_views
from eegm2.model.heads import Downstream, TokensHead
from eegm2.model.network import build_model
from tests.evaluation.helpers import labelled_arrays, tiny_model
from tests.evaluation.protocols.test_modes import by_subject, tokens_network

PARTS = ("train", "val", "test")


@pytest.mark.parametrize("unit", ["subject", "recording"])
@pytest.mark.parametrize(("a", "b"), list(itertools.combinations(PARTS, 2)))
def test_nobody_is_in_two_parts(a: str, b: str, unit: Any) -> None:
    """Whichever two they are; a recording in two parts is somebody in two parts too."""
    who = np.repeat(["p", "q", "r", "s"], 4)
    recording = np.array([f"{name}{i % 4 // 2}" for i, name in enumerate(who)])
    data = LabelledWindows.from_arrays(np.zeros((16, 1, 8)), np.arange(16) % 2, who, recording)
    sound = {"train": np.arange(4), "val": np.arange(4, 8), "test": np.arange(8, 12)}
    Split(**sound).check(data, unit=unit)
    taken = sound[a][-1:] + 0
    with pytest.raises(DataError, match=f"{unit} .* is in both {a} and {b}"):
        Split(**{**sound, b: np.append(sound[b], taken)}).check(data, unit=unit)
    other = sound[a][:2]  # the person's first recording here, the second one there
    shared = {**sound, a: other, b: np.concatenate([sound[b], sound[a][2:]])}
    if unit == "recording":
        Split(**shared).check(data, unit=unit)
    else:
        with pytest.raises(DataError, match=f"subject .* is in both {a} and {b} "):
            Split(**shared).check(data, unit=unit)


def downstream(preset: str, head: Any = "statistics") -> Downstream:
    model = build_model(EEGM2Config.preset(preset, n_chans=3, width=2))
    return Downstream(model, 2, 64, head, 0.0)


@pytest.mark.parametrize("preset", ["eegm2", "unet"])
def test_the_name_of_a_module_freezes_that_module_and_no_neighbour(preset: str) -> None:
    names = [
        name for name, module in downstream(preset).named_modules() if name and list(module.parameters())
    ]
    assert len(names) > 20
    for name in names:
        network = downstream(preset)
        before = {n for n, p in network.named_parameters() if p.requires_grad}
        inside = {f"{name}.{n}" for n, _ in network.get_submodule(name).named_parameters()}
        assert set(freeze(network, (name,))) == inside
        assert {n for n, p in network.named_parameters() if p.requires_grad} == before - inside


@pytest.mark.parametrize(
    "pattern", ["network.enc", "network.encoder.conv", "hea", "encoder", "network.encoder."]
)
def test_the_beginning_of_a_name_is_no_name(pattern: str) -> None:
    with pytest.raises(ConfigError, match=f"freeze: '{pattern}' matches no parameter"):
        freeze(downstream("eegm2"), (pattern,))


@pytest.mark.parametrize("preset", ["eegm2", "light", "unet"])
@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_every_level_learns_slower_by_the_same_factor(preset: str, decay: float) -> None:
    """A level that the network lacks is not counted, one that is frozen is; nothing is in two groups."""
    network = downstream(preset, "flatten" if preset == "unet" else "statistics")
    rates = [_rates(network, decay)]
    freeze(network, ("network.encoder.conv2",) if preset != "unet" else ("network.down.1",))
    rates.append(_rates(network, decay))
    levels = sorted(set(rates[0].values()), reverse=True)
    assert len(levels) > 3
    np.testing.assert_allclose(levels, 0.1 * decay ** np.arange(len(levels)))
    assert all(rates[0][name] == 0.1 for name in rates[0] if name.startswith("head."))
    assert rates[1] == {name: rates[0][name] for name, p in network.named_parameters() if p.requires_grad}


def _rates(network: Downstream, decay: float) -> dict[str, float]:
    groups = layer_groups(network, FitConfig(lr=0.1, layer_decay=decay))
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(map(id, trained.values()))
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    return {name: rate[id(p)] for name, p in trained.items()}


@pytest.mark.parametrize("head", ["flatten", "statistics", "attention"])
@pytest.mark.parametrize("name", ["fine", "scratch"])
def test_dropout_of_a_head_is_the_one_asked_for(name: str, head: Any) -> None:
    data = labelled_arrays(per_subject=4)
    config = FitConfig(head=head, head_dropout=0.3, max_epochs=1)
    _, network = fine_tune(name, data, by_subject(data), model=tiny_model(), seed=0, config=config)
    assert {m.p for m in network.head.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}


def _of_both(data: LabelledWindows, split: Split) -> Any:
    """Return the linear probe of those who train and validate, by people."""
    features = extract_features(tokens_network(), data, kind="tangent_state")
    views = feature_views("tangent_state", tokens_network().config)
    return linear_probe(features, data, split, c="people", views=views)


@pytest.mark.parametrize("best", [-1, 0, 2])
@pytest.mark.parametrize("regression", [False, True])
def test_a_second_round_learns_from_both_parts_for_as_long_as_the_first_was_best(
    best: int, regression: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelled_arrays(per_subject=4, n_times=64)
    if regression:
        data = replace(data, y=data.y + np.random.default_rng(0).random(len(data)), classes=())
    split, asked = by_subject(data), list[tuple[Task, FitConfig, int, list[Any]]]()

    def fit(network: Any, task: Task, config: FitConfig, seed: int, groups: Any, **_: Any) -> History:
        asked.append((task, config, seed, groups))
        return History([1.0] * 5, [1.0] * 5, best)

    monkeypatch.setattr(tuning, "fit", fit)
    config = FitConfig(max_epochs=7, lr=0.02, head="statistics", begin="probe", batch_size=5)
    outcome, _ = fine_tune("fine", data, split, model=tokens_network(), seed=6, config=config)
    assert (outcome.facts["epochs"], outcome.facts["best_epoch"]) == (5, best)
    first, *second = asked
    np.testing.assert_array_equal(first[0].train, split.train)
    np.testing.assert_array_equal(first[0].val, split.val)
    assert first[1] == config
    assert len(second) == (best >= 0)
    if regression:
        assert outcome.threshold is None
    elif best >= 0:  # of those who did not teach the network that says the scores
        assert outcome.threshold == best_threshold(data.y[split.val], outcome.val_score)  # type: ignore[arg-type]
        assert outcome.threshold != _of_both(data, split).threshold
    else:
        assert outcome.threshold == _of_both(data, split).threshold
    for task, how, seed, groups in second:
        assert sorted(task.train) == sorted([*split.train, *split.val])
        assert len(task.val) == 0
        assert how == replace(config, max_epochs=best + 1)
        assert seed == first[2] == 6
        assert {g.get("lr", how.lr) for g in groups} == {0.02}
        if regression:
            assert task.target_scale() == first[0].target_scale()


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("spread", [1e-4, 1.0, 300.0])
def test_a_head_on_tokens_that_is_kept_answers_as_it_did(spread: float, classes: bool) -> None:
    """However small the spread of its features: what keeps a variance from zero is a part of it."""
    config = EEGM2Config.preset("covariance", n_chans=4, width=2, n_virtual=0, sfreq_hz=64.0)
    rng = torch.Generator().manual_seed(3)
    head = TokensHead(config, 2 if classes else 1).eval()
    features = 5 + spread * torch.randn(7, config.representation_channels, generator=rng)
    with torch.no_grad():
        head.norm.get_buffer("running_mean").copy_(5 + spread * torch.randn(features.shape[1], generator=rng))
        head.norm.get_buffer("running_var").fill_(spread**2)
        head.norm.weight.copy_(1 + 0.3 * torch.randn(features.shape[1], generator=rng))
        head.norm.bias.copy_(torch.randn(features.shape[1], generator=rng))
        expected = head(features).numpy()
    kept = HeadArrays.of_tokens(head, classes=classes)
    found = dense_scores(features.double().numpy(), kept.mean, kept.scale, list(kept.layers))
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3 * np.abs(expected).max())
    assert kept.link == ("softmax" if classes else "value")


@pytest.mark.parametrize("name", ["linear", "light", "fine", "scratch"])
def test_a_protocol_has_the_seed_it_is_given(name: str) -> None:
    """Linear has no chance in it."""
    data = labelled_arrays(per_subject=4)
    config = FitConfig(max_epochs=1, head="statistics", lr=1e-3)
    made = [
        run_protocol(name, data, by_subject(data), model=tiny_model(), seed=seed, config=config)
        for seed in (0, 3, 3)
    ]
    np.testing.assert_array_equal(made[1].score, made[2].score)
    assert np.array_equal(made[0].score, made[1].score) == (name == "linear")
    assert [one.seed for one in made] == ([0, 0, 0] if name == "linear" else [0, 3, 3])
    assert all(one.protocol == name for one in made)


def test_a_state_of_one_round_is_none_of_the_other(tmp_path: Path) -> None:
    first = FitState(tmp_path / "state.pt", "this", told := list[Any]())  # type: ignore[arg-type]
    second = first.then()
    assert second.path != first.path
    assert second.path.parent == first.path.parent
    assert second.watch is told
    FitState(first.path, "this").write({"loss": 1.5}, 2, 5)
    second.path.write_bytes(first.path.read_bytes())
    assert first.read() is not None
    assert second.read() is None
    first.remove()
    assert not first.path.exists()
    assert not second.path.exists()


class Asked(Exception):
    """Ends a call at what it asked for."""


def doors() -> dict[str, tuple[Any, Any]]:
    """Return where features are extracted, and what asks for them on the second GPU, in threes."""
    data, x = labelled_arrays(per_subject=4, n_times=64), np.zeros((2, 3, 64))
    how: dict[str, Any] = {"device": "cuda:1", "head": "statistics"}
    split, config = by_subject(data), FitConfig(**how)

    def protocol(name: str) -> Any:
        return lambda: run_protocol(name, data, split, model=tiny_model(), config=config)

    begun = replace(config, begin="probe")
    encoder = EEGM2Encoder(width=2, device="cuda:1", batch_size=3, features="covariance")
    return {
        "linear": (modes, protocol("linear")),
        "light": (modes, protocol("light")),
        "begin": (
            tuning,
            lambda: fine_tune("fine", data, split, model=tokens_network(), seed=0, config=begun),
        ),
        "encoder": (base, lambda: encoder.fit(x).transform(x)),
    }


@pytest.mark.parametrize("door", ["linear", "light", "begin", "encoder"])
def test_features_are_extracted_where_and_as_it_was_asked(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, ask = doors()[door]
    seen: list[dict[str, Any]] = []

    def extract(model: Any, windows: Any, **how: Any) -> Any:
        seen.append(how)
        raise Asked

    monkeypatch.setattr(module, "extract_features", extract)
    with pytest.raises(Asked):
        ask()
    assert seen[0]["device"] == "cuda:1"
    kinds = {"begin": "tangent_state", "encoder": "covariance"}
    assert seen[0].get("kind", "statistics") == kinds.get(door, "statistics")
    assert seen[0].get("batch_size", 3) == 3
