"""``eegm2 calibrate``: guide a person through a session and fit a head on it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from eegm2.cli.options import options
from eegm2.cli.record import kept_on_a_full_disk, say, session_page
from eegm2.cli.sources import open_source
from eegm2.deploy.config import SourceConfig
from eegm2.deploy.live.config import CalibrateConfig
from eegm2.ending import signal_name, stopping


@options(CalibrateConfig)
def calibrate(
    source: Annotated[str, typer.Option("--source", help="lsl, brainflow, or a recording's file.")],
    model: Annotated[
        str, typer.Option("--model", help="Run folder, .safetensors checkpoint, or a model that ships.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to create.")],
    *,
    config: CalibrateConfig,
) -> None:
    """Guide a person through cues, and fit a head that eegm2 stream and eegm2 export take.

    Cues come on the terminal and on a local page (--port): first the contact is checked, then a baseline is
    measured, then the classes follow in blocks, eyes open and closed unless --cue says otherwise. The head is
    fitted on what a stream gives and judged on blocks left out; threshold, scale and recording are kept.
    """
    import threading

    from eegm2.deploy.live.calibrate import HEAD, RECORDING, SCALE
    from eegm2.deploy.live.calibrate import calibrate as run
    from eegm2.deploy.trained_model import load_trained

    trained = load_trained(model)
    stop = threading.Event()
    with (
        stopping(stop) as signals,
        kept_on_a_full_disk(out / RECORDING),
        session_page(source, "calibration", config) as show,
    ):
        made = run(open_source(source, config), trained, out, config, say=say, show=show, stop=stop)
    if made is None:
        typer.echo(
            f"ended by {signal_name(signals[0])}; what came until then is in {out / RECORDING}", err=True
        )
        sys.exit(128 + signals[0])
    ends, cut = made.report["validation"], made.threshold
    score, (low, high) = made.judged.metrics["balanced_accuracy"], made.judged.ci
    typer.echo(
        f"{out / HEAD}  {', '.join(made.head.classes)}: fitted on {made.head.facts['n_windows']} windows of "
        f"{ends['n_blocks']} blocks"
    )
    typer.echo(
        f"balanced accuracy {score:.3f} [{low:.3f}, {high:.3f}] on blocks left out (guessing: "
        f"{made.judged.chance:.3f}), {ends['n_windows']} decisions"
    )
    for block in ends["blocks"]:
        typer.echo(
            f"  {block['label']:20} {100 * block['right']:3.0f} % of {block['n_windows']} decisions right"
        )
    if not low > made.judged.chance:
        typer.echo(
            "no better than guessing, as far as these blocks tell: check electrodes and task, record more"
        )
    aim = "" if cut.reached else f" (no threshold comes to the {100 * config.wrong:g} % aimed at)"
    typer.echo(
        f"threshold {cut.enter:g}, kept above {cut.leave:g}: decides on {100 * cut.decided:.0f} % of the "
        f"windows, {100 * cut.wrong:.0f} % of these wrong{aim}"
    )
    words = ["--source", source, *_same_source(config), "--model", model, "--head", str(out / HEAD)]
    typer.echo(f"next: eegm2 stream {shlex.join([*words, '--calibration', str(out / SCALE)])}")


def _same_source(config: CalibrateConfig) -> list[str]:
    """Return the options by which a stream finds the same source and person."""
    words = []
    for name in (*(field.name for field in fields(SourceConfig)), "person", "aliases", "positions", "hop_s"):
        value, usual = getattr(config, name), getattr(CalibrateConfig, name)
        for one in value if isinstance(value, tuple) else [value]:
            if value != usual and name != "speed":
                words += [f"--{name.replace('_', '-')}", str(one)]
    return words
