"""``eegm2 head``: fit a classifier head for the stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegm2.cli.options import options
from eegm2.deploy.config import HeadConfig
from eegm2.words import count
from eegm2.zoo.find import MODEL_HELP


@options(HeadConfig)
def head(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=MODEL_HELP)],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Labelled store written by eegm2 prepare.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, .safetensors.")],
    config: HeadConfig,
) -> None:
    """Fit the head that eegm2 stream takes, on what a stream of each recording gives.

    Filter, scale, network and windows are the stream's, so that the scores printed are those of a stream;
    what separate windows say offline is printed beside them. Some subjects are left out of the fit and judge
    it: one split, for a first look and not for a paper. For several seeds, protocols and a test part use
    eegm2 probe.
    """
    from eegm2.deploy.heads.fit import fit_head

    fitted = fit_head(run, store, config)
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
        f"({', '.join(judged['left_out'])}), seed {config.seed}; {judged['pretraining']}"
    )
    for name, value in judged["metrics"].items():
        shown = "undefined" if value is None else f"{value:.3f}"
        why = judged["notes"].get(name)
        beside = "" if offline.get(name) is None else f"  (offline {offline[name]:.3f})"
        typer.echo(f"  {name:17} {shown}{beside}" + (f"  ({why})" if why else ""))
