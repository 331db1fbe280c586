"""``eegm2 export``: ONNX and torch.export files of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegm2.cli.heads import open_head
from eegm2.cli.options import options
from eegm2.deploy.config import ExportConfig
from eegm2.zoo.find import MODEL_HELP


@options(ExportConfig)
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help=MODEL_HELP)],
    out: Annotated[Path, typer.Option("--out", help="Folder to create.")],
    head: Annotated[
        str,
        typer.Option(
            "--head",
            help="Write a bundle, microvolts to decisions: a file of eegm2 head or calibrate, or the name of "
            "a head in the model's folder (probe, finetune).",
        ),
    ] = "",
    *,
    config: ExportConfig,
) -> None:
    """Write ONNX files of encoder, reconstruction and streaming step, checked against torch.

    With --head: one bundle.onnx with filter, scaling, network, head and decisions, and eegm2_runtime.py,
    which runs it with NumPy and ONNX Runtime alone.
    """
    from eegm2.config import split_commas
    from eegm2.deploy.export.run import export_model
    from eegm2.deploy.trained_model import load_trained

    if head:  # channels are the device's then, some of which nobody may need
        trained, loaded = open_head(run, head, config.channels, config.positions, device=True)
    else:
        trained, loaded = load_trained(run).on_montage(split_commas(config.channels), config.positions), None
    typer.echo("tracing and checking; this takes a minute or more", err=True)
    report = export_model(trained, out, config, loaded)
    for name, facts in report["files"].items():
        line = f"{out / name}  {facts['bytes'] / 1e6:.2f} MB"
        if "difference" in facts:
            of = "of probability" if name == "bundle.onnx" else "of the largest output"
            line += f"  differs from torch by {facts['difference']:.1e} {of}"
        if "int8_loss" in facts:
            line += f"  8-bit weights lose {100 * facts['int8_loss']:.2f} % (root mean square, on 1/f noise)"
        typer.echo(line)
