"""``eegm2 probe``: what a pretrained run is worth on labelled recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eegm2.cli.options import options
from eegm2.cli.progress import bar
from eegm2.evaluation.config import ProbeConfig
from eegm2.words import count
from eegm2.zoo.find import MODEL_HELP

if TYPE_CHECKING:
    from eegm2.evaluation.probing.run import ProbeResult


@options(ProbeConfig)
def probe(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=MODEL_HELP)],
    store: Annotated[str, typer.Argument(metavar="STORE", help="Labelled store written by eegm2 prepare.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Folder for the results; an older probe there is replaced."
        ),
    ],
    config: ProbeConfig,
) -> None:
    """Probe a frozen pretrained model on labels, with splits by subject.

    Learns on training subjects, stops and chooses thresholds on validation subjects, and reports on test
    subjects. The run's own split is used where the store is the one it was pretrained on.
    """
    from eegm2.evaluation.probing.run import probe as run_probe
    from eegm2.ops import keep_freed_memory

    keep_freed_memory()

    with bar() as progress:
        result = run_probe(run, store, out, config, progress)
    _show(result, run)


def _show(result: ProbeResult, run: Path) -> None:
    """Print the task, a table of the test metrics and where things are."""
    from rich.console import Console
    from rich.table import Table

    task, results = result.results["task"], result.results
    parts = ", ".join(
        f"{part} {facts['n_windows']} windows, {count(facts['n_subjects'], 'subject')}"
        for part, facts in task["parts"].items()
    )
    typer.echo(f"task        {task['target']}: {' against '.join(task['classes']) or 'a value'}")
    typer.echo(
        f"split       by {task['unit']} ({'the run’s own' if task['split'] == 'run' else 'new'}): {parts}"
    )
    typer.echo(f"pretraining {task['pretraining_saw'].removeprefix('pretraining ')}")
    for level, key in (("windows", "summary"), (f"{task['unit']}s", f"{task['unit']}_summary")):
        rows = results[key]
        protocols = list(dict.fromkeys(row["protocol"] for row in rows))
        table = Table("metric", *protocols)
        for metric in dict.fromkeys(row["metric"] for row in rows):
            cells = [
                _cell(row)
                for name in protocols
                for row in rows
                if (row["protocol"], row["metric"]) == (name, metric)
            ]
            table.add_row(metric, *cells)
        typer.echo(f"test {level}, mean ± std over seeds:")
        Console(width=100).print(table)
    for line in (*people_lines(results), *trust_lines(results)):
        typer.echo(line)
    reasons = {reason for row in results["protocols"] for reason in row["reasons"].values()}
    for note in [*results["notes"], *sorted(reasons)]:
        typer.echo(f"note        {note}")
    typer.echo(f"results     {result.out / 'results.json'}, predictions.npz and embedding.npz beside it")
    typer.echo(f"model       {result.out} itself: eegm2 predict {result.out} FILES --out DIR")
    store = results["provenance"]["store"]
    typer.echo(f"next        eegm2 compare {run} band_power {store} --out DIR   (beside a simple method)")
    if (run / "run.json").is_file():
        typer.echo(f"            eegm2 report {run} --out report.html")


def people_lines(results: dict[str, Any], n_bootstrap: int = 2000) -> list[str]:
    """Return a line per protocol: a metric of each test subject, averaged, and its interval."""
    import numpy as np

    metric = "r2" if results["task"]["kind"] == "regression" else "balanced_accuracy"
    lines = []
    for row in results["protocols"]:
        values = [entry[metric] for entry in row["per_subject"] if entry.get(metric) is not None]
        if row["seed"] or len(values) < 2:
            continue
        draws = np.random.default_rng(0).choice(np.array(values), (n_bootstrap, len(values)))
        low, high = np.percentile(draws.mean(1), [2.5, 97.5])
        lines.append(
            f"people      {row['protocol']}: {metric} {np.mean(values):.3f} [{low:.3f}, {high:.3f}], each of "
            f"{len(values)} test subjects' windows alone, then averaged; the interval is over these people"
        )
    return lines


def trust_lines(results: dict[str, Any]) -> list[str]:
    """Return how far each kind of feature was trusted, where people who were left out decided that."""
    return [
        "trust       "
        + ", ".join(f"{name.replace('_', ' ')} {share:.2f}" for name, share in row["shares"].items())
        + f" (chosen on {row['n_people']} people left out in turn, as was C = {row['c']:g})"
        for row in results["protocols"]
        if row.get("shares")
    ]


def _cell(row: dict[str, Any]) -> str:
    if row["mean"] is None:
        return "-"
    return f"{row['mean']:.3f}" + (f" ± {row['std']:.3f} ({row['n_seeds']})" if row["n_seeds"] > 1 else "")
