"""Pretraining: from a store to a run folder, or on with a run that stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eegm2.atomic import remove_stale_temporaries
from eegm2.compiling import say_once
from eegm2.data.windows.pool import StorePool, Stores
from eegm2.data.windows.pooled import PoolWindows, shares
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import ConfigError, EEGM2Error
from eegm2.plugins import consent
from eegm2.training.checkpoint import write_json
from eegm2.training.config import PretrainConfig
from eegm2.training.continued import Beginning
from eegm2.training.first_network import first_network
from eegm2.training.run_record import begin, environment_rank, open_run, run_splits, run_windows, with_windows
from eegm2.training.runfolder import disk_errors, locked, read_rows


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


def pretrain(
    store: Stores,
    run: str | Path,
    config: PretrainConfig,
    *,
    say: Callable[[str], None] | None = None,
) -> PretrainResult:
    """Pretrain a network on the recordings of a store or several, or go on with a run that stopped.

    The run folder then holds run.json, splits.json, checkpoints/{last,best}.{safetensors,json},
    checkpoints/last.ckpt (to go on from) and logs/ (metrics.csv, steps.csv, performance.csv, tensorboard).

    Parameters
    ----------
    store : RecordingStore, path or URL, or a sequence of them
        Prepared recordings; those of several stores are alike but for their electrodes.
    run : str or Path
        Folder of the run; where it holds one with the same options, that one goes on.
    config : PretrainConfig
        Every choice.
    say : callable, optional
        Takes the opening lines and every epoch's line; by default they are printed.

    Returns
    -------
    PretrainResult

    Raises
    ------
    ConfigError
        If the folder holds a run with other options (all are named with both values), or something else, or
        the stores cannot be trained on together.
    DataError
        If the store changed since the run began, a loss is not finite, or the data cannot be used.
    Interrupted
        If a signal ended the run; the same call goes on with it.
    """
    consent(config)
    pool = StorePool(store)
    folder = Path(run)
    main_process = environment_rank() == 0
    with locked(folder) if main_process else contextlib.nullcontext():
        if main_process:
            for place in (folder, folder / "checkpoints", folder / "logs"):
                remove_stale_temporaries(place)  # what a killed process was writing
        config, beginning = begin(folder, pool, config)
        facts = open_run(folder, pool, config, beginning, write=main_process)
        manifest = run_splits(folder, pool, config, beginning, write=main_process)
        if facts.get("finished"):
            return _result(folder, already_finished=True)
        with _plain_errors(folder, config):
            result = _fit(folder, pool, manifest, config, facts, beginning, say)
        if main_process:
            with disk_errors(folder, "the checkpoints are whole"):
                write_json(folder / "run.json", {**facts, "finished": True})
    return result


def _fit(
    folder: Path,
    pool: StorePool,
    manifest: SplitManifest,
    config: PretrainConfig,
    facts: dict[str, Any],
    beginning: Beginning | None,
    say: Callable[[str], None] | None,
) -> PretrainResult:
    from lightning.fabric import seed_everything

    from eegm2.training.devices import make_fabric, quiet_lightning
    from eegm2.training.learner import Learner
    from eegm2.training.loop import train
    from eegm2.training.recorder import STATE, Recorder
    from eegm2.training.shown import printed
    from eegm2.training.state import Interrupted, read_state

    say = say or printed
    windows, val = run_windows(pool, manifest, config)
    header = {name: value for name, value in facts.items() if name not in ("finished", "run_format")}
    header["data"] = with_windows(header["data"], windows, val, shares(pool, windows.sizes, config.share))
    state_path = folder / STATE
    before = read_state(state_path)["eegm2"] if state_path.exists() else None
    if before is not None and before["finished"]:
        return _result(folder)
    with quiet_lightning():
        seed_everything(config.seed, verbose=False)
        learner = Learner(first_network(pool, config, beginning), config, windows, val)
        recorder = Recorder(folder, header, learner.objective.terms, pool.names if len(pool) > 1 else ())
        if config.compile:
            say_once("compiling the network: the first steps take a minute or several, the others gain by it")
            learner.model.compile()
        fabric = make_fabric(config)
        if fabric.is_global_zero:
            for line in _opening(learner, fabric, before):
                say(line)
        recorder.signals.catch()
        try:
            train(learner, fabric, recorder, state_path if before is not None else None, say)
        except Exception as error:
            reason = _dead_worker(error)
            if reason is None:
                raise
            if recorder.signals.caught is not None:  # the signal reached the workers first
                raise Interrupted(recorder.signals.caught) from error
            raise EEGM2Error(
                f"workers: a process that reads windows died ({reason}); memory is the usual "
                "reason; use fewer --workers, then run the same command again: it goes on"
            ) from error
        finally:
            recorder.close()
    return _result(folder, performance=recorder.speed)


def _dead_worker(error: BaseException | None) -> str | None:
    """Return what torch says of a reading process that died, wherever its handler found the program."""
    while error is not None:
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            return str(error).splitlines()[0]
        error = error.__cause__ or error.__context__
    return None


def _result(
    folder: Path, *, performance: dict[str, float] | None = None, already_finished: bool = False
) -> PretrainResult:
    rows = read_rows(folder / "logs" / "metrics.csv")
    row = {name: (float(value) if value else None) for name, value in rows[-1].items()} if rows else {}
    return PretrainResult(
        run=folder,
        epoch=int(row.get("epoch") or 0),
        step=int(row.get("step") or 0),
        metrics=row,
        performance=performance or {},
        already_finished=already_finished,
    )


def _opening(learner: Any, fabric: Any, before: Any) -> list[str]:
    config, parameters = learner.config, sum(p.numel() for p in learner.model.parameters())
    lines = [
        *_opening_windows(learner.train_windows, learner.val_windows, learner.shares),
        f"{config.preset}, width {config.width}: {parameters:,} parameters on {fabric.device} "
        f"({fabric.world_size} process{'es' * (fabric.world_size > 1)}, {config.precision})",
    ]
    if config.init:
        lines.append(f"begun with the weights of {config.init}")
    if before is not None:
        lines.append(
            f"going on from epoch {before['epoch'] + 1}, batch {before['batch']}, step {before['step']}"
        )
    return lines


def _opening_windows(train: PoolWindows, val: PoolWindows | None, portions: Sequence[float]) -> list[str]:
    """Return a line of the windows; of several stores one of each and its share of the training."""
    lines = []
    for place, data in enumerate(train.datasets):
        number = train.numbers[place]
        held = val.of_store(number) if val is not None else None
        text = f"{len(data)} windows of {len(data.store.ch_names)} channels × {data.n_times} samples"
        text += f" to train on, {len(held) if held is not None else 'none'} to validate"
        if len(train.pool) > 1:
            text = f"{train.pool.names[number]}: {text}; {portions[place]:.0%} of the training"
        lines.append(text)
    return lines


@contextlib.contextmanager
def _plain_errors(folder: Path, config: PretrainConfig) -> Iterator[None]:
    """Say what to do when memory runs out or the network cannot be compiled."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if config.compile and type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            raise ConfigError(
                f"compile: torch.compile failed on this machine ({str(error).strip().splitlines()[0]}); "
                "it needs Python's headers and a C++ compiler (g++, or what CXX names): install them, or "
                "leave --compile off"
            ) from error
        text = str(error).lower()
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not (
            "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
        ):
            raise
        half, twice = max(1, config.batch_size // 2), 2 * config.accumulate
        raise EEGM2Error(
            f"batch_size: out of memory at {config.batch_size} windows of {config.window_s:g} s; "
            f"in a new --out try --batch-size {half} --accumulate {twice} (as many windows per step), "
            "or a smaller --width or --window-s"
        ) from error
