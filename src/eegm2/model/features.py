"""The kinds of features that probes, heads, embeddings, streams and estimators read off a representation."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config
from eegm2.model.covariance.tokens import evidence
from eegm2.model.statistics import FEATURES, STATISTICS, root

#: Of any network: of its representation, or of the trunk's state where there is one.
OF_STATES = tuple(FEATURES)
#: Of networks with the covariance embedding: what each kind is made of, in order.
PARTS = {
    "tangent": ("tangent",),
    "log_variance": ("log_variance",),
    "state": ("state",),
    "tangent_state": ("tangent", "state"),
    "tangent_spread": ("tangent", "spread"),
    "tangent_spread_state": ("tangent", "spread", "state"),
}
OF_TOKENS = tuple(PARTS)
KINDS = (*OF_STATES, *OF_TOKENS)


def refuse_kind(kind: str, config: EEGM2Config) -> None:
    """Raise a ConfigError where a network has no such features; the message lists those it has."""
    has_tokens = config.embedding == "covariance"
    if kind not in KINDS:
        there = KINDS if has_tokens else OF_STATES
        raise ConfigError(f"features: got '{kind}', expected {', '.join(there[:-1])} or {there[-1]}")
    if kind in OF_TOKENS and not has_tokens:
        raise ConfigError(
            f"features: got '{kind}', which the covariance embedding has and this network "
            f"({config.preset_name}) has not; expected {' or '.join(OF_STATES)}"
        )


def window_features(representation: Tensor, kind: str, config: EEGM2Config, first: int = 0) -> Tensor:
    """Return one row of features per window.

    ``statistics`` and ``covariance``: nine time statistics, or the logarithm of the covariance, of the
    representation's channels (with the covariance embedding: of the trunk's). ``tangent``: tangent vectors
    averaged over time, each by what share of its running window it knows (the first of a recording know
    little); ``log_variance``: the diagonal of it, one number per band and channel; ``state``: the trunk's
    output averaged alike; spread: the standard deviation of tangent vectors over time, weighted alike, which
    one token does not have (0). ``tangent_state``, ``tangent_spread`` and ``tangent_spread_state`` put them
    side by side in the order of their names.

    Parameters
    ----------
    representation : Tensor, shape (batch, representation_channels, steps)
        What ``encode`` returns, or a stretch of it.
    kind : str
        One of ``KINDS``.
    config : EEGM2Config
        Of the network.
    first : int
        Index of the first step, counted from the start of the recording.

    Returns
    -------
    Tensor, shape (batch, n_features)

    Raises
    ------
    ConfigError
        If the network has no such features.
    """
    refuse_kind(kind, config)
    tokens = config.embedding == "covariance"
    if kind in OF_STATES:
        states = representation[:, : config.trunk_channels] if tokens else representation
        return FEATURES[kind](states.cpu() if kind == "covariance" else states)  # in float64, which MPS lacks
    if representation.dim() != 3 or representation.shape[-1] == 0:
        raise ValueError(f"features: got shape {tuple(representation.shape)}, expected at least one step")
    known = evidence(config, first, representation.shape[-1]).to(representation)
    known = known / known.sum()
    parts: dict[str, Tensor] = {}
    pooled = (representation * known).sum(-1)
    parts["state"], parts["tangent"] = pooled.split([config.trunk_channels, config.tangent_size], dim=1)
    if "log_variance" in PARTS[kind]:
        parts["log_variance"] = parts["tangent"][:, diagonal(config)]
    if "spread" in PARTS[kind]:
        away = representation[:, config.trunk_channels :] - parts["tangent"][..., None]
        parts["spread"] = root((away.square() * known).sum(-1))
    return torch.cat([parts[name] for name in PARTS[kind]], dim=1)


def feature_views(kind: str, config: EEGM2Config) -> dict[str, NDArray[np.intp]]:
    """Return the sets of a window's features that deserve a probe of their own, by name.

    They are the kind's parts, and the tangent vector's diagonal besides: of few people a probe of powers
    carries over where one of all covariances overfits (`eegm2.evaluation.protocols.people`). Every other kind
    is one view, and then the answer is empty.
    """
    if not has_views(kind):
        return {}
    views, begin = {"log_variance": np.asarray(diagonal(config))}, 0
    for name in PARTS[kind]:
        views[name] = begin + np.arange(config.trunk_channels if name == "state" else config.tangent_size)
        begin += len(views[name])
    return views


def has_views(kind: str) -> bool:
    """Return whether features of a kind have several views."""
    return "tangent" in PARTS.get(kind, ())


def diagonal(config: EEGM2Config) -> list[int]:
    """Return the places of the diagonals in a tangent vector, band by band."""
    size, each = config.inner_chans, config.inner_chans * (config.inner_chans + 1) // 2
    within = [row * size - row * (row - 1) // 2 for row in range(size)]
    return [band * each + place for band in range(config.n_bands) for place in within]


def usual_kind(config: EEGM2Config) -> Literal["tangent_state", "statistics"]:
    """Return the features that a network gives where none are asked for."""
    return "tangent_state" if config.embedding == "covariance" else "statistics"


def n_features(kind: str, config: EEGM2Config) -> int:
    """Return how many features of a kind a network gives; errors as :func:`window_features`."""
    few_steps = torch.zeros(1, config.representation_channels, 4)
    return window_features(few_steps, kind, config).shape[1]


def feature_names(n_features: int, kind: str = "statistics", config: EEGM2Config | None = None) -> list[str]:
    """Return the name of every feature, such as min_000, covariance_000_001 or tangent_0_00_01, in order.

    Parameters
    ----------
    n_features : int
        Features of a window.
    kind : str
        See :func:`window_features`.
    config : EEGM2Config, optional
        Of the network; needed for what only the covariance embedding has. A tangent vector counts band, row
        and column.
    """
    if kind == "covariance":
        channels = (math.isqrt(8 * n_features + 1) - 1) // 2
        return [f"covariance_{i:03d}_{j:03d}" for i in range(channels) for j in range(i, channels)]
    if kind == "statistics":
        channels = n_features // len(STATISTICS)
        return [f"{statistic}_{channel:03d}" for statistic in STATISTICS for channel in range(channels)]
    assert config is not None
    bands, size = range(config.n_bands), range(config.inner_chans)
    tangent = [f"tangent_{b}_{i:02d}_{j:02d}" for b in bands for i in size for j in size if i <= j]
    parts = {
        "tangent": tangent,
        "log_variance": [f"log_variance_{b}_{i:02d}" for b in bands for i in size],
        "spread": [name.replace("tangent", "spread") for name in tangent],
        "state": [f"state_{channel:03d}" for channel in range(config.trunk_channels)],
    }
    return [name for part in PARTS[kind] for name in parts[part]]
