"""``eegm2 head``: fit a classifier head for the stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegm2.data.config import POSITIONS_HELP, Scaling
from eegm2.evaluation.config import CENTRE_HELP, FEATURES_HELP, Centre, Features
from eegm2.words import count


def head(
    run: Annotated[Path, typer.Argument(help="Run folder or .safetensors checkpoint.")],
    store: Annotated[Path, typer.Argument(help="Store with labels, written by eegm2 prepare.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, .safetensors.")],
    *,
    subjects: Annotated[
        list[str] | None, typer.Option("--subject", help="Use this subject only; repeat for more.")
    ] = None,
    target: Annotated[str, typer.Option(help="annotations, or a recordings' attribute.")] = "annotations",
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Class in order of its number; none given: all.")
    ] = None,
    val: Annotated[
        float,
        typer.Option(help="Share of the subjects left out of the fit, to judge it; 0: none."),
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Draws the subjects who are left out.")] = 0,
    features: Annotated[Features, typer.Option(help=FEATURES_HELP)] = "statistics",
    scaling: Annotated[
        Scaling | None, typer.Option(help="Scaling of the windows; none given: as pretrained.")
    ] = None,
    centre: Annotated[Centre, typer.Option(help=CENTRE_HELP)] = "none",
    positions: Annotated[str, typer.Option(help=POSITIONS_HELP)] = "",
) -> None:
    """Fit the linear head (standardised features, one-vs-rest logistic regression) that eegm2 stream takes.

    Some subjects are left out of the fit and judge it: one split, for a first look and not for a paper. For
    several seeds, protocols and a test part use eegm2 probe.
    """
    from eegm2.deploy.heads.fit import fit_head

    fitted = fit_head(
        run,
        store,
        subjects=subjects or None,
        target=target,
        classes=tuple(classes) if classes else None,
        val=val,
        seed=seed,
        features=features,
        scaling=scaling,
        centre=centre,
        positions=positions,
    )
    fitted.save(out)
    facts, judged = fitted.facts, fitted.facts["validation"]
    typer.echo(
        f"{out}  {', '.join(fitted.classes)}: fitted on {facts['n_windows']} windows of "
        f"{count(facts['n_subjects'], 'subject')}"
    )
    if judged["metrics"] is None:
        typer.echo(f"not validated: {judged['notes']['metrics']}")
        return
    typer.echo(
        f"validation on {judged['n_windows']} windows of {count(judged['n_subjects'], 'other subject')} "
        f"({', '.join(judged['left_out'])}), seed {seed}; {judged['pretraining']}"
    )
    for name, value in judged["metrics"].items():
        shown = "undefined" if value is None else f"{value:.3f}"
        why = judged["notes"].get(name)
        typer.echo(f"  {name:17} {shown}" + (f"  ({why})" if why else ""))
