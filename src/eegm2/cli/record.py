"""``eegm2 record``: a live source into a file, with cues as labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from eegm2.cli.options import options
from eegm2.cli.sources import open_source
from eegm2.deploy.config import RecordConfig
from eegm2.ending import signal_name, stopping
from eegm2.errors import DataError


@options(RecordConfig)
def record(
    source: Annotated[str, typer.Option("--source", help="lsl, brainflow, or a recording's file.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, .edf or .bdf.")],
    *,
    config: RecordConfig,
) -> None:
    """Record a live source with cues as labels, and say which channels are flat, clip or carry the mains.

    What is written can be read whenever recording stops, be it by Ctrl-C, a full disk or a lost device.
    """
    import threading

    from eegm2.deploy.live.record import record as run

    stop = threading.Event()
    try:
        with stopping(stop) as signals:
            facts = run(
                open_source(source, config),
                out,
                config,
                say=lambda text: typer.echo(text, err=True),
                stop=stop,
            )
    except OSError as error:
        if not out.exists():
            raise
        raise DataError(f"{out}: {error.strerror}; what was recorded before is kept in it") from error
    typer.echo(
        f"{out}  {facts['seconds']:g} s, {facts['gaps']} gaps ({facts['lost']} samples lost, "
        f"{facts['filled']} of them filled), {facts['clipped']} clipped, {facts['dropped']} dropped"
    )
    if signals:
        typer.echo(f"ended by {signal_name(signals[0])}; what came until then is written", err=True)
        sys.exit(128 + signals[0])
