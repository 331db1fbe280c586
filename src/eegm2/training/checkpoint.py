"""Weights as safetensors with a JSON header: everything needed to use a model again, and no pickle.

The header travels inside the safetensors file; the JSON of the same name beside it is a copy to read.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import eegm2
from eegm2.atomic import write_atomic
from eegm2.config import from_dict
from eegm2.data.channels import eeg_channels
from eegm2.data.config import DATASETS, PreprocessingConfig, WindowConfig
from eegm2.data.electrodes import on_montage
from eegm2.errors import CheckpointError, ConfigError
from eegm2.model.config import MIXERS, EEGM2Config
from eegm2.model.network import EEGM2, build_model
from eegm2.model.shapes import without_memory
from eegm2.model.unet import UNet
from eegm2.plugins import is_plugin, refuse_untrusted, trusting
from eegm2.records import HEADER, Record, checked, parse_json
from eegm2.training.commit import source_commit
from eegm2.zoo.find import AUTHORS_SUFFIXES, find_weights

FORMAT = 1
_KEY = "eegm2"
_CHECKPOINT = Record(HEADER.fields, ("format", "model"))
INPUT = ("ch_names", "sfreq_hz", "preprocessing")
"""Fields of a header without which nobody knows what a model's input must be."""


@dataclass(frozen=True)
class Checkpoint:
    """A model and what is known about it.

    Attributes
    ----------
    model : EEGM2 or UNet
        In evaluation mode, with the header as its `header`.
    header : dict
        format, model, preprocessing, windows, ch_names, sfreq_hz, data, pretrain, epoch, step, val_loss,
        versions, commit.
    path : Path
        The safetensors file.
    """

    model: EEGM2 | UNet
    header: dict[str, Any]
    path: Path

    @property
    def config(self) -> EEGM2Config:
        """Shape of the network."""
        return self.model.config

    @property
    def windows(self) -> WindowConfig:
        """How the training windows were cut and scaled.

        Raises
        ------
        CheckpointError
            If a data set of somebody's own cut them, and nobody has consented to it.
        """
        where = f"{self.path}: windows"
        found = from_dict(WindowConfig, self.header.get("windows", {}), where=where)
        refuse_untrusted(where, DATASETS.what, found.dataset)
        return found

    def plain_windows(self, what: str) -> WindowConfig:
        """Return the same where eegm2's own windows are; `what` cannot use others.

        Raises
        ------
        ConfigError
            If a data set of one's own cut them.
        """
        found = from_dict(WindowConfig, self.header.get("windows", {}), where=f"{self.path}: windows")
        if is_plugin(found.dataset):
            raise ConfigError(
                f"{self.path}: trained on windows of dataset {found.dataset}, which reads them from a store; "
                f"{what} cannot; prepare a store, and use eegm2 probe or embed on it"
            )
        return found

    @property
    def preprocessing(self) -> PreprocessingConfig:
        """How the recordings were prepared."""
        return from_dict(
            PreprocessingConfig, self.header.get("preprocessing", {}), where=f"{self.path}: preprocessing"
        )

    def preprocessing_of(self, ch_names: Sequence[str]) -> PreprocessingConfig:
        """Return how a recording with these channels is prepared.

        As the training's were; a network for any electrodes takes the recording's own channels where it
        lacks some of the training's.
        """
        there = set(eeg_channels(ch_names))
        has_all = all(name in there or set(name.split("-")) <= there for name in self.header["ch_names"])
        if has_all or not self.config.any_electrodes:
            return self.preprocessing
        return replace(self.preprocessing, montage="", channels=())

    def on_montage(self, ch_names: Sequence[str], positions: str = "") -> Checkpoint:
        """Return the checkpoint for data with these channels: itself, unless it takes any electrodes.

        See :func:`eegm2.data.electrodes.on_montage`. The header of another montage has its names under
        ``ch_names``, and those of the training under ``trained_on``.
        """
        trained_on = list(self.header["ch_names"])
        model = on_montage(self.model, trained_on, ch_names, positions)
        if model is self.model:
            return self
        header = {"trained_on": trained_on, **self.header, "ch_names": list(ch_names)}
        return Checkpoint(model, header, self.path)


def save_checkpoint(path: str | Path, model: EEGM2 | UNet, header: dict[str, Any]) -> None:
    """Write a model's weights and header, whole or not at all.

    Parameters
    ----------
    path : str or Path
        File ending in ``.safetensors``; the JSON copy of the header goes beside it.
    model : EEGM2 or UNet
        Whose weights and configuration are written.
    header : dict
        JSON-serialisable facts, see :class:`Checkpoint`; ``format`` and ``model`` are filled in.
    """
    write_weights(path, model.state_dict(), {**header, "model": model.config.to_dict()})


def write_weights(path: str | Path, state: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
    """Write a state dict and a header that already holds ``model``, see :func:`save_checkpoint`."""
    from safetensors.torch import save

    path = Path(path)
    header = {"format": FORMAT, **header}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_atomic(path, [save(tensors, metadata={_KEY: json.dumps(header, ensure_ascii=False)})])
    write_json(path.with_suffix(".json"), header)


def write_json(path: Path, values: Any) -> None:
    """Write JSON, whole or not at all."""
    write_atomic(path, [(json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()])


def weights_sha256(model: torch.nn.Module) -> str:
    """Return a hash of a model's weights, the same in whichever file they are kept."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_checkpoint(
    path_or_run: str | Path,
    which: Literal["best", "last"] = "best",
    *,
    config: EEGM2Config | None = None,
    needs: tuple[str, ...] = (),
    trust: str | Sequence[str] = (),
) -> Checkpoint:
    """Read a model and its header, strictly.

    Parameters
    ----------
    path_or_run : str or Path
        Any name of a model, see :func:`eegm2.zoo.find_weights`: folder of a run or of a shared model,
        ``.safetensors`` file, shipped name, ``owner/name`` on the hub, or the authors' ``.pth``.
    which : {"best", "last"}
        In a run folder: the weights of the lowest validation loss, or the newest.
    config : EEGM2Config, optional
        Required shape of the network.
    needs : tuple of str
        Fields of the header that the caller cannot do without, such as `INPUT`.
    trust : str or sequence of str
        Packages whose code may be imported where the header names it, see :func:`eegm2.trusting`.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        If there is no such file, it is damaged or of a newer format, a field of its header is missing or of
        another kind (it is named), its weights do not fit its header, `config` differs from the header's
        (every differing field is named with both values), or the network has a mixer that is not eegm2's and
        nobody has consented to import it.
    """
    path = checkpoint_path(path_or_run, which)
    if path.suffix in AUTHORS_SUFFIXES:
        return _of_the_authors(path, config)
    header, tensors = read_weights(path)
    _refuse_without(path, header, needs)
    with trusting(*([trust] if isinstance(trust, str) else trust)):
        return _of_eegm2(path, header, tensors, config)


def _of_eegm2(
    path: Path, header: dict[str, Any], tensors: dict[str, torch.Tensor], config: EEGM2Config | None
) -> Checkpoint:
    """Return a network of ours from what its file holds; see :func:`load_checkpoint`."""
    found = model_config(path, header)
    if not found.any_electrodes and len(header.get("ch_names", ())) not in (0, found.n_chans):
        raise CheckpointError(
            f"{path}: ch_names has {len(header['ch_names'])} names, the network {found.n_chans} channels; "
            "take another copy of the file"
        )
    if config is not None:
        refuse_other_shape(path, found, config)
    problem = _mismatch(_shapes(path, found), tensors)
    if problem:
        raise CheckpointError(
            f"{path}: the weights do not fit the header: {problem}; take another copy of the file"
        )
    model = build_model(found)
    model.load_state_dict(tensors)
    model.header = header
    return Checkpoint(model.eval(), header, path)


def model_config(path: str | Path, header: dict[str, Any]) -> EEGM2Config:
    """Return the shape of a header's network, to be built.

    Raises
    ------
    CheckpointError
        If it is none that this eegm2 knows, or has a mixer that is not ours and nobody has consented to it.
    """
    try:
        found = EEGM2Config.from_dict(header["model"], where=f"{path}: model")
    except ConfigError as error:
        raise CheckpointError(f"{error}; was it written by a newer eegm2?") from error
    refuse_untrusted(path, MIXERS.what, found.mixer)
    return found


def checkpoint_path(path_or_run: str | Path, which: str) -> Path:
    """Return the weights file that `path_or_run` and `which` name; see :func:`load_checkpoint`."""
    path = find_weights(path_or_run, which)
    if path.suffix == ".ckpt":
        remedy = f"the weights are in {path.with_suffix('.safetensors').name} beside it"
        raise CheckpointError(f"{path}: expected a .safetensors file or a run folder; {remedy}")
    return path


def read_header(
    path_or_run: str | Path, which: Literal["best", "last"] = "best", *, needs: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the header of a checkpoint without building its model; errors as :func:`load_checkpoint`."""
    path = checkpoint_path(path_or_run, which)
    if path.suffix in AUTHORS_SUFFIXES:
        return _of_the_authors(path, None).header
    header = read_weights(path)[0]
    _refuse_without(path, header, needs)
    return header


def _of_the_authors(path: Path, config: EEGM2Config | None) -> Checkpoint:
    """Return a network of the authors, with what their paper says of its input; channels have no names."""
    from eegm2.config import to_dict
    from eegm2.data.channels import placeholders
    from eegm2.model.authors import load_authors_checkpoint

    model = load_authors_checkpoint(path)
    if config is not None:
        refuse_other_shape(path, model.config, config)
    preprocessing = PreprocessingConfig()
    header = {
        "format": FORMAT,
        "model": model.config.to_dict(),
        "ch_names": placeholders(model.config.n_chans),
        "sfreq_hz": preprocessing.sfreq_hz,
        "preprocessing": to_dict(preprocessing),
        "windows": to_dict(WindowConfig()),
    }
    model.header = header
    return Checkpoint(model, header, path)


def _refuse_without(path: Path, header: dict[str, Any], needs: tuple[str, ...]) -> None:
    """Refuse a header that lacks a field the caller needs."""
    missing = [name for name in needs if name not in header]
    if missing:
        raise CheckpointError(
            f"{path}: its header has no {', '.join(missing)}, so the input it was trained on is unknown; "
            "take the checkpoint that eegm2 pretrain wrote, or say it with save_pretrained(..., ch_names=...)"
        )


def refuse_other_shape(path: Path, found: EEGM2Config, wanted: EEGM2Config) -> None:
    """Raise a CheckpointError that names every field in which two network shapes differ."""
    a, b = found.to_dict(), wanted.to_dict()
    names = dict.fromkeys([*a, *b])
    differing = [
        f"{name} is {a.get(name)!r}, expected {b.get(name)!r}" for name in names if a.get(name) != b.get(name)
    ]
    if differing:
        raise CheckpointError(f"{path}: checkpoint of another configuration: {'; '.join(differing)}")


def provenance() -> dict[str, Any]:
    """Return the versions of what computes, and the commit if this is a git checkout."""
    import numpy

    versions = {
        "eegm2": eegm2.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
    return {"versions": versions, "commit": source_commit()}


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return header and tensors of a file of :func:`write_weights`; errors as :func:`load_checkpoint`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: damaged or truncated ({error}); take another copy of the file"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    if _KEY not in metadata:
        raise CheckpointError(f"{path}: has no eegm2 header, so it was not written by eegm2 pretrain")
    try:
        header = checked(parse_json(metadata[_KEY]), _CHECKPOINT, f"{path}: its header", CheckpointError)
        number = header["format"]
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: damaged header ({error}); take another copy of the file") from error
    if number > FORMAT:
        raise CheckpointError(f"{path}: format {number}, this eegm2 reads up to {FORMAT}; upgrade eegm2")
    return header, tensors


def _shapes(path: Path, config: EEGM2Config) -> nn.Module:
    """Return the network without memory for its weights: a header may ask for any size."""
    try:
        with without_memory():
            return build_model(config)
    except (RuntimeError, OverflowError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{path}: damaged header: no such network can be built ({reason}); take another copy of the file"
        ) from error


def _mismatch(model: nn.Module, tensors: dict[str, torch.Tensor]) -> str:
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing:
        return f"{len(missing)} missing, the first {missing[0]}"
    if extra:
        return f"{len(extra)} unknown, the first {extra[0]}"
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape:
            return f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
    return ""
