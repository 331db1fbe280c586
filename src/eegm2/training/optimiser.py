"""The optimiser of pretraining and its one-cycle learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from eegm2.training.config import PretrainConfig

#: Parameters without weight decay: mamba_ssm's, and those whose zero means something (bands, shrinkage).
UNDECAYED = ("A_log", "D", "dt_bias", "log_centre_hz", "log_width_hz", "shrinkage_logit")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups: A_log, D, dt_bias take no weight decay (as in mamba_ssm), all others do."""
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name.rpartition(".")[2] in UNDECAYED].append(parameter)
    return [{"params": p, "weight_decay": d} for p, d in zip(groups, (weight_decay, 0.0)) if p]


def adamw_and_cycle(
    model: nn.Module, config: PretrainConfig, steps_per_epoch: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW and the one-cycle rate laid out over all epochs of the run."""
    steps, pct_start = max(2, config.n_epochs * steps_per_epoch), config.pct_start
    if pct_start * steps == 1:
        pct_start = 1.5 / steps  # torch divides by the steps of the warm-up less one
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.max_lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=config.max_lr,
        total_steps=steps,
        pct_start=pct_start,
        div_factor=config.div_factor,
        final_div_factor=config.final_div_factor,
        cycle_momentum=False,
    )
    return optimizer, scheduler
