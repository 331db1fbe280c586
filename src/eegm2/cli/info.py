"""``eegm2 info``: the environment, the backend in use and why, and what a checkpoint holds."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Annotated, Any

import typer

import eegm2
from eegm2.zoo.find import MODEL_HELP

LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "numba",
    "mne",
    "lightning",
    "scikit-learn",
    "safetensors",
    "onnxruntime",
)


def info(
    checkpoint: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help=f"A model whose header to show. {MODEL_HELP}")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Show the environment, the backend in use and why, and what a checkpoint holds."""
    facts: dict[str, Any] = {"environment": environment(), "backend": _backend()}
    if checkpoint is not None:
        facts["checkpoint"] = _checkpoint(checkpoint)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for title, values in facts.items():
        typer.echo(f"{title}:")
        _print(values, indent=2)


def environment() -> dict[str, Any]:
    """Return versions and machine facts as plain values."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "eegm2": eegm2.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "gpu": device,
        **versions,
    }


def _backend() -> dict[str, Any]:
    from eegm2.ops import backend_report

    return backend_report()


def _checkpoint(path: Path) -> dict[str, Any]:
    from eegm2.model.config import EEGM2Config
    from eegm2.plugins import is_plugin, trusted
    from eegm2.training.checkpoint import load_checkpoint, read_header

    header = read_header(path)
    mixer = EEGM2Config.from_dict(header["model"]).mixer
    if is_plugin(mixer) and not trusted(mixer):
        return {"path": str(path), "parameters": f"unknown: {mixer} is not imported (--trust)", **header}
    loaded = load_checkpoint(path)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    return {"path": str(path), "parameters": parameters, **loaded.header}


def _print(values: dict[str, Any], indent: int) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            typer.echo(" " * indent + f"{key}:")
            _print(value, indent + 2)
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            typer.echo(" " * indent + f"{key}: {text}")
