"""``eegm2 stream``: a trained model on live EEG."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import eegm2
from eegm2.cli.heads import open_head
from eegm2.cli.options import options, several
from eegm2.cli.sources import open_source
from eegm2.data.names import shown
from eegm2.deploy.config import StreamConfig
from eegm2.ending import signal_name, stopping
from eegm2.errors import DataError
from eegm2.zoo.find import MODEL_HELP


@options(StreamConfig)
def stream(
    source: Annotated[str, typer.Option("--source", help="lsl, brainflow, or a recording's file.")],
    model: Annotated[str, typer.Option("--model", help=MODEL_HELP)],
    out: Annotated[
        list[str] | None, several("--out", help="lsl, FILE.jsonl, FILE.csv, or - (JSON lines).")
    ] = None,
    head: Annotated[
        str,
        typer.Option(
            "--head",
            help="Head: a file of eegm2 head or calibrate, or the name of one in the model's folder (probe, "
            "finetune); none given: that folder's first, if it has one.",
        ),
    ] = "",
    *,
    config: StreamConfig,
) -> None:
    """Reconstruct, encode and classify live EEG, exactly as offline, with a fixed delay."""
    import contextlib
    import threading

    from eegm2.deploy.live.pipeline import Pipeline
    from eegm2.deploy.live.runner import run_stream
    from eegm2.deploy.live.sinks import Layout, open_sink, refuse_unusable
    from eegm2.deploy.live.view import TerminalView
    from eegm2.deploy.live.web import WebPage

    trained, loaded = open_head(model, head, config.channels, config.positions)
    for where in out or []:
        refuse_unusable(where)
    typer.echo("preparing the model", err=True)
    pipeline = Pipeline(trained, config, loaded)
    origin = open_source(source, config)
    classes = loaded.classes if loaded is not None else None
    shape = trained.config
    layout = Layout(
        trained.ch_names,
        classes,
        shape.representation_channels,
        shape.decoder,
        trained.sfreq_hz,
        shape.step_samples,
        {
            "eegm2": eegm2.__version__,
            "source": Path(source).name,
            "model_sha256": trained.sha256,
            "scaling": pipeline.how.method,
            "window_s": pipeline.how.window_s,
            "hop_s": config.hop_s,
            "calibration": pipeline.calibration.id if pipeline.calibration is not None else None,
        },
        decisions_only=pipeline.windowed,
    )
    facts = {
        "source": shown(Path(source).name),
        "ch_names": list(trained.ch_names),
        "sfreq_hz": trained.sfreq_hz,
        "classes": list(classes) if classes else None,
        "reconstruction_latency_samples": 0 if pipeline.windowed else pipeline.stream.latency_samples,
    }
    page = WebPage(config.host, config.port, config.token, facts) if config.port else None
    if page is not None:
        typer.echo(f"watch at {page.url}", err=True)
    stop = threading.Event()
    with contextlib.ExitStack() as ending:
        signals = ending.enter_context(stopping(stop))
        sinks = [open_sink(where, layout) for where in out or []]
        if page is not None:
            ending.callback(page.close)
        with TerminalView(f"eegm2 stream: {source}", classes) as view:

            def watch(outputs: Any, statistics: dict[str, Any]) -> None:
                view.push(outputs, statistics)
                if page is not None:
                    page.push(outputs, statistics)

            statistics = run_stream(origin, pipeline, sinks, config, watch=watch, stop=stop)
    typer.echo(json.dumps(statistics), err=True)
    if signals:
        typer.echo(f"ended by {signal_name(signals[0])}; what came until then is written", err=True)
        sys.exit(128 + signals[0])
    if not statistics["calibrated"]:
        raise DataError(_too_short(Path(source).name, statistics["signal_s"], *pipeline.scale.baseline_s))


def _too_short(source: str, received_s: float, there_s: float, needed_s: float) -> str:
    """Say that a stream ended within its baseline, and what to do."""
    shorter = f"--calibration-s {there_s / 2:.3g} or " if there_s >= 2 else ""
    return (
        f"{source}: ended after {received_s:.1f} s of signal, of which the baseline had {there_s:.1f} of the "
        f"{needed_s:.1f} s it needs, so nothing was put out; stream longer, or give {shorter}--scale-uv"
    )
