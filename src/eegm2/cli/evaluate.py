"""``eegm2 evaluate``: a whole experiment from one file."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eegm2.cli.options import several
from eegm2.ending import status_of
from eegm2.errors import ConfigError
from eegm2.evaluation.experiment.reading import read_plan

if TYPE_CHECKING:
    from eegm2.evaluation.experiment.state import Experiment


def evaluate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.toml", help="Data, splits, seeds, pretrainings and models.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the experiment; given again, it goes on.")
    ],
    store: Annotated[str, typer.Option("--store", help="Store, in place of the file's.")] = "",
    only: Annotated[list[str] | None, several("--only", help="Run these models only.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells, done and to do; compute and write nothing.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
    threads: Annotated[int, typer.Option("--threads", help="CPU threads; 0: as many as there are.")] = 0,
) -> None:
    """Compare models on the same splits: protocols, pretrainings and baselines, several seeds.

    Every model, split and seed is a cell; finished cells are kept, and the same command goes on with the
    rest. Writes results.json (mean and interval over subjects), results.md, details.json and evaluate.log.
    """
    plan = read_plan(file, store=store)
    if threads < 0:
        raise ConfigError(f"--threads: got {threads}, expected 0 or more")
    from eegm2.evaluation.experiment.run import run_experiment
    from eegm2.evaluation.experiment.state import Experiment, states
    from eegm2.ops import keep_freed_memory
    from eegm2.training.state import Interrupted

    keep_freed_memory()
    with _threads(threads):
        experiment = Experiment(plan, out, only=only or (), device=device)
        if dry_run:
            _list(experiment, states(experiment))
            return
        try:
            done = run_experiment(experiment, typer.echo)
        except (Interrupted, KeyboardInterrupt) as interruption:
            typer.echo("stopped; finished cells are kept: run the same command again to go on", err=True)
            sys.exit(status_of(interruption))
    typer.echo((out / "results.md").read_text(encoding="utf-8"))
    if done.stale:
        typer.echo(f"note: {len(done.stale)} stale cells of an earlier form of {file} in {out / 'cells'}")
    for cell, message in done.failures.items():
        typer.echo(f"failed: {cell}: {message}", err=True)
    if done.failures:
        sys.exit(1)


def _list(experiment: Experiment, states: Iterator[tuple[str, str]]) -> None:
    """Print every cell's state and how many there are of each."""
    counts: Counter[str] = Counter()
    for label, state in states:
        counts[state] += 1
        typer.echo(f"{state:<20} {label}")
    typer.echo(", ".join(f"{count} {state}" for state, count in counts.items()))
    stale = experiment.stale()
    if stale:
        typer.echo(f"{len(stale)} stale cells of an earlier form: {', '.join(stale[:5])}")


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Limit torch's threads and those of the linear algebra behind NumPy and scikit-learn."""
    if not count:
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
