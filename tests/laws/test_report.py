"""Laws of what is told of results: whom a figure is of, which part, which class, which unit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from eegm2.report.contents import Probe, Reconstruction, Recording, ReportData
from eegm2.report.document import Section
from eegm2.report.figures import topography
from eegm2.report.figures.people import person_scores
from eegm2.report.figures.predictions import probability_over_time
from eegm2.report.figures.representation import project, subject_maps
from eegm2.report.figures.topography import band_power_maps
from eegm2.report.folders import read_run
from eegm2.report.predictions import _band_power, _say_agreement
from eegm2.report.sections.downstream import _calibration, _class_counts, confusion_section
from eegm2.report.sections.evaluation import _evaluation_row
from eegm2.report.sections.reconstruction import reconstruction_section
from eegm2.report.sections.recordings import quality_section
from eegm2.report.sections.representation import _label_names
from eegm2.report.sections.words import duration

NAMES = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")


@pytest.fixture(autouse=True)
def _unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, and not written as SVG, which takes the time."""
    monkeypatch.setattr("eegm2.report.document.inline_svg", lambda figure, key: "")


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 6, 32))


def table(section: Section) -> list[dict[str, str]]:
    """Return the rows of a section's first table by the heads of its columns."""
    block = next(block for block in section.blocks if block.kind == "table")
    return [dict(zip(block.head, row, strict=True)) for row in block.rows]


def test_a_header_is_that_of_the_weights_shown(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for which, epoch in (("best", 4), ("last", 9)):
        (tmp_path / "checkpoints" / f"{which}.json").write_text(json.dumps({"epoch": epoch, "val_loss": 0.5}))
    assert read_run(tmp_path).header["epoch"] == 4


def test_a_calibration_is_of_the_class_it_names() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(4000)
    y = (rng.random(4000) < p**2).astype(int)
    probe = Probe("p", task={"classes": ["a", "b"]}, scores={"linear": [np.stack([1 - p, p], 1)]}, y_true=y)
    axes = _calibration(probe).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "linear")
    given, there = np.asarray(line.get_data(), float)
    np.testing.assert_allclose(there, given**2, atol=0.06)
    assert "b" in axes.get_xlabel().split()[-1]


def test_a_difference_is_the_second_less_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[dict[str, np.ndarray], list[str]]] = []
    monkeypatch.setattr(
        topography, "_draw", lambda figure, at, tables, name, rows, signed: drawn.append((tables, rows))
    )
    power = np.stack([np.full((1, 6), 2.0), np.full((1, 6), 5.0)])
    band_power_maps(NAMES, power, ["alpha"], ["rest", "task"])
    (above, names), (below, told) = drawn
    np.testing.assert_array_equal(above["alpha"][:, 0], [2.0, 5.0])
    np.testing.assert_array_equal(below["alpha"], np.full((1, 6), 3.0))
    assert (list(names), told) == (["rest", "task"], ["task less rest"])


def predictions() -> tuple[dict[str, Any], list[dict[str, np.ndarray]]]:
    """Return a document of predictions that contradict their labels, and the arrays of its recordings."""
    windows = [
        {"decision": decision, "label": label, "start_s": 2.0 * i, "stop_s": 2.0 * i + 2, "flags": []}
        for i, (decision, label) in enumerate([("a", "b"), ("a", "other"), ("b", "a"), ("b", "b")])
    ]
    facts = {"recording": "r", "windows": windows, "shares": {"a": 0.5, "b": 0.5}}
    power = np.repeat(np.array([1.0, 2.0, 4.0, 5.0])[:, None, None], 6, 1)
    arrays = {"ch_names": np.array(NAMES), "bands": np.array(["alpha"]), "band_power": power}
    return {"model": {"classes": ["a", "b"]}, "recordings": [facts]}, [arrays]


def test_band_power_is_of_what_was_decided_in_decibels(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[np.ndarray] = []

    def maps(names: Any, power_db: np.ndarray, bands: Any, classes: Any) -> Figure:
        drawn.append(power_db)
        assert (bands, classes) == (["alpha"], ["a", "b"])
        return Figure()

    monkeypatch.setattr(topography, "band_power_maps", maps)
    _band_power(*predictions())
    np.testing.assert_allclose(drawn[0][:, 0, 0], [15.0, 45.0])  # log10 of µV², of windows decided so


def test_agreement_is_of_windows_labelled_with_a_class() -> None:
    section = Section("s", "S", look="A.", then="B.")
    _say_agreement(section, predictions()[0]["recordings"])
    assert section.blocks[0].text.startswith("3 windows carry an annotation")
    assert "33.3% of them were decided so" in section.blocks[0].text


def test_an_answer_stands_in_the_middle_of_its_window() -> None:
    spans = np.array([[0.0, 2.0], [2.0, 4.0], [10.0, 12.0]])
    figure = probability_over_time(
        np.zeros((1, 2, 5)), ["Cz"], 12.0, spans, np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]]), ["a", "b"]
    )
    line = figure.axes[-1].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [1.0, 3.0, np.nan, 11.0])
    np.testing.assert_array_equal(line.get_ydata(), [0.1, 0.6, np.nan, 0.7])


def test_a_typical_window_is_neither_the_best_nor_the_worst() -> None:
    error = np.array([5.0, 1.0, 3.0, 9.0, 2.0])
    made = Reconstruction(
        noise(5), noise(5) + np.sqrt(error)[:, None, None], tuple("abcde"),
        tuple("ABCDE"), np.arange(5.0), split="val", n_available=5,
    )  # fmt: skip
    data = ReportData("r", ch_names=NAMES, sfreq_hz=32.0, reconstruction=made)
    captions = [block.text for block in reconstruction_section(data).blocks if block.kind == "figure"]
    assert "from recording C" in next(text for text in captions if text.startswith("Typical"))
    assert "from recording D" in next(text for text in captions if text.startswith("Worst"))


@pytest.mark.parametrize(
    ("split", "words"), [("val", "of validation subjects"), ("test", "of test subjects")]
)
def test_windows_shown_are_of_the_part_that_is_named(split: str, words: str) -> None:
    made = Reconstruction(noise(2), 2 * noise(2), ("a", "b"), ("A", "B"), np.zeros(2))
    made = Reconstruction(**{**vars(made), "split": split, "n_available": 2})
    section = reconstruction_section(ReportData("r", ch_names=NAMES, sfreq_hz=32.0, reconstruction=made))
    assert words in section.blocks[0].text


def test_every_persons_score_stands_at_their_name() -> None:
    """Sorted by the first model; of the others everybody keeps their own."""
    scores = {"one": {"p": 0.5, "q": 0.9, "r": 0.7}, "two": {"p": 0.8, "q": 0.6, "r": None}}
    axes = person_scores(scores, "score").axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["q", "r", "p"]
    for line, (model, own) in zip(axes.lines, scores.items()):
        found = {names[int(y)]: x for x, y in zip(*np.asarray(line.get_data(), float))}
        assert found == {name: value for name, value in own.items() if value is not None}, model


def test_figures_of_a_table_are_under_their_heads() -> None:
    row = {"model": "m", "metric": "auroc", "mean": 0.7, "std": 0.1, "n_subjects": 9, "seeds": [0, 1]}
    assert _evaluation_row(row | {"ci_low": 0.6, "ci_high": 0.8}, "subject") == [
        "m", "auroc", "0.700", "0.100", "0.600 to 0.800", 9, 2,
    ]  # fmt: skip
    quality = {"clipped_share": 0.25, "line_noise_ratio": 100.0, "low_uv": -50.0, "high_uv": 70.0}
    recording = Recording("r", "s", "", 60.0, 128.0, quality=quality, split="val")
    (cells,) = table(quality_section(ReportData("r", recordings=[recording])))
    assert cells == {
        "recording": "r", "subject": "s", "split": "val", "length (s)": "60", "range (µV)": "−50 to 70",
        "mains (dB)": "20.0", "clipped (%)": "25.0",
    }  # fmt: skip


def test_test_windows_are_counted_in_the_order_of_the_classes() -> None:
    probe = Probe("p", task={"classes": ["z", "a", "m"]}, y_true=np.array([0, 0, 0, 1, 2, 2]))
    assert _class_counts(probe) == "6 (z 3, a 1, m 2)"


def test_a_persons_share_is_the_mean_over_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, np.ndarray]] = []
    monkeypatch.setattr(
        "eegm2.report.figures.subject_scores", lambda subject, correct: (drawn.append(correct), Figure())[1]
    )
    y = np.array([0, 1, 1, 0])
    scores = [np.eye(2)[[0, 1, 1, 0]], np.eye(2)[[1, 1, 0, 1]]]
    subject = np.array(["a", "a", "b", "b"])
    task = {"classes": ["n", "y"]}
    probe = Probe("p", task=task, scores={"light": scores}, y_true=y, subject=subject)
    confusion_section(ReportData("r", probes=[probe]))
    np.testing.assert_allclose(drawn[0]["light"], [0.5, 1.0, 0.5, 0.5])


def test_a_map_does_not_hang_on_the_units_of_its_features() -> None:
    features = np.random.default_rng(0).standard_normal((30, 5)) @ np.random.default_rng(1).random((5, 5))
    (one, names), (other, same) = project(features), project(features * [1, 1e3, 1e-3, 7, 1] + 5)
    np.testing.assert_allclose(np.abs(one), np.abs(other), atol=1e-6)
    assert names == same


def test_a_map_names_each_window_by_its_class() -> None:
    found = _label_names(np.array([0, 2, 1, -1]), ["z", "a", "m"])
    assert found.tolist() == ["z", "m", "a", "unlabelled"]


def test_of_many_people_those_with_most_windows_are_shown() -> None:
    subjects = np.repeat([f"p{i:02d}" for i in range(15)], np.arange(1, 16))
    points = np.random.default_rng(0).standard_normal((len(subjects), 2))
    figure = subject_maps(points, np.full(len(subjects), "a"), subjects, ("x", "y"), max_subjects=3)
    titles = {axes.get_title(loc) for axes in figure.axes for loc in ("left", "center")} - {""}
    assert sorted(title.split()[0] for title in titles) == ["p12", "p13", "p14"]


@pytest.mark.parametrize("seconds", [7.0, 100.0, 200.0, 750.0, 7000.0, 9000.0, 90000.0])
def test_a_time_in_words_is_that_time(seconds: float) -> None:
    number, unit = duration(seconds).split()
    assert float(number) * {"s": 1, "min": 60, "h": 3600}[unit] == pytest.approx(seconds, rel=0.02)
