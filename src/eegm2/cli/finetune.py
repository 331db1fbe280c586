"""``eegm2 finetune``: a model learns a task with labels, and is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegm2.cli.options import options
from eegm2.cli.progress import bar
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.words import count
from eegm2.zoo.find import MODEL_HELP


@options(FinetuneConfig)
def finetune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    store: Annotated[str, typer.Argument(metavar="STORE", help="Labelled store written by eegm2 prepare.")],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the fine-tuned run.")],
    config: FinetuneConfig,
) -> None:
    """Fine-tune a model on labels, with early stopping on people it does not learn from.

    The result is a run: predict, stream, export and share take it. Protocols fine (the whole network) and
    light (the head alone).
    """
    from eegm2.evaluation.finetuning.run import finetune as run_finetuning
    from eegm2.ops import keep_freed_memory

    keep_freed_memory()
    with bar("run the same command again to go on after the last whole epoch") as progress:
        made = run_finetuning(model, store, out, config, progress)
    results = made.results
    people = results["task"]["people"]
    said = " (had finished before)" if made.already_finished else ""
    typer.echo(f"classes     {' against '.join(results['classes'])}")
    parts = ", ".join(f"{part} {count(len(names), 'subject')}" for part, names in people.items())
    typer.echo(f"people      {parts}")
    best = results["best_epoch"]
    which = f"the best {best + 1}" if best >= 0 else "none better than the probe that it began with"
    typer.echo(f"fitted      {count(results['epochs'], 'epoch')}, {which}{said}")
    whose = "people" if results["task"].get("by") != "recording" else "recordings of the same people"
    for name in ("balanced_accuracy", "auroc"):
        value = results["metrics"].get(name)
        if value is not None:
            typer.echo(f"test        {name} {value:.3f} per window of {whose} it has not seen")
    for note in results["notes"]:
        typer.echo(f"note        {note}")
    typer.echo(
        f"model       {made.run / 'checkpoints' / 'best.safetensors'}, heads/ and results.json beside it"
    )
    typer.echo(f"next        eegm2 predict {made.run} FILES --out DIR")
