"""``eegm2 reconstruct``: a recording into its reconstruction, with scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegm2.cli.options import options
from eegm2.cli.progress import bar
from eegm2.evaluation.config import ReconstructConfig


@options(ReconstructConfig)
def reconstruct(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder written by eegm2 pretrain, or a .safetensors file.")
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="EEG file; it is prepared as the run's data were.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", help="Recording to write, .edf or .fif; scores beside it as FILE.json."
        ),
    ],
    config: ReconstructConfig,
) -> None:
    """Write the network's reconstruction of a whole recording in microvolts, and how close it is."""
    from eegm2.evaluation.reconstruct.run import reconstruct_file, scores_path
    from eegm2.ops import keep_freed_memory

    keep_freed_memory()

    with bar() as progress:
        scores = reconstruct_file(
            run, file, out, config, lambda done, total: progress("windows", done, total)
        )
    typer.echo(
        f"{out}: {scores['n_samples'] / scores['sfreq_hz']:.1f} s at {scores['sfreq_hz']:g} Hz, "
        f"{scores['mode']}"
    )
    typer.echo(
        f"  acmse {scores['acmse_uv2']:.4g} µV² ({scores['acmse_scaled']:.4g} in the training's scale)"
    )
    typer.echo(
        f"  correlation {_text(scores['mean_correlation'])}, spectral error {_text(scores['spectral_error'])}"
    )
    worst = sorted(scores["channels"].items(), key=lambda item: -item[1]["mse_uv2"])[:3]
    typer.echo("  worst channels " + ", ".join(f"{name} {facts['mse_uv2']:.4g} µV²" for name, facts in worst))
    typer.echo(f"  scores {scores_path(out)}")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
