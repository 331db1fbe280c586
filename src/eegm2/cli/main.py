"""Entry point of the ``eegm2`` command."""

from __future__ import annotations

import errno
import importlib
import io
import sys
from typing import Annotated, Any

import typer
import typer.core

import eegm2
from eegm2.cli.options import with_trust
from eegm2.ending import name_of, orderly, status_of
from eegm2.errors import EEGM2Error


class Commands(typer.core.TyperGroup):
    """All commands; one that a signal ends says so in one line, with the conventional status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            said = f"ended by {name_of(error)}; nothing is half-written, the same command can be run again"
            typer.echo(said, err=True)
            sys.exit(status_of(error))


app = typer.Typer(
    name="eegm2",
    cls=Commands,
    help="EEGM2: self-supervised Mamba-2 models for long EEG, from recordings to results, on any machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

COMMANDS = (
    "demo datasets export head info models prepare pretrain probe finetune evaluate compare predict embed "
    "reconstruct record calibrate report share verify stream benchmark"
)
"""In the order of ``--help``; a module each, with a function of its name."""
UNTRUSTING = ("demo", "datasets", "models", "prepare", "record", "verify", "benchmark")
"""Commands that read no model, and so import no code that one names."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


for _name in COMMANDS.split():
    _command = getattr(importlib.import_module(f"eegm2.cli.{_name}"), _name)
    app.command(_name)(_command if _name in UNTRUSTING else with_trust(_command))


def main() -> None:
    """Run the command line; errors a user can mend are one line on standard error and exit status 2.

    What a terminal, file or pipe cannot show is written as its code: no command ends for want of a character.
    """
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
    try:
        with orderly():
            app()
    except KeyboardInterrupt as error:  # before a command had begun, or after
        sys.exit(status_of(error))
    except EEGM2Error as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except UnicodeEncodeError as error:
        name = str(error.object).encode("ascii", "backslashreplace").decode()[:200]
        typer.echo(f"error: a name or label is not UTF-8 text: {name}; rename it", err=True)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if error.strerror is None:
            raise
        remedy = (
            "free space or choose another folder" if error.errno in _FULL else "check path and permissions"
        )
        typer.echo(f"error: {error.filename or 'writing'}: {error.strerror}; {remedy}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
