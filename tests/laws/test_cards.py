"""Laws of cards: whom a model and its heads have learnt from, and on whom they were judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.data.windows.splits import SplitManifest
from eegm2.deploy.heads.dense import DenseHead
from eegm2.hub.card import _about, _heads, _results, _splits, _stores, _training
from eegm2.hub.heads import copy_without_people
from eegm2.report.predictions import _summary
from eegm2.report.sections.recordings import _store_row
from eegm2.zoo.facts import facts_of


def markdown(text: str) -> list[dict[str, str]]:
    """Return the rows of a table in Markdown by the heads of its columns."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


@pytest.mark.parametrize("by", ["subject", "recording", None])
def test_a_head_judged_on_other_recordings_was_not_judged_on_other_people(by: str | None) -> None:
    facts: dict[str, Any] = {"test": {"balanced_accuracy": 0.75}, "n_subjects": 3}
    if by:
        facts["by"] = by
    model = {"classes": ["a", "b"], "head": "linear", "window_s": 2.0, "facts": facts}
    said = str(vars(_summary({"recordings": [], "skipped": {}, "model": model})))
    assert ("on people it had not seen had balanced accuracy 0.750" in said) == (by != "recording")
    assert ("on recordings of the same people it had not seen had" in said) == (by == "recording")
    card = _heads([("linear.safetensors", ["a", "b"], facts)]).replace("\\", "")
    assert ("0.750 (other recordings, maybe of the same people)" in card) == (by == "recording")
    assert "| 3 subjects |" in card


STORE = {
    "store": "one", "n_recordings": 40, "n_train_subjects": 11, "n_val_subjects": 3, "n_train_windows": 900,
    "n_val_windows": 70, "share": 0.25, "ch_names": ["Cz"], "licence": "CC BY 4.0",
}  # fmt: skip


def test_people_of_training_and_of_validation_are_each_in_their_place() -> None:
    """On the page of a run and on its card."""
    page = dict(zip(("store", "recordings", "people", "windows", "share"), _store_row(STORE)))
    assert page == {
        "store": "one", "recordings": "40", "people": "11, 3", "windows": "900, 70", "share": "25%",
    }  # fmt: skip
    (card,) = markdown(_stores([STORE]).replace("\\", ""))
    assert (card["recordings"], card["people: train, validation"]) == ("40", "11, 3")
    assert (card["share"], card["licence"]) == ("25%", "CC BY 4.0")
    split = _splits(SplitManifest(("a", "b", "c"), ("d", "e"), ("f",)))
    assert "3 train, 2 val, 1 test" in split


def test_a_card_tells_people_from_recordings_and_data_from_the_model() -> None:
    training = _training({"data": {"n_recordings": 40, "n_subjects": 14}}).replace("\\", "")
    assert "| recordings | 40 |" in training
    assert "| subjects | 14 |" in training
    data = [
        {"name": "A", "people": ["x", "y"], "hours": 3.0, "licence": "CC0"},
        {"name": "B", "people": ["z"], "hours": 1.0, "licence": "ODC-By"},
    ]
    about = _about({"about": {"licence": "MIT", "data": data}}).replace("\\", "")
    rows = {row["data set"]: (row["people"], row["hours"], row["licence"]) for row in markdown(about)}
    assert rows == {"A": ("2", "3.0", "CC0"), "B": ("1", "1.0", "ODC-By")}
    parts = {name: {"n_windows": n, "n_subjects": n // 10} for name, n in (("val", 20), ("test", 50))}
    assert "test on 50 windows of 5 subjects" in _results([{"task": {"parts": parts}}])


def test_seen_are_the_people_of_every_data_set(tmp_path: Path) -> None:
    data = [{"name": "A", "people": ["x", "y"], "hours": 3.0}, {"name": "B", "people": ["z"], "hours": 1.0}]
    header = {"about": {"data": data}, "model": {}}
    text = json.dumps({"__metadata__": {"eegm2": json.dumps(header)}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    facts = facts_of("m", tmp_path)
    assert facts["seen"] == {"A": ["x", "y"], "B": ["z"]}
    assert "A (2 people, 3.0 h" in facts["trained on"]
    assert "B (1 people, 1.0 h" in facts["trained on"]


def test_a_shared_head_counts_those_it_learnt_from(tmp_path: Path) -> None:
    people = {"train": ["a", "b", "c"], "val": ["d"], "test": ["e", "f"]}
    layers = [(np.ones((2, 1)), np.zeros(2))]
    DenseHead(np.zeros(1), np.ones(1), layers, ("x", "y"), facts={"people": people}).save(tmp_path / "h")
    _, facts = copy_without_people(tmp_path / "h", tmp_path / "out")
    assert facts["n_subjects"] == 3
