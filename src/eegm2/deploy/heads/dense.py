"""A head as a file of plain arrays: standardise, dense layers, probabilities or a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eegm2.deploy.device.decisions import dense_probabilities, dense_scores
from eegm2.errors import CheckpointError, ConfigError
from eegm2.evaluation.protocols.kept import HEAD_KEY, HeadArrays
from eegm2.records import HEAD, checked, parse_json


class DenseHead:
    """Features to class probabilities, or to a value, with NumPy alone.

    Parameters
    ----------
    mean, scale : array, shape (n_features,)
        Standardisation ``(f - mean) / scale``.
    layers : list of (array, array)
        Weight (out, in) and bias (out,) of each layer; ReLU between them.
    classes : tuple of str
        None of a value.
    link : {"softmax", "one-vs-rest", "value"}
        How scores become probabilities; one-vs-rest takes a sigmoid of each and divides by their sum (a
        single score is that of the second of two classes). A value is its score.
    facts : dict
        What it was trained on, stored with it.
    """

    def __init__(
        self,
        mean: np.ndarray,
        scale: np.ndarray,
        layers: list[tuple[np.ndarray, np.ndarray]],
        classes: tuple[str, ...],
        *,
        link: str = "softmax",
        facts: dict[str, Any] | None = None,
    ) -> None:
        if link not in ("softmax", "one-vs-rest", "value"):
            raise ConfigError(f"link: got '{link}', expected 'softmax', 'one-vs-rest' or 'value'")
        _refuse_shapes(mean, scale, layers)
        scores, outputs = len(layers[-1][1]), 1 if link == "value" else len(classes)
        several = link == "value" and classes
        if several or (scores != outputs and not (link == "one-vs-rest" and (scores, outputs) == (1, 2))):
            raise ConfigError(f"classes: got {len(classes)} for {scores} scores")
        self.mean, self.scale, self.layers = mean, scale, layers
        self.classes, self.link, self.facts = tuple(classes), link, facts or {}

    @classmethod
    def from_arrays(cls, arrays: HeadArrays, classes: tuple[str, ...], **facts: Any) -> DenseHead:
        """Take over what a protocol learnt."""
        layers = list(arrays.layers)
        return cls(arrays.mean, arrays.scale, layers, classes, link=arrays.link, facts=facts)

    @classmethod
    def from_pipeline(cls, pipeline: Any, classes: tuple[str, ...], **facts: Any) -> DenseHead:
        """Take over a fitted StandardScaler and (one-vs-rest) logistic regression of scikit-learn."""
        return cls.from_arrays(HeadArrays.of_pipeline(pipeline), classes, **facts)

    @classmethod
    def from_network(
        cls, mean: np.ndarray, scale: np.ndarray, network: Any, classes: tuple[str, ...]
    ) -> DenseHead:
        """Take over a fitted torch perceptron of linear layers with ReLU between them."""
        return cls.from_arrays(HeadArrays.of_network(mean, scale, network), classes)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Map features (windows, n_features) to probabilities (windows, n_classes) or values (windows, 1)."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ConfigError(f"head: got features {features.shape}, expected (windows, {len(self.mean)})")
        if self.link == "value":
            return dense_scores(features, self.mean, self.scale, self.layers)
        return dense_probabilities(features, self.mean, self.scale, self.layers, self.link)

    def save(self, path: str | Path) -> None:
        """Write a ``.safetensors`` file, whole or not at all."""
        HeadArrays(self.mean, self.scale, tuple(self.layers), self.link).write(
            Path(path), self.classes, self.facts
        )

    @classmethod
    def load(cls, path: str | Path) -> DenseHead:
        """Read a file of :meth:`save`.

        Raises
        ------
        CheckpointError
            If it is missing, damaged or something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            header = checked(parse_json(metadata[HEAD_KEY]), HEAD, f"{path}: its header", CheckpointError)
            layers: list[tuple[np.ndarray, np.ndarray]] = []
            while f"layer{len(layers)}.weight" in arrays:
                i = len(layers)
                layers.append((arrays[f"layer{i}.weight"], arrays[f"layer{i}.bias"]))
            classes, link, facts = tuple(header["classes"]), header["link"], header["facts"]
            return cls(arrays["mean"], arrays["scale"], layers, classes, link=link, facts=facts)
        except CheckpointError:
            raise
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: cannot be read as a head ({error})") from error
        except (KeyError, ValueError, IndexError) as error:
            raise CheckpointError(f"{path}: is not a head written by eegm2 ({error!r})") from error


def _refuse_shapes(mean: np.ndarray, scale: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Refuse arrays that do not fit one another, are no finite numbers or divide by zero."""
    if not layers:
        raise ConfigError("layers: got none, expected one or more")
    n = len(mean) if mean.ndim == 1 else -1
    if n < 1 or scale.shape != (n,):
        raise ConfigError(f"mean, scale: got shapes {mean.shape} and {scale.shape}, expected the same length")
    for number, (weight, bias) in enumerate(layers):
        if weight.ndim != 2 or weight.shape[1] != n or bias.shape != (len(weight),):
            raise ConfigError(f"layer {number}: got shapes {weight.shape} and {bias.shape} for {n} inputs")
        n = len(weight)
    arrays = [mean, scale, *(array for layer in layers for array in layer)]
    if (
        any(array.dtype.kind not in "fiu" or not np.isfinite(array).all() for array in arrays)
        or not scale.all()
    ):
        raise ConfigError("an array holds something else than finite numbers, or a scale of 0")
