"""A kept model opened: the network, its head, and what was written down when it was learnt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eegm2.config import from_dict
from eegm2.data.channels import unnamed
from eegm2.data.config import WindowConfig
from eegm2.deploy.heads.dense import DenseHead
from eegm2.errors import CheckpointError, ConfigError
from eegm2.evaluation.config import Centre
from eegm2.evaluation.features.centring import centred
from eegm2.evaluation.features.representation import frozen, iterate
from eegm2.evaluation.protocols.kept import read_downstream
from eegm2.model.features import refuse_kind, window_features
from eegm2.model.heads import Downstream
from eegm2.training.checkpoint import Checkpoint, load_checkpoint
from eegm2.zoo.find import model_folder
from eegm2.zoo.shipped import DOWNSTREAM_KEY, HEADS

#: Which head is taken where nothing is said, of those there are.
ORDER = ("linear", "light", "fine", "scratch")


@dataclass(frozen=True)
class Classifier:
    """A network with a head.

    Attributes
    ----------
    checkpoint : Checkpoint
        The network and how its input is prepared.
    classes : tuple of str
        None where the head predicts a value.
    facts : dict
        Of the head: window_s, scaling, features, centre, threshold, people, range …
    head : DenseHead or None
        Of frozen features.
    tuned : Downstream or None
        A fine-tuned network with its head.
    name : str
        Of the head.
    sha256 : str
        Over the files of network and head.
    """

    checkpoint: Checkpoint
    classes: tuple[str, ...]
    facts: dict[str, Any] = field(repr=False)
    head: DenseHead | None
    tuned: Downstream | None
    name: str
    sha256: str

    @property
    def windows(self) -> WindowConfig:
        """How windows are cut and scaled."""
        trained = self.checkpoint.windows
        known: dict[str, Any] = {"window_s": float(self.facts.get("window_s", trained.window_s))}
        known["scaling"] = self.facts.get("scaling", trained.scaling)
        known |= {"dataset": trained.dataset, "dataset_options": trained.dataset_options}
        return from_dict(WindowConfig, known, where=f"head {self.name}")

    @property
    def threshold(self) -> float | None:
        """Of the second of two classes; None: the larger probability decides."""
        value = self.facts.get("threshold")
        return float(value) if value is not None else None

    @property
    def value(self) -> dict[str, str] | None:
        """Target and unit of the value that the head predicts; None of classes."""
        if self.classes:
            return None
        return {"target": str(self.facts.get("target", "")), "unit": str(self.facts.get("unit", ""))}

    def on_montage(self, ch_names: Sequence[str], positions: str = "") -> Classifier:
        """Return the classifier for data with these channels.

        Raises
        ------
        ConfigError
            If the network takes other electrodes, or one has no known position.
        """
        trained = list(self.checkpoint.header["ch_names"])
        any_of = self.checkpoint.config.any_electrodes
        same = list(ch_names) == trained or (unnamed(trained) and len(trained) == len(ch_names))
        if not same and (not any_of or self.tuned is not None):
            raise ConfigError(
                f"channels: the model was trained on {' '.join(trained)}, got {' '.join(ch_names)}; prepare "
                "these, or take a model for any electrodes (eegm2 models) with a head of its features"
            )
        return replace(self, checkpoint=self.checkpoint.on_montage(ch_names, positions))

    def features(self, x: NDArray[np.float32], batch_size: int, device: str) -> NDArray[np.float64] | None:
        """Return the features of scaled windows (n, n_chans, n_times).

        None of a fine-tuned network with a head of its own, unless it was learnt on centred features.
        """
        if self.head is None:
            return None if self.centre == "none" else self._tuned("pooled", x, batch_size, device)
        kind, model = self.facts.get("features", "statistics"), self.checkpoint.model
        made = []
        with frozen(model, device) as encode:
            for rows in iterate(len(x), batch_size):
                representation = encode(torch.from_numpy(x[rows]).to(device))
                made.append(window_features(representation, kind, model.config).double().cpu().numpy())
        return np.concatenate(made)

    def probabilities(
        self,
        x: NDArray[np.float32],
        taken: NDArray[np.float64] | None,
        batch_size: int,
        device: str,
    ) -> NDArray[np.float64]:
        """Return class probabilities (n, n_classes), or values (n, 1), of windows.

        Parameters
        ----------
        x : array, shape (n, n_chans, n_times)
            Scaled windows.
        taken : array, shape (n, n_features), optional
            From :meth:`features`, centred (:meth:`centred`) where the head was learnt on such.
        batch_size, device
            Of the forward passes of a fine-tuned network.
        """
        if taken is None:
            made = self._tuned("forward", x, batch_size, device)
        elif self.head is not None:
            return self.head(taken)
        else:
            made = self._tuned("answer", taken.astype(np.float32), batch_size, device)
        return torch.from_numpy(made).softmax(1).numpy() if self.classes else made

    @property
    def centre(self) -> Centre:
        """What is taken off the features."""
        return self.facts.get("centre", "none")

    def centred(
        self, features: NDArray[np.float64], start_s: NDArray[np.float64], window_s: float
    ) -> NDArray[np.float64]:
        """Return the features (n, n_features) of a recording's windows as the head takes them."""
        one = np.zeros(len(features), str)
        return np.asarray(centred(features, one, self.centre, start_s, window_s))

    def _tuned(
        self, what: str, rows: NDArray[np.float32], batch_size: int, device: str
    ) -> NDArray[np.float64]:
        """Return what a method of the fine-tuned network gives, (n, n_outputs or n_features)."""
        assert self.tuned is not None
        parts = []
        with torch.inference_mode():
            method = getattr(self.tuned.to(device), what)
            for some in iterate(len(rows), batch_size):
                parts.append(method(torch.from_numpy(rows[some]).to(device)).double().cpu().numpy())
        return np.concatenate(parts)

    def decide(self, probabilities: NDArray[np.float64], threshold: float | None = None) -> NDArray[np.int64]:
        """Return the class decided for each row."""
        cut = self.threshold if threshold is None else threshold
        if cut is not None and len(self.classes) == 2:
            return (probabilities[:, 1] >= cut).astype(np.int64)
        return probabilities.argmax(1)


def load_classifier(model: str | Path, head: str = "") -> Classifier:
    """Open a model that has a head: the folder of a probe or of a fine-tuned run, or a model and a head file.

    Parameters
    ----------
    model : str or Path
        Any name of a model, see :func:`eegm2.zoo.find_weights`.
    head : str
        Name of a head in the model's folder, or a file written by ``eegm2 head``; by default the first.

    Raises
    ------
    CheckpointError
        If there is no such model or head, the run is not finished, or the head belongs to another network.
    """
    folder = model_folder(model)
    if folder is not None:
        _refuse_unfinished(folder)
    checkpoint = load_checkpoint(model)
    path = _head_file(str(model), folder, head)
    tuned, dense = None, None
    if _metadata(path, DOWNSTREAM_KEY):
        tuned, classes, facts = read_downstream(path, checkpoint.config)
    else:
        dense = DenseHead.load(path)
        classes, facts = dense.classes, dense.facts
        _refuse_other_network(path, dense, checkpoint)
    digest = hashlib.sha256(path.read_bytes())
    digest.update(checkpoint.path.read_bytes())
    return Classifier(checkpoint, tuple(classes), facts, dense, tuned, path.stem, digest.hexdigest())


def _head_file(model: str, folder: Path | None, head: str) -> Path:
    if head.endswith(".safetensors"):
        return Path(head)
    there = {path.stem: path for path in sorted((folder / HEADS).glob("*.safetensors"))} if folder else {}
    if not there:
        raise CheckpointError(
            f"{model}: has no head, so it decides nothing; fit one with eegm2 probe {model} STORE --out DIR "
            "and predict with DIR, or give a file of eegm2 head with --head"
        )
    if head and head not in there:
        raise CheckpointError(f"--head {head}: {model} has {', '.join(there)}; choose one of them")
    return there[head or next((name for name in ORDER if name in there), next(iter(there)))]


def _refuse_unfinished(folder: Path) -> None:
    """Refuse a fine-tuned run that was interrupted; its weights are not there or not its best."""
    path = folder / "run.json"
    if not path.is_file():
        return
    try:
        facts = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); run eegm2 finetune again") from error
    if isinstance(facts, dict) and facts.get("kind") == "finetune" and not facts.get("finished"):
        raise CheckpointError(f"{folder}: fine-tuning has not finished; run the same eegm2 finetune again")


def _refuse_other_network(path: Path, head: DenseHead, checkpoint: Checkpoint) -> None:
    kind, config = head.facts.get("features", "statistics"), checkpoint.config
    try:
        refuse_kind(kind, config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: belongs to another network ({error})") from error
    with torch.inference_mode():
        n_times = max(int(head.facts.get("n_times", 0)), 4 * config.step_samples, 64)
        made = window_features(checkpoint.model.encode(torch.ones(1, config.n_chans, n_times)), kind, config)
    if made.shape[1] != len(head.mean):
        raise CheckpointError(
            f"{path}: takes {len(head.mean)} features, the network gives {made.shape[1]}; it belongs to "
            "another network"
        )


def _metadata(path: Path, key: str) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return key in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as a head ({error})") from error
