"""A module whose weights are sharded over devices: its whole state, in the form that all states have."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    OptimStateKeyType,
    StateDictType,
)

FSDP: Any = FullyShardedDataParallel


class Sharded:
    """What shards the weights of a module, which is set up with the strategy fsdp."""

    def __init__(self, module: nn.Module) -> None:
        (self.root,) = FSDP.fsdp_modules(module, root_only=True)

    def clip(self, limit: float) -> Tensor:
        """Clip the gradient, of which each process holds a part; return its norm before."""
        return self.root.clip_grad_norm_(limit)

    def state(self, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the states of module and optimiser; the first process gets them, all must call it."""
        with self._whole(first_only=True):
            weights, found = self.root.state_dict(), FSDP.optim_state_dict(self.root, optimizer)
            if found:
                found = FSDP.rekey_optim_state_dict(found, OptimStateKeyType.PARAM_ID, self.root)
            return weights, found

    def restore(
        self, optimizer: torch.optim.Optimizer, weights: dict[str, Any], found: dict[str, Any]
    ) -> None:
        """Set what :meth:`state` returned to the first process; every process has read it."""
        with self._whole(first_only=False):
            self.root.load_state_dict(weights)
            found = FSDP.rekey_optim_state_dict(found, OptimStateKeyType.PARAM_NAME, self.root)
            optimizer.load_state_dict(FSDP.optim_state_dict_to_load(self.root, optimizer, found))

    def _whole(self, *, first_only: bool) -> AbstractContextManager[Any]:
        where = {"offload_to_cpu": True, "rank0_only": first_only}
        kinds = FullStateDictConfig(**where), FullOptimStateDictConfig(**where)
        return FSDP.state_dict_type(self.root, StateDictType.FULL_STATE_DICT, *kinds)
