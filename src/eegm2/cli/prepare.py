"""``eegm2 prepare``: EEG files or a data set into a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from eegm2.cli.options import options
from eegm2.data.config import PrepareConfig

if TYPE_CHECKING:
    from eegm2.data.preparing.prepare import PrepareResult


@options(PrepareConfig)
def prepare(
    source: Annotated[
        str, typer.Argument(help="EEG file, folder of them (any depth), or data set folder (BIDS …).")
    ],
    out: Annotated[str, typer.Option("--out", help="Store to write or go on with: folder or fsspec URL.")],
    *,
    config: PrepareConfig,
) -> None:
    """Read recordings once into a store of whole recordings in microvolts; run again, it goes on.

    Files that cannot be used are skipped and listed at the end, in prepare_report.json and in quality.csv.
    Without --montage or --channels every recording must have the EEG channels of the first one. Data whose
    amplitude is not calibrated need --amplitude any.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from eegm2.data.preparing.prepare import prepare as run

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task("looking for recordings", total=None)
        result = run(
            source,
            out,
            config,
            progress=lambda done, total, outcome: bar.update(
                task, completed=done, total=total, description=f"{outcome.status} {outcome.recording}"[-40:]
            ),
        )
        bar.update(task, description="interrupted" if result.interrupted else "done")
    _show(result)
    if result.interrupted:
        typer.echo("interrupted; run the same command again to go on", err=True)
        raise typer.Exit(result.status)


def _show(result: PrepareResult) -> None:
    """Print what became of the recordings, and where it is."""
    config = result.preprocessing
    typer.echo(f"store       {result.url}")
    typer.echo(f"recipe      {result.recipe}")
    typer.echo(f"channels    {len(config.channels)}: {' '.join(config.channels)}")
    typer.echo(f"band, rate  {config.l_freq_hz:g}-{config.h_freq_hz:g} Hz, {config.sfreq_hz:g} Hz")
    used = [outcome for outcome in result.outcomes if outcome.status != "skipped"]
    hours = sum(float(outcome.quality.get("duration_s", 0.0)) for outcome in used) / 3600
    subjects = len({outcome.subject for outcome in used})
    typer.echo(f"recordings  {len(used)} of {subjects} subjects, {hours:.2f} h ({_counts(result)})")
    dropped = sorted({name for outcome in used for name in outcome.quality.get("dropped_channels", ())})
    if dropped:
        typer.echo(f"left out    channels {' '.join(dropped)}")
    for outcome in used:
        marks = [
            f"{what} {' '.join(outcome.quality[key])}"
            for what, key in (("flat", "flat_channels"), ("noisy", "noisy_channels"))
            if outcome.quality.get(key)
        ]
        marks += [outcome.quality["notes"]] if outcome.quality.get("notes") else []
        if marks:
            typer.echo(f"look at     {outcome.recording}: {'; '.join(marks)}")
    skipped = [outcome for outcome in result.outcomes if outcome.status == "skipped"]
    for outcome in skipped:
        typer.echo(f"skipped     {outcome.recording}: {outcome.reason}", err=True)
    for message in result.messages:
        typer.echo(f"warning     {message}", err=True)
    warnings = len(skipped) + len(result.messages)
    if warnings:
        typer.echo(f"{warnings} warnings; see prepare_report.json and quality.csv in the store", err=True)


def _counts(result: PrepareResult) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(result.counts.items()))
