"""``eegm2 share``: a run's model as a folder with a model card, and on the Hugging Face hub if asked."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from eegm2.zoo.find import MODEL_HELP


class Which(StrEnum):
    """Weights of a run."""

    best = "best"
    last = "last"


def share(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=MODEL_HELP)],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for model.safetensors, config.json and README.md.")
    ],
    which: Annotated[Which, typer.Option(help="Lowest validation loss, or newest.")] = Which.best,
    push_to: Annotated[
        str | None,
        typer.Option(help="Also upload to this name (owner/name) on the Hugging Face hub; needs eegm2[hub]."),
    ] = None,
    private: Annotated[bool, typer.Option(help="Make the uploaded model private.")] = True,
) -> None:
    """Write a model into a folder to keep or share, with its heads and a card made from what was recorded.

    Of a probe or a fine-tuned run, the folder predicts; names of people stay out of it.
    """
    from eegm2.hub import from_pretrained, push_to_hub, share_run

    folder = share_run(run, out, which.value)
    typer.echo(f"model  {folder / 'model.safetensors'}")
    for head in sorted((folder / "heads").glob("*.safetensors")):
        typer.echo(f"head   {head}")
    typer.echo(f"card   {folder / 'README.md'}: read it before you share it")
    if push_to:
        card = (folder / "README.md").read_text()
        typer.echo(f"hub    {push_to_hub(from_pretrained(folder), push_to, card=card, private=private)}")
