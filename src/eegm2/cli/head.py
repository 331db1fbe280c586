"""``eegm2 head``: fit a classifier head for the stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def head(
    run: Annotated[Path, typer.Argument(help="Run folder or .safetensors checkpoint.")],
    store: Annotated[Path, typer.Argument(help="Store with labels, written by eegm2 prepare.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, .safetensors.")],
    *,
    subjects: Annotated[
        list[str] | None, typer.Option("--subject", help="Fit on this subject only; repeat for more.")
    ] = None,
    target: Annotated[str, typer.Option(help="annotations, or a recordings' attribute.")] = "annotations",
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Class in order of its number; none given: all.")
    ] = None,
) -> None:
    """Fit the linear head (standardised features, one-vs-rest logistic regression) that eegm2 stream takes.

    Fitted on every labelled window of the store, or of the subjects named: judge it with eegm2 probe, on
    subjects that it has not seen.
    """
    from eegm2.deploy.fit_head import fit_head

    fitted = fit_head(
        run, store, subjects=subjects or None, target=target, classes=tuple(classes) if classes else None
    )
    fitted.save(out)
    facts = fitted.facts
    typer.echo(
        f"{out}  {', '.join(fitted.classes)}: {facts['n_windows']} windows of {facts['n_subjects']} subjects"
    )
