"""Which parameters of a network with a head learn, and how fast."""

from __future__ import annotations

import fnmatch
from typing import Any

from torch import nn

from eegm2.errors import ConfigError
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.protocols.fitting import parameter_groups

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
