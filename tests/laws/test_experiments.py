"""Laws of experiments, probes and fine-tuning: every option reaches its fit, every fact is of its part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eegm2.data.config import WindowConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import SplitManifest
from eegm2.deploy.heads.dense import DenseHead
from eegm2.evaluation.config import FitConfig, ProbeConfig
from eegm2.evaluation.experiment import runners
from eegm2.evaluation.experiment.runners import CellRunner
from eegm2.evaluation.experiment.splits import NamedSplit, _subset
from eegm2.evaluation.features.centring import centred
from eegm2.evaluation.finetuning import run as finetuning
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.evaluation.probing import run as probing
from eegm2.evaluation.probing.folder import embedding_arrays, prediction_arrays
from eegm2.evaluation.probing.keep import usual_distance
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.from_store import ChosenSplit
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from tests.evaluation.helpers import fake_run, labelled_arrays, labelled_store, tiny_model


def cell(seed: int = 0, **changes: Any) -> Any:
    model = {
        "name": "m", "baseline": "", "scaling": "", "protocol": "linear", "features": "statistics", "c": 0.1,
        "centre": "recording", "threshold": "half", "fresh": False, "fit_config": lambda device: FitConfig(),
    }  # fmt: skip
    return SimpleNamespace(model=SimpleNamespace(**{**model, **changes}), split=SPLIT, seed=seed)


DATA = labelled_arrays(n_subjects=8, n_times=32)
PARTS = Split(np.arange(24), np.arange(24, 40), np.arange(40, 64))
SPLIT = SimpleNamespace(indices=PARTS)


class Source:
    """Windows and weights that say what was asked of them."""

    plan = SimpleNamespace(
        data=SimpleNamespace(windows=lambda scaling="": WindowConfig(scaling=scaling or "quantile95"))
    )

    def __call__(self, scaling: str = "") -> LabelledWindows:
        return DATA

    def identity(self) -> dict[str, Any]:
        return {"classes": ["a", "b"]}

    def fingerprint(self, model: Any, split: Any, seed: int) -> list[Any]:
        return [model.name, seed]

    def network(self, model: Any, split: Any, seed: int) -> Any:
        return SimpleNamespace(config=None, seed=seed)


def test_options_of_a_cell_reach_its_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def probe(features: Any, data: Any, split: Any, **options: Any) -> Outcome:
        asked.append(options)
        return Outcome("p", 0, np.zeros((1, 2)))

    monkeypatch.setattr(runners, "extract_features", lambda network, data, **how: np.zeros((len(data), 2)))
    for name in ("linear_probe", "light_probe"):
        monkeypatch.setattr(runners, name, probe)
    source: Any = Source()
    run = CellRunner(source, source, tmp_path, "cpu")
    run(cell())
    assert {k: asked[0][k] for k in ("c", "threshold", "centre")} == {
        "c": 0.1,
        "threshold": "half",
        "centre": "recording",
    }
    run(cell(seed=4, protocol="light"))
    assert (asked[1]["seed"], asked[1]["centre"], asked[1]["config"]) == (4, "recording", FitConfig())


def test_features_are_kept_apart_by_all_that_they_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scaling, kind and network; fresh weights are others with every seed, trained ones are not."""
    made: list[int] = []

    def extract(network: Any, data: Any, **how: Any) -> np.ndarray:
        made.append(network.seed)
        return np.full((len(data), 1), len(made), np.float32)

    monkeypatch.setattr(runners, "extract_features", extract)
    source: Any = Source()
    run = CellRunner(source, source, tmp_path, "cpu")
    ways = [{}, {"scaling": "zscore"}, {"features": "covariance"}, {"name": "other"}]
    cells = [cell(**way) for way in ways] + [cell(seed, fresh=True, name="random") for seed in (0, 1, 2)]
    values = [float(run.features(one, DATA)[0, 0]) for one in cells]
    assert values == [1, 2, 3, 4, 5, 6, 7]
    assert made[4:] == [0, 1, 2]
    again = [float(run.features(one, DATA)[0, 0]) for one in cells[::-1]]
    assert again == values[::-1]
    assert run.features(cell(seed=3), DATA)[0, 0] == 1


@pytest.mark.parametrize("val", [0.1, 0.3, 0.6])
def test_a_learning_curve_counts_all_whose_labels_are_used(val: float) -> None:
    manifest = SplitManifest(("sub0", "sub1", "sub2"), ("sub3", "sub4"), ("sub5", "sub6", "sub7"))
    whole = NamedSplit("fold0", PARTS, manifest)
    plan: Any = SimpleNamespace(path="plan", splits=SimpleNamespace(val=val, seed=0))
    for count in range(2, 6):
        some = _subset(whole, DATA, count, plan)
        named = some.units(DATA)
        assert len(named["train"]) + len(named["val"]) == count
        assert min(len(named["train"]), len(named["val"])) >= 1
        np.testing.assert_array_equal(some.indices.test, PARTS.test)


def chosen(data: LabelledWindows) -> ChosenSplit:
    names = [tuple(sorted(set(data.subject[part].tolist()))) for part in (PARTS.train, PARTS.val, PARTS.test)]
    return ChosenSplit(SplitManifest(*names), PARTS, "new", "", ())


def test_what_a_part_holds_is_counted_in_it() -> None:
    y = np.random.default_rng(0).integers(0, 2, 64)
    recording = np.array([f"{s}{i % 2}" for i, s in enumerate(DATA.subject)])
    data = replace(DATA, y=y, recording=recording)
    parts = probing._task(data, chosen(data), WindowConfig(), ProbeConfig())["parts"]
    for name, rows in (("train", PARTS.train), ("val", PARTS.val), ("test", PARTS.test)):
        part = parts[name]
        assert part["n_windows"] == len(rows)
        assert part["n_subjects"] == len(rows) // 8
        assert part["n_recordings"] == len(rows) // 4
        assert part["n_per_class"] == {"slow": int((y[rows] == 0).sum()), "middle": int((y[rows] == 1).sum())}
        assert part["subjects"] == sorted(set(data.subject[rows].tolist()))


def test_arrays_that_are_kept_are_of_the_same_windows() -> None:
    """Scores, truth, persons, recordings and times: row by row those of the test part."""
    rows = np.arange(64)
    data = LabelledWindows(
        DATA.x, rows, rows.astype(str), np.char.add("r", rows.astype(str)), 2.0 * rows, ("a", "b")
    )
    outcome = Outcome("linear", 0, np.stack([PARTS.test, -PARTS.test], 1).astype(float))
    kept = prediction_arrays([outcome], data, chosen(DATA))
    features = embedding_arrays(rows[:, None] * np.ones(3), data, chosen(DATA))
    for found in (
        kept["y_true"], kept["subject"].astype(int), np.char.lstrip(kept["recording"], "r").astype(int),
        kept["start_s"] / 2, kept["linear_0_score"][:, 0],
        features["features"][:, 0], features["y"], features["subject"].astype(int),
    ):  # fmt: skip
        np.testing.assert_array_equal(found, PARTS.test)


def test_every_seed_of_a_probe_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(probing, "linear_probe", lambda *_, **o: asked.append(("linear", 0)))
    monkeypatch.setattr(probing, "light_probe", lambda *_, **o: asked.append(("light", o["seed"])))
    monkeypatch.setattr(
        "eegm2.evaluation.protocols.modes.run_protocol", lambda name, *_, **o: asked.append((name, o["seed"]))
    )
    config = ProbeConfig(protocols=("linear", "light", "fine"), seeds=3)
    checkpoint: Any = SimpleNamespace(model=tiny_model())
    list(probing._outcomes(checkpoint, np.zeros((64, 2)), DATA, chosen(DATA), config, lambda *_: None))
    assert asked == [("linear", 0), *(("light", s) for s in range(3)), *(("fine", s) for s in range(3))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return labelled_store(tmp_path_factory.mktemp("laws") / "store", seconds=12)


def test_a_kept_head_tells_of_the_features_that_it_takes(
    store: RecordingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Centred where it was learnt on centred ones; and its figures are those per window."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((36, 3)) + np.repeat(10 * np.arange(6.0), 6)[:, None]
    monkeypatch.setattr(probing, "extract_features", lambda *_, **__: features)
    monkeypatch.setattr(probing, "feature_views", lambda *_: {})
    config = ProbeConfig(protocols=("linear",), centre="recording", c=1.0)
    made = probing.probe(fake_run(tmp_path / "run", store), store.url, tmp_path / "out", config)
    facts = DenseHead.load(tmp_path / "out" / "heads" / "linear.safetensors").facts
    learnt = np.concatenate(
        [np.arange(6 * int(name[3:]), 6 * int(name[3:]) + 6) for name in facts["people"]["train"]]
    )
    taken = centred(features, np.repeat(np.arange(6), 6).astype(str), "recording")
    assert facts["range"]["unusual"]["limit"] == pytest.approx(usual_distance(taken[learnt])["limit"])
    (row,) = made.results["protocols"]
    assert facts["test"]["auroc"] == row["metrics"]["auroc"] != row["subject_metrics"]["auroc"]


def test_a_tuned_head_is_standardised_on_its_training_people() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((64, 144)) + np.repeat(np.arange(8.0), 8)[:, None]
    config = FinetuneConfig(head="statistics", max_epochs=1)
    checkpoint: Any = SimpleNamespace(model=tiny_model())
    state: Any = SimpleNamespace(read=lambda: None, write=lambda *_: None)
    outcome, _ = finetuning._learnt(
        checkpoint, DATA, chosen(DATA), config, "statistics", features.astype(np.float32), state
    )
    np.testing.assert_allclose(outcome.learnt.mean, features[PARTS.train].mean(0), rtol=1e-5)
    np.testing.assert_allclose(outcome.learnt.scale, features[PARTS.train].std(0), rtol=1e-5)
