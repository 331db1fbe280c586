"""What a protocol learnt with labels, as arrays and as a file: the form in which heads are kept and used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eegm2.zoo.shipped import DOWNSTREAM_KEY, HEAD_KEY

if TYPE_CHECKING:
    from torch import Tensor

    from eegm2.model.config import EEGM2Config
    from eegm2.model.heads import Downstream, TokensHead

Layer = tuple[NDArray[np.floating], NDArray[np.floating]]


@dataclass(frozen=True)
class HeadArrays:
    """Standardisation and dense layers of a head of features.

    Attributes
    ----------
    mean, scale : array, shape (n_features,)
        Standardisation ``(f - mean) / scale``.
    layers : tuple of (array, array)
        Weight (out, in) and bias (out,) of each layer; ReLU between them.
    link : {"softmax", "one-vs-rest", "value"}
        How scores become probabilities, as in `eegm2.deploy.heads.dense.DenseHead`; of a value, the score is
        it.
    """

    mean: NDArray[np.floating]
    scale: NDArray[np.floating]
    layers: tuple[Layer, ...]
    link: str

    @classmethod
    def of_pipeline(cls, pipeline: Any) -> HeadArrays:
        """Take over scikit-learn's StandardScaler and (one-vs-rest) logistic regression, or ridge, fitted."""
        scaler, last = pipeline[0], pipeline[-1]
        estimators = getattr(last, "estimators_", [last])
        weight = np.concatenate([np.atleast_2d(e.coef_) for e in estimators])
        bias = np.concatenate([np.atleast_1d(e.intercept_) for e in estimators])
        link = "one-vs-rest" if hasattr(last, "estimators_") or len(weight) == 1 else "softmax"
        if not hasattr(last, "classes_"):
            link = "value"
        return cls(scaler.mean_, scaler.scale_, ((weight, bias),), link)

    @classmethod
    def of_network(
        cls, mean: NDArray, scale: NDArray, network: Any, target: tuple[float, float] | None = None
    ) -> HeadArrays:
        """Take over a fitted torch perceptron of linear layers with ReLU between them.

        Of a value, `target` is the mean and standard deviation of what it was fitted to.
        """
        layers = tuple(
            (layer.weight.detach().cpu().double().numpy(), layer.bias.detach().cpu().double().numpy())
            for layer in network
            if hasattr(layer, "weight")
        )
        if target is None:
            return cls(mean, scale, layers, "softmax")
        middle, spread = target
        weight, bias = layers[-1]
        return cls(mean, scale, (*layers[:-1], (weight * spread, bias * spread + middle)), "value")

    @classmethod
    def of_tokens(cls, head: TokensHead, *, classes: bool) -> HeadArrays:
        """Take over the head ``statistics`` of a network with the covariance embedding: it is linear."""

        def plain(tensor: Tensor) -> NDArray[np.float64]:
            return tensor.detach().cpu().double().numpy()

        norm, last = head.norm, head.out
        weight, bias = plain(last.get_parameter("weight")), plain(last.get_parameter("bias"))
        layer = (weight * plain(norm.weight), weight @ plain(norm.bias) + bias)
        scale = np.sqrt(plain(norm.get_buffer("running_var")) + norm.eps)
        return cls(plain(norm.get_buffer("running_mean")), scale, (layer,), "softmax" if classes else "value")

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


def write_tuned(path: Path, network: Downstream, classes: Sequence[str], facts: dict[str, Any]) -> None:
    """Write the head of a fine-tuned network that is kept beside it, whole or not at all.

    Where features are centred and the head is linear in them, it is written as a head of features, which
    every door centres already; else the network is written once more, with its head.
    """
    from eegm2.model.heads import TokensHead

    if facts.get("centre", "none") != "none" and isinstance(network.head, TokensHead):
        arrays = HeadArrays.of_tokens(network.head, classes=bool(classes))
        arrays.write(path, classes, {**facts, "features": network.head.KIND})
    else:
        write_downstream(path, network, classes, facts)


def write_downstream(path: Path, network: Downstream, classes: Sequence[str], facts: dict[str, Any]) -> None:
    """Write a fine-tuned network with its head, whole or not at all."""
    from safetensors.torch import save

    from eegm2.atomic import write_atomic

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    header = {"format": 1, "classes": list(classes), "head": network.head_name, "facts": facts}
    write_atomic(path, [save(state, metadata={DOWNSTREAM_KEY: json.dumps(header, ensure_ascii=False)})])


def read_downstream(path: Path, config: EEGM2Config) -> tuple[Downstream, tuple[str, ...], dict[str, Any]]:
    """Read a file of :func:`write_downstream`: the network in evaluation mode, its classes and facts.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, something else, or of a network of another shape.
    """
    from safetensors import SafetensorError, safe_open

    from eegm2.errors import CheckpointError, EEGM2Error
    from eegm2.model.heads import Downstream
    from eegm2.model.network import build_model

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[DOWNSTREAM_KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        facts = dict(header["facts"])
        n_outputs, n_times = max(len(header["classes"]), 1), int(facts["n_times"])
        network = Downstream(build_model(config), n_outputs, n_times, header["head"])
        network.load_state_dict(state)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as a fine-tuned network ({error})") from error
    except (KeyError, ValueError, TypeError, RuntimeError, EEGM2Error) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{path}: is not a fine-tuned network that eegm2 wrote for this model ({reason})"
        ) from error
    return network.eval(), tuple(header["classes"]), facts
