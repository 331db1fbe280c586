"""Laws of what pages gather from folders: each number under its seed, person, part, recording and unit."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from eegm2.cli.prepare import _show as show_prepared
from eegm2.data.windows.splits import SplitManifest
from eegm2.report import measured
from eegm2.report.contents import Probe, ReportData
from eegm2.report.folders import read_evaluations, read_probe, read_run
from eegm2.report.gather import _add_store, gather
from eegm2.report.measured import class_power
from eegm2.report.predictions import _quality, _reaction, _summary, over_time_figure
from tests.evaluation.helpers import fake_run, labelled_store, tiny_model

RNG = np.random.default_rng(5)


def write_probe(folder: Path, limits: dict[tuple[str, int], float | None], n_classes: int = 2) -> Path:
    """Write a probe of 20 windows, whose rows of results are not in the order of its arrays."""
    folder.mkdir()
    rows: list[Any] = [
        {"protocol": p, "seed": s, "threshold": limit, "metrics": {}} for (p, s), limit in limits.items()
    ]
    task = {"classes": [f"c{i}" for i in range(n_classes)], "kind": "classification"}
    (folder / "results.json").write_text(json.dumps({"task": task, "protocols": rows[::-1]}))
    arrays: dict[str, Any] = {
        "y_true": np.arange(20) % n_classes, "subject": np.repeat(["p", "q"], 10),
        **{f"{p}_{s}_score": np.full((20, n_classes), s + 0.5) for p, s in limits},
    }  # fmt: skip
    np.savez(folder / "predictions.npz", **arrays)
    features = RNG.standard_normal((7, 3))
    np.savez(
        folder / "embedding.npz", features=features, y=np.arange(7) % 2, subject=np.array(list("abcdefg"))
    )
    return folder


def test_every_seed_has_its_own_threshold(tmp_path: Path) -> None:
    """Of a dozen seeds too, whose names sort otherwise than their numbers; of three classes there is none."""
    limits: dict[tuple[str, int], float | None] = {("light", s): s / 20 for s in range(12)}
    limits |= {("linear", 0): 0.9, ("fine_x", 1): None}
    probe = read_probe(write_probe(tmp_path / "p", limits))
    assert {p: len(scores) for p, scores in probe.scores.items()} == {"light": 12, "linear": 1, "fine_x": 1}
    for protocol, scores in probe.scores.items():
        for score, limit in zip(scores, probe.thresholds[protocol], strict=True):
            assert limit == limits[protocol, int(score[0, 0])]
    assert list(probe.scores) == ["fine_x", "linear", "light"], "in the order of the results"
    assert (probe.features_subject.tolist(), probe.features_y.tolist()) == (list("abcdefg"), [0, 1] * 3 + [0])
    three = read_probe(write_probe(tmp_path / "q", {("light", 0): 0.4}, n_classes=3))
    assert three.thresholds == {"light": [None]}


def test_predictions_follow_the_threshold_of_each_seed() -> None:
    """From it on the second class; without one the higher score decides, of any number of classes."""
    p = np.array([0.1, 0.3, 0.5, 0.7])
    score = np.stack([1 - p, p], 1)
    probe = Probe("p", scores={"light": [score] * 3}, thresholds={"light": [0.3, None, 0.71]})
    assert [found.tolist() for found in probe.predicted("light")] == [[0, 1, 1, 1], [0, 0, 0, 1], [0] * 4]
    assert [found.tolist() for found in Probe("p", scores={"x": [np.eye(3)]}).predicted("x")] == [[0, 1, 2]]


@pytest.mark.parametrize("by", ["subject", "recording"])
@pytest.mark.parametrize("name", ["", "one"])
def test_a_recording_is_shown_in_the_part_that_it_was_in(by: Any, name: str) -> None:
    """By person or by recording, of one store or of several, with its length in seconds."""
    infos = [
        SimpleNamespace(
            id=f"r{i}", subject="ab"[i // 2], session=f"s{i}", n_times=100 * (i + 1), sfreq_hz=50.0,
            labels=[SimpleNamespace(onset_s=1.0, duration_s=2.0, label="x")], quality={"low_uv": -i},
        )
        for i in range(4)
    ]  # fmt: skip
    table = [
        {"recording": "r8", "status": "rejected", "reason": "flat"},
        {"recording": "r0", "status": "written"},
    ]
    storage = SimpleNamespace(url="u", read_many=lambda names: {"quality.json": json.dumps(table).encode()})
    store: Any = SimpleNamespace(
        recordings=infos, damaged={"r9": "torn"}, storage=storage, ch_names=["Fz"], sfreq_hz=50.0,
        manifest_sha256="m",
    )  # fmt: skip
    start = f"{name}/" if name else ""
    divided: dict[str, dict[str, tuple[str, ...]]] = {
        "subject": {"train": ("a",), "test": ("b",)},
        "recording": {"train": ("r0", "r3"), "val": ("r2",)},
    }
    data = ReportData(
        "r", splits={k: tuple(start + v for v in names) for k, names in divided[by].items()}, split_by=by
    )
    _add_store(store, data, name)
    parts = {"subject": ["train", "train", "test", "test"], "recording": ["train", "", "val", "train"]}[by]
    assert [r.split for r in data.recordings] == parts
    assert [r.id for r in data.recordings] == [f"{start}r{i}" for i in range(4)]
    assert [r.subject for r in data.recordings] == [start + who for who in "aabb"]
    assert [r.duration_s for r in data.recordings] == [2.0, 4.0, 6.0, 8.0]
    assert data.recordings[1].labels == ((1.0, 2.0, "x"),)
    left_out = [(one.source, one.reason) for one in data.rejected]
    assert left_out == [(f"{start}r9", "torn"), (f"{start}r8", "flat")]


def test_of_best_and_last_the_facts_of_the_weights_that_are_shown(tmp_path: Path) -> None:
    """And who was divided how, by which seed."""
    (tmp_path / "checkpoints").mkdir()
    header = {"epoch": 1, "ch_names": ["Fz", "Cz"], "sfreq_hz": 250.0, "pretrain": {"width": 8}}
    (tmp_path / "run.json").write_text(json.dumps({**header, "finished": True}))
    for which, step in (("best", 40), ("last", 90)):
        (tmp_path / "checkpoints" / f"{which}.json").write_text(json.dumps({"step": step}))
    splits = {"format": 1, "train": ["a"], "val": ["b", "c"], "test": [], "seed": 7, "by": "recording"}
    (tmp_path / "splits.json").write_text(json.dumps({**splits, "manifest_sha256": "m"}))
    data = read_run(tmp_path)
    assert (data.header["step"], data.header["epoch"], data.sfreq_hz) == (40, 1, 250.0)
    assert data.splits == {"train": ("a",), "val": ("b", "c"), "test": ()}
    assert (data.split_seed, data.split_by, data.ch_names) == (7, "recording", ("Fz", "Cz"))


def test_what_pretraining_saw_is_said_of_each_model(tmp_path: Path) -> None:
    rows = [{"model": m, "metric": "auroc", "mean": 0.5} for m in "ab"]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    saw = {"a": {"f0": "saw 1 of 3", "f1": "saw none"}, "b": {"f0": "no pretraining"}}
    pairs = [
        {"a": "a", "b": "b", "metric": "auroc", "difference": 0.1, "ci_low": 0.0, "ci_high": 0.2, "p": 0.5}
    ]
    details = {"pretraining_saw": saw, "comparisons": pairs, "failures": {"b f0 seed 0": "no memory"}}
    (tmp_path / "details.json").write_text(json.dumps(details))
    ((found,), problems) = read_evaluations([tmp_path])
    assert (found.rows, found.comparisons, problems) == (rows, pairs, "")
    assert found.notes == ["a: saw 1 of 3; saw none.", "Failed: b f0 seed 0 (no memory)."]


def prediction(value: bool = False, n_classes: int = 2) -> dict[str, Any]:
    """Return what ``eegm2 predict`` leaves of two recordings."""
    classes = [] if value else [f"c{i}" for i in range(n_classes)]
    quality = {"typical_uv": 12.5, "line_noise_ratio": 3.5, "clipped_share": 0.25, "flat_channels": ["Cz"]}
    recordings = []
    for i, (n, flagged, seconds) in enumerate(((30, 3, 60.0), (10, 5, 120.0))):
        windows = [
            {
                "start_s": 2.0 * w,
                "stop_s": 2.0 * w + 2,
                "label": "",
                "flags": ["loud:Fz"] * (w < flagged),
                "decision": "c0",
                "value": 40.0 + w,
                "probabilities": [1 - w / 40, w / 40],
            }
            for w in range(n)
        ]
        recordings.append(
            {
                "recording": f"r{i}", "n_windows": n, "n_flagged": flagged, "duration_s": seconds,
                "quality": quality, "warnings": [f"w{i}"] * i, "windows": windows, "value": 40.0 + i,
                "value_sd": 3.0 + i, "decision": f"c{i}", "probabilities": [0.25 + i / 8, 0.75 - i / 8],
                "shares": {"c0": 0.1 + i / 10, "c1": 0.9 - i / 10},
            }
        )  # fmt: skip
    model = {
        "classes": classes, "window_s": 2.0, "head": "h", "n_people_learnt_from": 7, "threshold": 0.35,
        "facts": {"test": {"auroc": 0.75}, "by": "subject"},
    }  # fmt: skip
    if value:
        model["value"] = {"target": "age", "unit": "years"}
    reactions = {
        "n_windows": 5, "ch_names": ["Fp1", "Fp2", "C3", "C4", "O1", "O2"], "band_names": ["theta", "alpha"],
        "channels": [(10.0 * i + np.arange(6)).tolist() for i in range(max(len(classes), 1))],
        "bands": [[10.0 * i, 10.0 * i + 1] for i in range(max(len(classes), 1))],
    }  # fmt: skip
    return {"recordings": recordings, "model": model, "skipped": {"x": "why"}, "reactions": reactions}


def test_a_summary_of_predictions_counts_windows_minutes_and_doubts() -> None:
    section = _summary(prediction())
    tiles = {name: number for number, name in next(b.rows for b in section.blocks if b.kind == "tiles")}
    assert tiles == {
        "recordings": "2", "of EEG": "3.0 min", "windows of 2 s": "40", "of them flagged": "20%",
        "recordings skipped": "1",
    }  # fmt: skip
    table = next(block for block in section.blocks if block.kind == "table")
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert rows[1] == {
        "recording": "r1", "decided as a whole": "c1", "mean p(c0)": "0.375", "mean p(c1)": "0.625",
        "windows c0": "20%", "windows c1": "80%", "flagged": "5 of 10",
    }  # fmt: skip
    said = " ".join(block.text for block in section.blocks)
    assert "learnt from 7 subjects, and on people it had not seen had auroc 0.750 per window" in said
    of_value = _summary(prediction(value=True))
    table = next(block for block in of_value.blocks if block.kind == "table")
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert list(rows[0]) == ["recording", "mean age", "SD over windows", "flagged"]
    assert rows[1]["mean age"].startswith("41")
    assert rows[1]["SD over windows"].startswith("4")


@pytest.mark.parametrize(
    ("value", "n_classes", "shown"), [(False, 2, [1]), (False, 3, [0, 1, 2]), (True, 0, [0])]
)
def test_a_reaction_is_that_of_the_class_it_names(
    value: bool, n_classes: int, shown: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two classes of the second, else of each; of a value of the value."""
    maps: list[Any] = []
    bars: list[Any] = []

    def drawn(into: list[Any]) -> Any:
        def draw(*given: Any, **more: Any) -> Figure:
            into.append((*given, more))
            return Figure()

        return draw

    monkeypatch.setattr("eegm2.report.document.inline_svg", lambda figure, key: "")
    monkeypatch.setattr("eegm2.report.figures.topography.topographic_maps", drawn(maps))
    monkeypatch.setattr("eegm2.report.figures.predictions.band_reactions", drawn(bars))
    document = prediction(value, n_classes)
    section = _reaction(document)
    assert section is not None
    names = ["age"] if value else document["model"]["classes"]
    ((channels, by_title, _),) = maps
    assert channels == document["reactions"]["ch_names"]
    assert {title: values.tolist() for title, values in by_title.items()} == {
        names[i]: document["reactions"]["channels"][i] for i in shown
    }
    for i, (bands, values, answer, _) in zip(shown, bars, strict=True):
        assert (bands, values.tolist()) == (["theta", "alpha"], document["reactions"]["bands"][i])
        assert answer == ("age (years)" if value else f"the log odds of {names[i]}")
    captions = [block.text for block in section.blocks if block.kind == "figure"]
    assert captions[1:] == [f"By rhythm, for {names[i]}." for i in shown]


def test_quality_of_predicted_recordings_is_in_the_units_of_its_heads() -> None:
    table = next(block for block in _quality(prediction()).blocks if block.kind == "table")
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert rows[1] == {
        "recording": "r1", "typical µV": "12.5", "bad channels": "Cz", "mains ratio": "3.5",
        "clipped": "25.00 %", "flags of windows": "loud", "notes": "w1",
    }  # fmt: skip
    assert rows[0]["notes"] == "none"


def test_over_time_is_drawn_what_was_predicted_of_each_window() -> None:
    """At the threshold that decided; of a value the value in its unit."""
    stored = {
        "signal": np.zeros((1, 2, 8)), "shown": np.array(["Cz"]), "frequency_hz": np.arange(1.0, 4.0),
        "change_db": RNG.standard_normal((3, 8)),
    }  # fmt: skip
    document = prediction()
    axes: Any = over_time_figure(document, document["recordings"][1], stored).axes
    lower = next(a for a in axes if a.get_ylabel().startswith("probability"))
    assert lower.get_ylabel() == "probability of\nc1"
    np.testing.assert_allclose(lower.lines[0].get_ydata(), np.arange(10) / 40)
    np.testing.assert_allclose(lower.lines[0].get_xdata(), 2 * np.arange(10) + 1.0)
    assert set(next(line for line in lower.lines if line.get_linestyle() == "--").get_ydata()) == {0.35}
    assert lower.get_xlim() == (0, 120)
    ticks = next(line for line in lower.lines if line.get_marker() == "|")
    assert list(ticks.get_xdata()) == [1.0, 3.0, 5.0, 7.0, 9.0]
    spectrum = next(a for a in axes if a.images)
    assert spectrum.images[0].get_extent() == [0, 120, 0.5, 3.5]
    assert spectrum.images[0].origin == "lower"
    valued = prediction(value=True)
    axes = over_time_figure(valued, valued["recordings"][1], stored).axes
    lower = next(a for a in axes if a.get_ylabel() == "age (years)")
    np.testing.assert_allclose(lower.lines[0].get_ydata(), 40.0 + np.arange(10))


def test_a_prepared_store_is_told_in_hours_people_and_files(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what is in it: what was skipped or removed is told apart."""
    outcomes = [
        SimpleNamespace(
            status=status, recording=f"r{i}", subject="ab"[i % 2], reason="bad",
            quality={
                "duration_s": 1800.0 * (i + 1), "dropped_channels": ["X"] * i,
                "flat_channels": ["Cz"] * (i == 1),
            },
        )
        for i, status in enumerate(["prepared", "kept", "prepared", "skipped", "removed"])
    ]  # fmt: skip
    config = SimpleNamespace(channels=("Fz", "Cz"), l_freq_hz=0.5, h_freq_hz=45.0, sfreq_hz=128.0)
    result: Any = SimpleNamespace(
        url="u", recipe="r", preprocessing=config, outcomes=outcomes, left_out={}, messages=["m"],
        counts={"prepared": 2, "kept": 1, "skipped": 1},
    )  # fmt: skip
    show_prepared(result)
    said = capsys.readouterr()
    assert "recordings  3 of 2 subjects, 3.00 h (1 kept, 2 prepared, 1 skipped)" in said.out
    assert "channels    2: Fz Cz" in said.out
    assert "band, rate  0.5-45 Hz, 128 Hz" in said.out
    assert "left out    channels X" in said.out
    assert "look at     r1: flat Cz" in said.out
    assert "skipped     r3: bad" in said.err
    assert "removed     r4: bad" in said.err
    assert "2 warnings" in said.err


def test_a_report_is_of_the_model_and_the_store_of_the_run(tmp_path: Path) -> None:
    """Its parameters are all counted; a store that has changed since is told, with both hashes."""
    store = labelled_store(tmp_path / "store", subjects=3, seconds=8)
    split = SplitManifest(("sub0",), ("sub2",), ("sub1",))
    run = fake_run(tmp_path / "run", store, split=split)
    data = gather(run, store.url)
    assert data.n_parameters == sum(p.numel() for p in tiny_model().parameters())
    assert "store" not in data.missing
    assert [(r.subject, r.split) for r in data.recordings] == [
        ("sub0", "train"),
        ("sub1", "test"),
        ("sub2", "val"),
    ]
    assert data.reconstruction is not None
    assert (data.reconstruction.split, set(data.reconstruction.subjects)) == ("val", {"sub2"})
    assert data.reconstruction.n_available == 4
    assert data.class_power is not None
    assert (data.class_power.n_windows, data.class_power.n_subjects) == (12, 3)
    other = labelled_store(tmp_path / "other", subjects=3, seconds=10)
    changed = gather(run, other.url).missing["store"]
    assert f"{other.manifest_sha256[:12]}… now, {store.manifest_sha256[:12]}… then" in changed


def test_of_many_windows_an_even_choice_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From first to last, each with its own person and class."""
    store = labelled_store(tmp_path / "store", subjects=4, seconds=16)
    windows: list[Any] = []

    def power(data: Any, sfreq_hz: float) -> Any:
        windows.append(data)
        return np.zeros((2, 1, 3)), ("alpha",)

    monkeypatch.setattr("eegm2.evaluation.baselines.class_power.band_power_by_class", power)
    data = ReportData("r", {"windows": {"window_s": 2.0, "scaling": "zscore"}})
    class_power(store, data)
    monkeypatch.setattr(measured, "_MOST_WINDOWS", 7)
    found = class_power(store, data)
    assert found is not None
    whole, some = windows
    rows = [int(np.flatnonzero((whole.x == x).all((1, 2)))[0]) for x in some.x]
    assert (rows[0], rows[-1], len(rows)) == (0, len(whole) - 1, 7)
    for name in ("y", "subject", "recording", "start_s"):
        np.testing.assert_array_equal(np.asarray(getattr(some, name)), np.asarray(getattr(whole, name))[rows])
    assert (found.n_windows, found.n_subjects) == (7, 4)
    assert np.abs(whole.x).max() > 20, "in microvolts, whatever the run's scaling"


@pytest.mark.parametrize("most", [1, 2, 3])
def test_power_is_shown_of_as_many_classes_as_fit(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one class there is nothing to compare."""
    store = labelled_store(tmp_path / "store", subjects=2, seconds=8)
    data = ReportData("r", {"windows": {"window_s": 2.0}})
    monkeypatch.setattr(measured, "_MOST_CLASSES", most)
    assert (class_power(store, data) is None) == (most < 2)
    one = labelled_store(tmp_path / "one", subjects=2, seconds=8, only={0: "shut", 1: "shut"})
    assert class_power(one, data) is None


@pytest.mark.parametrize(("samples", "n"), [(10, 2), (3 * 64 + 5, 3), (10**6, 6)])
@pytest.mark.parametrize("by", ["subject", "recording"])
def test_windows_are_reconstructed_as_they_are_by_a_network_that_learns_no_more(
    samples: int, n: int, by: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An even choice of the held-out ones, two at least; each is told by its person, recording and time."""
    store = labelled_store(tmp_path / "store", subjects=3, seconds=12)
    monkeypatch.setattr(measured, "_MOST_SAMPLES", samples)
    units = ("rec1",) if by == "recording" else ("sub1",)
    data = ReportData(
        "r", {"windows": {"window_s": 2.0, "scaling": "none"}}, splits={"test": units}, split_by=by
    )
    network = torch.nn.Dropout(0.5).train()
    made = measured.reconstruct_windows(network, store, data)
    assert not network.training
    np.testing.assert_array_equal(made.reconstruction, made.original)
    assert (len(made.original), made.n_available, made.split, made.unit) == (n, 6, "test", "µV")
    assert (made.start_s[0], made.start_s[-1]) == (0.0, 10.0)
    whole = np.asarray(store.view("rec1"))
    for x, who, recording, start_s in zip(
        made.original, made.subjects, made.recordings, made.start_s, strict=True
    ):
        assert (who, recording) == ("sub1", "rec1")
        first = round(start_s * 32)
        np.testing.assert_allclose(x, whole[first : first + 64].T, rtol=1e-5)
    nobody = ReportData("r", {"windows": {"window_s": 2.0}})
    found = measured.reconstruct_windows(network, store, nobody)
    assert (found.split, found.n_available, found.unit) == ("train", 18, "scaled units")
    assert len(set(found.subjects)) > 1
