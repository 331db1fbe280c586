"""``eegm2 pretrain``: from a store to a pretrained model."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eegm2.cli.options import options
from eegm2.ending import status_of
from eegm2.training.config import PretrainConfig
from eegm2.words import count

if TYPE_CHECKING:
    from eegm2.training.pretrain import PretrainResult


@options(PretrainConfig)
def pretrain(
    stores: Annotated[
        list[str],
        typer.Argument(
            metavar="STORE...", help="Stores written by eegm2 prepare; of several, alike but for electrodes."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="RUN", help="Folder of the run; given again, the run goes on.")
    ],
    config: PretrainConfig,
    find_lr: Annotated[
        bool,
        typer.Option(
            "--find-lr",
            help="Try learning rates, print and plot what was found beside RUN, and begin no run.",
        ),
    ] = False,
) -> None:
    """Pretrain a network on one store or several, without labels.

    Run the same command again to go on with a run that stopped; Ctrl-C leaves one that can. The defaults
    are the paper's values but for --epochs, where the paper has 500.
    """
    try:
        from eegm2.ops import keep_freed_memory
        from eegm2.training.pretrain import pretrain as run_pretraining
        from eegm2.training.run_record import environment_rank
        from eegm2.training.state import Interrupted
    except KeyboardInterrupt as interruption:
        typer.echo("stopped before it began; run the same command again", err=True)
        sys.exit(status_of(interruption))
    keep_freed_memory()
    if find_lr:
        _find_lr(stores, out, config)
        return
    try:
        result = run_pretraining(stores, out, config)
    except (Interrupted, KeyboardInterrupt) as interruption:
        if environment_rank() == 0:
            again = " ".join(map(shlex.quote, ["eegm2", *sys.argv[1:]]))
            typer.echo(f"stopped; to go on: {again}", err=True)
        sys.exit(status_of(interruption))
    if environment_rank() == 0:
        _say_where(result)


def _find_lr(stores: list[str], out: Path, config: PretrainConfig) -> None:
    from eegm2.training.lr_finder import find_learning_rate

    found = find_learning_rate(stores, out, config)
    lowest = found.rates[found.smoothed.argmin()]
    typer.echo(f"{len(found.rates)} rates from {found.rates[0]:.2g} to {found.rates[-1]:.2g}")
    typer.echo(f"  steepest   {found.suggestion:.2g}; the loss is lowest at {lowest:.2g}")
    typer.echo(f"  written    {found.table}, {found.plot}")
    typer.echo(f"  suggestion --max-lr {found.suggestion:.2g}")


def _say_where(result: PretrainResult) -> None:
    run, metrics = result.run, result.metrics
    state = "had finished before" if result.already_finished else "finished"
    losses = f"train loss {metrics['train_loss']:.5g}" if metrics.get("train_loss") is not None else ""
    if metrics.get("val_loss") is not None:
        losses += f", validation loss {metrics['val_loss']:.5g}"
    typer.echo(f"{run}: {state} after {count(result.epoch, 'epoch')}, {count(result.step, 'step')}; {losses}")
    if result.performance:
        speed = result.performance
        memory = f"peak memory {speed['peak_memory_mb']:.0f} MB"
        typer.echo(f"  speed      {speed['windows_per_s']:.4g} windows/s, {memory}")
    typer.echo(f"  weights    {run / 'checkpoints' / 'best.safetensors'}, last.safetensors beside it")
    typer.echo(f"  losses     {run / 'logs' / 'metrics.csv'}; tensorboard --logdir {run / 'logs'}")
    typer.echo(f"  subjects   {run / 'splits.json'}; all options in {run / 'run.json'}")
    typer.echo(f"  next       eegm2 probe {run} STORE --out DIR")
