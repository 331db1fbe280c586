"""Laws of sentences and tables in a terminal: each number is of the model and the people it names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from eegm2.cli import compare
from eegm2.cli.probe import people_lines, trust_lines
from eegm2.evaluation.experiment.tables import choice_lines, markdown
from eegm2.report import figures
from eegm2.report.demo import _curves, _people


def evaluation(folder: Path, low: float, high: float) -> Path:
    """Write what ``eegm2 evaluate`` leaves of two models on five people."""
    rows = [
        {"model": model, "metric": metric, "mean": mean, "n_subjects": 5}
        for model, mean in (("ours", 0.81), ("theirs", 0.62))
        for metric in ("accuracy", "auroc")
    ]
    pair = {"difference": 0.19, "ci_low": low, "ci_high": high, "p": 0.042}
    pairs = [{"metric": "accuracy", **pair, "difference": 9.0}, {"metric": "auroc", **pair}]
    cells = [
        {
            "model": model,
            "result": {"per_subject": [{"subject": s, "auroc": a, "accuracy": 0.0} for s, a in of]},
        }
        for model, of in (("ours", [("p", 0.9), ("q", 0.8)]), ("theirs", [("p", 0.4), ("q", 0.7)]))
    ]
    (folder / "evaluation").mkdir(parents=True)
    (folder / "evaluation" / "results.json").write_text(json.dumps(rows))
    details = {"comparisons": pairs, "cells": cells}
    (folder / "evaluation" / "details.json").write_text(json.dumps(details))
    return folder


@pytest.mark.parametrize(
    ("low", "high", "apart"),
    [(0.05, 0.3, True), (-0.3, -0.05, True), (-0.01, 0.3, False), (-0.3, 0.01, False)],
)
def test_a_comparison_says_whose_means_and_whether_they_are_apart(
    low: float, high: float, apart: bool, tmp_path: Path
) -> None:
    said = compare._sentence(evaluation(tmp_path, low, high) / "evaluation", "ours", "theirs", "auroc")
    assert said.startswith("auroc: ours 0.810, theirs 0.620 on 5 subjects tested")
    assert f"difference +0.190 [{low:+.3f}, {high:+.3f}] paired by subject, p = 0.042" in said
    assert said.endswith("leaves out 0" if apart else "holds 0, so they cannot be told apart here")


def test_a_figure_of_people_is_of_the_metric_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    chances: list[tuple[str, float | None]] = []

    def draw(scores: Any, name: str, chance: float | None) -> Figure:
        drawn.append(scores)
        chances.append((name, chance))
        return Figure()

    monkeypatch.setattr(figures, "person_scores", draw)
    compare._figure(evaluation(tmp_path, 0.0, 1.0), "auroc")
    scores = {"ours": {"p": 0.9, "q": 0.8}, "theirs": {"p": 0.4, "q": 0.7}}
    assert drawn == [scores]
    details = json.loads((tmp_path / "evaluation" / "details.json").read_text())
    monkeypatch.setattr("eegm2.report.document.inline_svg", lambda figure, key: "")
    monkeypatch.setattr("eegm2.report.figures.people.person_scores", draw)
    _people(details, scores)
    assert drawn[1] == scores
    compare._figure(tmp_path, "accuracy")
    assert drawn[2] == {model: dict.fromkeys(of, 0.0) for model, of in scores.items()}
    assert [chance for _, chance in chances] == [0.5, 0.5, None]
    assert [name.split()[0] for name, _ in chances] == ["AUROC", "AUROC", "accuracy"]


def test_every_pair_has_its_own_difference_interval_and_p() -> None:
    pairs = []
    for i in (1, 2, 3):
        figures_of = {"difference": i / 10, "ci_low": i / 20, "ci_high": i / 5, "p": i / 100}
        pairs.append({"a": f"m{i}", "b": "base", "metric": "auroc", **figures_of})
    lines = [line for line in markdown([], pairs, []).splitlines() if "− base" in line]
    for i, line in zip((1, 2, 3), lines, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        expected = [f"m{i} − base", "auroc", f"+{i / 10:.3f} [+{i / 20:.3f}, +{i / 5:.3f}]", f"{i / 100:.3f}"]
        assert cells == expected


def test_every_split_tells_its_own_scores_of_validation() -> None:
    common = {"model": "m", "by": "auroc", "seed": 0}
    rows = [
        {**common, "split": f"fold{i}", "chosen": chosen, "validation_scores": {"a": a, "b": b}}
        for i, (chosen, a, b) in enumerate([("a", 0.9, 0.1), ("b", 0.2, 0.3)])
    ]
    (line,) = choice_lines(rows)
    assert "fold0 a (a 0.900, b 0.100); fold1 b (a 0.200, b 0.300)" in line


def test_people_count_alike_and_their_interval_is_of_95_percent() -> None:
    """Of each protocol's first seed: the mean of people's own scores, not the score of all windows."""
    values = np.random.default_rng(0).normal(0.7, 0.1, 100)
    row = {
        "protocol": "linear", "seed": 0, "metrics": {"balanced_accuracy": 0.123},
        "per_subject": [{"balanced_accuracy": v} for v in values] + [{"balanced_accuracy": None}],
    }  # fmt: skip
    (line,) = people_lines({"task": {"kind": "classification"}, "protocols": [row, {**row, "seed": 1}]})
    mean, low, high, n = map(float, re.findall(r"[0-9]+\.[0-9]+|(?<=of )[0-9]+", line))
    assert mean == pytest.approx(values.mean(), abs=6e-4)
    half = 1.96 * values.std() / 10
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=1.5e-3)
    assert n == 100
    told = {**row, "shares": {"state": 0.25, "tangent": 0.75}, "n_people": 7, "c": 0.01}
    assert trust_lines({"protocols": [told]}) == [
        "trust       state 0.25, tangent 0.75 (chosen on 7 people left out in turn, as was C = 0.01)"
    ]


def test_a_curve_of_the_demo_is_of_the_class_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("eegm2.report.document.inline_svg", lambda figure, key: "")
    monkeypatch.setattr(figures, "roc_curves", lambda y, scores, classes: Figure())
    monkeypatch.setattr(figures, "calibration_curves", lambda *given: (drawn.append(given), Figure())[1])
    p = np.array([0.2, 0.9])
    _curves({"m": {"y_true": np.array([0, 1]), "score": np.stack([1 - p, p], 1)}}, ["shut", "open"])
    ((is_class, probability, name),) = drawn
    np.testing.assert_array_equal(is_class, [False, True])
    np.testing.assert_array_equal(probability["m"], p)
    assert name == "open"
