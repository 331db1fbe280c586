"""Entry point of the ``eegm2`` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import eegm2
from eegm2.cli import export, head, info, prepare, pretrain, stream
from eegm2.errors import EEGM2Error

app = typer.Typer(
    name="eegm2",
    help="EEGM2: self-supervised Mamba-2 models for long EEG, from recordings to results, on any machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"eegm2 {eegm2.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and leave.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


app.command("export")(export.export)
app.command("head")(head.head)
app.command("info")(info.info)
app.command("prepare")(prepare.prepare)
app.command("pretrain")(pretrain.pretrain)
app.command("stream")(stream.stream)


def main() -> None:
    """Run the command line; errors a user can mend are one line on standard error and exit status 2."""
    try:
        app()
    except EEGM2Error as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
