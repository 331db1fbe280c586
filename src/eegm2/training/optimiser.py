"""The optimiser of pretraining and its one-cycle learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from eegm2.training.config import Decayed, PretrainConfig


def decay_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float, decayed: Decayed
) -> list[dict[str, Any]]:
    """Return AdamW's groups of what is trained; A_log, D and dt_bias never decay, as in mamba_ssm.

    Parameters
    ----------
    named : iterable of (name, parameter)
        As ``named_parameters()`` gives them.
    weight_decay : float
        Of those that decay.
    decayed : {"all", "matrices"}
        Whether norms, biases and other vectors decay too.
    """
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in named:
        if parameter.requires_grad:
            spared = name.rpartition(".")[2] in ("A_log", "D", "dt_bias")
            groups[spared or (decayed == "matrices" and parameter.dim() < 2)].append(parameter)
    return [{"params": p, "weight_decay": d} for p, d in zip(groups, (weight_decay, 0.0)) if p]


def adamw_and_cycle(
    model: nn.Module, config: PretrainConfig, steps_per_epoch: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW and the one-cycle rate laid out over all epochs of the run."""
    optimizer = torch.optim.AdamW(
        decay_groups(model.named_parameters(), config.weight_decay, config.decayed), lr=config.max_lr
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=config.max_lr,
        total_steps=max(2, config.n_epochs * steps_per_epoch),
        pct_start=config.pct_start,
        div_factor=config.div_factor,
        final_div_factor=config.final_div_factor,
        cycle_momentum=False,
    )
    return optimizer, scheduler
