"""``eegm2 prepare``: EEG files or a data set into a store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eegm2.cli.options import options
from eegm2.cli.progress import bar
from eegm2.data.config import PrepareConfig
from eegm2.words import count

if TYPE_CHECKING:
    from eegm2.data.preparing.prepare import PrepareResult
    from eegm2.data.preparing.worker import RecordingOutcome


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

    Files that cannot be used are skipped and listed at the end, in prepare_report.json and in quality.csv; so
    is everything else that looks like EEG and is not taken.
    Without --montage or --channels every recording must have the EEG channels of the first one. Data whose
    amplitude is not calibrated need --amplitude any.
    """
    from eegm2.data.preparing.prepare import prepare as run

    with bar(begin="looking for recordings") as progress:

        def tell(done: int, total: int, outcome: RecordingOutcome) -> None:
            progress(f"{outcome.status} {outcome.recording}"[-40:], done, total)

        result = run(source, out, config, progress=tell)
        progress("interrupted" if result.interrupted else "done", None, None)
    _show(result)
    if result.interrupted:
        typer.echo("interrupted; run the same command again to go on", err=True)
        raise typer.Exit(result.status)


def _show(result: PrepareResult) -> None:
    """Print what became of the recordings, and where it is."""
    from eegm2.data.preparing.finding import summary

    config = result.preprocessing
    typer.echo(f"store       {result.url}")
    typer.echo(f"recipe      {result.recipe}")
    typer.echo(f"channels    {len(config.channels)}: {' '.join(config.channels)}")
    typer.echo(f"band, rate  {config.l_freq_hz:g}-{config.h_freq_hz:g} Hz, {config.sfreq_hz:g} Hz")
    used = [outcome for outcome in result.outcomes if outcome.status not in ("skipped", "removed")]
    hours = sum(float(outcome.quality.get("duration_s", 0.0)) for outcome in used) / 3600
    subjects = len({outcome.subject for outcome in used})
    typer.echo(f"recordings  {len(used)} of {count(subjects, 'subject')}, {hours:.2f} h ({_counts(result)})")
    if (
        result.recipe == "folder"
        and len(used) > 1
        and all(o.subject == o.recording and not o.subject.startswith("sub-") for o in used)
    ):
        typer.echo(
            "people      each file counts as a person: no name has a sub-… and no folder holds one person's; "
            "where that is wrong, name them so or give --table"
        )
    dropped = sorted({name for outcome in used for name in outcome.quality.get("dropped_channels", ())})
    if dropped:
        typer.echo(f"left out    channels {' '.join(dropped)}")
    for names, mark in _alike(used):
        typer.echo(f"look at     {names}: {mark}")
    rejected = [outcome for outcome in result.outcomes if outcome.status == "skipped"]
    for outcome in rejected:
        typer.echo(f"skipped     {outcome.recording}: {outcome.reason}", err=True)
    for outcome in result.outcomes:
        if outcome.status == "removed":
            typer.echo(f"removed     {outcome.recording}: {outcome.reason}", err=True)
    for line in summary(result.left_out):
        typer.echo(f"not taken   {line}", err=True)
    for message in result.messages:
        typer.echo(f"warning     {message}", err=True)
    warnings = len(rejected) + len(result.left_out) + len(result.messages)
    if warnings:
        typer.echo(
            f"{count(warnings, 'warning')}; see prepare_report.json and quality.csv in the store", err=True
        )


def _to_look_at(quality: dict[str, Any]) -> list[str]:
    """Return what is odd about a recording, each in words."""
    from eegm2.data.signal.quality import artefacts

    kinds = (("flat", "flat_channels"), ("noisy", "noisy_channels"), ("marked as bad", "bad_channels"))
    marks = [f"{what} {' '.join(quality[key])}" for what, key in kinds if quality.get(key)]
    marks += quality["notes"].split("; ") if quality.get("notes") else []
    return [*marks, *artefacts(quality)]


def _alike(outcomes: Iterable[RecordingOutcome]) -> list[tuple[str, str]]:
    """Return the first names of the recordings of which something is to be told, and what; each once."""
    groups: dict[str, list[str]] = {}
    for outcome in outcomes:
        for mark in _to_look_at(outcome.quality):
            groups.setdefault(mark, []).append(outcome.recording)
    lines = []
    for mark, names in groups.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        lines.append((", ".join(names[:3]) + more, mark))
    return lines


def _counts(result: PrepareResult) -> str:
    return ", ".join(f"{n} {status}" for status, n in sorted(result.counts.items()))
