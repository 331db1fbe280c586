"""What a protocol learnt with labels, as arrays and as a file: the form in which heads are kept and used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEAD_KEY = "eegm2_head"
DOWNSTREAM_KEY = "eegm2_downstream"
HEADS = "heads"
"""Folder beside a model's weights in which its heads lie."""

Layer = tuple[NDArray[np.floating], NDArray[np.floating]]


@dataclass(frozen=True)
class HeadArrays:
    """Standardisation and dense layers of a classifier of features.

    Attributes
    ----------
    mean, scale : array, shape (n_features,)
        Standardisation ``(f - mean) / scale``.
    layers : tuple of (array, array)
        Weight (out, in) and bias (out,) of each layer; ReLU between them.
    link : {"softmax", "one-vs-rest"}
        How scores become probabilities, as in `eegm2.deploy.heads.dense.DenseHead`.
    """

    mean: NDArray[np.floating]
    scale: NDArray[np.floating]
    layers: tuple[Layer, ...]
    link: str

    @classmethod
    def of_pipeline(cls, pipeline: Any) -> HeadArrays:
        """Take over a fitted StandardScaler and (one-vs-rest) logistic regression of scikit-learn."""
        scaler, last = pipeline[0], pipeline[-1]
        estimators = getattr(last, "estimators_", [last])
        weight = np.concatenate([np.atleast_2d(e.coef_) for e in estimators])
        bias = np.concatenate([np.atleast_1d(e.intercept_) for e in estimators])
        multinomial = not hasattr(last, "estimators_") and len(weight) > 1
        link = "softmax" if multinomial else "one-vs-rest"
        return cls(scaler.mean_, scaler.scale_, ((weight, bias),), link)

    @classmethod
    def of_network(cls, mean: NDArray, scale: NDArray, network: Any) -> HeadArrays:
        """Take over a fitted torch perceptron of linear layers with ReLU between them."""
        layers = tuple(
            (layer.weight.detach().cpu().double().numpy(), layer.bias.detach().cpu().double().numpy())
            for layer in network
            if hasattr(layer, "weight")
        )
        return cls(mean, scale, layers, "softmax")

    def among(self, used: NDArray[np.bool_]) -> HeadArrays:
        """Return the head of all features where it was fitted on those `used`: the others weigh nothing."""
        if used.all():
            return self
        mean, scale = np.zeros(len(used)), np.ones(len(used))
        mean[used], scale[used] = self.mean, self.scale
        weight = np.zeros((len(self.layers[0][0]), len(used)))
        weight[:, used] = self.layers[0][0]
        return HeadArrays(mean, scale, ((weight, self.layers[0][1]), *self.layers[1:]), self.link)

    def write(self, path: Path, classes: Sequence[str], facts: dict[str, Any]) -> None:
        """Write a ``.safetensors`` file, whole or not at all."""
        from safetensors.numpy import save

        from eegm2.atomic import write_atomic

        arrays = {"mean": self.mean, "scale": self.scale}
        for i, (weight, bias) in enumerate(self.layers):
            arrays |= {f"layer{i}.weight": weight, f"layer{i}.bias": bias}
        header = {"format": 1, "classes": list(classes), "link": self.link, "facts": facts}
        plain = {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in arrays.items()}
        write_atomic(path, [save(plain, metadata={HEAD_KEY: json.dumps(header, ensure_ascii=False)})])


def copy_without_people(path: Path, out: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Copy a head, or a fine-tuned network, with the number of people in the place of their names.

    Returns
    -------
    classes : tuple of str
    facts : dict
        As they are in the copy.

    Raises
    ------
    CheckpointError
        If it is damaged or something else.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save

    from eegm2.atomic import write_atomic
    from eegm2.errors import CheckpointError

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        key = HEAD_KEY if HEAD_KEY in metadata else DOWNSTREAM_KEY
        header = json.loads(metadata[key])
        classes, facts = tuple(map(str, header["classes"])), dict(header["facts"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is not a head that eegm2 wrote ({error}); delete it") from error
    people = facts.pop("people", {})
    if isinstance(people, dict) and people.get("train"):
        facts["n_subjects"] = len(people["train"])
    judged = facts.get("validation")
    if isinstance(judged, dict):  # of eegm2 head
        facts["validation"] = {k: v for k, v in judged.items() if k not in ("fitted_on", "left_out")}
    metadata[key] = json.dumps({**header, "facts": facts}, ensure_ascii=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, [save(arrays, metadata=metadata)])
    return classes, facts
