"""``eegm2 export``: ONNX and torch.export files of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegm2.cli.options import options
from eegm2.deploy.config import ExportConfig
from eegm2.zoo.find import MODEL_HELP


@options(ExportConfig)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=MODEL_HELP)],
    out: Annotated[Path, typer.Option("--out", help="Folder to create.")],
    head: Annotated[
        Path | None,
        typer.Option("--head", help="Head of eegm2 head: write a bundle, microvolts to decisions."),
    ] = None,
    *,
    config: ExportConfig,
) -> None:
    """Write ONNX files of encoder, reconstruction and streaming step, checked against torch.

    With --head: one bundle.onnx with filter, scaling, network, head and decisions, and eegm2_runtime.py,
    which runs it with NumPy and ONNX Runtime alone.
    """
    from eegm2.deploy.export.run import export_model
    from eegm2.deploy.heads.dense import DenseHead
    from eegm2.deploy.trained_model import load_trained
    from eegm2.evaluation.config import split_commas

    trained = load_trained(run)
    loaded = DenseHead.load(head) if head is not None else None
    channels = split_commas(config.channels)  # with a head: the device's, some of which nobody may need
    if loaded is None:
        trained = trained.on_montage(channels, config.positions)
    elif trained.config.any_electrodes:
        trained = trained.on_montage(loaded.facts.get("ch_names", ()), config.positions)
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
