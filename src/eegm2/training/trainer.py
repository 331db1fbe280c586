"""Lightning's trainer, set up to do the loop and the devices, and to keep quiet."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from eegm2.errors import ConfigError
from eegm2.training.config import PretrainConfig
from eegm2.training.state import AtomicCheckpointIO


def make_trainer(
    folder: Path, config: PretrainConfig, callbacks: list[Any], *, has_val: bool, step: int
) -> Trainer:
    """Return Lightning's trainer; its own loops do neither logging nor checkpoints."""
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # our own signal handling saves the state
    strategy: Any = config.strategy
    if strategy == "fsdp":
        if config.accelerator in ("cpu", "mps") or not torch.cuda.is_available():
            raise ConfigError("strategy: got fsdp without CUDA devices, which alone it shards over; use ddp")
        strategy = FSDPStrategy(state_dict_type="full", use_orig_params=True)
    try:
        trainer = Trainer(
            accelerator=config.accelerator,
            devices=int(config.devices) if config.devices.lstrip("-").isdigit() else config.devices,
            num_nodes=config.num_nodes,
            strategy=strategy,
            precision=config.precision,
            max_epochs=config.n_epochs,
            accumulate_grad_batches=config.accumulate,
            limit_val_batches=1.0 if has_val or config.overfit_batches else 0,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
            plugins=plugins,
            default_root_dir=folder,
            logger=TensorBoardLogger(folder / "logs", name="", version="tensorboard", purge_step=step),
        )
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        given = ", ".join(
            f"{name} {getattr(config, name)!r}" for name in ("accelerator", "devices", "strategy")
        )
        raise ConfigError(
            f"{given}: {' '.join(str(error).split())}; eegm2 info shows what this machine has"
        ) from error
    refuse_half_on_cpu(config, trainer.strategy.root_device)
    return trainer


def refuse_half_on_cpu(config: PretrainConfig, device: torch.device) -> None:
    """Raise a ConfigError for float16 on a CPU, where the trainer would quietly take bfloat16."""
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
        warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
