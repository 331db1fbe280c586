"""Laws of evaluation's arithmetic: shares, rows, names and overlaps, done once more by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.cli.predict import _show
from eegm2.data.windows.scaling import scale_window
from eegm2.data.windows.splits import SplitManifest
from eegm2.evaluation.baselines import BASELINES, networks
from eegm2.evaluation.estimators.sklearn import EEGM2Classifier, EEGM2Regressor
from eegm2.evaluation.experiment.log import Clock
from eegm2.evaluation.experiment.pretrained import _parts as _divided
from eegm2.evaluation.experiment.run import _arrays as _kept
from eegm2.evaluation.experiment.tables import markdown
from eegm2.evaluation.features.embedding import Embedding, _arrays, _columns
from eegm2.evaluation.reconstruct.overlap import reconstruct_array
from eegm2.evaluation.scores import crossval
from eegm2.evaluation.scores.crossval import manifest_split, subject_splits
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.evaluation.scores.outcome import Outcome, balanced_loss, validation_row
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.report import demo
from eegm2.report.figures.scores import no_skill, subject_scores

RNG = np.random.default_rng(11)


@pytest.mark.parametrize(("n_folds", "val", "n_val"), [(5, 0.25, 4), (4, 0.2, 3), (10, 0.1, 2)])
def test_of_those_not_tested_a_share_validates(n_folds: int, val: float, n_val: int) -> None:
    """Of 20 people; another seed divides others."""
    n = 20
    who = np.repeat([f"s{i:02d}" for i in range(n)], 2)
    data = LabelledWindows.from_arrays(np.zeros((2 * n, 1, 4)), np.arange(2 * n) % 2, who)
    splits = subject_splits(data, n_folds, val=val)
    for split in splits:
        sizes = [len(set(who[part])) for part in (split.train, split.val, split.test)]
        assert sizes[2] == n // n_folds
        assert sizes[1] == n_val
        assert sum(sizes) == n
    other = subject_splits(data, n_folds, val=val, seed=1)
    assert any(not np.array_equal(a.test, b.test) for a, b in zip(splits, other))


@pytest.mark.parametrize(
    ("n", "n_folds", "val", "n_val"),
    [(3, 3, 0.1, 1), (4, 4, 0.1, 1), (6, 6, 0.05, 1), (8, 4, 0.3, 2), (5, 5, 0.99, 2)],
)
def test_of_few_people_one_validates_and_half_at_most(n: int, n_folds: int, val: float, n_val: int) -> None:
    who = np.repeat([f"s{i:02d}" for i in range(n)], 2)
    data = LabelledWindows.from_arrays(np.zeros((2 * n, 1, 4)), np.arange(2 * n) % 2, who)
    for split in subject_splits(data, n_folds, val=val):
        sizes = [len(set(who[part])) for part in (split.train, split.val, split.test)]
        assert sizes == [n - n // n_folds - n_val, n_val, n // n_folds]


def people() -> LabelledWindows:
    """Return windows of four people with two recordings each."""
    who = np.repeat(list("abcd"), 6)
    recording = np.array([f"{name}{i % 6 // 3}" for i, name in enumerate(who)])
    return LabelledWindows.from_arrays(np.zeros((24, 1, 4)), np.arange(24) % 2, who, recording)


def test_a_manifest_of_recordings_divides_recordings() -> None:
    data = people()
    manifest = SplitManifest(("a0", "b1", "c0"), ("a1",), ("d0", "b0"), by="recording")
    split = manifest_split(data, manifest)
    for part in ("train", "val", "test"):
        assert set(data.recording[getattr(split, part)]) == set(getattr(manifest, part))
    outcome = Outcome("m", 0, RNG.random((6, 2)), 0.4)
    for by, origin in (("recording", data.recording), ("subject", data.subject)):
        part = crossval.tested_part(data, split, outcome, by)
        np.testing.assert_array_equal(part.subject, origin[split.test])
        np.testing.assert_array_equal(part.y, data.y[split.test])
        assert part.threshold == 0.4


@pytest.mark.parametrize("values", [False, True])
def test_validation_is_scored_on_validation(values: bool) -> None:
    data = people()
    rows = np.arange(6, 13)
    if values:
        score = RNG.standard_normal(7)
        data = LabelledWindows(data.x, RNG.standard_normal(24), data.subject, data.recording, data.start_s)
        loss = np.mean((score - data.y[rows]) ** 2)
    else:
        score = RNG.dirichlet(np.ones(2), 7)
        own = -np.log(score[np.arange(7), data.y[rows]])
        loss = np.mean([own[data.y[rows] == i].mean() for i in (0, 1)])
    found = validation_row(Outcome("m", 0, score[:1], 0.3, val_score=score), data, rows)
    assert found["n_windows"] == 7
    assert found["metrics"]["loss"] == pytest.approx(loss) == balanced_loss(data.y[rows], score)
    if values:
        assert found["metrics"]["mae"] == pytest.approx(np.abs(score - data.y[rows]).mean())
    else:
        assert found["metrics"]["accuracy"] == pytest.approx(np.mean((score[:, 1] >= 0.3) == data.y[rows]))
    assert validation_row(Outcome("m", 0, score), data, rows) == {}


def embedding(values: np.ndarray) -> Embedding:
    text = {name: np.array([f"{name}{i}" for i in range(len(values))]) for name in ("recording", "subject")}
    more = {name: np.array([f"{name}{i}" for i in range(len(values))]) for name in ("session", "label")}
    return Embedding(values, np.array([0.0, 3.0]), 2.0, **text, **more)


def test_a_step_of_a_sequence_is_in_the_row_of_its_window_and_time() -> None:
    made = embedding(RNG.standard_normal((2, 3, 4)).astype(np.float32))
    expected = np.array([[0.25, 0.75, 1.25, 1.75], [3.25, 3.75, 4.25, 4.75]])
    np.testing.assert_allclose(made.time_s(), expected)
    columns = _columns(made)
    np.testing.assert_allclose(columns["time_s"], expected.ravel())
    assert columns["recording"].tolist() == ["recording0"] * 4 + ["recording1"] * 4
    for channel in range(3):
        np.testing.assert_array_equal(columns[f"channel_{channel:03d}"], made.values[:, channel].ravel())
    np.testing.assert_array_equal(_arrays(made)["representation"], made.values)


def test_a_feature_is_in_the_column_of_its_name() -> None:
    """Statistics come kind by kind: all minima, all maxima, …"""
    made = embedding(np.arange(36.0, dtype=np.float32).reshape(2, 18))
    columns, arrays = _columns(made), _arrays(made)
    names = list(columns)[5:]
    assert names == arrays["feature_names"].tolist()
    assert names[:4] == ["min_000", "min_001", "max_000", "max_001"]
    for i, name in enumerate(names):
        assert columns[name].tolist() == [i, i + 18]
    assert (columns["label"].tolist(), columns["start_s"].tolist()) == (["label0", "label1"], [0.0, 3.0])


def test_an_estimator_answers_with_its_own_labels_and_unit() -> None:
    logits = RNG.standard_normal((5, 3))

    class Classifier(EEGM2Classifier):
        def _outputs(self, X: Any) -> np.ndarray:
            return logits

    class Regressor(EEGM2Regressor):
        def _outputs(self, X: Any) -> np.ndarray:
            return logits[:, :1]

    made = Classifier(protocol="light")
    made.classes_ = np.array(["x", "m", "z"])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(made.predict_proba(None), p)
    assert made.predict(None).tolist() == [made.classes_[row.argmax()] for row in p]
    value = Regressor(protocol="light")
    value.target_scale_ = (40.0, 9.0)
    np.testing.assert_allclose(value.predict(None), 40 + 9 * logits[:, 0])


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("scaling", ["none", "zscore"])
def test_windows_that_overlap_are_added_by_a_slope(overlap: float, scaling: Any) -> None:
    """Each weighted by a Hann slope of its length, the last one ending with the recording."""

    class Wobbly(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0.5 * x + torch.arange(x.shape[-1]) * x[..., :1].abs()

    x = (30 + 5 * RNG.standard_normal((2, 53))).astype(np.float32)
    found = reconstruct_array(Wobbly(), x, scaling=scaling, n_times=16, overlap=overlap, batch_size=3)
    step = round(16 * (1 - overlap))
    starts = list(range(0, 53 - 15, step))
    starts += [53 - 16] if starts[-1] != 53 - 16 else []
    slope = np.sin(np.pi * np.arange(1, 17) / 17) ** 2
    total, weight = np.zeros((2, 53)), np.zeros(53)
    for start in starts:
        here = slice(start, start + 16)
        window = x[:, here]
        scaled = scale_window(window[None], scaling)[0]
        made = 0.5 * scaled + np.arange(16) * np.abs(scaled[:, :1])
        if scaling == "zscore":
            made = made * window.std(1, keepdims=True) + window.mean(1, keepdims=True)
        share = slope if overlap else (weight[here] == 0).astype(float)
        total[:, here] += share * made
        weight[here] += share
    np.testing.assert_allclose(found, total / weight, rtol=1e-4, atol=1e-3)


def test_networks_see_each_channel_by_training_windows() -> None:
    data = people()
    x = RNG.standard_normal((24, 2, 9)).astype(np.float32) * [[3.0], [0.5]] + [[7.0], [-2.0]]
    windows = LabelledWindows.from_arrays(x, data.y, data.subject)
    split = Split(np.arange(3, 12), np.arange(12, 18), np.arange(18, 24))
    offset, gain = networks._standardisation(windows, split, networks.NetworkOptions(scaling="train"), "n")
    np.testing.assert_allclose(np.ravel(offset), x[3:12].mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(np.ravel(gain), x[3:12].std((0, 2)), rtol=1e-5)
    assert networks._standardisation(windows, split, networks.NetworkOptions(scaling="none"), "n") == (0, 1)


@pytest.mark.parametrize("rate_hz", [100.0, 128.0, 250.0])
def test_kernels_are_as_long_in_seconds_as_their_authors_have_them(rate_hz: float) -> None:
    assert networks._lengths("eegnet", rate_hz) == {"kernel_length": round(rate_hz / 2)}
    for name in ("shallow_fbcsp", "eegconformer"):
        lengths = networks._lengths(name, rate_hz)
        at_250 = {"filter_time_length": 25, "pool_time_length": 75, "pool_time_stride": 15}
        assert lengths == {key: round(n / 250 * rate_hz) for key, n in at_250.items()}
        shortest = lengths["filter_time_length"] + lengths["pool_time_length"] - 1
        assert networks.shortest_window(name, rate_hz) == shortest
    settings = {
        "eegnet": {"scaling": "none", "lr": 1e-3}, "shallow_fbcsp": {"scaling": "zscore", "lr": 6.25e-4},
        "eegconformer": {"scaling": "train", "lr": 2e-4},
        "biot": {"scaling": "quantile95", "lr": 1e-3, "weight_decay": 1e-5},
    }  # fmt: skip
    for name, values in settings.items():
        assert BASELINES[name].defaults == values


def test_a_row_of_a_table_is_of_one_model() -> None:
    rows = [
        {
            "model": m,
            "metric": k,
            "mean": v,
            "ci_low": v - 0.1,
            "ci_high": v + 0.2,
            "n_subjects": 9,
            "seeds": [0, 2],
        }
        for m, k, v in (
            ("p", "auroc", 0.7),
            ("q", "auroc", 0.4),
            ("p", "accuracy", 0.6),
            ("q", "accuracy", 0.3),
        )
    ]
    lines = [line for line in markdown(rows, [], []).splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "model",
        "auroc",
        "accuracy",
        "subjects",
        "seeds",
    ]
    for line, (model, auroc, accuracy) in zip(lines[2:], (("p", 0.7, 0.6), ("q", 0.4, 0.3)), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        told = [f"{v:.3f} [{v - 0.1:.3f}, {v + 0.2:.3f}]" for v in (auroc, accuracy)]
        assert cells == [model, *told, "9", "0, 2"]


def test_a_demo_tells_each_models_own_windows_and_interval(tmp_path: Path) -> None:
    """Scores and truth of a model are joined fold by fold; the difference is the one of AUROC."""
    (tmp_path / "cells").mkdir()
    cells = []
    for number, model in enumerate(("m", "n", "m")):
        key = f"{number:064x}"[::-1]
        np.savez(
            tmp_path / "cells" / f"x-{key[:16]}.npz", score=np.full((2, 2), number), y_true=np.full(2, number)
        )
        cells.append({"key": key, "model": model})
    found = demo._cells(tmp_path, {"cells": cells})
    assert found["m"]["y_true"].tolist() == found["m"]["score"][:, 0].tolist() == [0, 0, 2, 2]
    assert found["n"]["y_true"].tolist() == [1, 1]


def test_what_a_prediction_says_of_a_recording_is_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common: dict[str, Any] = {"warnings": ["doubt"], "n_flagged": 2, "n_windows": 8}
    classes = {"decision": "b", "shares": {"a": 0.25, "b": 0.75}}
    for answer, model, words in (
        (classes, {"classes": ["a", "b"]}, "r: b in 75% of 8 windows, 2 flagged"),
        (
            {"value": 41.5, "value_sd": 3.25},
            {"classes": [], "value": {"target": "age", "unit": "years"}},
            "r: 41.5 years (SD over 8 windows: 3.25), 2 flagged",
        ),
    ):
        document = {
            "recordings": [{"recording": "r", **common, **answer}],
            "model": model,
            "skipped": {"q": "x"},
        }
        _show(SimpleNamespace(document=document, out=tmp_path), tmp_path / "p")  # type: ignore[arg-type]
        said = capsys.readouterr()
        assert words in said.out
        assert "1 recording, 8 windows" in said.out
        assert "1 skipped" in said.out
        assert "q: x" in said.err


def test_the_rest_of_an_experiment_takes_as_long_as_its_models_took() -> None:
    cells: list[Any] = [SimpleNamespace(model=SimpleNamespace(name=name)) for name in "aaabbc"]
    clock = Clock(cells)
    assert clock.place == "[0/6]"
    clock.tick(cells[0], 1.0)
    clock.tick(cells[1], 2.0)
    said = clock.tick(cells[3], 6.0)  # left: a at 1.5 s, b at 6 s, c at the mean of all, 3 s
    assert said == "(6.0 s; 9.0 s so far, about 10 s left)"
    assert (clock.left, clock.place) == (3, "[3/6]")


def test_the_legend_of_people_has_their_mean_and_their_lowest() -> None:
    axes = subject_scores(list("aabbbc"), {"m": np.array([1, 0, 1, 1, 1, 0.25])}).axes[0]
    assert axes.lines[0].get_label() == f"m (mean {np.mean([0.5, 1, 0.25]):.2f}, lowest 0.25)"
    assert list(axes.lines[0].get_ydata()) == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_without_skill_is_what_the_commonest_class_reaches(n_classes: int) -> None:
    y = np.repeat(np.arange(n_classes), [7, 3, 2, 5][:n_classes])
    score = np.zeros((len(y), n_classes))
    score[:, 0] = 1
    found = classification_metrics(y, score).values
    for metric in ("accuracy", "balanced_accuracy", "weighted_f1", "kappa", "auroc", "auprc"):
        assert no_skill(metric, y, n_classes) == pytest.approx(found[metric]), metric


def test_what_a_cell_keeps_is_of_its_test_windows_row_by_row() -> None:
    rows = np.arange(24)
    data = LabelledWindows(np.zeros((24, 1, 4)), rows, rows.astype(str), rows.astype(str), 2.0 * rows, ("a",))
    split: Any = SimpleNamespace(indices=Split(rows[:9], rows[9:14], rows[14:]))
    experiment: Any = SimpleNamespace(data=SimpleNamespace(labelled=data))
    kept = _kept(experiment, split, Outcome("m", 0, RNG.random((10, 2))))
    for name in ("y_true", "subject", "recording"):
        np.testing.assert_array_equal(kept[name].astype(int), rows[14:])
    np.testing.assert_array_equal(kept["start_s"], 2.0 * rows[14:])


def test_a_pretraining_is_told_apart_by_who_trains_and_who_validates() -> None:
    manifest = {"train": ("p", "q"), "val": ("r",), "test": ("s",)}
    assert _divided(manifest) == ["subject", ["p", "q"], ["r"]]
    assert _divided({**manifest, "by": "recording"})[0] == "recording"
