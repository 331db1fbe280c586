"""``eegm2 head``: fit a classifier head for the stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from eegm2.cli.options import several
from eegm2.data.config import POSITIONS_HELP, Scaling
from eegm2.evaluation.config import AUTO_HELP, CENTRE_HELP, FEATURES_HELP, Centre, Features
from eegm2.words import count
from eegm2.zoo.find import MODEL_HELP


def head(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=MODEL_HELP)],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Labelled store written by eegm2 prepare.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, .safetensors.")],
    *,
    subjects: Annotated[
        list[str] | None, several("--subject", "--subjects", help="Use these subjects only.")
    ] = None,
    target: Annotated[str, typer.Option(help="annotations, or a recordings' attribute.")] = "annotations",
    classes: Annotated[
        list[str] | None,
        several("--class", "--classes", help="Classes in the order of their numbers; none given: all."),
    ] = None,
    val: Annotated[
        float,
        typer.Option(help="Share of the subjects left out of the fit, to judge it; 0: none."),
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Draws the subjects who are left out.")] = 0,
    features: Annotated[Literal["auto", Features], typer.Option(help=AUTO_HELP + FEATURES_HELP)] = "auto",
    scaling: Annotated[
        Scaling | None, typer.Option(help="Scaling by the baseline; none given: as pretrained.")
    ] = None,
    protocol: Annotated[
        Literal["linear", "light"],
        typer.Option(help="linear: logistic regression; light: the paper's small perceptron."),
    ] = "linear",
    hop_s: Annotated[float, typer.Option(help="Seconds between two decisions on which it is judged.")] = 0.5,
    calibration_s: Annotated[
        float | None,
        typer.Option(
            help="Baseline of every recording, as on the stream; none given: a minute, or a fifth of a usual "
            "recording where that is less."
        ),
    ] = None,
    adapt_s: Annotated[
        float, typer.Option(help="Time constant of the running scale after the baseline; 0: fixed.")
    ] = 0.0,
    centre: Annotated[Centre, typer.Option(help=CENTRE_HELP + " A stream takes the running mean.")] = "none",
    warm_up: Annotated[
        int, typer.Option(help="Windows, side by side, before a stream's running mean is known.")
    ] = 15,
    positions: Annotated[str, typer.Option(help=POSITIONS_HELP)] = "",
    recordings: Annotated[
        str,
        typer.Option(
            help="Folder that the store was prepared from: its files are streamed exactly as they are; none "
            "given: their streams are restored from the store, which large drifts make inexact."
        ),
    ] = "",
) -> None:
    """Fit the head that eegm2 stream takes, on what a stream of each recording gives.

    Filter, scale, network and windows are the stream's, so that the scores printed are those of a stream;
    what separate windows say offline is printed beside them. Some subjects are left out of the fit and judge
    it: one split, for a first look and not for a paper. For several seeds, protocols and a test part use
    eegm2 probe.
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
        protocol=protocol,
        hop_s=hop_s,
        calibration_s=calibration_s,
        adapt_s=adapt_s,
        centre=centre,
        warm_up=warm_up,
        positions=positions,
        recordings=recordings,
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
    how = "restored from the store" if facts["streamed_from"] == "store" else "from the recordings"
    typer.echo(
        f"streamed ({how}): baseline {facts['calibration_s']:g} s, scaling {facts['scaling']}, a decision "
        f"every {facts['hop_s']:g} s on {facts['window_s']:g} s"
    )
    offline = judged["offline"]["metrics"] or {}
    typer.echo(
        f"validation on {judged['n_windows']} windows of {count(judged['n_subjects'], 'other subject')} "
        f"({', '.join(judged['left_out'])}), seed {seed}; {judged['pretraining']}"
    )
    for name, value in judged["metrics"].items():
        shown = "undefined" if value is None else f"{value:.3f}"
        why = judged["notes"].get(name)
        beside = "" if offline.get(name) is None else f"  (offline {offline[name]:.3f})"
        typer.echo(f"  {name:17} {shown}{beside}" + (f"  ({why})" if why else ""))
