"""What the sections say and count, of small made-up runs whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eegm2.data.config import WindowConfig
from eegm2.report.contents import Evaluation, Probe, Recording, ReportData, TrainingLog
from eegm2.report.document import Section
from eegm2.report.measured import reconstruct_windows
from eegm2.report.quality import quality_heading, quality_value
from eegm2.report.sections.downstream import _calibration, confusion_section, downstream_section
from eegm2.report.sections.evaluation import evaluation_section
from eegm2.report.sections.summary import summary
from eegm2.report.sections.training import provenance_section, training_section
from tests.evaluation.helpers import labelled_store


@pytest.fixture(autouse=True)
def _unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, and not written as SVG, which takes the time."""
    monkeypatch.setattr("eegm2.report.document.inline_svg", lambda figure, key: "")


def said(section: Section | None, kind: str) -> list[str]:
    assert section is not None
    return [block.text for block in section.blocks if block.kind == kind]


def rows(section: Section | None, kind: str = "table") -> list[Any]:
    assert section is not None
    return [[block.head, *block.rows] for block in section.blocks if block.kind == kind]


def people(n: int, seconds: float = 60.0) -> list[Recording]:
    return [Recording(f"r{i}", f"s{i}", "", seconds, 128.0) for i in range(n)]


LOG = TrainingLog(
    np.arange(1, 4),
    {
        "train_loss": np.array([3.0, 1.0, 2.0]),
        "val_loss": np.array([4.0, np.nan, 2.5]),
        "lr": np.array([0.1, 0.2, 0.05]),
        "val_extra": np.full(3, np.nan),
    },
)


class TestSummary:
    def test_numbers_are_those_of_the_data_and_else_of_the_header(self) -> None:
        data = ReportData("run", recordings=people(25, 600.0), n_parameters=12345, log=LOG)
        tiles = rows(summary(data), "tiles")[0][1:]
        assert tiles == [
            ("25", "subjects"),
            ("4.2 h", "of EEG"),
            ("12,345", "parameters"),
            ("2.5", "best validation loss"),
        ]
        header = {"data": {"n_subjects": 1, "n_recordings": 3}, "val_loss": 0.25}
        section = summary(ReportData("run", header=header))
        assert rows(section, "tiles")[0][1:] == [("1", "subject"), ("0.25", "best validation loss")]
        assert said(section, "text")[0].endswith(": 3 recordings of 1 subject.")
        assert rows(summary(ReportData("run")), "tiles") == []

    def test_the_best_loss_is_the_lowest_logged_else_the_headers(self) -> None:
        nothing = replace(LOG, curves={"val_loss": np.full(3, np.nan)})
        for log, header, expected in (
            (LOG, {"val_loss": 9.0}, "2.5"),
            (nothing, {"val_loss": 9.0}, "9"),
            (None, {"val_loss": 0}, "0"),
            (None, {"val_loss": "x"}, None),
        ):
            section = summary(ReportData("r", header, log=log))
            found = [tile for block in rows(section, "tiles") for tile in block[1:]]
            tiles = {name: value for value, name in found}
            assert tiles.get("best validation loss") == expected

    @pytest.mark.parametrize(
        ("metrics", "tile"),
        [
            (
                [("light", 0.9), ("linear", 0.6), ("linear", 0.7)],
                ("0.650", "balanced accuracy, linear probe"),
            ),
            ([("light", 0.9), ("fine", 0.5)], ("0.900", "balanced accuracy, light probe")),
        ],
    )
    def test_the_first_probe_that_has_a_score_gives_it(self, metrics: list, tile: tuple[str, str]) -> None:
        protocols = [
            {"protocol": p, "metrics": {"balanced_accuracy": v, "accuracy": 0.1}} for p, v in metrics
        ]
        probes = [Probe("none"), Probe("p", protocols=protocols), Probe("q", protocols=protocols[:1])]
        found = rows(summary(ReportData("r", probes=probes)), "tiles")[0][-1]
        assert (found[0], found[1].lower()) == tile
        only = [{"protocol": "light", "metrics": {"accuracy": 0.25, "balanced_accuracy": None}}]
        found = rows(summary(ReportData("r", probes=[Probe("p", protocols=only)])), "tiles")[0][-1]
        assert (found[0], found[1].lower()) == ("0.250", "accuracy, light probe")

    def test_what_was_trained_on_what_is_told(self) -> None:
        header: dict[str, Any] = {"pretrain": {"preset": "s5", "width": 8, "objective": "masked"}}
        data = ReportData("r", header, ch_names=("Fz", "Cz"), sfreq_hz=128.0, recordings=people(2), log=LOG)
        data.splits = {"train": ("s0",), "test": ("s1",)}
        (text,) = said(summary(data), "text")
        assert text == (
            "An EEGM2 model (preset “s5”, width 8) was pretrained, without labels, to reconstruct hidden "
            "EEG of 2 channels at 128 Hz: 2 recordings of 2 subjects. "
            "Subjects were split: 1 for training, 1 for testing. It saw 3 epochs of training."
        )
        data.split_by, data.tuned, data.sfreq_hz = "recording", True, None
        (text,) = said(summary(data), "text")
        for words in (
            "of 2 channels. It was then tuned on labels: 2",
            "Recordings were split",
            "3 epochs of tuning",
        ):
            assert words in text
        stores = [{"ch_names": ["a"]}, {"ch_names": ["b"]}, {"ch_names": ["b"]}]
        (text,) = said(summary(ReportData("r", {"data": {"stores": stores}, "model": {"width": 5}})), "text")
        assert "(preset “eegm2”, width 5)" in text
        assert "to reconstruct EEG of 3 stores, 2 sets of electrodes." in text
        (text,) = said(summary(ReportData("r", {"data": {"stores": stores[1:]}})), "text")
        assert "width unknown" in text
        assert "of 2 stores." in text
        (text,) = said(summary(ReportData("r", {"pretrain": {"objective": "my:Own"}})), "text")
        assert "without labels, on EEG." in text

    def test_probes_of_the_frozen_network_are_named(self) -> None:
        def probe(protocol: str, *classes: str) -> Probe:
            return Probe("p", {"classes": classes}, [{"protocol": protocol}])

        several = [
            probe("linear", "a", "b"),
            probe("light", "a", "b"),
            probe("linear"),
            probe("fine", "x", "y"),
        ]
        (text,) = said(summary(ReportData("r", probes=several)), "text")
        assert "On the frozen encoder, 3 probes were trained (a / b; classes unknown)." in text
        (text,) = said(summary(ReportData("r", probes=several[:1])), "text")
        assert "On the frozen encoder, 1 probe was trained (a / b)." in text

    def test_what_a_small_study_cannot_say_is_said(self) -> None:
        def notes(n: int, **changes: Any) -> str:
            return " ".join(said(summary(ReportData("r", recordings=people(n), **changes)), "note"))

        few, by_recording = "Only {} subjects", "The split divides recordings, not people"
        assert "One person only" in notes(1, split_by="recording")
        assert by_recording not in notes(1, split_by="recording")
        assert by_recording in notes(30, split_by="recording")
        assert few.format(2) in notes(2)
        assert few.format(19) in notes(19)
        assert notes(20) == notes(0) == ""
        tested = [Probe("eyes", subject=np.repeat(["a", "b"], 3)), Probe("none")]
        assert "The scores of eyes rest on 2 test subjects" in notes(30, probes=tested)
        assert "rest on" not in notes(1, probes=tested)
        many = [Probe("eyes", subject=np.arange(20).astype(str))]
        assert notes(30, probes=many) == ""
        short = replace(LOG, curves={"train_loss": LOG.curves["train_loss"]})
        assert "how the model does on unseen people" in notes(30, log=short)
        assert "how the model does on recordings that it did not see" in notes(1, log=short)
        assert "No validation loss" not in notes(30, log=LOG)
        assert "Training was short (3 epochs; the paper trains for 500)." in notes(30, log=LOG)
        assert "Training was short" not in notes(30, log=LOG, tuned=True)
        ten = TrainingLog(np.arange(10), {"val_loss": np.ones(10)})
        assert notes(30, log=ten) == ""


class TestTraining:
    def test_each_curve_has_its_first_lowest_and_last_value(self) -> None:
        table = rows(training_section(ReportData("r", log=LOG)))[0]
        assert table[0] == ("metric", "first epoch", "lowest", "last (epoch 3)")
        assert table[1:] == [
            ("training, total", "3", "1", "2"),
            ("validation, total", "4", "2.5", "2.5"),
            ("learning rate", "0.1", "–", "0.05"),
        ]
        captions = {
            "": "Eq. 1 of the paper",
            "masked": "The objective is masked",
            "oscillatory": "in units of the targets' own variance",
        }
        for objective, words in captions.items():
            pretrain = {"objective": objective} if objective else {}
            data = ReportData("r", {"pretrain": pretrain, "finetune": {"lr": 2}}, log=LOG)
            (caption,) = said(training_section(data), "figure")
            assert words in caption
            assert ("grows with a window's length" in caption) == (objective != "oscillatory")
            data.tuned = True
            (caption,) = said(training_section(data), "figure")
            assert "cross-entropy" in caption
            assert rows(training_section(data))[-1] == [("option", "value"), ("learning rate", "2")]
        ortho = ReportData("r", {"pretrain": {"norm": "ortho"}}, log=LOG)
        assert "grows with" not in said(training_section(ortho), "figure")[0]
        for missing, words in (
            ({}, "The run holds no training log."),
            ({"log": "It is torn."}, "It is torn."),
        ):
            assert said(training_section(ReportData("r", missing=missing)), "note") == [words]

    def test_what_is_needed_to_repeat_it_is_there(self) -> None:
        header = {
            "epoch": 4,
            "step": 1234,
            "versions": {"torch": "2.13"},
            "data": {"store": "eyes", "manifest_sha256": "abc"},
            "init": {"model": "oscillations"},
        }
        section = provenance_section(
            ReportData("run7", header, versions={"eegm2": "0.1"}, command="eegm2 report")
        )
        facts = dict(rows(section, "facts")[0][1:])
        assert facts == {
            "Report command": "eegm2 report",
            "Run": "run7",
            "Commit": "unknown",
            "Store": "eyes",
            "Begun with the weights of": "oscillations",
            "Manifest SHA-256": "abc",
            "Checkpoint": "epoch 4, step 1,234",
            "Versions of the run": "torch 2.13",
            "Versions of the report": "eegm2 0.1",
        }
        assert '"step": 1234' in said(section, "code")[0]
        bare = provenance_section(ReportData("r", {"epoch": 4, "commit": "c1"}, missing={"header": "Torn."}))
        assert dict(rows(bare, "facts")[0][1:]) == {"Run": "r", "Commit": "c1", "Checkpoint": "epoch 4"}
        assert said(bare, "note") == ["Torn."]
        assert not said(provenance_section(ReportData("r")), "code")


class TestDownstream:
    def probe(self, **changes: Any) -> Probe:
        scores = np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1]])
        protocols = [
            {"protocol": "linear", "metrics": {"auroc": 0.7, "kappa": None, "accuracy": 0.8}},
            {"protocol": "light", "metrics": {"auroc": 0.6, "kappa": 0.2}},
            {"protocol": "light", "metrics": {"auroc": 0.8, "kappa": float("nan")}},
        ]
        task = {"classes": ["shut", "open"], "target": "eyes", "n_windows": 1234, "n_subjects": 9}
        given: dict[str, Any] = {
            "protocols": protocols,
            "task": {**task, "pretraining_saw": "nothing"},
            "scores": {"light": [scores, scores[::-1]]},
            "y_true": np.array([0, 1, 1, 1]),
            "subject": np.array(["a", "a", "b", "b"]),
        }
        return Probe("p", **{**given, **changes})

    def test_scores_are_means_over_seeds_beside_what_no_skill_gives(self) -> None:
        section = downstream_section(ReportData("r", probes=[self.probe(problems=("One array is torn.",))]))
        facts = dict(rows(section, "facts")[0][1:])
        assert facts == {
            "Probe": "p",
            "Classes": "shut, open",
            "Target": "eyes",
            "Windows": "1,234",
            "Subjects": "9",
            "Test windows": "4 (shut 1, open 3)",
            "Test subjects": "2",
            "Pretraining": "nothing",
        }
        table = rows(section)[0]
        assert table[1:] == [
            ("linear", "1", "0.700", "0.800", "–"),
            ("light", "2", "0.700 ± 0.100", "–", "0.200"),
            ("no skill", "", "0.500", "0.750", "0.000"),
        ]
        assert said(section, "note") == ["One array is torn."]
        assert said(section, "heading") == []
        both = ReportData("r", probes=[self.probe(), replace(self.probe(), name="q")])
        assert said(downstream_section(both), "heading") == ["p", "q"]

    def test_what_is_not_there_is_said_once(self) -> None:
        empty = Probe("p", protocols=[{"protocol": "linear"}], y_true=np.zeros(0, int))
        section = downstream_section(ReportData("r", probes=[empty]))
        assert said(section, "note") == ["p: results.json holds no score."]
        assert dict(rows(section, "facts")[0][1:]) == {"Probe": "p"}
        (note,) = said(downstream_section(ReportData("r")), "note")
        assert note.startswith("No probe has been run on this model yet.")
        torn = ReportData("r", missing={"probes": "The list is torn."})
        assert said(downstream_section(torn), "note") == ["The list is torn."]
        unknown = self.probe(y_true=np.array([0, 1, 3, -1]))
        facts = dict(rows(downstream_section(ReportData("r", probes=[unknown])), "facts")[0][1:])
        assert facts["Test windows"] == "4 (shut 1, open 1, 2 0, 3 1)"

    def test_confusions_are_drawn_of_probes_with_predictions_and_classes(self) -> None:
        scores, people = np.tile(self.probe().scores["light"][0], (25, 1)), np.repeat(["a", "b"], 50)
        large = self.probe(
            scores={"light": [scores, scores]}, y_true=np.tile([0, 1, 1, 1], 25), subject=people
        )
        section = confusion_section(ReportData("r", probes=[large]))
        captions = said(section, "figure")
        assert len(captions) == 4
        assert "averaged over 2 seeds" in captions[0]
        assert "“open” against “shut”" in captions[1]
        assert said(section, "heading") == []
        assert said(confusion_section(ReportData("r", probes=[large, large])), "heading") == ["p", "p"]
        one = replace(large, scores={"light": [scores]}, subject=np.repeat("a", 100))
        captions = said(confusion_section(ReportData("r", probes=[one])), "figure")
        assert len(captions) == 3, "one person has no spread between people"
        assert "averaged over" not in captions[0]
        for useless in (
            self.probe(scores={}),
            self.probe(y_true=np.zeros(0, int)),
            self.probe(task={"classes": ["only"]}),
        ):
            section = confusion_section(ReportData("r", probes=[useless]))
            assert len(said(section, "note")) == 1
            assert said(section, "figure") == []

    def test_calibration_is_of_the_second_class_or_of_each(self) -> None:
        def points(probe: Probe) -> np.ndarray:
            lines = _calibration(probe).axes[0].lines
            return np.concatenate(
                [np.asarray(line.get_xydata()) for line in lines if len(line.get_xydata()) > 2]
            )

        rng = np.random.default_rng(0)
        for n in (2, 3):
            p = rng.dirichlet(np.ones(n), 3000)
            y = (p.cumsum(1) > rng.random((3000, 1))).argmax(1)
            classes = {"classes": [str(i) for i in range(n)]}
            found = points(self.probe(task=classes, y_true=y, scores={"light": [p, p]}))
            assert np.abs(found[:, 0] - found[:, 1]).max() < 0.08, "drawn from its own probabilities"


class TestEvaluation:
    ROW = {"model": "linear", "metric": "auroc", "mean": 0.75, "std": 0.01, "n_subjects": 8, "seeds": [0, 1]}

    def test_rows_and_paired_differences_are_shown(self) -> None:
        other = {
            **self.ROW,
            "metric": "balanced_accuracy",
            "ci_low": 0.6,
            "ci_high": 0.8,
            "seeds": 3,
            "std": None,
        }
        third = {**self.ROW, "metric": "kappa"}
        comparisons = [
            {
                "a": "m",
                "b": "n",
                "metric": "auroc",
                "difference": 0.1,
                "ci_low": -0.05,
                "ci_high": 0.2,
                "p": 0.04,
            },
            {"a": "m", "b": "n", "metric": "auroc", "train_subjects": 5, "problem": "one class"},
        ]
        evaluation = Evaluation("eyes", [self.ROW, other, third], comparisons, ["A note."])
        section = evaluation_section(ReportData("r", evaluations=[evaluation]))
        table, differences = rows(section)
        assert table == [
            ("model", "metric", "mean", "std", "interval", "subjects", "seeds"),
            ("linear", "auroc", "0.750", "0.010", "–", "8", "2"),
            ("linear", "balanced_accuracy", "0.750", "–", "0.600 to 0.800", "8", "3"),
            ("linear", "kappa", "0.750", "0.010", "–", "8", "2"),
        ]
        assert differences[1:] == [
            ("m − n", "auroc", "0.100", "-0.050 to 0.200", "0.040"),
            ("m − n, 5 subjects", "auroc", "one class", "–", "–"),
        ]
        assert len(said(section, "figure")) == 2, "of balanced accuracy and AUROC"
        assert (said(section, "note"), said(section, "heading")) == (["A note."], [])
        two = ReportData("r", evaluations=[evaluation, replace(evaluation, name="b")])
        assert said(evaluation_section(two), "heading") == ["eyes", "b"]
        assert evaluation_section(ReportData("r")) is None

    def test_the_unit_is_the_rows_and_other_metrics_are_drawn_alone(self) -> None:
        row = {**self.ROW, "metric": "r2", "unit": "recording", "n_recordings": 4}
        section = evaluation_section(
            ReportData("r", evaluations=[Evaluation("e", [row, {**row, "metric": "mae"}])])
        )
        assert rows(section)[0][0][5] == "recordings"
        assert rows(section)[0][1][5] == "4"
        (caption,) = said(section, "figure")
        assert "R²" in caption or "r2" in caption
        assert "best first" in caption
        curves = [{**self.ROW, "train_subjects": n, "ci_low": 0.5, "ci_high": 0.9} for n in (5, 10)]
        (caption,) = said(
            evaluation_section(ReportData("r", evaluations=[Evaluation("e", curves)])), "figure"
        )
        assert "against the number of subjects whose labels it was given" in caption


def test_quality_facts_are_numbers_in_their_unit() -> None:
    quality = {
        "line_noise_ratio": 100.0,
        "flat_channels": ["a"],
        "noisy_channels": (),
        "low_uv": -3,
        "high_uv": True,
    }
    assert [quality_value(quality, c) for c in ("line_db", "flat", "noisy", "low_uv")] == [
        20.0,
        1.0,
        0.0,
        -3.0,
    ]
    for nothing in ({}, {"line_noise_ratio": 0}, {"line_noise_ratio": -1.0}, {"line_noise_ratio": "x"}):
        assert np.isnan(quality_value(nothing, "line_db"))
    assert np.isnan(quality_value(quality, "high_uv"))
    assert (quality_heading("line_db"), quality_heading("clipped")) == ("mains (dB)", "clipped (%)")


class Doubles:
    """A model that doubles, and remembers how many windows it was given at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def eval(self) -> Doubles:
        return self

    def __call__(self, x: Any) -> Any:
        self.batches.append(len(x))
        return 2 * x


def test_windows_of_people_held_out_are_reconstructed(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = labelled_store(tmp_path_factory.mktemp("data") / "store", subjects=4, seconds=30)
    header = {"windows": {"window_s": 1.0, "scaling": "none"}}
    splits = {"train": ("sub0", "sub1"), "val": ("sub2", "sub3"), "test": ("sub1",)}
    data, model = ReportData("r", header, splits), Doubles()
    made = reconstruct_windows(model, store, data)
    assert (made.split, made.unit, made.n_available, len(made.original)) == ("val", "µV", 60, 48)
    assert max(model.batches) <= 4
    np.testing.assert_array_equal(made.reconstruction, 2 * made.original)
    assert set(made.subjects) == {"sub2", "sub3"}
    for i in (0, 20, 47):
        start = round(made.start_s[i] * 32)
        np.testing.assert_array_equal(made.original[i], store.read(made.recordings[i], start, start + 32))
        assert made.subjects[i] == f"sub{made.recordings[i][3:]}"
    del data.splits["val"]
    assert set(reconstruct_windows(model, store, data).subjects) == {"sub1"}
    data.split_by, data.splits = "recording", {"train": ("rec0",)}
    made = reconstruct_windows(model, store, data)
    assert (set(made.recordings), made.split) == ({"rec0"}, "train")
    data.splits, data.header = {}, {"windows": {"window_s": 2.0}}
    made = reconstruct_windows(model, store, data)
    assert (made.n_available, made.unit, WindowConfig(**data.header["windows"]).scaling) == (
        60,
        "scaled units",
        "quantile95",
    )
