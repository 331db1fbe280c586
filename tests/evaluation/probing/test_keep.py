"""What a probe keeps beside its scores: the facts of a head, the arrays of its folder, the list of probes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eegm2.atomic import temporary_name
from eegm2.data.config import WindowConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.deploy.heads.dense import DenseHead
from eegm2.errors import ConfigError
from eegm2.evaluation.config import ProbeConfig
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.probing.folder import (
    append_to_run,
    embedding_arrays,
    listed_probes,
    prediction_arrays,
    refuse_foreign_folder,
    score_name,
    scored_by,
    write_folder,
)
from eegm2.evaluation.probing.keep import (
    common_share,
    keep_models,
    learnt_from,
    usual_distance,
    write_network,
)
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe
from eegm2.evaluation.scores.outcome import Outcome, evaluate
from eegm2.evaluation.windows.from_store import ChosenSplit, choose_split, labelled_windows
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.model.heads import Downstream
from eegm2.training.checkpoint import Checkpoint, load_checkpoint, weights_sha256
from tests.evaluation.helpers import fake_run, labelled_store, tiny_model

WINDOWS = WindowConfig(window_s=2.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return labelled_store(tmp_path_factory.mktemp("data") / "store", seconds=8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, store: RecordingStore) -> Checkpoint:
    return load_checkpoint(fake_run(tmp_path_factory.mktemp("run") / "run", store))


@pytest.fixture(scope="module")
def data(store: RecordingStore) -> LabelledWindows:
    return labelled_windows(store, WINDOWS)


@pytest.fixture(scope="module")
def split(store: RecordingStore, data: LabelledWindows) -> ChosenSplit:
    return choose_split(data, store, None, ProbeConfig(val=0.3, test=0.3))


def test_how_far_windows_usually_are_from_their_middle() -> None:
    features = np.random.default_rng(0).standard_normal((500, 4)) * np.array([1.0, 5.0, 0.0, 100.0]) + 7
    found = usual_distance(features)
    spread = np.array(found["spread"])
    assert found["centre"] == np.round(np.median(features, 0), 6).tolist()
    np.testing.assert_allclose(spread, features.std(0), atol=1e-6)
    assert found["spread"] == np.round(spread, 6).tolist()
    assert spread[2] == 0, "a constant feature has no spread, and takes no part"
    parts = [((features[:, i] - np.median(features[:, i])) / features[:, i].std()) ** 2 for i in (0, 1, 3)]
    assert found["limit"] == pytest.approx(np.quantile(np.sqrt(sum(parts) / 4), 0.99))
    rounded = features.copy()
    rounded[:, 2] = 1e6 + 1e-5 * np.random.default_rng(1).standard_normal(500)
    assert usual_distance(rounded)["limit"] == found["limit"], "what differs by rounding alone is constant"


def test_what_is_common_to_all_channels(store: RecordingStore) -> None:
    class Held:
        def __init__(self, x: np.ndarray) -> None:
            self.x = x

        def view(self, recording: str) -> np.ndarray:
            return self.x

        def __getitem__(self, recording: str) -> object:
            return type("Info", (), {"n_times": len(self.x)})()

    rng = np.random.default_rng(1)
    one = rng.standard_normal((50_000, 1))
    own = rng.standard_normal((50_000, 3))
    cases = [
        (np.repeat(one, 3, 1), 1.0),
        (own - own.mean(1, keepdims=True), 0.0),
        (0 * own, 0.0),
        (own, 3**-0.5),
    ]
    for x, expected in cases:
        assert common_share(Held(x), "r") == pytest.approx(expected, abs=0.03)  # type: ignore[arg-type]


def test_a_kept_head_tells_what_it_was_learnt_from(
    store: RecordingStore, data: LabelledWindows, split: ChosenSplit
) -> None:
    features = np.random.default_rng(2).standard_normal((len(data), 3))
    facts = learnt_from(store, data, split, WINDOWS, features, centre="none")
    people = {part: sorted(getattr(split.manifest, part)) for part in ("train", "val", "test")}
    assert facts["people"] == people
    assert facts["n_windows"] == len(split.indices.train) == 4 * len(people["train"])
    assert (facts["window_s"], facts["n_times"], facts["sfreq_hz"]) == (2.0, 64, 32.0)
    assert (facts["scaling"], facts["target"], facts["centre"]) == ("quantile95", "annotations", "none")
    assert (facts["ch_names"], facts["store_sha256"]) == (list(store.ch_names), store.manifest_sha256)
    assert facts["pretraining"] == split.statement
    seen = [f"rec{name[3:]}" for name in people["train"] + people["val"]]
    amplitudes = [store.typical_uv(name) for name in seen]
    assert facts["range"]["typical_uv"] == [min(amplitudes), max(amplitudes)]
    assert facts["range"]["common_share"] == np.median([common_share(store, name) for name in seen])
    assert facts["range"]["unusual"] == usual_distance(features[split.indices.train])
    assert "unusual" not in learnt_from(store, data, split, WINDOWS, None)["range"]


def test_a_head_of_people_tells_all_of_them(
    store: RecordingStore, data: LabelledWindows, split: ChosenSplit, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """It has learnt from the validation people as well; a light probe beside it has not."""
    features = np.random.default_rng(2).standard_normal((len(data), 3)) + data.y[:, None]
    manifest = split.manifest
    values = replace(data, y=np.arange(len(data), dtype=float), classes=())
    common, of_people = (
        learnt_from(store, values, split, WINDOWS, features, parts=parts)
        for parts in (("train",), ("train", "val"))
    )
    learnt = np.concatenate([split.indices.train, split.indices.val])
    assert of_people["people"] == {
        "train": sorted((*manifest.train, *manifest.val)),
        "test": sorted(manifest.test),
    }
    assert of_people["n_windows"] == len(learnt)
    assert of_people["range"]["target"] == [float(learnt.min()), float(learnt.max())]
    assert of_people["range"]["unusual"] == usual_distance(features[learnt])
    assert of_people["by"] == common["by"] == "subject"
    config = replace(ProbeConfig().light(), max_epochs=1)
    outcomes = [linear_probe(features, data, split.indices, c="people")]
    outcomes += [light_probe(features, data, split.indices, seed=0, config=config)]
    rows = [evaluate(outcome, data, split.indices.test) for outcome in outcomes]
    keep_models(tmp_path, checkpoint, outcomes, rows, common, data.classes, of_people)
    heads = {name: DenseHead.load(tmp_path / "heads" / f"{name}.safetensors") for name in ("linear", "light")}
    assert heads["linear"].facts["people"] == of_people["people"]
    assert heads["light"].facts["people"] == common["people"]


def test_the_head_of_each_protocols_first_seed_is_kept_where_it_learnt_one(
    store: RecordingStore, data: LabelledWindows, split: ChosenSplit, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    features = extract_features(checkpoint.model, data)
    config = replace(ProbeConfig().light(), max_epochs=1)
    outcomes = [linear_probe(features, data, split.indices)]
    outcomes += [light_probe(features, data, split.indices, seed=s, config=config) for s in (0, 1)]
    rows = [evaluate(outcome, data, split.indices.test) for outcome in outcomes]
    (tmp_path / "probe").mkdir()
    keep_models(tmp_path / "probe", checkpoint, outcomes, rows, {"window_s": 2.0}, data.classes)
    assert (tmp_path / "probe" / "model.safetensors").read_bytes() == checkpoint.path.read_bytes()
    heads = {path.stem: DenseHead.load(path) for path in (tmp_path / "probe" / "heads").iterdir()}
    assert sorted(heads) == ["light", "linear"]
    for outcome, row in zip(outcomes[:2], rows):
        head = heads[outcome.protocol]
        np.testing.assert_allclose(head(features[split.indices.test]), outcome.score, atol=1e-6)
        facts = dict(head.facts)
        test = facts.pop("test")
        assert facts == {
            "window_s": 2.0,
            "protocol": outcome.protocol,
            "seed": 0,
            "threshold": outcome.threshold,
            "model_sha256": weights_sha256(checkpoint.model),
        }
        assert test == {name: row["metrics"][name] for name in ("balanced_accuracy", "auroc")}
    (tmp_path / "none").mkdir()
    nothing = [replace(outcome, learnt=None) for outcome in outcomes]
    keep_models(tmp_path / "none", checkpoint, nothing, rows, {}, data.classes)
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["model.safetensors"]


def test_a_tuned_network_is_kept_apart_and_whole(
    checkpoint: Checkpoint, data: LabelledWindows, split: ChosenSplit, tmp_path: Path
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tuned = Downstream(tiny_model(), 2, 64, "statistics")
        with torch.no_grad():
            for parameter in tuned.network.parameters():
                parameter.add_(0.5)
    score = np.full((len(split.indices.test), 2), 0.5)
    outcome = Outcome("fine", 0, score, 0.5, {}, None, tuned)
    rows = [evaluate(outcome, data, split.indices.test)]
    keep_models(tmp_path, checkpoint, [outcome], rows, {"centre": "recording"}, data.classes)
    made = load_checkpoint(tmp_path / "fine" / "model.safetensors")
    changed = dict(tuned.network.state_dict())
    for name, tensor in made.model.state_dict().items():
        assert torch.equal(tensor, changed.get(name, checkpoint.model.state_dict()[name])), name
    assert made.header["windows"] == checkpoint.header["windows"]
    for name, tensor in load_checkpoint(tmp_path / "model.safetensors").model.state_dict().items():
        assert torch.equal(tensor, checkpoint.model.state_dict()[name])
    assert (tmp_path / "fine" / "heads" / "fine.safetensors").is_file()
    other = Checkpoint(checkpoint.model, {**checkpoint.header, "trained_on": ["a"]}, checkpoint.path)
    assert write_network(tmp_path / "again.safetensors", other) == weights_sha256(checkpoint.model)
    assert load_checkpoint(tmp_path / "again.safetensors").header["trained_on"] == ["a"]


def test_the_arrays_of_a_folder_are_of_the_test_windows(data: LabelledWindows, split: ChosenSplit) -> None:
    test = split.indices.test
    outcomes = [
        Outcome("linear", 0, np.full((len(test), 2), 0.5)),
        Outcome("my_own", 3, np.ones((len(test), 2))),
    ]
    found = prediction_arrays(outcomes, data, split)
    features = np.arange(len(data) * 2.0).reshape(-1, 2)
    embedded = embedding_arrays(features, data, split)
    assert sorted(found) == ["linear_0_score", "my_own_3_score", "recording", "start_s", "subject", "y_true"]
    assert found["my_own_3_score"].dtype == embedded["features"].dtype == np.float32
    np.testing.assert_array_equal(embedded["features"], features[test])
    for arrays, names in ((found, {"y_true": "y"}), (embedded, {"y": "y"})):
        for name, of in {**names, "subject": "subject"}.items():
            np.testing.assert_array_equal(arrays[name], getattr(data, of)[test])
    np.testing.assert_array_equal(found["recording"], data.recording[test])
    np.testing.assert_array_equal(found["start_s"], data.start_s[test])
    assert [scored_by(name) for name in found] == [("linear", "0"), ("my_own", "3"), None, None, None, None]
    assert scored_by(score_name("a", 1)) == ("a", "1")
    assert scored_by("_score") is scored_by("3_score") is scored_by("a_3_scores") is None


def test_a_folder_is_written_whole_beside_the_old_one_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "probe"
    write_folder(
        out, {"a": 1}, {"x": np.ones(2)}, {"f": np.zeros(3)}, lambda new: (new / "more").write_text("1")
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "embedding.npz",
        "more",
        "predictions.npz",
        "results.json",
    ]
    (out / "stray").write_text("x")
    stale = out.parent / temporary_name(out).name.replace(f"-{os.getpid()}-", "-999999999-")
    stale.mkdir()
    write_folder(out, {"a": 2}, {"x": np.ones(2)}, {"f": np.zeros(3)})
    assert sorted(path.name for path in out.iterdir()) == ["embedding.npz", "predictions.npz", "results.json"]
    assert [path.name for path in out.parent.iterdir()] == ["probe"], "what a killed process left is gone"

    def fails(new: Path) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_folder(out, {"a": 3}, {}, {}, fails)
    assert json.loads((out / "results.json").read_text()) == {"a": 2}
    with np.load(out / "predictions.npz") as made:
        assert made["x"].tolist() == [1, 1]
    assert [path.name for path in out.parent.iterdir()] == ["probe"]


def test_a_run_lists_each_probe_once_by_its_place(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("run/probes/a", "b", "run/probes/a"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        append_to_run(run, tmp_path / name)
    assert json.loads((run / "probes.json").read_text()) == [str((tmp_path / "b").resolve()), "probes/a"]


def test_a_list_of_probes_that_is_damaged_is_said(tmp_path: Path) -> None:
    path = tmp_path / "probes.json"
    assert listed_probes(path) == ([], "")
    cases = [
        (json.dumps(["a", "b/c"]), ["a", "b/c"], ""),
        (json.dumps({"probes": [{"path": "a"}]}), ["a"], ""),
        (json.dumps({"other": 1}), [], ""),
        (json.dumps(["a", 3]), ["a"], "lists something that is no folder"),
        (json.dumps([{"name": "a"}, "b"]), ["b"], "lists something that is no folder"),
        (json.dumps(["a\0b"]), [], "lists something that is no folder"),
        (json.dumps("a"), [], "holds no list"),
        ("[", [], "is damaged"),
    ]
    for text, names, problem in cases:
        path.write_text(text)
        found = listed_probes(path)
        assert found[0] == names, text
        assert problem in found[1], text
        assert bool(found[1]) == bool(problem), text


def test_only_a_probes_folder_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    for name in ("results.json", "predictions.npz"):
        (tmp_path / "old" / name).write_text("{}")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("empty", "old", "new"):
        refuse_foreign_folder(tmp_path / name)
    for name in ("foreign", "file"):
        with pytest.raises(ConfigError, match="exists and is not a probe's folder; choose another name"):
            refuse_foreign_folder(tmp_path / name)
