"""``eegm2 benchmark``: how fast the networks are on this machine, and what memory they take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegm2.benchmark.config import BenchmarkConfig
from eegm2.cli.options import options
from eegm2.errors import ConfigError


@options(BenchmarkConfig)
def benchmark(
    config: BenchmarkConfig,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="JSON file of results; what it holds of this machine and code is kept."),
    ] = None,
    render: Annotated[
        Path | None,
        typer.Option("--render", help="Measure nothing: write tables and figures beside this JSON file."),
    ] = None,
) -> None:
    """Measure time and memory of EEGM2 on this machine, two minutes unless told otherwise.

    Each measurement runs in a process of its own, after a check against the step-by-step scan in float64.
    """
    if render is not None:
        from eegm2.benchmark.render import render as write

        if out is not None:
            raise ConfigError("--render: got --out as well; the tables are written beside the file to render")
        for path in write(render):
            typer.echo(f"wrote {path}")
        return
    from eegm2.benchmark.run import run
    from eegm2.benchmark.tables import overview

    document = run(config, out, typer.echo)
    typer.echo(overview(document))
    if out is not None:
        typer.echo(f"results: {out}; eegm2 benchmark --render {out} writes tables and figures")
