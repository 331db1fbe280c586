"""A model as a folder: ``model.safetensors`` with its header, ``config.json`` and a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from eegm2.atomic import write_atomic
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import CheckpointError, DataError
from eegm2.evaluation.probing.folder import listed_probes
from eegm2.hub.card import model_card
from eegm2.hub.remote import download
from eegm2.model.network import EEGM2
from eegm2.model.unet import UNet
from eegm2.records import PROBE, read_record
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint

WEIGHTS = "model.safetensors"


def save_pretrained(model: EEGM2 | UNet, folder: str | Path, *, card: str | None = None) -> Path:
    """Write a model into a folder; each file whole or not at all.

    Parameters
    ----------
    model : EEGM2 or UNet
        Its `header` (as `load_checkpoint` and `from_pretrained` set it) travels with the weights.
    folder : str or Path
        Made if needed; files of an older model in it are replaced.
    card : str, optional
        Text of ``README.md``; generated from the header if not given.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    CheckpointError
        If the folder cannot be written.
    """
    folder = Path(folder)
    header = {key: value for key, value in model.header.items() if key not in ("format", "model")}
    config = {"library_name": "eegm2", **model.config.to_dict()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(folder / WEIGHTS, model, header)
        write_atomic(folder / "config.json", [(json.dumps(config, indent=1) + "\n").encode()])
        text = card if card is not None else model_card(model, header)
        write_atomic(folder / "README.md", [text.encode()])
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot write the model ({error.strerror or error}); "
            "free space or choose another folder"
        ) from error
    return folder


def from_pretrained(
    name_or_folder: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> EEGM2 | UNet:
    """Read a model that `save_pretrained`, ``eegm2 pretrain`` or `push_to_hub` wrote.

    Parameters
    ----------
    name_or_folder : str or Path
        Folder, run, ``.safetensors`` file, or the hub's name of a model (``owner/name``).
    revision, cache_dir, local_files_only, token
        As in huggingface_hub; only for models of the hub.

    Returns
    -------
    EEGM2 or UNet
        In evaluation mode; `header` says what is known about it.

    Raises
    ------
    CheckpointError
        If there is no such folder or model, huggingface_hub is missing where it is needed, or the weights
        cannot be used (see `load_checkpoint`).
    """
    path = Path(name_or_folder)
    if not path.exists():
        if not _is_hub_name(str(name_or_folder)):
            raise CheckpointError(
                f"{name_or_folder}: no such folder, and not a hub name either; "
                "expected a folder or owner/name"
            )
        path = download(
            str(name_or_folder),
            WEIGHTS,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
        )
    elif path.is_dir() and not (path / "checkpoints").is_dir():
        path = path / WEIGHTS
    loaded = load_checkpoint(path)
    loaded.model.header = loaded.header
    return loaded.model


def share_run(run: str | Path, folder: str | Path, which: Literal["best", "last"] = "best") -> Path:
    """Write the model of a run into a folder, with a card that holds its splits and probe results.

    Names of subjects and of folders on this machine stay out of it.

    Parameters
    ----------
    run : str or Path
        Folder written by ``eegm2 pretrain``; probes listed in its probes.json enter the card.
    folder : str or Path
        See `save_pretrained`.
    which : {"best", "last"}
        Which weights.
    """
    run = Path(run)
    loaded = load_checkpoint(run, which)
    header = _without_paths(loaded.header)
    loaded.model.header = header
    splits, probes = None, []
    if (run / "splits.json").is_file():
        splits = SplitManifest.from_json(run / "splits.json")
    for place in _listed_probes(run):
        probes.append(read_record(place / "results.json", PROBE, remedy="delete it or probe again"))
    card = model_card(loaded.model, header, splits=splits, probes=probes)
    return save_pretrained(loaded.model, folder, card=card)


def _is_hub_name(text: str) -> bool:
    import re

    part = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
    return re.fullmatch(f"{part}(/{part})?", text) is not None and ".." not in text


def _listed_probes(run: Path) -> list[Path]:
    names, problem = listed_probes(run / "probes.json")
    if problem:
        raise DataError(f"{run / 'probes.json'}: {problem} Delete it or probe again")
    return [place for place in (run / name for name in names) if (place / "results.json").is_file()]


def _without_paths(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the header with every absolute path cut to its last name."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, str) and (value.startswith(("/", "~", "\\")) or value[1:3] in (":\\", ":/")):
            return value.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
        return value

    return {key: plain(value) for key, value in header.items()}
