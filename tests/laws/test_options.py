"""Laws of options: what is asked for reaches the part that it is for, whichever command it was given to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from eegm2.data.config import SplitConfig, WindowConfig
from eegm2.evaluation.baselines.networks import NetworkOptions
from eegm2.evaluation.config import FitConfig, ProbeConfig
from eegm2.evaluation.estimators.base import Learner
from eegm2.evaluation.experiment.config import DataPlan, ModelPlan
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.evaluation.windows.from_store import probe_windows
from eegm2.training.config import PretrainConfig

#: Values that are nobody's default.
VALUES: dict[str, Any] = {
    "window_s": 3.0,
    "stride_s": 1.5,
    "scaling": "robust",
    "target": "group",
    "label_rule": "majority",
    "exclude_s": ("1:2",),
    "exclude_labels": ("noise*",),
    "reject_uv": 90.0,
    "lr": 3e-3,
    "weight_decay": 0.3,
    "batch_size": 12,
    "max_epochs": 9,
    "patience": 4,
    "clip": 2.5,
    "class_weights": "none",
    "threshold": "half",
    "device": "mps",
    "layer_decay": 0.7,
    "freeze": ("network.encoder",),
    "head": "attention",
    "val": 0.3,
    "test": 0.25,
    "by": "recording",
    "official": False,
    "classes": ("b", "a"),
    "split_seed": 7,
    "which": "last",
    "positions": "p.csv",
    "allow_mismatch": True,
}
Ways = list[tuple[str, Callable[..., Any], Callable[[Any], Any], type]]
WAYS: Ways = [
    ("pretrain to windows", PretrainConfig, lambda c: c.window_config(), WindowConfig),
    ("pretrain to split", PretrainConfig, lambda c: c.split_config(), SplitConfig),
    ("evaluate to windows", DataPlan, lambda c: c.windows(), WindowConfig),
    ("probe to windows", ProbeConfig, lambda c: probe_windows(WindowConfig(), c), WindowConfig),
    ("probe to light", ProbeConfig, lambda c: c.light(), FitConfig),
    ("probe to fine", ProbeConfig, lambda c: c.fine(), FitConfig),
    ("finetune to fit", FinetuneConfig, lambda c: c.fit(), FitConfig),
    ("finetune to probe", FinetuneConfig, lambda c: c.probe("statistics"), ProbeConfig),
    ("network baseline to fit", NetworkOptions, lambda c: c.fit(), FitConfig),
    ("estimator to fit", lambda **given: Learner(protocol="fine", **given), lambda c: c._config(), FitConfig),
]
#: Of a probe, what is meant for the features and not for the fit.
OTHERWISE = {("probe to light", "batch_size"), ("probe to fine", "batch_size")}


def shared(source: Any, target: type) -> list[str]:
    there = {field.name for field in dataclasses.fields(target)}
    own = {f.name for f in dataclasses.fields(source)} if dataclasses.is_dataclass(source) else None
    return [
        name
        for name in VALUES
        if name in there and (name in own if own is not None else name in Learner._get_param_names())
    ]


@pytest.mark.parametrize(("way", "source", "made", "target"), WAYS, ids=[way[0] for way in WAYS])
def test_every_option_that_both_have_is_handed_on(
    way: str, source: Any, made: Callable[[Any], Any], target: type
) -> None:
    names = [name for name in shared(source, target) if (way, name) not in OTHERWISE]
    assert names
    usual = made(source())
    for name in names:
        value = VALUES[name]
        assert getattr(usual, name) != value, f"{name}: {value} is the default"
        assert getattr(made(source(**{name: value})), name) == value, f"{way}: {name} is lost"


def test_a_split_is_drawn_by_its_own_seed() -> None:
    """A run with another seed keeps its people: runs of several seeds are compared on the same ones."""
    assert PretrainConfig(seed=5, split_seed=3).split_config().seed == 3
    assert PretrainConfig(seed=6, split_seed=3).split_config().seed == 3


@pytest.mark.parametrize("protocol", ["light", "fine", "scratch"])
def test_options_of_a_fit_in_an_experiment_are_those_of_the_fit(protocol: str) -> None:
    fields = {f.name for f in dataclasses.fields(FitConfig)} - {"device"}
    given = {name: VALUES[name] for name in VALUES if name in fields}
    model = ModelPlan(
        name="m", protocol=protocol, pretrained="" if protocol == "scratch" else "random", fit=given
    )
    made = model.fit_config()
    assert {name: getattr(made, name) for name in given} == given
