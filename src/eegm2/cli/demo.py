"""``eegm2 demo``: a finding on bundled EEG, or the way from your own recordings to a report."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from eegm2.atomic import write_atomic
from eegm2.errors import DataError

BUNDLED = Path(__file__).parents[1] / "data" / "bundled"
WINDOW_S, STRIDE_S = 4.0, 2.0
#: Inverse penalty of band power, the best on other people of the same set (of 1e-4 to 1).
BAND_POWER_C = 0.03
CLASSES = ("eyes_closed", "eyes_open")


def demo(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Your own file or folder of recordings, to pretrain on and look at."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path(
        "eegm2-demo"
    ),
    train: Annotated[
        bool, typer.Option("--train", help="Also pretrain a few minutes on the bundled EEG, and compare.")
    ] = False,
    model: Annotated[str, typer.Option(help="Model to show; none given: the first of eegm2 models.")] = "",
    width: Annotated[int, typer.Option(help="--data, --train: channels at full time resolution.")] = 16,
    epochs: Annotated[int, typer.Option(help="--data, --train: passes over the windows.")] = 12,
    batch_size: Annotated[int, typer.Option(help="--data, --train: windows per step.")] = 16,
    window_s: Annotated[float, typer.Option(help="--data: window in seconds.")] = WINDOW_S,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
) -> None:
    """Show what a model that ships with eegm2 tells on people it has never seen, beside band power.

    16 people with eyes open and closed: heads are learnt on some and tested on others, one person is
    predicted over time, and a page is written. With --data: prepare, pretrain, probe and report on your own
    recordings.
    Every step is an ordinary eegm2 command, printed before it runs. Run again, it goes on where it stopped.
    """
    steps = Steps(context, 4 if data is not None else 5 + train)
    training = ["--width", str(width), "--epochs", str(epochs), "--batch-size", str(batch_size)]
    training += ["--seed", str(seed)]
    out.mkdir(parents=True, exist_ok=True)
    if data is not None:
        _own(steps, data, out, [*training, "--window-s", str(window_s)])
        return
    _finding(steps, out, model, training if train else None)


class Steps:
    """Runs eegm2 commands one after another, each printed as one would type it."""

    def __init__(self, context: typer.Context, total: int) -> None:
        self.command: Any = context.find_root().command
        self.number, self.total = 0, total

    def run(self, command: str, *arguments: str) -> None:
        """Print a command and run it."""
        self.say(f"eegm2 {shlex.join([command, *arguments])}")
        self.command.main([command, *arguments], prog_name="eegm2", standalone_mode=False)

    def say(self, text: str) -> None:
        """Print the next step's heading."""
        self.number += 1
        typer.echo(f"\n[{self.number}/{self.total}] {text}")


def _own(steps: Steps, data: Path, out: Path, training: list[str]) -> None:
    """Prepare, pretrain, probe where there are labels, and report."""
    store, run, probe, page = (out / name for name in ("store", "run", "probe", "report.html"))
    steps.run("prepare", str(data), "--out", str(store))
    steps.run("pretrain", str(store), "--out", str(run), *training)
    found = []
    try:
        steps.run("probe", str(run), str(store), "--out", str(probe))
        found = ["--probe", str(probe)]
    except DataError as error:
        typer.echo(f"probe left out: {error}")
        typer.echo("labels: eegm2 prepare --table labels.csv gives recordings or stretches of them labels")
    steps.run("report", str(run), "--out", str(page), "--store", str(store), *found)
    typer.echo(f"\nstore   {store}\nmodel   {run / 'checkpoints' / 'best.safetensors'}")
    if found:
        typer.echo(f"probe   {probe / 'results.json'}")
    typer.echo(f"report  {page}  (open it in a browser)")


def _finding(steps: Steps, out: Path, model: str, training: list[str] | None) -> None:
    """Evaluate a model on the bundled people beside band power, predict one of them, and write the page."""
    from eegm2.report.demo import TRAINED_HERE, write_demo_page
    from eegm2.zoo.facts import facts_of
    from eegm2.zoo.shipped import default_model, shipped_models

    name = model or default_model()
    about = facts_of(name, shipped_models()[name]) if name in shipped_models() else {}
    store, probe, plan = out / "store", out / "probe", out / "demo.toml"
    evaluation, predictions, page = out / "evaluation", out / "predictions", out / "report.html"
    steps.run("prepare", str(BUNDLED), "--out", str(store))
    runs = {name: name}
    if training is not None:
        options = ["--preset", "covariance", "--objective", "oscillatory", "--scaling", "recording"]
        options += ["--test", "0"]
        steps.run("pretrain", str(store), "--out", str(out / "run"), *options, *training)
        runs[TRAINED_HERE] = str((out / "run").resolve())
    features, centre = about.get("features") or "statistics", about.get("centre") or "none"
    write_atomic(plan, [_plan(store, runs, features, centre, about.get("c") or "people").encode()])
    steps.run("evaluate", str(plan), "--out", str(evaluation))
    about_head = [
        "--features",
        features,
        "--centre",
        centre,
        "--protocols",
        "linear",
        "--stride-s",
        str(WINDOW_S),
    ]
    steps.run(
        "probe", name, str(store), "--out", str(probe), "--classes", ",".join(CLASSES),
        "--scaling", "recording", "--test", "0.25", "--threshold", "half",
        "--c", str(about.get("c") or "people"), *about_head,
    )  # fmt: skip
    task = json.loads((probe / "results.json").read_bytes())["task"]
    person = task["parts"]["test"]["subjects"][0]
    file = next(BUNDLED.glob(f"{person}_*.edf"))
    steps.run("predict", str(probe), str(file), "--out", str(predictions), "--stride-s", "2")
    steps.say(f"the page: {page}")
    found = write_demo_page(page, evaluation, predictions, name, about, person)
    typer.echo("")
    for title, row in found.items():
        typer.echo(
            f"{title}: AUROC {row['mean']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}] on windows of "
            f"{row['n_subjects']} people, each never seen by the head that judged them"
        )
    if about.get("trained on", "").startswith("nothing"):
        typer.echo(f"{name} is an untrained control: random weights, no pretraining.")
    typer.echo(f"one person over time  {predictions / 'report.html'}")
    typer.echo(f"report                {page}  (open it in a browser)")


def _plan(store: Path, runs: dict[str, str], features: str, centre: str, c: float | str) -> str:
    """Return the experiment as eegm2 evaluate reads it."""
    quoted = json.dumps
    lines = [
        "# Eyes open or closed, learnt on some people and told on others.",
        "[data]",
        f"store = {quoted(str(store.resolve()))}",
        f"window_s = {WINDOW_S}",
        f"stride_s = {STRIDE_S}",
        'scaling = "recording"',
        f"classes = {quoted(list(CLASSES))}",
        "[splits]",
        "n_folds = 8",
        "val = 0.2",
    ]
    for number, run in enumerate(runs.values()):
        lines += [f"[pretrain.m{number}]", f"run = {quoted(run)}", "allow_mismatch = true"]
    for number, name in enumerate(runs):
        lines += ["[[models]]", f"name = {quoted(name)}", 'protocol = "linear"', f'pretrained = "m{number}"']
        lines += [f"features = {quoted(features)}", f"centre = {quoted(centre)}", f"c = {quoted(c)}"]
    lines += ["[[models]]", 'name = "band power"', 'baseline = "band_power"', "[models.options]"]
    lines += [f"centre = {quoted(centre)}", f"c = {BAND_POWER_C}"]
    for name in runs:
        lines += ["[[compare]]", f"a = {quoted(name)}", 'b = "band power"']
    return "\n".join(lines) + "\n"
