"""What decides a cell, as configurations: its key has what differs from the defaults, its file has all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from eegm2.config import conflicts, from_dict, non_defaults, to_dict
from eegm2.data.config import WindowConfig
from eegm2.errors import ConfigError
from eegm2.evaluation.experiment.config import ModelPlan
from eegm2.model.config import EEGM2Config

#: Part → a configuration and what its defaults are (None: the declared ones).
Settings = Mapping[str, tuple[Any, Any]]


def settings_of(model: ModelPlan, windows: WindowConfig, network: EEGM2Config | None) -> Settings:
    """Return every choice that decides a model's cells, resolved.

    Parameters
    ----------
    model : ModelPlan
        The row of the results.
    windows : WindowConfig
        How its windows are cut and scaled.
    network : EEGM2Config or None
        Shape of a network of random weights.
    """
    plain = dataclasses.replace(model, fit={}, options={}, seeds=())  # resolved below; seeds decide nothing
    parts: dict[str, tuple[Any, Any]] = {"model": (plain, None)}
    if not model.choose:
        parts["windows"] = (windows, None)
    if model.baseline:
        parts["options"] = (baseline_options(model), baseline_options(dataclasses.replace(model, options={})))
    elif model.protocol in ("light", "fine", "scratch"):
        parts["fit"] = (model.fit_config(), plain.fit_config())
    if network is not None:
        parts["network"] = (network, None)
    return parts


def baseline_options(model: ModelPlan, device: str = "cpu") -> Any:
    """Return a baseline's options, its defaults filled in.

    Raises
    ------
    ConfigError
        If there is no such baseline (those there are are listed), or an option is unknown.
    """
    from eegm2.evaluation.baselines.registry import find_baseline

    where = f"model '{model.name}'"
    try:
        known = find_baseline(model.baseline)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if "device" in model.options:
        raise ConfigError(f"{where}: options: device is --device's; leave it out")
    values = {**known.defaults, **model.options}
    if any(field.name == "device" for field in dataclasses.fields(known.options)):
        values["device"] = device
    return from_dict(known.options, values, where=f"{where}: options")


def chosen(settings: Settings) -> dict[str, Any]:
    """Return what differs from the defaults, for a key."""
    return {part: non_defaults(config, base) for part, (config, base) in settings.items()}


def resolved(settings: Settings) -> dict[str, Any]:
    """Return everything, to be kept beside a result."""
    return {part: to_dict(config) for part, (config, _) in settings.items()}


def outdated(record: Any, settings: Settings) -> bool:
    """Return whether a kept result was made under other settings: a default has changed since."""
    found = record if isinstance(record, dict) else {}
    return any(conflicts(found.get(part), config, base) for part, (config, base) in settings.items())
