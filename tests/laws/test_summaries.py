"""Laws of summaries: of several epochs, seeds and people what is shown is what is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eegm2.evaluation.experiment.config import ModelPlan
from eegm2.evaluation.experiment.weights import WeightSource
from eegm2.evaluation.scores.resampling import compare
from eegm2.evaluation.scores.weighted_metrics import TestPart
from eegm2.report.contents import Probe, Recording, ReportData, TrainingLog
from eegm2.report.document import Section
from eegm2.report.sections.recordings import data_section, quality_section
from eegm2.report.sections.summary import summary
from eegm2.report.sections.training import training_section


def tiles(section: Section) -> dict[str, str]:
    block = next(block for block in section.blocks if block.kind == "tiles")
    return {name: value for value, name in block.rows}


def test_the_best_loss_is_neither_the_first_nor_the_last() -> None:
    curves = {"train_loss": np.array([5.0, 4.0, 0.5, 3.0]), "val_loss": np.array([4.0, 1.5, np.nan, 2.5])}
    data = ReportData("r", {"val_loss": 0.1}, log=TrainingLog(np.array([1, 2, 3, 4]), curves))
    assert tiles(summary(data))["best validation loss"] == "1.5"
    table = next(block for block in training_section(data).blocks if block.kind == "table")
    found = {row[0]: row[1:] for row in table.rows}
    assert found == {"training, total": ("5", "0.5", "3"), "validation, total": ("4", "1.5", "2.5")}


def test_the_score_of_a_probe_is_the_mean_over_its_seeds_of_the_linear_one() -> None:
    protocols: list[dict[str, Any]] = [
        {"protocol": p, "seed": s, "metrics": {"balanced_accuracy": v, "accuracy": 0.99}}
        for p, values in (("light", (0.9, 0.8)), ("linear", (0.5, 0.6, 0.7)))
        for s, v in enumerate(values)
    ]
    shown = tiles(summary(ReportData("r", probes=[Probe("p", protocols=protocols)])))
    assert shown["balanced accuracy, linear probe"] == "0.600"
    del protocols[2:]
    shown = tiles(summary(ReportData("r", probes=[Probe("p", protocols=protocols)])))
    assert shown["balanced accuracy, light probe"] == "0.850"


def test_people_are_counted_once_and_recordings_each(monkeypatch: Any) -> None:
    monkeypatch.setattr("eegm2.report.document.inline_svg", lambda figure, key: "")
    quality = [
        {"low_uv": -10.0 * i, "high_uv": 20.0 * i, "flat_channels": ["Cz"] * (i == 2)} for i in (1, 2, 3)
    ]
    found = [
        Recording(f"r{i}", "ab"[i // 2], "", 60.0 * (i + 1), 128.0, quality=quality[i], split="train")
        for i in range(3)
    ]
    data = ReportData("r", recordings=found, splits={"train": ("a", "b"), "val": ("c",)}, split_seed=4)
    shown = tiles(summary(data))
    assert (shown["subjects"], shown["of EEG"]) == ("2", "6.0 min")
    facts = dict(next(block.rows for block in data_section(data).blocks if block.kind == "facts"))
    assert facts["Recordings"] == "3, 6.0 min in all"
    assert facts["Length of a recording"] == "60 s to 3.0 min"
    assert (facts["Subjects"], facts["Split seed"]) == ("2 training, 1 validation", "4")
    table = next(block for block in quality_section(data).blocks if block.kind == "table")
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert [row["range (µV)"] for row in rows] == ["−10 to 20", "−20 to 40", "−30 to 60"]
    assert [row["bad channels"] for row in rows] == ["none", "flat Cz", "none"]
    assert [row["length (s)"] for row in rows] == ["60", "120", "180"]


def test_a_p_is_never_none_at_all() -> None:
    """What is observed counts as one of the exchanges, however certain: 1 of 100, not 0 of 99."""
    who = np.array([f"s{i:02d}" for i in range(30)])
    good, bad = (TestPart(np.zeros(30), np.full(30, error), who) for error in (0.1, 5.0))
    assert compare([[good]], [[bad]], "mae", n_resamples=99).p == pytest.approx(0.01)


def test_fresh_networks_are_as_wide_as_the_papers_and_of_the_data() -> None:
    store = SimpleNamespace(ch_names=("Fz", "Cz", "Pz"), sfreq_hz=128.0)
    source: Any = SimpleNamespace(store=store, plan=SimpleNamespace(pretrain={}))
    for width, expected in ((0, 64), (8, 8)):
        model = ModelPlan(name="m", protocol="linear", pretrained="random", width=width)
        made = WeightSource.fresh_config(source, model)
        assert (made.width, made.n_chans, made.preset_name) == (expected, 3, "eegm2")
