"""One way to name a model, for every command and class."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from eegm2.errors import CheckpointError
from eegm2.zoo.download import download
from eegm2.zoo.shipped import WEIGHTS, shipped_models

MODEL_HELP = (
    "Folder of a run, a probe or a shared model, .safetensors file, name of a shipped model (eegm2 models), "
    "owner/name on the Hugging Face hub, or the authors' .pth."
)
AUTHORS_SUFFIXES = (".pth", ".pt", ".bin")
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"


def find_weights(model: str | Path, which: str = "best", **hub: Any) -> Path:
    """Return the file that holds a model's weights.

    Parameters
    ----------
    model : str or Path
        Folder of a run or of a shared model, ``.safetensors`` file, authors' ``.pth``, name of a shipped
        model, or ``owner/name`` on the hub; what is on the disk comes before names.
    which : {"best", "last"}
        In the folder of a run: the weights of the lowest validation loss, or the newest.
    **hub
        revision, cache_dir, local_files_only, token as in huggingface_hub; for models of the hub.

    Returns
    -------
    Path
        ``.safetensors``, or a file of the authors.

    Raises
    ------
    CheckpointError
        If nothing has that name (the nearest that there is is named); the hub is asked only for what cannot
        be a mistyped path.
    """
    if which not in ("best", "last"):
        raise CheckpointError(f"which: got '{which}', expected 'best' or 'last'")
    path, text = Path(model).expanduser(), str(model)
    if path.is_dir():
        return _in_folder(path, which)
    if path.exists():
        return path
    shipped = shipped_models()
    if text in shipped:
        return shipped[text] / WEIGHTS
    if _is_hub_name(text) and _near_path(path) is None and not path.parent.exists():
        return download(text, WEIGHTS, **hub)
    raise CheckpointError(_unknown(path, text, tuple(shipped)))


def model_folder(model: str | Path) -> Path | None:
    """Return the folder of a run, a shared or a shipped model, in which other facts lie; None for others."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    return None if path.exists() else shipped_models().get(str(model))


def is_name(model: str) -> bool:
    """Return whether a text can name a model without being a path: a shipped one, or one of the hub."""
    return model in shipped_models() or _is_hub_name(model)


def _in_folder(folder: Path, which: str) -> Path:
    """Return the weights in the folder of a run or of a shared model."""
    run, shared = folder / "checkpoints" / f"{which}.safetensors", folder / WEIGHTS
    for path in (run, shared):
        if path.is_file():
            return path
    there = sorted(p.name for p in run.parent.glob("*.safetensors"))
    hint = f"there is {', '.join(there)}" if there else f"nor {WEIGHTS}; eegm2 pretrain writes one"
    raise CheckpointError(f"{run}: no such checkpoint; {hint}")


def _is_hub_name(text: str) -> bool:
    suffix = Path(text).suffix.lower()
    return bool(re.fullmatch(f"{_PART}/{_PART}", text)) and ".." not in text and suffix not in _FILES


_FILES = (".safetensors", ".ckpt", *AUTHORS_SUFFIXES)


def _near_path(path: Path) -> Path | None:
    """Return what there is on the disk whose path differs by a slip of the finger, if anything."""
    place = Path(path.anchor) if path.is_absolute() else Path()
    for part in path.parts[1:] if path.is_absolute() else path.parts:
        if not (place / part).exists():
            names = [entry.name for entry in place.iterdir()] if place.is_dir() else []
            close = difflib.get_close_matches(part, names, n=1, cutoff=0.75)
            if not close:
                return None
            part = close[0]
        place = place / part
    return place


def _unknown(path: Path, text: str, shipped: tuple[str, ...]) -> str:
    """Say that nothing has this name, and what comes nearest."""
    near = _near_path(path)
    names = difflib.get_close_matches(text, shipped, n=1, cutoff=0.5)
    listed = f"models that ship with eegm2: {', '.join(shipped) or 'none'}"
    if near is not None:
        hint = f"did you mean {near}?"
    elif names:
        hint = f"did you mean '{names[0]}'? ({listed})"
    elif path.suffix.lower() in _FILES and path.parent.is_dir():
        there = sorted(p.name for p in path.parent.glob("*.safetensors"))
        hint = f"there is {', '.join(there)}" if there else "eegm2 pretrain writes one"
        return f"{text}: no such checkpoint; {hint}"
    else:
        hint = f"{listed}; the hub's are named owner/name"
    return f"{text}: no such folder, file or model; {hint}"
