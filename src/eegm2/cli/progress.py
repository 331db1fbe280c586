"""A progress bar on standard error for commands that report (stage, done, total)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import typer

from eegm2.ending import status_of


@contextlib.contextmanager
def bar(
    said: str = "nothing was written, run the same command again",
) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar while the block runs; a signal ends it, and is followed by what is `said`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as shown:
            task = shown.add_task("reading", total=None)
            yield lambda stage, done, total: shown.update(
                task, description=stage, completed=done, total=total
            )
    except KeyboardInterrupt as error:
        typer.echo(f"interrupted; {said}", err=True)
        sys.exit(status_of(error))
