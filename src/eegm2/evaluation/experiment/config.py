"""What the TOML file of ``eegm2 evaluate`` may say; nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eegm2.config import from_dict, option, to_dict
from eegm2.data.config import POSITIONS_HELP, Scaling, WindowConfig
from eegm2.errors import ConfigError
from eegm2.evaluation.config import (
    BASELINE_REGISTRY,
    C_HELP,
    CENTRE_HELP,
    FEATURES_HELP,
    PROTOCOLS,
    Centre,
    Features,
    FitConfig,
    ProbeConfig,
    check_c,
)
from eegm2.model.config import MIXERS, NETWORKS, MixerOptions
from eegm2.training.config import PretrainConfig
from eegm2.zoo.find import is_name

RANDOM = "random"


@dataclass(frozen=True)
class DataPlan(WindowConfig):
    """``[data]``: which windows, and what is to be told from them."""

    store: str = option("", "Store written by eegm2 prepare; relative to the file.")
    classes: tuple[str, ...] = option((), "Labels to keep, in this order; none: all found.")
    regression: bool = option(False, "Take the target as a number instead of classes.")
    positions: str = option("", POSITIONS_HELP + " Relative to the file.")

    def __post_init__(self) -> None:
        super().__post_init__()
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
    store: str | tuple[str, ...] = option(
        "", "Pretrain on this store, or on several, instead (once, for every split); relative to the file."
    )
    which: Literal["best", "last"] = option("best", "Checkpoint.")
    channels: Literal["same", "adapt"] = option(
        "same", "adapt: give a network of other channels new layers at its ends, the rest kept."
    )
    allow_mismatch: bool = option(False, "Go on although the data's preprocessing or scaling differs.")
    options: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)

    @property
    def stores(self) -> tuple[str, ...]:
        """The stores to pretrain on; none: the experiment's own."""
        return (self.store,) * bool(self.store) if isinstance(self.store, str) else self.store


@dataclass(frozen=True)
class ModelPlan(MixerOptions):
    """``[[models]]``: one row of the results."""

    name: str = option("", "Name in the results.")
    protocol: str = option("", "linear, light, fine or scratch; or give a baseline, or choose.")
    pretrained: str = option("", "Name of a [pretrain.NAME], or random: the same network, fresh weights.")
    preset: str = option(
        "", "random, scratch: the network (eegm2 …), where no pretraining gives it.", parts=NETWORKS
    )
    width: int = option(0, "random, scratch: its width.")
    network: tuple[str, ...] = option((), "random, scratch: its other sizes, e.g. n_virtual=0.")
    fit: dict[str, Any] = option({}, "Options of the fit (light, fine, scratch).")
    c: float | str = option(1.0, C_HELP + ".")
    threshold: Literal["validation", "half"] = option("validation", "linear: decision threshold.")
    features: Features = option("statistics", "linear, light: " + FEATURES_HELP)
    centre: Centre = option("none", CENTRE_HELP)
    baseline: str = option("", "Name of a baseline, instead of a protocol.", parts=BASELINE_REGISTRY)
    options: dict[str, Any] = option({}, "Options of the baseline.")
    choose: tuple[str, ...] = option(
        (), "Instead: models of this file, of which each split takes the best on its validation part."
    )
    by: str = option("loss", "choose: metric of the validation part; loss is what training stops on.")
    scaling: Scaling | Literal[""] = option("", "Scaling of this model's windows, if another than [data]'s.")
    seeds: tuple[int, ...] = option((), "Seeds of this model, if others than the file's.")

    def __post_init__(self) -> None:
        for registry, part in ((NETWORKS, self.preset), (MIXERS, self.mixer)):
            if part:
                registry.check(part)
        if not self.name:
            raise ConfigError("name: missing; every model needs one")
        if bool(self.protocol) + bool(self.baseline) + bool(self.choose) != 1:
            raise ConfigError(f"model '{self.name}': give either protocol, baseline or choose")
        if self.choose and len(set(self.choose)) < max(2, len(self.choose)):
            got = ", ".join(self.choose)
            raise ConfigError(f"model '{self.name}': choose: got {got}; name two or more models, each once")
        if self.protocol and self.protocol not in PROTOCOLS:
            raise ConfigError(
                f"model '{self.name}': protocol: got '{self.protocol}', expected one of "
                + ", ".join(PROTOCOLS)
            )
        try:
            check_c(self.c)
        except ConfigError as error:
            raise ConfigError(f"model '{self.name}': {error}") from error
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds, default=0) < 0:
            raise ConfigError(
                f"model '{self.name}': seeds: got {self.seeds}, expected different numbers >= 0"
            )
        plain = {field.name: field for field in dataclasses.fields(self)}
        for key, wanted in _MEANT_FOR.items():
            factory = plain[key].default_factory
            default = plain[key].default if factory is dataclasses.MISSING else factory()
            if getattr(self, key) != default and self.kind not in wanted:
                raise ConfigError(
                    f"model '{self.name}': {key} is for {', '.join(wanted)}; leave it out of this one"
                )
        self.fit_config()

    @property
    def kind(self) -> str:
        """The protocol, or baseline, or choose."""
        return self.protocol or ("baseline" if self.baseline else "choose")

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
    "features": ("linear", "light"),
    "centre": PROTOCOLS,
    "options": ("baseline",),
    "by": ("choose",),
    "pretrained": PROTOCOLS,
    "preset": PROTOCOLS,
    "width": PROTOCOLS,
    **dict.fromkeys([entry.name for entry in dataclasses.fields(MixerOptions)], PROTOCOLS),
    "network": PROTOCOLS,
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

    def seeds_of(self, model: ModelPlan) -> tuple[int, ...]:
        """Return a model's seeds: its own, or those that all its candidates have, or the file's."""
        if model.seeds or not model.choose:
            return model.seeds or self.seeds
        theirs = [self.seeds_of(candidate) for candidate in self.candidates(model)]
        return tuple(seed for seed in theirs[0] if all(seed in seeds for seeds in theirs))

    def candidates(self, model: ModelPlan) -> list[ModelPlan]:
        """Return the models that a model is chosen among."""
        by_name = {other.name: other for other in self.models}
        return [by_name[name] for name in model.choose]

    def place(self, name: str) -> str:
        """Return a path of the file, relative to the file's folder; addresses stay."""
        return name if "://" in name else str(self.path.parent / name)

    def model(self, name: str) -> str:
        """Return a name of a model: a path is relative to the file's folder, any other name stays."""
        here = self.place(name)
        return name if not Path(here).exists() and is_name(name) else here
