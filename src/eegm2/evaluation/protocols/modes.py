"""The four downstream protocols of the paper, as named modes with one signature.

linear and light learn on frozen features; fine trains the whole pretrained network with a head; scratch
does the same from random weights.

References
----------
EEGM2, arXiv 2502.17873, section 4.3.
"""

from __future__ import annotations

import copy
import fnmatch
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eegm2.errors import ConfigError
from eegm2.evaluation.config import PROTOCOLS, FitConfig, ProbeConfig
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.protocols.fitting import Task, fit, parameter_groups, target_scale
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe, predictions, probe_arrays
from eegm2.evaluation.protocols.resuming import FitState
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.labelled import LabelledWindows, Split, check_targets
from eegm2.model.features import feature_views
from eegm2.model.heads import Downstream, TokensHead
from eegm2.model.network import EEGM2, fresh_copy
from eegm2.model.unet import UNet

#: From the head to the input; layer-wise decay counts the levels that a network has.
LEVELS = (
    ("head.*",),
    ("network.decoder.output.*", "network.decoder.conv1.*", "network.output.*", "network.up.0.*"),
    ("network.decoder.block2.*", "network.decoder.conv2.*", "network.up.1.*", "network.upsample.0.*"),
    ("network.decoder.block3.*", "network.decoder.conv3.*", "network.up.2.*", "network.upsample.1.*"),
    (
        "network.mediator.*",
        "network.up.3.*",
        "network.upsample.*",
        "network.bottleneck.*",
        "network.down.3.*",
    ),
    ("network.encoder.conv3.*", "network.down.2.*"),
    ("network.encoder.conv2.*", "network.down.1.*"),
    ("network.encoder.linear1.*", "network.encoder.block1.*"),
    ("network.encoder.embedding.*", "network.down.0.*"),
)


def run_protocol(
    name: str,
    data: LabelledWindows,
    split: Split,
    *,
    model: EEGM2 | UNet,
    seed: int = 0,
    config: FitConfig | None = None,
    features: NDArray[np.floating] | None = None,
) -> Outcome:
    """Run one protocol with one seed.

    Parameters
    ----------
    name : {"linear", "light", "fine", "scratch"}
        The protocol.
    data : LabelledWindows
        Two or more classes, or values.
    split : Split
        Learnt on train, stopped early and thresholded on val, predicted on test.
    model : EEGM2 or UNet
        Pretrained; never changed. For scratch only its configuration counts.
    seed : int
        Seeds fresh weights, order and dropout.
    config : FitConfig, optional
        Settings; the paper's (fine, scratch) or :meth:`ProbeConfig.light` (light) by default.
    features : array, optional
        The frozen features of every window, where they are known already (linear, light).

    Returns
    -------
    Outcome
        Scores of the test windows.

    Raises
    ------
    ConfigError
        If the name is unknown.
    DataError
        If the training part lacks a class or has a constant target.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol: got '{name}', expected one of {', '.join(PROTOCOLS)}")
    if name in ("linear", "light"):
        if features is None:
            features = extract_features(model, data, device="cpu" if config is None else config.device)
        if name == "linear":
            return linear_probe(features, data, split, threshold=config.threshold if config else "validation")
        return light_probe(features, data, split, seed=seed, config=config or ProbeConfig().light())
    outcome, network = fine_tune(name, data, split, model=model, seed=seed, config=config or FitConfig())
    if data.is_regression:
        network.in_units(*target_scale(data.y[split.train]))
    return replace(outcome, learnt=network)


def fine_tune(
    name: str,
    data: LabelledWindows,
    split: Split,
    *,
    model: EEGM2 | UNet,
    seed: int,
    config: FitConfig,
    state: FitState | None = None,
) -> tuple[Outcome, Downstream]:
    """Run fine or scratch and return the trained network too; see :func:`run_protocol` and :func:`fit`."""
    check_targets(data, split.train, "train")
    data = data.in_memory()
    n_times = int(data.batch(split.train[:1]).shape[-1])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = fresh_copy(model) if name == "scratch" else copy.deepcopy(model)
        downstream = Downstream(network, max(len(data.classes), 1), n_times, config.head, config.head_dropout)
    freeze(downstream, config.freeze)
    task = Task(data.batch, data.y, split.train, split.val, len(data.classes))
    from_probe = config.begin == "probe"
    if from_probe:
        begin_with_probe(downstream, data, split, task, config.device)
    groups = layer_groups(downstream, config)
    history = fit(downstream, task, config, seed, groups, state=state, counts_as_it_is=from_probe)
    facts: dict[str, Any] = {
        "epochs": len(history.val_loss),
        "best_epoch": history.best_epoch,
        "train_loss": history.train_loss,
        "val_loss": history.val_loss,
        "head": config.head,
    }
    return predictions(name, seed, downstream, task, data, split, config, facts), downstream


def begin_with_probe(
    downstream: Downstream, data: LabelledWindows, split: Split, task: Task, device: str
) -> None:
    """Set a head to the linear probe of the network's frozen features, so that tuning begins where it ends.

    Raises
    ------
    ConfigError
        If the head is not linear in features: any but statistics of the covariance preset.

    References
    ----------
    Kumar et al. (2022), "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
    arXiv 2202.10054.
    """
    head = downstream.head
    if not isinstance(head, TokensHead):
        raise ConfigError(
            f"begin: got 'probe' with head '{downstream.head_name}' of preset "
            f"{downstream.network.config.preset_name}; it is for head 'statistics' of preset covariance"
        )
    kind = "tangent_state"
    features = extract_features(downstream.network, data, device=device, kind=kind)
    arrays = probe_arrays(features, data, split, feature_views(kind, downstream.network.config))
    ((weight, bias),) = arrays.layers
    if not task.n_classes:
        mean, scale = task.target_scale()
        weight, bias = weight / scale, (bias - mean) / scale
    elif len(weight) == 1:  # one score of two classes
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    head.begin_with(*(torch.from_numpy(a) for a in (arrays.mean, arrays.scale, weight, bias)))


def freeze(network: nn.Module, patterns: tuple[str, ...] | list[str]) -> list[str]:
    """Stop the gradient of the parameters whose names match a pattern, and return those names.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    patterns : sequence of str
        Shell patterns on parameter names (``network.encoder.*``), or names of modules (``network.encoder``).

    Raises
    ------
    ConfigError
        If a pattern matches nothing; the message lists the modules there are.
    """
    names = dict(network.named_parameters())
    frozen = []
    for pattern in patterns:
        hits = [n for n in names if fnmatch.fnmatchcase(n, pattern) or n.startswith(pattern + ".")]
        if not hits:
            known = sorted({".".join(name.split(".")[:3]) for name in names})
            raise ConfigError(f"freeze: '{pattern}' matches no parameter; there are {', '.join(known)}")
        frozen += hits
    for name in frozen:
        names[name].requires_grad_(False)
    return frozen


def layer_groups(network: nn.Module, config: FitConfig) -> list[dict[str, Any]]:
    """Return optimiser groups whose learning rate falls by `layer_decay` per level away from the head.

    A network without a level (Light has no decoder) does not count it; a parameter that no level names
    belongs to the deepest.
    """
    if config.layer_decay == 1:
        return parameter_groups(network, config)
    members: dict[int, dict[str, nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        level = level_of(name)
        members.setdefault(level, {})[name] = parameter
    groups = []
    for rank, level in enumerate(sorted(members)):
        kept = {name: p for name, p in members[level].items() if p.requires_grad}
        if kept:
            for group in parameter_groups(kept, config):
                groups.append({**group, "lr": config.lr * config.layer_decay**rank})
    return groups or parameter_groups(network, config)


def level_of(name: str) -> int:
    """Return how far from the head a parameter of :class:`Downstream` is."""
    for level, patterns in enumerate(LEVELS):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            return level
    return len(LEVELS) - 1
