"""The page of ``eegm2 demo``: a finding on people never seen, and one of them over time."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.report.document import Section


def write_demo_page(
    path: Path, evaluation: Path, predictions: Path, model: str, about: Mapping[str, Any], person: str
) -> dict[str, Any]:
    """Write the page and return the AUROC of model and band power, with intervals and number of people.

    Parameters
    ----------
    path : Path
        The page.
    evaluation, predictions : Path
        Folders of ``eegm2 evaluate`` and ``eegm2 predict``.
    model : str
        Name of the model.
    about : mapping
        Facts of it, see `eegm2.zoo.facts`.
    person : str
        Who is predicted.
    """
    from eegm2.report.html import render_page, write_page
    from eegm2.report.predictions import sections_of

    rows = json.loads((evaluation / "results.json").read_bytes())
    details = json.loads((evaluation / "details.json").read_bytes())
    found = {row["model"]: row for row in rows if row["metric"] == "auroc"}
    cells = _cells(evaluation, details)
    sections = [
        _finding(rows, details, found, model, about),
        _people(details, found),
        _curves(cells, details["task"]["classes"]),
        *sections_of(predictions, f"Over time: {person}, whom the head has not seen"),
        _next(),
    ]
    created = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    write_page(path, render_page("Eyes open or closed, on people never seen", sections, created))
    return found


def _cells(evaluation: Path, details: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Return score and y_true of every tested window by model."""
    parts: dict[str, dict[str, list[np.ndarray]]] = {}
    for cell in details["cells"]:
        (path,) = (evaluation / "cells").glob(f"*{cell['key'][:16]}.npz")
        with np.load(path, allow_pickle=False) as stored:
            mine = parts.setdefault(cell["model"], {"score": [], "y_true": []})
            for name in mine:
                mine[name].append(stored[name])
    return {
        model: {name: np.concatenate(values) for name, values in found.items()}
        for model, found in parts.items()
    }


def _finding(
    rows: list[dict[str, Any]],
    details: dict[str, Any],
    found: Mapping[str, dict[str, Any]],
    model: str,
    about: Mapping[str, Any],
) -> Section:
    from eegm2.report.figures import evaluation_scores

    section, task = (
        Section(
            "finding",
            "The finding",
            look="Whether the intervals overlap: with this few people a difference must be large to be one.",
            then="Put your own labelled recordings in the place of these: eegm2 prepare FOLDER --table "
            "labels.csv --out store.",
        ),
        details["task"],
    )
    section.tiles(
        [(f"{row['mean']:.3f}", f"AUROC, {name} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]")
         for name, row in found.items()]
        + [(str(task["n_subjects"]), "people, each tested by a head that never saw them")]
    )  # fmt: skip
    section.text(
        f"Whether the eyes are open or closed, told from {task['n_windows']} windows of 4 s of field "
        "recordings with a 14-channel headset. In each fold a head is learnt on some people and tested on "
        "others; the interval is over people. Features of both methods are taken relative to the mean of the "
        "same recording, which needs no labels but the recording as a whole. 0.5 is chance."
    )
    if about.get("trained on", "").startswith("nothing"):
        section.note(
            f"The model '{model}' is an untrained control: its weights are random, and what it gives comes "
            "from band-wise covariances by construction, not from pretraining."
        )
    else:
        section.text(
            f"The model '{model}' was pretrained without labels on {about['trained on']}. None of the "
            "people here is among those it saw."
        )
    section.figure(
        lambda: evaluation_scores(rows, "auroc"),
        caption="AUROC of windows with its 95 % interval over people.",
        alt="AUROC of model and band power",
    )
    for row in details["comparisons"]:
        if row["metric"] == "auroc" and row.get("difference") is not None:
            section.text(
                f"{row['a']} less {row['b']}: {row['difference']:+.3f} "
                f"[{row['ci_low']:+.3f}, {row['ci_high']:+.3f}], paired by person, p = {row['p']:.3f}."
            )
    return section


def _people(details: dict[str, Any], found: Mapping[str, Any]) -> Section:
    from eegm2.report.figures.people import person_scores

    section = Section(
        "people",
        "Person by person",
        look="Who is near or below the dashed line: in some, alpha hardly changes when the eyes close.",
        then="Look at the recording of somebody who is badly told: eegm2 predict PROBE FILE --out "
        "predictions.",
    )
    scores: dict[str, dict[str, float | None]] = {name: {} for name in found}
    for cell in details["cells"]:
        for row in cell["result"]["per_subject"]:
            scores[cell["model"]][row["subject"]] = row.get("auroc")
    section.figure(
        lambda: person_scores(scores, "AUROC of the person's windows", chance=0.5),
        caption="AUROC of each person's windows alone; no method finds what is not there.",
        alt="AUROC of every person",
    )
    return section


def _curves(cells: Mapping[str, Mapping[str, np.ndarray]], classes: list[str]) -> Section:
    from eegm2.report.figures import calibration_curves, roc_curves

    section = Section(
        "curves",
        "Errors of either kind, and what a probability is worth",
        look="How many of one class are found for how many of the other taken for it, and the distance from"
        " the diagonal.",
        then="Choose the threshold by what an error of either kind costs you: eegm2 predict --threshold.",
    )
    y = next(iter(cells.values()))["y_true"].astype(int)
    section.figure(
        lambda: roc_curves(y, {name: [cell["score"]] for name, cell in cells.items()}, classes),
        caption="All thresholds: how many of one class are found, how many of the other taken for it.",
        alt="ROC curves",
    )
    section.figure(
        lambda: calibration_curves(
            y == 1, {name: cell["score"][:, 1] for name, cell in cells.items()}, classes[1]
        ),
        caption="A model on the dashed line is right as often as it says. Flatter: it is too sure.",
        alt="Calibration",
    )
    return section


def _next() -> Section:
    section = Section(
        "next",
        "What to do next",
        look="The commands below, each the next step after the one above it.",
        then="Begin with your own folder; every command has --help, and goes on where it stopped.",
    )
    section.facts(
        [
            ("prepare yours", "eegm2 prepare FOLDER --table labels.csv --out store"),
            ("a head on them", "eegm2 probe MODEL store --out probe"),
            ("predict new ones", "eegm2 predict probe NEW_FILES --out predictions"),
            ("tune the network", "eegm2 finetune MODEL store --out tuned"),
            ("live", "eegm2 stream --model MODEL --head HEAD --source lsl"),
            ("which models", "eegm2 models"),
        ]
    )
    return section
