"""The report's section about ``eegm2 evaluate``: models compared on the same splits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from eegm2.report import figures
from eegm2.report.contents import ReportData
from eegm2.report.document import Section


def evaluation_section(data: ReportData) -> Section | None:
    """Show the evaluations (models compared over folds), if there are any."""
    if not data.evaluations:
        return None
    section = Section(
        "evaluation",
        "Evaluation",
        look="Whether an interval leaves out the simple methods, and the paired differences rather than two"
        " means.",
        then="Where an interval is too wide to decide, add people before seeds; eegm2 evaluate goes on from"
        " what is done.",
    )
    for evaluation in data.evaluations:
        if len(data.evaluations) > 1:
            section.heading(evaluation.name)
        unit = next((str(row["unit"]) for row in evaluation.rows if "unit" in row), "subject")
        metrics = list(dict.fromkeys(str(row.get("metric")) for row in evaluation.rows))
        for metric in [m for m in ("balanced_accuracy", "auroc") if m in metrics] or metrics[:1]:
            name = figures.METRIC_NAMES.get(metric, metric)
            if any(row.get("train_subjects") for row in evaluation.rows):
                section.figure(
                    partial(figures.learning_curves, evaluation.rows, metric),
                    caption=f"Every model's {name} against the number of {unit}s whose labels it was given, "
                    f"with its confidence interval over the {unit}s tested. Dotted: other methods.",
                    alt=f"learning curves, {metric}",
                )
                continue
            section.figure(
                partial(figures.evaluation_scores, evaluation.rows, metric),
                caption=f"Every model's {name}, best first, with its confidence interval over {unit}s "
                "(or ± standard deviation where none is given). Blue: EEGM2.",
                alt=f"evaluation, {metric}",
            )
        section.table(
            ["model", "metric", "mean", "std", "interval", f"{unit}s", "seeds"],
            [_evaluation_row(row, unit) for row in evaluation.rows],
            title=f"All rows of {evaluation.name}",
            folded=len(evaluation.rows) > 12,
        )
        if evaluation.comparisons:
            section.table(
                ["difference", "metric", "mean", "interval", "p"],
                [_comparison_row(row, unit) for row in evaluation.comparisons],
                title=f"Differences, paired by {unit} (p: predictions exchanged {unit} by {unit})",
            )
        for note in evaluation.notes:
            section.note(note)
    return section


def _evaluation_row(row: Mapping[str, object], unit: str) -> list[object]:
    interval = _interval(row)
    seeds = row.get("seeds")
    n_seeds = len(seeds) if isinstance(seeds, list | tuple) else seeds
    return [
        row.get("model"),
        row.get("metric"),
        _three(row, "mean"),
        _three(row, "std"),
        interval,
        row.get(f"n_{unit}s"),
        n_seeds,
    ]


def _comparison_row(row: Mapping[str, object], unit: str) -> list[object]:
    count = row.get("train_subjects")
    name = f"{row.get('a')} − {row.get('b')}" + (f", {count} {unit}s" if count is not None else "")
    if row.get("problem"):
        return [name, row.get("metric", ""), row["problem"], "–", "–"]
    return [name, row.get("metric"), _three(row, "difference"), _interval(row), _three(row, "p")]


def _interval(row: Mapping[str, object]) -> str:
    return f"{_three(row, 'ci_low')} to {_three(row, 'ci_high')}" if row.get("ci_low") is not None else "–"


def _three(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    return f"{value:.3f}" if isinstance(value, int | float) else "–"
