"""Kept models on a stream, window by window: what a probe or a fine-tuned network says of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from eegm2.data.config import Scaling
from eegm2.deploy.device.decisions import SlidingWindows
from eegm2.deploy.device.scale import scaled_window
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import ConfigError
from eegm2.model.features import window_features
from eegm2.model.heads import Downstream


def is_windowed(facts: dict[str, Any]) -> bool:
    """Return whether a head was learnt on separate windows, each scaled by itself, and not on a stream."""
    return "n_times" in facts and "calibration_s" not in facts


@dataclass(frozen=True)
class WindowedHead:
    """A head that was learnt on separate windows, with its network: `eegm2 probe` and `eegm2 finetune`.

    A stream gives it what it was learnt on: the last window of the signal, scaled by itself, the network
    begun anew. So it says of a window what ``eegm2 predict`` says of it; but the signal is filtered forwards
    only.

    Attributes
    ----------
    network : nn.Module
        Encoder, or a whole fine-tuned network with its head.
    classes : tuple of str
    facts : dict
        Of the head: n_times, scaling, features, centre, threshold.
    head : DenseHead, optional
        Of the encoder's features; a fine-tuned network has its own.
    """

    network: nn.Module
    classes: tuple[str, ...]
    facts: dict[str, Any]
    head: DenseHead | None = None

    def __post_init__(self) -> None:
        instead = "fit a head for streams with eegm2 head"
        if not self.classes:
            raise ConfigError(f"head: predicts values, and a stream decides between classes; {instead}")
        if self.scaling == "recording":
            raise ConfigError(
                "head: was learnt on windows scaled by their whole recording, which a stream does not have; "
                f"{instead} (--scaling recording takes the baseline's)"
            )
        if self.centre == "recording":
            raise ConfigError(
                "head: was learnt on features less the mean of their whole recording, which a stream does "
                f"not have; {instead} --centre running, or probe or finetune with --centre running"
            )

    @property
    def n_times(self) -> int:
        """Samples of a window."""
        return int(self.facts["n_times"])

    @property
    def scaling(self) -> Scaling:
        """How each window is scaled."""
        return self.facts.get("scaling", "quantile95")

    @property
    def centre(self) -> str:
        """What is taken off the features."""
        return str(self.facts.get("centre", "none"))

    @property
    def kind(self) -> str:
        """Features of the representation; of a fine-tuned network its scores, or what its head centres."""
        if self.head is not None:
            return str(self.facts.get("features", "statistics"))
        return "scores" if self.centre == "none" else "pooled"

    def features(self, x: np.ndarray) -> np.ndarray:
        """Map one window in microvolts, (n_chans, n_times), to features or scores, (1, n)."""
        scaled = torch.from_numpy(scaled_window(x, self.scaling))[None]
        with torch.inference_mode():
            if self.head is None:
                network = self.network if self.kind == "scores" else self.network.pooled
                return network(scaled).double().numpy()  # type: ignore[operator]
            representation = self.network.encode(scaled)  # type: ignore[operator]
            made = window_features(representation, self.kind, self.network.config)  # type: ignore[arg-type]
        return made.double().numpy()

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Map what :meth:`features` returns to probabilities, (1, n_classes)."""
        if self.head is not None:
            return self.head(features)
        if self.kind == "pooled":
            with torch.inference_mode():
                made = self.network.answer(torch.from_numpy(features).float())  # type: ignore[operator]
            features = made.double().numpy()
        e = np.exp(features - features.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)


class WindowedFeatures:
    """Features of the last window of a stream of microvolts, every `hop` samples.

    Parameters
    ----------
    head : WindowedHead
    hop : int
        Samples.
    """

    def __init__(self, head: WindowedHead, hop: int) -> None:
        self.head, self.windows = head, SlidingWindows(head.n_times, hop)

    def reset(self) -> None:
        """Forget the past."""
        self.windows.reset()

    def push(self, x_uv: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Take (n_chans, k) prepared samples; return (end sample, features) of the windows now complete."""
        complete = self.windows.push(x_uv[None])
        return [(start + window.shape[2], self.head.features(window[0])) for start, window in complete]


def refuse_other_model(trained: TrainedModel, facts: dict[str, Any]) -> None:
    """Raise a ConfigError where a head, by its facts, was learnt on another model than this."""
    known = facts.get("model_sha256")
    if known and trained.weights_sha256 and known != trained.weights_sha256:
        raise ConfigError(
            f"head: was fitted on a model with the hash {known[:12]}, this one ({trained.source}) has "
            f"{trained.weights_sha256[:12]}; give that model, or fit a head on this one"
        )


def windowed_head(network: nn.Module, head: DenseHead | None, tuned: Downstream | None, **known: Any) -> Any:
    """Return the head of a kept model, or the dense head itself where it was fitted as streamed.

    Parameters
    ----------
    network : nn.Module
    head, tuned
        One of them.
    **known
        ``classes`` and ``facts`` of the kept model.
    """
    if head is not None and not is_windowed(head.facts):
        return head
    return WindowedHead(tuned.eval() if tuned is not None else network, head=head, **known)
