"""``eegm2 predict``: a model with a head on new recordings."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eegm2.cli.options import options
from eegm2.cli.progress import bar
from eegm2.deploy.predict.config import PredictConfig
from eegm2.words import count
from eegm2.zoo.find import MODEL_HELP

if TYPE_CHECKING:
    from eegm2.deploy.predict.run import Predictions


@options(PredictConfig)
def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help=f"A model with a head, of eegm2 probe or finetune; or any, with --head FILE. {MODEL_HELP}",
        ),
    ],
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="EEG files, folders of them, or stores.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the predictions; given again, it goes on.")
    ],
    config: PredictConfig,
) -> None:
    """Predict classes or a value over time on new recordings, with their quality and a page to look at.

    Recordings are prepared as the model's data were. Those that cannot be used are skipped by name.
    """
    from eegm2.deploy.predict.run import predict as run_predict
    from eegm2.ops import keep_freed_memory
    from eegm2.report.predictions import write_prediction_page

    keep_freed_memory()
    with bar("run the same command again to go on after the last whole recording") as progress:
        made = run_predict(model, sources, out, config, progress)
        page = write_prediction_page(out, command=shlex.join(["eegm2", *sys.argv[1:]]))
    _show(made, page)


def _show(made: Predictions, page: Path) -> None:
    """Print what was decided of every recording, what is doubtful, and where things are."""
    from eegm2.deploy.predict.tables import in_units

    document = made.document
    found, value = document["recordings"], document["model"].get("value")
    asked = value["target"] if value else " against ".join(document["model"]["classes"])
    for facts in found[:20]:
        windows = count(facts["n_windows"], "window")
        flagged = f", {facts['n_flagged']} flagged" if facts["n_flagged"] else ""
        if value:
            said = f"{in_units(facts['value'], value)} (SD over {windows}: {facts['value_sd']:.3g})"
        else:
            said = f"{facts['decision']} in {facts['shares'][facts['decision']]:.0%} of {windows}"
        typer.echo(f"{facts['recording']}: {said}{flagged}")
        for warning in facts["warnings"]:
            typer.echo(f"  note      {warning}")
    if len(found) > 20:
        typer.echo(f"… and {len(found) - 20} more; see recordings.csv")
    for name, reason in document["skipped"].items():
        typer.echo(f"skipped     {name}: {reason}", err=True)
    typer.echo(
        f"predicted   {count(len(found), 'recording')}, {sum(f['n_windows'] for f in found)} windows, "
        f"{asked}; {len(document['skipped'])} skipped"
    )
    typer.echo(f"tables      {made.out / 'recordings.csv'}, windows.csv and predictions.json beside it")
    typer.echo(f"page        {page}  (open it in a browser)")
