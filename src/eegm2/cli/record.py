"""``eegm2 record``: a live source into a file, with cues and markers as labels."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from eegm2.cli.options import options
from eegm2.cli.sources import open_source
from eegm2.data.names import shown
from eegm2.deploy.config import RecordConfig, WatchedConfig
from eegm2.ending import signal_name, stopping
from eegm2.errors import DataError


@options(RecordConfig)
def record(
    source: Annotated[str, typer.Option("--source", help="lsl, brainflow, or a recording's file.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, .edf or .bdf.")],
    *,
    config: RecordConfig,
) -> None:
    """Record a live source with cues and markers as labels, and say which channels are bad and why.

    What is written can be read whenever recording stops, be it by Ctrl-C, a full disk or a lost device.
    """
    import threading

    from eegm2.deploy.live.record import record as run

    stop = threading.Event()
    with (
        kept_on_a_full_disk(out),
        session_page(source, "recording", config) as show,
        stopping(stop) as signals,
    ):
        facts = run(open_source(source, config), out, config, say=say, show=show, stop=stop)
    marked = f"{facts['markers']} markers, " if config.markers else ""
    if facts["shortened"]:
        marked += f"{facts['shortened']} texts shortened, "
    typer.echo(
        f"{out}  {facts['seconds']:g} s, {facts['gaps']} gaps ({facts['lost']} samples lost, "
        f"{facts['filled']} of them filled), {marked}{facts['clipped']} clipped, {facts['dropped']} dropped"
    )
    if signals:
        typer.echo(f"ended by {signal_name(signals[0])}; what came until then is written", err=True)
        sys.exit(128 + signals[0])


def say(text: str) -> None:
    """Say a line of a session on standard error; a cue with the terminal's bell."""
    bell = "\a" if "  now: " in text and sys.stderr.isatty() else ""
    typer.echo(text + bell, err=True)


@contextlib.contextmanager
def session_page(
    source: str, what: str, config: WatchedConfig
) -> Iterator[Callable[[dict[str, Any]], None] | None]:
    """Serve the page of a session where a port is given; give what sends states to it."""
    if not config.port:
        yield None
        return
    from eegm2.deploy.live.web import WebPage

    facts = {"source": shown(Path(source).name), "what": what}
    page = WebPage(config.host, config.port, config.token, facts, "session.html")
    typer.echo(f"watch at {page.url}", err=True)
    try:
        yield page.send
    finally:
        page.close()


@contextlib.contextmanager
def kept_on_a_full_disk(recording: Path) -> Iterator[None]:
    """Say of a recording that cannot go on that what was written of it can be read."""
    try:
        yield
    except OSError as error:
        if not recording.exists():
            raise
        raise DataError(f"{recording}: {error.strerror}; what was recorded before is kept in it") from error
