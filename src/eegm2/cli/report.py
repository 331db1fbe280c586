"""``eegm2 report``: one HTML file about a run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from eegm2.cli.options import several
from eegm2.errors import ConfigError


def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder written by eegm2 pretrain or eegm2 finetune.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="HTML file to write; complete in itself, needs no network.")
    ],
    store: Annotated[
        list[str] | None,
        several("--store", help="Recording stores (folder or URL); none given: those the run names."),
    ] = None,
    probe: Annotated[
        list[Path] | None, several("--probe", help="Probe folders besides those the run lists.")
    ] = None,
    evaluation: Annotated[
        list[Path] | None, several("--evaluation", help="Folders or results.json of eegm2 evaluate.")
    ] = None,
    projection: Annotated[
        str,
        typer.Option("--projection", help="Map of the representation: pca or tsne (neighbourhoods only)."),
    ] = "pca",
) -> None:
    """Write a self-contained HTML report: data, quality, training, reconstruction, downstream results."""
    if projection not in ("pca", "tsne"):
        raise ConfigError(f"--projection: got {projection!r}, expected pca or tsne")
    from eegm2.report.html import write_report

    written = write_report(
        run,
        out,
        store,
        probes=probe or (),
        evaluations=evaluation or (),
        projection="tsne" if projection == "tsne" else "pca",
        command=shlex.join(["eegm2", *sys.argv[1:]]),
    )
    typer.echo(f"report: {written} ({written.stat().st_size / 1e6:.1f} MB)")
