"""The bar of commands that tell how far they are."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import typer

from eegm2.ending import name_of, status_of


@contextlib.contextmanager
def bar(
    ended: str = "", *, begin: str = "reading"
) -> Iterator[Callable[[str, int | None, int | None], None]]:
    """Show a bar while the block runs; where a signal ends it, `ended` says what is left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as shown:
            task = shown.add_task(begin, total=None)
            yield lambda stage, done, total: shown.update(
                task, description=stage, completed=done, total=total
            )
    except KeyboardInterrupt as error:
        if not ended:
            raise
        typer.echo(f"ended by {name_of(error)}; {ended}", err=True)
        sys.exit(status_of(error))
