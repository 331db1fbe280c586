"""``eegm2 demo``: from recordings to a pretrained model, a probe and a report, in one command."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

#: The bundled runs are short, and their seconds are not all consecutive: windows are whole seconds.
BUNDLED = ["--window-s", "1", "--by", "recording"]
BUNDLED_SPLIT = {"train": "run-01", "val": "run-02", "test": "run-03"}


def demo(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Your own file or folder of recordings; by default the bundled EEG."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path(
        "eegm2-demo"
    ),
    width: Annotated[int, typer.Option(help="Channels at full time resolution (w of the paper).")] = 16,
    epochs: Annotated[int, typer.Option(help="Passes over the windows.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Windows per step.")] = 8,
    window_s: Annotated[float, typer.Option(help="Window in seconds, for your own data.")] = 4.0,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
) -> None:
    """Prepare, pretrain, probe and report, on the bundled EEG or on your own recordings.

    Every step is an ordinary eegm2 command, printed before it runs. Run again, it goes on where it stopped.
    """
    store, run, probe, page = (out / name for name in ("store", "run", "probe", "report.html"))
    if data is None:
        source = Path(__file__).parents[1] / "data" / "bundled"
        typer.echo("The bundled recordings: one person, 98 seconds. They show the pipeline, not a finding.")
    else:
        source = data
    run_step = partial(_step, context.find_root().command)
    run_step(1, "prepare", [str(source), "--out", str(store)])
    windows, split = (["--window-s", str(window_s)], []) if data is not None else _bundled(store, out)
    training = ["--width", str(width), "--epochs", str(epochs), "--batch-size", str(batch_size)]
    run_step(2, "pretrain", [str(store), "--out", str(run), *training, "--seed", str(seed), *windows, *split])
    by = ["--by", "recording", "--threshold", "half"] if data is None else []
    run_step(3, "probe", [str(run), str(store), "--out", str(probe), *by])
    run_step(4, "report", [str(run), "--out", str(page), "--store", str(store), "--probe", str(probe)])
    typer.echo(f"\nstore   {store}\nmodel   {run / 'checkpoints' / 'best.safetensors'}")
    typer.echo(f"probe   {probe / 'results.json'}\nreport  {page}  (open it in a browser)")
    if data is None:
        typer.echo("One person's 98 seconds show the pipeline and not a finding.")


def _bundled(store: Path, out: Path) -> tuple[list[str], list[str]]:
    """Return the window and split options of the bundled runs: learn on one, stop on one, test on one."""
    from eegm2.data.store.recording_store import RecordingStore
    from eegm2.data.windows.splits import SplitManifest

    opened = RecordingStore(store)
    ids = [recording.id for recording in opened.recordings]
    parts: dict[str, Any] = {part: tuple(i for i in ids if run in i) for part, run in BUNDLED_SPLIT.items()}
    manifest = out / "split.json"
    SplitManifest(**parts, seed=0, by="recording", manifest_sha256=opened.manifest_sha256).to_json(manifest)
    return BUNDLED, ["--splits", str(manifest)]


def _step(eegm2: Any, number: int, command: str, arguments: list[str]) -> None:
    """Print a command as one would type it, and run it."""
    typer.echo(f"\n[{number}/4] eegm2 {shlex.join([command, *arguments])}")
    eegm2.main([command, *arguments], prog_name="eegm2", standalone_mode=False)
