"""results.md: the rows and comparisons of an experiment as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

METRIC_ORDER = (
    "balanced_accuracy",
    "auroc",
    "accuracy",
    "auprc",
    "weighted_f1",
    "kappa",
    "r2",
    "mae",
    "pearson_r",
)


def markdown(
    rows: Sequence[dict[str, Any]],
    pairs: Sequence[dict[str, Any]],
    unfinished: Sequence[str],
    notes: Sequence[str] = (),
) -> str:
    """Return the results as Markdown tables: mean with its interval, differences, and lines of notes."""
    found = {row["metric"] for row in rows}
    metrics = [name for name in METRIC_ORDER if name in found]
    unit = next((row["unit"] for row in rows if "unit" in row), "subject")
    lines = ["# Results", "", f"Mean over folds and seeds, with the 95 % interval over {unit}s.", ""]
    if unit == "recording":
        lines += ["One person's recordings may be in several parts: the results hold for those people.", ""]
    lines += _row(["model", *metrics, f"{unit}s", "seeds"]) + _row(["---"] * (len(metrics) + 3))
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = {row["metric"]: row for row in rows if row["model"] == model}
        any_row = next(iter(mine.values()))
        tail = [str(any_row[f"n_{unit}s"]), ", ".join(map(str, any_row["seeds"]))]
        lines += _row([model, *(_figure(mine[name], "mean") for name in metrics), *tail])
    if not rows:
        lines.append("No model has been through all splits yet.")
    for note in notes:
        lines += ["", note]
    if pairs:
        lines += [
            "",
            "## Differences",
            "",
            f"Paired by {unit}; p from exchanging predictions {unit} by {unit}.",
            "",
        ]
        lines += _row(["pair", "metric", "difference", "p"]) + _row(["---"] * 4)
    for pair in pairs:
        name = f"{pair['a']} − {pair['b']}"
        if "train_subjects" in pair:
            name += f", {pair['train_subjects']} {unit}s"
        if "problem" in pair:
            lines += _row([name, pair.get("metric", ""), pair["problem"], ""])
            continue
        p = "–" if pair["p"] is None else f"{pair['p']:.3f}"
        lines += _row([name, pair["metric"], _figure(pair, "difference"), p])
    if unfinished:
        lines += ["", "## Not finished", "", *(f"- {name}" for name in dict.fromkeys(unfinished))]
    return "\n".join(lines) + "\n"


def choice_lines(choices: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line per model that was chosen among others: what each split took, and by which scores.

    Parameters
    ----------
    choices : sequence of dict
        model, split, seed, by, chosen, validation_scores.
    """
    lines = []
    for model in dict.fromkeys(row["model"] for row in choices):
        mine = [row for row in choices if row["model"] == model]
        seeds = len({row["seed"] for row in mine}) > 1
        said = []
        for row in mine:
            where = row["split"] + (f" seed {row['seed']}" if seeds else "")
            scores = (
                f"{k} {'–' if v is None else format(v, '.3f')}" for k, v in row["validation_scores"].items()
            )
            said.append(f"{where} {row['chosen']} ({', '.join(scores)})")
        lines.append(f"{model}, chosen by {mine[0]['by']} on validation: {'; '.join(said)}.")
    return lines


def _row(values: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(value.replace("|", "/") for value in values) + " |"]


def _figure(row: dict[str, Any], key: str) -> str:
    if row[key] is None:
        return "–"
    sign = "+" if key == "difference" else ""
    if row["ci_low"] is None:
        return f"{row[key]:{sign}.3f}"
    return f"{row[key]:{sign}.3f} [{row['ci_low']:{sign}.3f}, {row['ci_high']:{sign}.3f}]"
