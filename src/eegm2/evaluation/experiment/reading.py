"""Reading the TOML file of ``eegm2 evaluate``, strictly; nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from eegm2.config import from_dict, read_toml
from eegm2.errors import ConfigError
from eegm2.evaluation.config import CLASSIFICATION, REGRESSION, refuse_centred
from eegm2.evaluation.experiment.config import (
    RANDOM,
    ComparePlan,
    DataPlan,
    ModelPlan,
    Plan,
    PretrainPlan,
    SplitPlan,
)
from eegm2.training.config import PretrainConfig

#: What the command line decides, and what the experiment's splits do where its own data are pretrained on.
HARDWARE_KEYS = ("accelerator", "devices", "num_nodes", "strategy")
SPLIT_KEYS = ("splits", "split_seed", "val", "test", "by", "official")


def read_plan(path: str | Path, *, store: str = "") -> Plan:
    """Read the file of an experiment.

    Parameters
    ----------
    path : str or Path
        TOML with ``[data]``, ``[splits]``, ``seeds``, ``[pretrain.NAME]``, ``[[models]]``, ``[[compare]]``.
    store : str
        Takes the place of the file's ``[data] store``; relative to the working directory.

    Raises
    ------
    ConfigError
        Naming the file, the key, the value and what is expected.
    """
    values = read_toml(path)
    names = ("data", "splits", "seeds", "pretrain", "models", "compare", "n_bootstrap")
    unknown = [name for name in values if name not in names]
    if unknown:
        raise ConfigError(f"{path}: unknown key '{unknown[0]}'; known keys: {', '.join(names)}")
    for name, kind in {"pretrain": dict, "models": list, "compare": list}.items():
        if not isinstance(values.get(name, kind()), kind):
            raise ConfigError(f"{path}: {name}: got {values[name]!r:.60}, expected tables")
    data = _table(DataPlan, values.get("data", {}), f"{path}: data")
    plan = Plan(
        path=Path(path),
        data=data,
        splits=_table(SplitPlan, values.get("splits", {}), f"{path}: splits"),
        seeds=_seeds(path, values.get("seeds", [0])),
        pretrain={
            name: _pretrain(name, table, data, f"{path}: pretrain.{name}")
            for name, table in values.get("pretrain", {}).items()
        },
        models=tuple(
            _table(ModelPlan, table, f"{path}: models[{i}]")
            for i, table in enumerate(values.get("models", []))
        ),
        compare=tuple(
            _table(ComparePlan, table, f"{path}: compare[{i}]")
            for i, table in enumerate(values.get("compare", []))
        ),
        n_bootstrap=_count(path, values.get("n_bootstrap", 1000)),
    )
    place = store or (plan.place(data.store) if data.store else "")
    if not place:
        raise ConfigError(f"{path}: data: store is missing; name a store or give --store")
    check_names(plan)
    return dataclasses.replace(plan, data=dataclasses.replace(data, store=place))


def check_names(plan: Plan) -> None:
    """Refuse models and comparisons that name what is not there, and names given twice."""
    names = [model.name for model in plan.models]
    if not names:
        raise ConfigError(f"{plan.path}: models: none; add a [[models]] table")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{plan.path}: models: two are named '{twice[0]}'; give each its own name")
    known = ", ".join([*plan.pretrain, RANDOM])
    for model in plan.models:
        where = f"{plan.path}: model '{model.name}'"
        if model.pretrained and model.pretrained != RANDOM and model.pretrained not in plan.pretrain:
            raise ConfigError(f"{where}: pretrained: got '{model.pretrained}', there is {known}")
        if model.protocol and model.protocol != "scratch" and not model.pretrained:
            raise ConfigError(f"{where}: pretrained is missing; there is {known}")
        stated = [name for name in ("preset", "width") if getattr(model, name)]
        stated += [*model.changes(model.network)]
        if stated and model.pretrained not in ("", RANDOM):
            raise ConfigError(
                f"{where}: {', '.join(stated)}: [pretrain.{model.pretrained}] has them; leave them out"
            )
        if model.choose:
            _check_choice(plan, model, where)
        if model.protocol in ("fine", "scratch"):
            _check_head(model, where)
    for pair in plan.compare:
        absent = [name for name in (pair.a, pair.b) if name not in names]
        if absent:
            raise ConfigError(f"{plan.path}: compare: got '{absent[0]}', there is {', '.join(names)}")


def _check_head(model: ModelPlan, where: str) -> None:
    """Refuse features that are centred for a head which has none."""
    try:
        refuse_centred(model.centre, model.fit_config().head)
    except ConfigError as error:
        raise ConfigError(f'{where}: {error}, such as fit = {{head = "statistics"}}') from error


def _check_choice(plan: Plan, model: ModelPlan, where: str) -> None:
    """Refuse a choice among what is not there, is chosen itself or has other seeds, or by another metric."""
    there = [other.name for other in plan.models if not other.choose]
    for name in model.choose:
        if name not in there:
            chosen = any(other.name == name for other in plan.models)
            reason = ", which is chosen itself" if chosen else ""
            raise ConfigError(f"{where}: choose: got '{name}'{reason}; there is {', '.join(there)}")
    known = ("loss", *(REGRESSION if plan.data.regression else CLASSIFICATION))
    if model.by not in known:
        what = "values (regression)" if plan.data.regression else "classes"
        raise ConfigError(f"{where}: by: got '{model.by}', for {what} there is {', '.join(known)}")
    shared = plan.seeds_of(dataclasses.replace(model, seeds=()))
    if not shared or not set(plan.seeds_of(model)) <= set(shared):
        theirs = "; ".join(f"{other.name} {plan.seeds_of(other)}" for other in plan.candidates(model))
        raise ConfigError(
            f"{where}: seeds: the candidates share {shared or 'none'} ({theirs}); choose needs those"
        )


def _table(cls: type[Any], values: Any, where: str) -> Any:
    """Return a dataclass from a table; what it refuses itself is told with the file's name."""
    try:
        return from_dict(cls, values, where=where)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(where) else f"{where}: {text}") from error


def _pretrain(name: str, table: Any, data: DataPlan, where: str) -> PretrainPlan:
    """Return a named pretraining; its windows are the data's where nothing else is said."""
    if name == RANDOM or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"{where}: not a usable name; use letters, digits, - and _, and not '{RANDOM}'")
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: got {table!r:.60}, expected a table")
    own = {field.name for field in dataclasses.fields(PretrainPlan)} - {"name", "options"}
    mine = {key: value for key, value in table.items() if key in own}
    rest = {key: value for key, value in table.items() if key not in own}
    if mine.get("run") and (rest or mine.get("store")):
        extra = next(iter(rest), "store")
        raise ConfigError(f"{where}: {extra} together with run; a finished run has its options")
    refused = dict.fromkeys(HARDWARE_KEYS, "--device")
    refused |= {} if mine.get("store") else dict.fromkeys(SPLIT_KEYS, "[splits]")
    for key in rest:
        if key in refused:
            raise ConfigError(f"{where}: {key} is decided by {refused[key]}; leave it out")
    alike = ("window_s", "scaling", "exclude_s", "dataset", "dataset_options")
    windows = {name: getattr(data, name) for name in alike}
    options = _table(PretrainConfig, {**windows, "test": 0.0, **rest}, where)
    return _table(PretrainPlan, {"name": name, **mine, "options": options}, where)


def _seeds(path: str | Path, seeds: Any) -> tuple[int, ...]:
    good = isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not good or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{path}: seeds: got {seeds!r}, expected different whole numbers, e.g. [0, 1, 2]")
    return tuple(seeds)


def _count(path: str | Path, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ConfigError(f"{path}: n_bootstrap: got {value!r}, expected a whole number above 0")
    return value
