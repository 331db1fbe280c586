"""``eegm2 compare``: two models on the same people, paired."""

from __future__ import annotations

import dataclasses
import difflib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from eegm2.atomic import whole_file, write_atomic
from eegm2.errors import ConfigError
from eegm2.evaluation.config import CENTRE_HELP, CLASSIFICATION, FEATURES_HELP, Centre, Features
from eegm2.plugins import is_plugin
from eegm2.zoo.find import MODEL_HELP


def compare(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="RUN_A", help=MODEL_HELP)],
    b: Annotated[
        str, typer.Argument(metavar="RUN_B", help="Another, or a baseline such as band_power or one's own.")
    ],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Labelled store written by eegm2 prepare.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the comparison; it goes on.")],
    *,
    metric: Annotated[str, typer.Option(help="Metric of the sentence and the figure.")] = "auroc",
    features: Annotated[
        Features | None, typer.Option(help=FEATURES_HELP + " None given: what each network usually gives.")
    ] = None,
    centre: Annotated[Centre, typer.Option(help=CENTRE_HELP)] = "none",
    window_s: Annotated[float, typer.Option(help="Window in seconds.")] = 4.0,
    folds: Annotated[int, typer.Option(help="Folds; every subject is tested once.")] = 5,
    target: Annotated[str, typer.Option(help="annotations, or a participant attribute.")] = "annotations",
) -> None:
    """Compare two models on a store: linear heads, same folds, paired by subject, one figure, one sentence.

    Penalties are chosen by leaving people out among those who train. For protocols, seeds and learning
    curves use eegm2 evaluate.
    """
    from eegm2.evaluation.baselines.registry import BASELINES, find_baseline
    from eegm2.model.config import EEGM2Config
    from eegm2.model.features import usual_kind
    from eegm2.training.checkpoint import read_header

    if a == b:
        raise ConfigError(f"RUN_A, RUN_B: both are {a}; give two models")
    if metric not in CLASSIFICATION:
        raise ConfigError(f"--metric: got '{metric}', expected one of {', '.join(CLASSIFICATION)}")
    lines = ["[data]", f"store = {json.dumps(str(store.resolve()))}", f"window_s = {window_s}"]
    lines += [f"target = {json.dumps(target)}", "[splits]", f"n_folds = {folds}"]
    for key, name in (("a", a), ("b", b)):
        if name in BASELINES or is_plugin(name):
            known = {field.name for field in dataclasses.fields(find_baseline(name).options)}
            told = {"c": "people", "centre": centre}
            lines += ["[[models]]", f"name = {json.dumps(name)}", f"baseline = {json.dumps(name)}"]
            lines += ["[models.options]", *(f"{k} = {json.dumps(v)}" for k, v in told.items() if k in known)]
            continue
        near = difflib.get_close_matches(name, BASELINES, n=1, cutoff=0.75)
        if near and not Path(name).exists():
            raise ConfigError(
                f"{name}: no such model or baseline; did you mean '{near[0]}'? (baselines: "
                f"{', '.join(BASELINES)})"
            )
        header = read_header(name)
        kind = features or usual_kind(EEGM2Config.from_dict(header["model"]))
        scaling = header.get("windows", {}).get("scaling", "quantile95")
        place = str(Path(name).resolve()) if Path(name).exists() else name
        lines += [
            f"[pretrain.{key}]",
            f"run = {json.dumps(place)}",
            "[[models]]",
            f"name = {json.dumps(name)}",
        ]
        lines += ['protocol = "linear"', f'pretrained = "{key}"', f"features = {json.dumps(kind)}"]
        lines += [f"scaling = {json.dumps(scaling)}", f"centre = {json.dumps(centre)}", 'c = "people"']
    lines += ["[[compare]]", f"a = {json.dumps(a)}", f"b = {json.dumps(b)}"]
    plan = out / "compare.toml"
    write_atomic(plan, ["\n".join([*lines, ""]).encode()])
    command: Any = context.find_root().command
    command.main(["evaluate", str(plan), "--out", str(out / "evaluation")], standalone_mode=False)
    typer.echo(_sentence(out / "evaluation", a, b, metric))
    typer.echo(f"figure  {_figure(out, metric)}")


def _sentence(evaluation: Path, a: str, b: str, metric: str) -> str:
    """Return what the comparison says, with its interval and the number of people."""
    rows = json.loads((evaluation / "results.json").read_bytes())
    details = json.loads((evaluation / "details.json").read_bytes())
    means = {row["model"]: row for row in rows if row["metric"] == metric}
    found = [row for row in details["comparisons"] if row.get("metric") == metric and "difference" in row]
    if a not in means or b not in means or not found:
        known = ", ".join(sorted({row["metric"] for row in rows}))
        raise ConfigError(f"--metric {metric}: there are no such results; there is {known or 'none'}")
    row = found[0]
    apart = row["ci_low"] > 0 or row["ci_high"] < 0
    people = f"{means[a]['n_subjects']} subjects tested by heads that never saw them"
    verdict = "leaves out 0" if apart else "holds 0, so they cannot be told apart here"
    return (
        f"{metric}: {a} {means[a]['mean']:.3f}, {b} {means[b]['mean']:.3f} on {people}; difference "
        f"{row['difference']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}] paired by subject, "
        f"p = {row['p']:.3f}: the interval {verdict}"
    )


def _figure(out: Path, metric: str) -> Path:
    """Write every person's score under both models."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    from eegm2.report.figures import METRIC_NAMES, person_scores

    details = json.loads((out / "evaluation" / "details.json").read_bytes())
    scores: dict[str, dict[str, float | None]] = {}
    for cell in details["cells"]:
        for row in cell["result"]["per_subject"]:
            scores.setdefault(cell["model"], {})[row["subject"]] = row.get(metric)
    chance = 0.5 if metric == "auroc" else None
    figure = person_scores(scores, f"{METRIC_NAMES[metric]} of the person's windows", chance=chance)
    path = out / "compare.svg"
    with whole_file(path, ending=".svg") as temporary:
        FigureCanvasSVG(figure).print_svg(temporary)
    return path
