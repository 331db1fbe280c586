"""What is known of every shipped model, read from the header of its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eegm2.errors import CheckpointError
from eegm2.zoo.shipped import WEIGHTS, shipped_models


def shipped_facts() -> list[dict[str, Any]]:
    """Return name, description, size, electrodes, rate, trained on, results and licence of every model."""
    return [facts_of(name, folder) for name, folder in shipped_models().items()]


def facts_of(name: str, folder: Path) -> dict[str, Any]:
    """Return the facts of one shipped model.

    Raises
    ------
    CheckpointError
        If its weights have no header.
    """
    path = folder / WEIGHTS
    header = weights_header(path)
    about, model = header.get("about", {}), header["model"]
    size = path.stat().st_size
    names = header.get("ch_names") or ()
    any_of = model.get("embedding") == "covariance" and model.get("n_virtual", 0) > 0
    return {
        "name": name,
        "description": about.get("description", "no description"),
        "size": f"{size / 1e6:.2f} MB, {about.get('parameters', 0):,} parameters",
        "electrodes": "any four or more with known positions" if any_of else " ".join(names),
        "rate": f"{header.get('sfreq_hz', 0):g} Hz",
        "trained on": "; ".join(_data(entry) for entry in about.get("data", ())) or "nothing: random weights",
        "results": "; ".join(about.get("results", ())) or "none recorded",
        "licence": about.get("licence", ""),
        "seen": {entry["name"]: entry.get("people", []) for entry in about.get("data", ())},
        "features": about.get("features", ""),
        "centre": about.get("centre", "none"),
        "c": about.get("c"),
        "command": about.get("command", ""),
    }


def weights_header(path: Path) -> dict[str, Any]:
    """Return the header of one of our ``.safetensors`` files without reading its weights."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > 100_000_000:
                raise ValueError("its header is too long")
            header: dict[str, Any] = json.loads(json.loads(file.read(size))["__metadata__"]["eegm2"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read as a model ({error}); install eegm2 again") from error
    return header


def _data(entry: dict[str, Any]) -> str:
    people, hours = len(entry.get("people", ())), entry.get("hours", 0)
    return f"{entry['name']} ({people} people, {hours:.1f} h; {entry.get('licence', 'licence unknown')})"
