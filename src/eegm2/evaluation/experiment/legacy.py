"""Cells of format 1, whose keys hashed every field that there was: they are still found."""

from __future__ import annotations

from typing import Any

from eegm2.config import non_defaults, to_dict
from eegm2.data.config import sha256_json
from eegm2.evaluation.experiment.cells import Cell
from eegm2.evaluation.experiment.settings import Settings

#: The fields that the configurations had in format 1; never to be lengthened.
FIELDS = {
    "WindowConfig": "window_s stride_s scaling target label_rule exclude_s exclude_labels",
    "FitConfig": "lr weight_decay batch_size max_epochs patience clip class_weights head head_dropout "
    "layer_decay freeze threshold device",
    "ModelPlan": "name protocol pretrained preset width fit c threshold baseline options scaling",
    "EEGM2Config": "n_chans width architecture embedding mixer norm_order decoder d_state d_conv expand "
    "headdim ngroups n_heads dropout",
    "BandPowerOptions": "scaling bands segment_s c threshold",
    "SlowOptions": "scaling stretches c threshold",
    "RiemannOptions": "scaling bands estimator c threshold",
    "NetworkOptions": "scaling lr weight_decay batch_size max_epochs patience clip class_weights threshold "
    "device",
}


def first_key(
    cell: Cell, settings: Settings, units: dict[str, list[str]], data: dict[str, Any], weights: str
) -> str | None:
    """Return a cell's key in format 1, None where it has an option that is younger.

    Parameters
    ----------
    cell, settings, units, data, weights
        As for :meth:`Cell.key`.
    """
    forms = {part: _first_form(config, base) for part, (config, base) in settings.items()}
    if cell.model.choose or any(form is None for form in forms.values()):
        return None
    fit = _first_form(cell.model.fit_config(), None)
    model = {**(forms["model"] or {}), "options": cell.model.options, "fit": fit}
    if cell.model.baseline:
        weights = sha256_json(forms["options"])
    elif "network" in forms:
        weights = sha256_json({"random": forms["network"], "seed": cell.seed})
    parts = {"units": units, "by": cell.split.manifest.by}
    identity = {**data, "windows": forms["windows"]}
    return sha256_json([1, model, parts, cell.seed, identity, weights])


def _first_form(config: Any, base: Any) -> dict[str, Any] | None:
    """Return a configuration as format 1 had it, None where a later field is not at its default."""
    names = FIELDS[type(config).__name__].split()
    if not set(non_defaults(config, base)) <= set(names):
        return None
    whole = to_dict(config)
    return {name: whole[name] for name in names}
