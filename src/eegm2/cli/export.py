"""``eegm2 export``: ONNX and torch.export files of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegm2.cli.options import options
from eegm2.deploy.config import ExportConfig


@options(ExportConfig)
def export(
    run: Annotated[Path, typer.Argument(help="Run folder, .safetensors checkpoint, or the authors' .pth.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to create.")],
    *,
    config: ExportConfig,
) -> None:
    """Write ONNX files of encoder, reconstruction and streaming step, checked against torch."""
    from eegm2.deploy.export.run import export_model
    from eegm2.deploy.trained_model import load_trained

    trained = load_trained(run).on_montage(config.channels, config.positions)
    typer.echo("tracing and checking; this takes a minute or more", err=True)
    report = export_model(trained, out, config)
    for name, facts in report["files"].items():
        line = f"{out / name}  {facts['bytes'] / 1e6:.2f} MB"
        if "difference" in facts:
            line += f"  differs from torch by {facts['difference']:.1e} of the largest output"
        if "int8_loss" in facts:
            line += f"  8-bit weights lose {100 * facts['int8_loss']:.2f} % (root mean square, on 1/f noise)"
        typer.echo(line)
