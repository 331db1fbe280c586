"""A model as a folder: ``model.safetensors`` with its header, ``config.json`` and a model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from eegm2.atomic import write_atomic
from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import CheckpointError, DataError
from eegm2.evaluation.probing.folder import listed_probes
from eegm2.hub.card import model_card
from eegm2.hub.heads import copy_without_people
from eegm2.model.network import EEGM2
from eegm2.model.unet import UNet
from eegm2.records import PROBE, read_record
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint
from eegm2.zoo.find import find_weights, model_folder
from eegm2.zoo.shipped import HEADS, WEIGHTS


def save_pretrained(
    model: EEGM2 | UNet,
    folder: str | Path,
    *,
    card: str | None = None,
    ch_names: Sequence[str] | None = None,
    sfreq_hz: float | None = None,
    preprocessing: PreprocessingConfig | None = None,
    windows: WindowConfig | None = None,
) -> Path:
    """Write a model into a folder; each file whole or not at all.

    Parameters
    ----------
    model : EEGM2 or UNet
        Its `header` (as `load_checkpoint` and `from_pretrained` set it) travels with the weights.
    folder : str or Path
        Made if needed; files of an older model in it are replaced.
    card : str, optional
        Text of ``README.md``; generated from the header if not given.
    ch_names : sequence of str, optional
        Channels of the input in order; by default those of the header. A network of one's own loop knows
        none, and without them no command can use it.
    sfreq_hz : float, optional
        Sampling rate of the input in hertz.
    preprocessing : PreprocessingConfig, optional
        How the recordings were prepared; the defaults where `ch_names` is given and this is not.
    windows : WindowConfig, optional
        How training windows were cut and scaled; likewise.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    CheckpointError
        If the folder cannot be written, or the channels are not as many as the network has.
    """
    folder = Path(folder)
    header = {key: value for key, value in model.header.items() if key not in ("format", "model")}
    header |= _input(model, ch_names, sfreq_hz, preprocessing, windows)
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


def _input(
    model: EEGM2 | UNet,
    ch_names: Sequence[str] | None,
    sfreq_hz: float | None,
    preprocessing: PreprocessingConfig | None,
    windows: WindowConfig | None,
) -> dict[str, Any]:
    """Return the fields of a header that say what the input must be, of those given."""
    n_chans = model.config.n_chans
    found: dict[str, Any] = {}
    if ch_names is not None:
        if len(ch_names) != n_chans or len(set(ch_names)) != n_chans:
            raise CheckpointError(
                f"ch_names: got {len(set(ch_names))} different names, the network has {n_chans} channels; "
                "name each of them"
            )
        found["ch_names"] = list(ch_names)
        preprocessing = preprocessing or PreprocessingConfig()
        windows = windows or WindowConfig()
        sfreq_hz = preprocessing.sfreq_hz if sfreq_hz is None else sfreq_hz
    if sfreq_hz is not None:
        if not 0 < sfreq_hz < 1e6:
            raise CheckpointError(f"sfreq_hz: got {sfreq_hz}, expected a rate in Hz above 0")
        found["sfreq_hz"] = float(sfreq_hz)
    if preprocessing is not None:
        rate = found.get("sfreq_hz", preprocessing.sfreq_hz)
        found["preprocessing"] = to_dict(replace(preprocessing, sfreq_hz=rate))
    if windows is not None:
        found["windows"] = to_dict(windows)
    return found


def from_pretrained(
    name_or_folder: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
    trust: str | Sequence[str] = (),
) -> EEGM2 | UNet:
    """Read a model that `save_pretrained`, ``eegm2 pretrain`` or `push_to_hub` wrote.

    Parameters
    ----------
    name_or_folder : str or Path
        Any name of a model, see :func:`eegm2.zoo.find_weights`.
    revision, cache_dir, local_files_only, token
        As in huggingface_hub; only for models of the hub.
    trust : str or sequence of str
        Packages whose code may be imported where the model names it, see :func:`eegm2.trusting`.

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
    hub: dict[str, Any] = {
        "revision": revision,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
        "token": token,
    }
    return load_checkpoint(find_weights(name_or_folder, **hub), trust=trust).model


def share_run(run: str | Path, folder: str | Path, which: Literal["best", "last"] = "best") -> Path:
    """Write the model of a run into a folder, with its heads and a card that holds splits and results.

    Names of subjects and of folders on this machine stay out of it. Of a probe or a fine-tuned run, what was
    learnt with labels goes along: the folder predicts.

    Parameters
    ----------
    run : str or Path
        Folder written by ``eegm2 pretrain``, ``finetune`` or ``probe``, or any other name of a model; probes
        listed in its probes.json enter the card.
    folder : str or Path
        See `save_pretrained`.
    which : {"best", "last"}
        Which weights.
    """
    loaded = load_checkpoint(run, which)
    run = model_folder(run) or Path(run)
    header = without_paths(loaded.header)
    loaded.model.header = header
    splits, probes = None, []
    if (run / "splits.json").is_file():
        splits = SplitManifest.from_json(run / "splits.json")
    for place in _listed_probes(run):
        probes.append(read_record(place / "results.json", PROBE, remedy="delete it or probe again"))
    shutil.rmtree(Path(folder) / HEADS, ignore_errors=True)
    heads = [
        (path.name, *copy_without_people(path, Path(folder) / HEADS / path.name))
        for path in sorted((run / HEADS).glob("*.safetensors"))
    ]
    card = model_card(loaded.model, header, splits=splits, probes=probes, heads=heads)
    return save_pretrained(loaded.model, folder, card=card)


def _listed_probes(run: Path) -> list[Path]:
    names, problem = listed_probes(run / "probes.json")
    if problem:
        raise DataError(f"{run / 'probes.json'}: {problem} Delete it or probe again")
    return [place for place in (run / name for name in names) if (place / "results.json").is_file()]


def without_paths(header: Mapping[str, Any]) -> dict[str, Any]:
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
