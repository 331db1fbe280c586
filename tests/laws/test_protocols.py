"""Laws of protocols: nobody is in two parts, frozen is what is named, and options reach what learns."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.protocols import tuning
from eegm2.evaluation.protocols.fitting import History, Task
from eegm2.evaluation.protocols.layers import freeze, layer_groups
from eegm2.evaluation.protocols.modes import fine_tune
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.model.config import EEGM2Config
from eegm2.model.heads import Downstream
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
    for task, how, seed, groups in second:
        assert sorted(task.train) == sorted([*split.train, *split.val])
        assert len(task.val) == 0
        assert how == replace(config, max_epochs=best + 1)
        assert seed == first[2] == 6
        assert {g.get("lr", how.lr) for g in groups} == {0.02}
        if regression:
            assert task.target_scale() == first[0].target_scale()
