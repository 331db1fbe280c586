"""Lightning Fabric, set up for a run's devices and arithmetic, and to keep quiet."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric import plugins as of_lightning
from lightning.fabric.strategies import FSDPStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException

from eegm2.errors import ConfigError
from eegm2.training.config import PretrainConfig


class MixedPrecision(of_lightning.MixedPrecision):
    """Half precision inside a network alone.

    Windows, which are also what the network should give, and losses keep their float32; Fabric's own rounds
    them. A weight is cast at every use, so that its gradients are added up in float32.
    """

    def convert_input(self, data: Any) -> Any:
        """Return it as it is."""
        return data

    def convert_output(self, data: Any) -> Any:
        """Return it as it is."""
        return data

    def forward_context(self) -> AbstractContextManager[Any]:
        """Return the context in which a network computes."""
        dtype = torch.bfloat16 if self.precision == "bf16-mixed" else torch.float16
        return torch.autocast(self.device, dtype=dtype, cache_enabled=False)


def make_fabric(config: PretrainConfig) -> Fabric:
    """Return what brings a run to its devices; processes begin when it is launched.

    Raises
    ------
    ConfigError
        If this machine cannot do what is asked for.
    """
    gpus = torch.cuda.is_available() and config.accelerator not in ("cpu", "mps")
    strategy: Any = config.strategy
    arithmetic: dict[str, Any] = {"precision": config.precision}
    if strategy == "fsdp":
        if not gpus:
            raise ConfigError("strategy: got fsdp without CUDA devices, which alone it shards over; use ddp")
        strategy = FSDPStrategy(state_dict_type="full", use_orig_params=True)
    elif config.precision != "32-true":
        arithmetic = {"plugins": MixedPrecision(config.precision, "cuda" if gpus else "cpu")}
    try:
        fabric = Fabric(
            accelerator=config.accelerator,
            devices=int(config.devices) if config.devices.lstrip("-").isdigit() else config.devices,
            num_nodes=config.num_nodes,
            strategy=strategy,
            **arithmetic,
        )
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        given = ", ".join(
            f"{name} {getattr(config, name)!r}" for name in ("accelerator", "devices", "strategy")
        )
        raise ConfigError(
            f"{given}: {' '.join(str(error).split())}; eegm2 info shows what this machine has"
        ) from error
    refuse_half_on_cpu(config, fabric.device)
    return fabric


def refuse_half_on_cpu(config: PretrainConfig, device: torch.device) -> None:
    """Raise a ConfigError for float16 on a CPU, which has no such arithmetic."""
    if config.precision == "16-mixed" and device.type == "cpu":
        raise ConfigError(
            "precision: got 16-mixed on a CPU, which does not train in float16; "
            "use --precision bf16-mixed or 32-true, or --accelerator gpu"
        )


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice to developers from the user's screen; its errors stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
