"""Pretraining: from a store to a run folder, or on with a run that stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eegm2.config import from_dict, to_dict
from eegm2.data.splits import SplitManifest, split_subjects
from eegm2.data.store import RecordingStore
from eegm2.data.windows import WindowDataset
from eegm2.errors import ConfigError, DataError, EEGM2Error
from eegm2.model.config import EEGM2Config
from eegm2.model.network import build_model
from eegm2.training.checkpoint import provenance, write_json
from eegm2.training.config import FREE_ON_RESUME, PretrainConfig
from eegm2.training.runfolder import disk_errors, locked

RUN_FORMAT = 1


@dataclass(frozen=True)
class PretrainResult:
    """What a run came to.

    Attributes
    ----------
    run : Path
        Its folder.
    epoch, step : int
        How far it went.
    metrics : dict
        Last row of ``logs/metrics.csv``.
    performance : dict
        windows_per_s, peak_memory_mb and seconds of the last epoch; empty if nothing was left to do.
    already_finished : bool
        The run had ended before.
    """

    run: Path
    epoch: int
    step: int
    metrics: dict[str, Any]
    performance: dict[str, float]
    already_finished: bool = False


def pretrain(store: str | Path | RecordingStore, run: str | Path, config: PretrainConfig) -> PretrainResult:
    """Pretrain a network on a store's recordings, or go on with a run that stopped.

    The run folder then holds run.json, splits.json, checkpoints/{last,best}.{safetensors,json},
    checkpoints/last.ckpt (to go on from) and logs/ (metrics.csv, steps.csv, performance.csv, tensorboard).

    Parameters
    ----------
    store : str, Path or RecordingStore
        Prepared recordings.
    run : str or Path
        Folder of the run; where it holds one with the same options, that one goes on.
    config : PretrainConfig
        Every choice.

    Returns
    -------
    PretrainResult

    Raises
    ------
    ConfigError
        If the folder holds a run with other options (all are named with both values), or something else.
    DataError
        If the store changed since the run began, a loss is not finite, or the data cannot be used.
    Interrupted
        If a signal ended the run; the same call goes on with it.
    """
    store = store if isinstance(store, RecordingStore) else RecordingStore(store)
    folder = Path(run)
    main_process = _environment_rank() == 0
    with locked(folder) if main_process else contextlib.nullcontext():
        facts = _open_run(folder, store, config, write=main_process)
        manifest = _splits(folder, store, config, write=main_process)
        if facts.get("finished"):
            return _result(folder, already_finished=True)
        with _plain_errors(folder, config):
            result = _fit(folder, store, manifest, config, facts)
        if main_process:
            with disk_errors(folder, "the checkpoints are whole"):
                write_json(folder / "run.json", {**facts, "finished": True})
    return result


def _fit(
    folder: Path, store: RecordingStore, manifest: SplitManifest, config: PretrainConfig, facts: dict[str, Any]
) -> PretrainResult:
    from lightning.pytorch import seed_everything

    from eegm2.training.module import PretrainModule
    from eegm2.training.progress import Progress
    from eegm2.training.recorder import Recorder, read_state

    windows = config.window_config()
    train = WindowDataset(store, windows, **manifest.selection("train"))
    val = WindowDataset(store, windows, **manifest.selection("val")) if manifest.val else None
    data = {"n_train_windows": len(train), "n_val_windows": len(val) if val is not None else 0}
    header = {name: value for name, value in facts.items() if name not in ("finished", "run_format")}
    header["data"] = {**header["data"], **data}
    recorder = Recorder(folder, header)
    before = read_state(recorder.state_path)["eegm2"] if recorder.state_path.exists() else None
    if before is not None and before["finished"]:
        return _result(folder)
    with _quiet_lightning():
        seed_everything(config.seed, verbose=False)
        module = PretrainModule(build_model(EEGM2Config.from_dict(facts["model"])), config, train, val)
        if config.compile:
            module.model.compile()
        callbacks = [recorder, Progress(recorder)]
        trainer = _trainer(folder, config, callbacks, has_val=val is not None, step=before["step"] if before else 0)
        if trainer.is_global_zero:
            print(_opening(module, train, val, trainer, before), flush=True)
        recorder.catch_signals()
        try:
            trainer.fit(module, ckpt_path=str(recorder.state_path) if before is not None else None)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            if recorder.signum is not None:  # the signal reached the workers first
                from eegm2.training.recorder import Interrupted

                raise Interrupted(recorder.signum) from error
            raise EEGM2Error(
                f"workers: a process that reads windows died ({str(error).splitlines()[0]}); memory is the usual "
                "reason; use fewer --workers, then run the same command again: it goes on"
            ) from error
        finally:
            recorder.release_signals()
    return _result(folder, performance=recorder.speed)


def _trainer(folder: Path, config: PretrainConfig, callbacks: list[Any], *, has_val: bool, step: int) -> Any:
    """Return Lightning's trainer; its own loops do neither logging nor checkpoints."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import TensorBoardLogger
    from lightning.pytorch.plugins.environments import SLURMEnvironment
    from lightning.pytorch.strategies import FSDPStrategy

    from eegm2.training.recorder import AtomicCheckpointIO

    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # our own signal handling saves the state
    strategy: Any = config.strategy
    if strategy == "fsdp":
        strategy = FSDPStrategy(state_dict_type="full", use_orig_params=True)
    try:
        return Trainer(
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
    except (ValueError, RuntimeError) as error:
        given = ", ".join(f"{name} {getattr(config, name)!r}" for name in ("accelerator", "devices", "strategy"))
        raise ConfigError(f"{given}: {' '.join(str(error).split())}; eegm2 info shows what this machine has") from error


def _open_run(folder: Path, store: RecordingStore, config: PretrainConfig, *, write: bool) -> dict[str, Any]:
    """Return the facts of the run in `folder`; a new one is begun, another one refused."""
    path = folder / "run.json"
    if path.exists():
        try:
            facts: dict[str, Any] = json.loads(path.read_bytes())
            before = from_dict(PretrainConfig, facts["pretrain"], where=f"{path}: pretrain")
            sha256 = facts["data"]["manifest_sha256"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ConfigError(f"{path}: not the record of a run ({error}); choose another --out") from error
        _refuse_other_options(folder, before, config)
        if sha256 != store.manifest_sha256:
            raise DataError(
                f"{store.url}: the store is not the one the run in {folder} began with (manifest "
                f"{store.manifest_sha256[:12]}…, then {sha256[:12]}…); give that one, or choose another --out"
            )
        return facts
    strangers = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.exists() else []
    if write and strangers:
        raise ConfigError(f"{folder}: holds {strangers[0]} and no run; choose an empty folder for --out")
    facts = {
        "run_format": RUN_FORMAT,
        "model": EEGM2Config.preset(config.preset, n_chans=len(store.ch_names), width=config.width).to_dict(),
        "preprocessing": to_dict(store.preprocessing),
        "windows": to_dict(config.window_config()),
        "ch_names": list(store.ch_names),
        "sfreq_hz": store.sfreq_hz,
        "data": {
            "store": Path(store.url).name,
            "manifest_sha256": store.manifest_sha256,
            "n_recordings": len(store.recordings),
            "n_subjects": len(store.subjects),
        },
        "pretrain": to_dict(config),
        **provenance(),
        "finished": False,
    }
    if write:
        with disk_errors(folder, "nothing was begun"):
            write_json(path, facts)
    return facts


def _refuse_other_options(folder: Path, before: PretrainConfig, now: PretrainConfig) -> None:
    """Raise a ConfigError that names every option in which a run to go on with differs."""
    differing = [
        field.name
        for field in dataclasses.fields(now)
        if field.name not in FREE_ON_RESUME and getattr(before, field.name) != getattr(now, field.name)
    ]
    if not differing:
        return
    each = "; ".join(f"{name} is {getattr(before, name)!r} there, got {getattr(now, name)!r}" for name in differing)
    remedy = "give the same options to go on with it, or choose another --out"
    if "epochs" in differing:
        remedy = f"the learning-rate cycle is laid out over all epochs, so it cannot be lengthened; {remedy}"
    raise ConfigError(f"{folder}: holds a run with other options: {each}; {remedy}")


def _splits(folder: Path, store: RecordingStore, config: PretrainConfig, *, write: bool) -> SplitManifest:
    """Return the run's split: the one it began with, the user's own, or a new one."""
    path = folder / "splits.json"
    if path.exists():
        return SplitManifest.from_json(path, store)
    if config.splits:
        manifest = SplitManifest.from_json(config.splits, store)
    else:
        manifest = split_subjects(store, config.split_config())
    if not manifest.train:
        raise DataError(f"{config.splits or store.url}: the split leaves nobody to train on; lower val and test")
    if write:
        with disk_errors(folder, "nothing was begun"):
            manifest.to_json(path)
    return manifest


def _result(
    folder: Path, *, performance: dict[str, float] | None = None, already_finished: bool = False
) -> PretrainResult:
    from eegm2.training.recorder import METRICS
    from eegm2.training.runfolder import Table

    rows = Table(folder / "logs" / "metrics.csv", METRICS).rows()
    row = {name: (float(value) if value else None) for name, value in rows[-1].items()} if rows else {}
    return PretrainResult(
        run=folder,
        epoch=int(row.get("epoch") or 0),
        step=int(row.get("step") or 0),
        metrics=row,
        performance=performance or {},
        already_finished=already_finished,
    )


def _opening(module: Any, train: WindowDataset, val: WindowDataset | None, trainer: Any, before: Any) -> str:
    config, parameters = module.config, sum(p.numel() for p in module.model.parameters())
    shape = f"{len(train.store.ch_names)} channels × {train.n_times} samples"
    held = f", {len(val)} to validate" if val is not None else ", none to validate"
    lines = [
        f"{len(train)} windows of {shape} to train on{held}",
        f"{config.preset}, width {config.width}: {parameters:,} parameters, on {trainer.strategy.root_device} "
        f"({trainer.world_size} process{'es' * (trainer.world_size > 1)}, {config.precision})",
    ]
    if before is not None:
        lines.append(f"going on from epoch {before['epoch'] + 1}, batch {before['batch']}, step {before['step']}")
    return "\n".join(lines)


def _environment_rank() -> int:
    """Return this process's rank before any trainer exists; launchers tell it by environment variables."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


@contextlib.contextmanager
def _plain_errors(folder: Path, config: PretrainConfig) -> Iterator[None]:
    """Say what to do when memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error).lower()
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not (
            "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
        ):
            raise
        half, twice = max(1, config.batch_size // 2), 2 * config.accumulate
        raise EEGM2Error(
            f"batch_size: out of memory at {config.batch_size} windows of {config.window_s:g} s; in a new --out try "
            f"--batch-size {half} --accumulate {twice} (as many windows per step), a smaller --width or --window-s"
        ) from error


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
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
