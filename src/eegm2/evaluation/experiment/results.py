"""From finished cells to results.json, details.json and results.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.atomic import write_atomic
from eegm2.config import to_dict
from eegm2.errors import EEGM2Error
from eegm2.evaluation.experiment.cells import Cell, StoredCell
from eegm2.evaluation.experiment.choice import choices
from eegm2.evaluation.experiment.config import Plan
from eegm2.evaluation.experiment.tables import choice_lines, markdown
from eegm2.evaluation.scores.crossval import CrossValidated, tested_part
from eegm2.evaluation.scores.resampling import compare
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.training.checkpoint import provenance, write_json


@dataclass(frozen=True)
class Finished:
    """A cell of the plan with its result, if it has one.

    Attributes
    ----------
    cell : Cell
        Which.
    stored : StoredCell or None
        None: not done, or failed.
    """

    cell: Cell
    stored: StoredCell | None


def cross_validated(
    cells: Sequence[Finished], data: LabelledWindows
) -> dict[tuple[str, int | None], CrossValidated]:
    """Return every model's predictions, by name and number of labelled subjects, where no split lacks.

    A seed counts only where it has been through all splits; a deterministic model has the first seed only.
    """
    groups: dict[tuple[str, int | None], dict[int, list[Finished]]] = {}
    for done in cells:
        key = (done.cell.model.name, done.cell.split.n_labelled)
        groups.setdefault(key, {}).setdefault(done.cell.seed, []).append(done)
    found = {}
    for key, by_seed in groups.items():
        whole = {seed: row for seed, row in by_seed.items() if all(done.stored is not None for done in row)}
        if not whole:
            continue
        first = next(iter(whole))
        if all(done.stored is not None and done.stored.deterministic for done in whole[first]):
            whole = {first: whole[first]}
        outcomes = {
            s: tuple(d.stored.outcome for d in row if d.stored is not None) for s, row in whole.items()
        }
        parts = tuple(
            tuple(
                tested_part(data, done.cell.split.indices, outcome, done.cell.split.manifest.by)
                for done, outcome in zip(row, outcomes[seed])
            )
            for seed, row in whole.items()
        )
        found[key] = CrossValidated(parts, tuple(whole), tuple(outcomes.values()))
    return found


def result_rows(
    results: dict[tuple[str, int | None], CrossValidated], data: LabelledWindows, plan: Plan, by: str
) -> list[dict[str, Any]]:
    """Return the rows of results.json, in the order of the plan's models.

    Returns
    -------
    list of dict
        model, kind (its protocol, baseline, or choose), metric, mean, std, ci_low, ci_high, n_subjects,
        seeds; train_subjects on a learning curve; unit and n_recordings where recordings are resampled.
    """
    order = {model.name: i for i, model in enumerate(plan.models)}
    kinds = {model.name: model.kind for model in plan.models}
    rows = []
    for (name, count), result in sorted(
        results.items(), key=lambda item: (order[item[0][0]], item[0][1] or 0)
    ):
        label = name if count is None else f"{name}, {count} {by}s"
        for row in result.rows(label, n_bootstrap=plan.n_bootstrap):
            extra: dict[str, Any] = {} if count is None else {"train_subjects": count}
            if by == "recording":
                tested = np.isin(data.recording, [u for part in result.parts[0] for u in set(part.subject)])
                extra |= {"unit": "recording", "n_recordings": row["n_subjects"]}
                row["n_subjects"] = len(set(data.subject[tested].tolist()))
            rows.append({"model": row.pop("model"), "kind": kinds[name], **row, **extra})
    return rows


def comparisons(results: dict[tuple[str, int | None], CrossValidated], plan: Plan) -> list[dict[str, Any]]:
    """Return every pair's difference in every metric; a pair that cannot be compared says why."""
    rows: list[dict[str, Any]] = []
    counts = list(dict.fromkeys(count for _, count in results))
    for pair, count in product(plan.compare, counts or [None]):
        about: dict[str, Any] = {"a": pair.a, "b": pair.b}
        about |= {} if count is None else {"train_subjects": count}
        absent = [name for name in (pair.a, pair.b) if (name, count) not in results]
        if absent:
            rows.append({**about, "problem": f"{' and '.join(absent)} not finished"})
            continue
        a, b = results[pair.a, count], results[pair.b, count]
        for metric in a.metrics:
            try:
                found = asdict(compare(a.parts, b.parts, metric, n_resamples=plan.n_bootstrap))
            except EEGM2Error as error:
                rows.append({**about, "metric": metric, "problem": str(error)})
                continue
            plain = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in found.items()}
            rows.append({**about, **plain})
    return rows


def machine(device: str) -> dict[str, Any]:
    """Return where this was computed."""
    import torch

    facts: dict[str, Any] = {
        "system": platform.system(),
        "processor": platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def write_results(
    out: Path,
    plan: Plan,
    data: LabelledWindows,
    cells: Sequence[Finished],
    *,
    statements: dict[str, dict[str, str]],
    failures: dict[str, str],
    stale: Sequence[str],
    device: str,
) -> list[dict[str, Any]]:
    """Write results.json, details.json and results.md; return the rows."""
    by = cells[0].cell.split.manifest.by if cells else "subject"
    results = cross_validated(cells, data)
    rows = result_rows(results, data, plan, by)
    pairs = comparisons(results, plan)
    missing = [done.cell.label for done in cells if done.stored is None and not _spare(done, cells)]
    splits = {done.cell.split.name: done.cell.split.units(data) for done in cells}
    chosen = choices([done.stored for done in cells if done.stored is not None])
    config, store = to_dict(plan), plan.data.store.rstrip("/").rpartition("/")[2]
    details = {
        "format": 1,
        "config": {**config, "path": plan.path.name, "data": {**config["data"], "store": store}},
        "task": {
            "classes": list(data.classes),
            "n_windows": len(data),
            "n_per_class": {name: int((data.y == i).sum()) for i, name in enumerate(data.classes)},
            "n_subjects": len(set(data.subject.tolist())),
            "unit": by,
        },
        "splits": splits,
        "pretraining_saw": statements,
        "choices": chosen,
        "comparisons": pairs,
        "failures": failures,
        "missing": missing,
        "stale": list(stale),
        "cells": [done.stored.facts for done in cells if done.stored is not None],
        "provenance": {**provenance(), "machine": machine(device)},
    }
    write_json(out / "details.json", details)
    write_atomic(
        out / "results.md", [markdown(rows, pairs, [*failures, *missing], choice_lines(chosen)).encode()]
    )
    write_json(out / "results.json", rows)
    return rows


def _spare(done: Finished, cells: Sequence[Finished]) -> bool:
    """Return whether a cell need not run: the first seed's outcome says that chance plays no part."""
    first = next(
        other
        for other in cells
        if other.cell.model.name == done.cell.model.name and other.cell.split.name == done.cell.split.name
    )
    return first is not done and first.stored is not None and first.stored.deterministic
