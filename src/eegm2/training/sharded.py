"""Whole states of what may be sharded over devices, in the form that is the same however it is trained."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn


def sharded_root(module: nn.Module) -> Any:
    """Return the module that shards the others, None if none does."""
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

    return next(iter(FSDP.fsdp_modules(module, root_only=True)), None)


def whole_state(
    module: nn.Module, optimizer: torch.optim.Optimizer, root: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the states of a module and its optimiser; where `root` shards them, the first process's are whole."""
    if root is None:
        return module.state_dict(), optimizer.state_dict()
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    from torch.distributed.fsdp import OptimStateKeyType

    with _whole(root, first_only=True):
        weights, found = root.state_dict(), FSDP.optim_state_dict(root, optimizer)
        if found:
            found = FSDP.rekey_optim_state_dict(found, OptimStateKeyType.PARAM_ID, root)
    return weights, found


def put_back(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    root: Any,
    weights: dict[str, Any],
    of_optimizer: dict[str, Any],
) -> None:
    """Set what :func:`whole_state` returned to the first process; every process needs it."""
    if root is None:
        module.load_state_dict(weights)
        optimizer.load_state_dict(of_optimizer)
        return
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    from torch.distributed.fsdp import OptimStateKeyType

    with _whole(root, first_only=False):
        root.load_state_dict(weights)
        found = FSDP.rekey_optim_state_dict(of_optimizer, OptimStateKeyType.PARAM_NAME, root)
        optimizer.load_state_dict(FSDP.optim_state_dict_to_load(root, optimizer, found))


def _whole(root: Any, *, first_only: bool) -> AbstractContextManager[Any]:
    from torch.distributed.fsdp import (
        FullOptimStateDictConfig,
        FullStateDictConfig,
        StateDictType,
    )
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

    where = {"offload_to_cpu": True, "rank0_only": first_only}
    return FSDP.state_dict_type(
        root, StateDictType.FULL_STATE_DICT, FullStateDictConfig(**where), FullOptimStateDictConfig(**where)
    )
