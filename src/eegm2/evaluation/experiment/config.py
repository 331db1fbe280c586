"""The TOML file of ``eegm2 evaluate``, read strictly; nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eegm2.config import from_dict, option, read_toml, to_dict
from eegm2.data.config import Scaling, WindowConfig
from eegm2.errors import ConfigError
from eegm2.evaluation.config import PROTOCOLS, FitConfig, ProbeConfig, check_c, split_commas
from eegm2.training.config import PretrainConfig

RANDOM = "random"
#: What the command line decides, and what the experiment's splits do where its own data are pretrained on.
HARDWARE_KEYS = ("accelerator", "devices", "num_nodes", "strategy")
SPLIT_KEYS = ("splits", "split_seed", "val", "test", "by", "official")


@dataclass(frozen=True)
class DataPlan(WindowConfig):
    """``[data]``: which windows, and what is to be told from them."""

    store: str = option("", "Store written by eegm2 prepare; relative to the file.")
    classes: tuple[str, ...] = option((), "Labels to keep, in this order; none: all found.")
    regression: bool = option(False, "Take the target as a number instead of classes.")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "classes", split_commas(self.classes))
        object.__setattr__(self, "exclude_s", split_commas(self.exclude_s))
        if len(self.classes) == 1:
            raise ConfigError(f"classes: got only {self.classes[0]}; name at least two")

    def windows(self, scaling: str = "") -> WindowConfig:
        """Return how windows are cut, under another scaling where one is given."""
        names = [field.name for field in dataclasses.fields(WindowConfig)]
        values = {name: getattr(self, name) for name in names}
        return WindowConfig(**{**values, "scaling": scaling or self.scaling})


@dataclass(frozen=True)
class SplitPlan:
    """``[splits]``: who is tested, and by whose labels is learnt."""

    scheme: Literal["folds", "manifest", "official"] = option(
        "folds", "folds by subject, manifest files, or the data set's own test part."
    )
    n_folds: int = option(5, "Folds; every subject is tested once.")
    seed: int = option(0, "Seed of the folds, of validation subjects and of learning curves.")
    val: float = option(0.2, "Share of the subjects not tested that validates.")
    by: Literal["subject", "recording"] = option(
        "subject", "official: what is never divided; recording is for data of one person."
    )
    file: str | tuple[str, ...] = option("", "manifest: split manifests (JSON), relative to the file.")
    train_subjects: tuple[int, ...] = option(
        (), "Learning curve: numbers of labelled subjects, those that validate included; nested."
    )

    def __post_init__(self) -> None:
        if (self.scheme == "manifest") != bool(self.files):
            raise ConfigError(f"file: got {self.file!r} with scheme '{self.scheme}'; manifest needs it")
        if self.n_folds < 2:
            raise ConfigError(f"n_folds: got {self.n_folds}, expected 2 or more")
        if not 0 < self.val < 1:
            raise ConfigError(f"val: got {self.val}, expected a share between 0 and 1")
        if self.train_subjects and min(self.train_subjects) < 2:
            raise ConfigError(
                f"train_subjects: got {min(self.train_subjects)}; one trains and one validates: 2 or more"
            )

    @property
    def files(self) -> tuple[str, ...]:
        """The manifests."""
        return (self.file,) * bool(self.file) if isinstance(self.file, str) else self.file


@dataclass(frozen=True)
class PretrainPlan:
    """``[pretrain.NAME]``: weights to start from, trained here for every split, or a finished run's."""

    name: str
    run: str = option("", "A finished run (or .safetensors file), used for every split.")
    store: str = option("", "Pretrain on this store instead (once, for every split); relative to the file.")
    which: Literal["best", "last"] = option("best", "Checkpoint.")
    channels: Literal["same", "adapt"] = option(
        "same", "adapt: give a network of other channels new layers at its ends, the rest kept."
    )
    allow_mismatch: bool = option(False, "Go on although the data's preprocessing or scaling differs.")
    options: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)


@dataclass(frozen=True)
class ModelPlan:
    """``[[models]]``: one row of the results."""

    name: str = option("", "Name in the results.")
    protocol: str = option("", "linear, light, fine or scratch; or give a baseline.")
    pretrained: str = option("", "Name of a [pretrain.NAME], or random: the same network, fresh weights.")
    preset: str = option("", "random, scratch: the network (eegm2 …), where no pretraining gives it.")
    width: int = option(0, "random, scratch: its width.")
    fit: dict[str, Any] = option({}, "Options of the fit (light, fine, scratch).")
    c: float | str = option(1.0, "linear: inverse penalty, or validation: chosen on validation subjects.")
    threshold: Literal["validation", "half"] = option("validation", "linear: decision threshold.")
    baseline: str = option("", "Name of a baseline, instead of a protocol.")
    options: dict[str, Any] = option({}, "Options of the baseline.")
    scaling: Scaling | Literal[""] = option("", "Scaling of this model's windows, if another than [data]'s.")

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("name: missing; every model needs one")
        if bool(self.protocol) == bool(self.baseline):
            raise ConfigError(f"model '{self.name}': give either protocol or baseline")
        if self.protocol and self.protocol not in PROTOCOLS:
            raise ConfigError(
                f"model '{self.name}': protocol: got '{self.protocol}', expected one of "
                + ", ".join(PROTOCOLS)
            )
        try:
            check_c(self.c)
        except ConfigError as error:
            raise ConfigError(f"model '{self.name}': {error}") from error
        plain = {field.name: field for field in dataclasses.fields(self)}
        for key, wanted in _MEANT_FOR.items():
            factory = plain[key].default_factory
            default = plain[key].default if factory is dataclasses.MISSING else factory()
            if getattr(self, key) != default and (self.protocol or "baseline") not in wanted:
                raise ConfigError(
                    f"model '{self.name}': {key} is for {', '.join(wanted)}; leave it out of this one"
                )
        self.fit_config()

    @property
    def fresh(self) -> bool:
        """Whether the weights are random."""
        return self.protocol == "scratch" or self.pretrained == RANDOM

    def fit_config(self, device: str = "cpu") -> FitConfig:
        """Return how this model learns: the protocol's defaults with the options given."""
        given = ProbeConfig().light() if self.protocol == "light" else FitConfig()
        if "device" in self.fit:
            raise ConfigError(f"model '{self.name}': fit: device is --device's; leave it out")
        where = f"model '{self.name}': fit"
        return from_dict(FitConfig, {**to_dict(given), **self.fit, "device": device}, where=where)


_MEANT_FOR: dict[str, tuple[str, ...]] = {
    "fit": ("light", "fine", "scratch"),
    "c": ("linear",),
    "threshold": ("linear",),
    "options": ("baseline",),
    "pretrained": PROTOCOLS,
    "preset": PROTOCOLS,
    "width": PROTOCOLS,
    "scaling": PROTOCOLS,
}


@dataclass(frozen=True)
class ComparePlan:
    """``[[compare]]``: two models, paired by subject."""

    a: str = option("", "Name of a model.")
    b: str = option("", "Name of another.")


@dataclass(frozen=True)
class Plan:
    """A whole experiment."""

    path: Path
    data: DataPlan
    splits: SplitPlan = dataclasses.field(default_factory=SplitPlan)
    seeds: tuple[int, ...] = (0,)
    pretrain: dict[str, PretrainPlan] = dataclasses.field(default_factory=dict)
    models: tuple[ModelPlan, ...] = ()
    compare: tuple[ComparePlan, ...] = ()
    n_bootstrap: int = 1000

    def place(self, name: str) -> str:
        """Return a path of the file, relative to the file's folder; addresses stay."""
        return name if "://" in name else str(self.path.parent / name)


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
        if (model.preset or model.width) and model.pretrained not in ("", RANDOM):
            raise ConfigError(
                f"{where}: preset, width: [pretrain.{model.pretrained}] has them; leave them out"
            )
    for pair in plan.compare:
        absent = [name for name in (pair.a, pair.b) if name not in names]
        if absent:
            raise ConfigError(f"{plan.path}: compare: got '{absent[0]}', there is {', '.join(names)}")


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
    windows = {"window_s": data.window_s, "scaling": data.scaling, "exclude_s": list(data.exclude_s)}
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
