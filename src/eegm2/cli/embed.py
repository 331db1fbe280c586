"""``eegm2 embed``: recordings into representations with times."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegm2.cli.options import options
from eegm2.cli.progress import bar
from eegm2.evaluation.config import EmbedConfig
from eegm2.zoo.find import MODEL_HELP


@options(EmbedConfig)
def embed(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=MODEL_HELP)],
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="EEG file, prepared as the run's data were, or a store.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="File to write: .npz, .csv or .parquet.")
    ],
    config: EmbedConfig,
) -> None:
    """Write the representation of every window of a recording or store, with its time in seconds."""
    from eegm2.evaluation.features.embedding import embed as run_embed
    from eegm2.ops import keep_freed_memory

    keep_freed_memory()

    with bar() as progress:
        made = run_embed(run, source, out, config, lambda done, total: progress("windows", done, total))
    shape = " × ".join(map(str, made.values.shape))
    typer.echo(f"{out}: {made.kind} of {len(made.values)} windows of {made.window_s:g} s ({shape})")
