"""Laws of probes and tuned runs: whom they are judged on, what is told of them, when they are other runs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from eegm2.config import to_dict
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import SplitManifest
from eegm2.deploy.heads.dense import DenseHead
from eegm2.errors import ConfigError
from eegm2.evaluation.config import ProbeConfig
from eegm2.evaluation.features.centring import centred
from eegm2.evaluation.finetuning import run as tuning
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.evaluation.finetuning.run import KIND, _begun, _mark, finetune
from eegm2.evaluation.probing import folder
from eegm2.evaluation.probing import run as probing
from eegm2.evaluation.probing.keep import usual_distance
from eegm2.training.checkpoint import INPUT, load_checkpoint
from tests.evaluation.helpers import fake_run, labelled_arrays, labelled_store, tiny_model
from tests.laws.test_commands import value_of

FIELDS = [entry.name for entry in dataclasses.fields(FinetuneConfig)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return labelled_store(tmp_path_factory.mktemp("tuning") / "store", seconds=8)


@pytest.fixture(scope="module")
def run(store: RecordingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run(tmp_path_factory.mktemp("tuning") / "run", store)


@pytest.mark.parametrize("protocol", ["light", "fine"])
def test_a_tuned_run_is_judged_on_its_test_people(
    protocol: Any, store: RecordingStore, run: Path, tmp_path: Path
) -> None:
    """Scores, truth, people and facts of the head are of the same part, which its split names."""
    config = FinetuneConfig(protocol=protocol, max_epochs=1, batch_size=8, split_seed=3, val=0.17, test=0.34)
    results = finetune(run, store.url, tmp_path / "tuned", config).results
    split = SplitManifest.from_json(tmp_path / "tuned" / "splits.json")
    assert [len(part) for part in (split.train, split.val, split.test)] == [3, 1, 2]
    with np.load(tmp_path / "tuned" / "predictions.npz") as file:
        kept = dict(file)
    assert sorted(set(kept["subject"].tolist())) == sorted(split.test)
    y, score = kept["y_true"], kept[f"{protocol}_0_score"][:, 1]
    right = (score >= results["threshold"]) == y
    assert results["metrics"]["accuracy"] == pytest.approx(right.mean())
    assert results["metrics"]["balanced_accuracy"] == pytest.approx(
        np.mean([right[y == c].mean() for c in (0, 1)])
    )
    above = score[y == 1][:, None] - score[y == 0]
    assert results["metrics"]["auroc"] == pytest.approx(np.mean((above > 0) + (above == 0) / 2))
    people = {part: sorted(getattr(split, part)) for part in ("train", "val", "test")}
    assert results["task"]["people"] == people
    assert sorted(row["subject"] for row in results["per_subject"]) == people["test"]
    assert results["task"]["n_subjects"] == 6
    head = json.loads((tmp_path / "tuned" / "run.json").read_text())
    assert (head["kind"], head["finished"], head["finetune"]) == (KIND, True, to_dict(config))
    (path,) = (tmp_path / "tuned" / "heads").glob("*.safetensors")
    facts = DenseHead.load(path).facts
    assert facts["people"] == people
    assert facts["test"] == {name: results["metrics"][name] for name in ("balanced_accuracy", "auroc")}
    assert facts["n_windows"] == len(split.train) * 4
    assert (facts["protocol"], facts["seed"], facts["threshold"]) == (protocol, 0, results["threshold"])
    again = finetune(run, store.url, tmp_path / "tuned", dataclasses.replace(config, device="cpu"))
    assert again.already_finished


def other(name: str) -> FinetuneConfig:
    """Return choices that differ in one."""
    entry = next(entry for entry in dataclasses.fields(FinetuneConfig) if entry.name == name)
    value = value_of(entry, get_type_hints(FinetuneConfig)[name], getattr(FinetuneConfig(), name))
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value}
    if name == "begin":
        given["head"] = "statistics"
    return FinetuneConfig(**given)


@pytest.mark.parametrize("name", FIELDS)
def test_a_run_of_other_choices_is_another_run(name: str, tmp_path: Path) -> None:
    """A finished one is refused by the choice's name, and nothing that was begun goes on under it."""
    usual = FinetuneConfig(head="statistics") if name == "begin" else FinetuneConfig()
    config = other(name)
    assert getattr(config, name) != getattr(usual, name)
    common = {"kind": KIND, "base": "m", "manifest_sha256": "s"}
    facts = {**common, "finetune": to_dict(usual)}
    (tmp_path / "run.json").write_text(json.dumps({**facts, "finished": True}))
    (tmp_path / "results.json").write_text('{"there": 1}')
    (tmp_path / "weights").write_bytes(b"weights")
    checkpoint: Any = SimpleNamespace(path=tmp_path / "weights")
    marks = [_mark(checkpoint, {**common, "finetune": to_dict(one)}) for one in (usual, usual, config)]
    assert marks[0] == marks[1]
    assert _begun(tmp_path, facts, usual) == {"there": 1}
    if name == "device":  # of which the weights do not hang
        assert marks[2] == marks[0]
        assert _begun(tmp_path, facts, config) == {"there": 1}
        return
    assert marks[2] != marks[0]
    with pytest.raises(ConfigError, match=f"finished run with another {name}"):
        _begun(tmp_path, {**common, "finetune": to_dict(config)}, config)


@pytest.mark.parametrize("name", ["base", "manifest_sha256"])
def test_a_run_on_other_data_is_another_run(name: str, tmp_path: Path) -> None:
    facts = {"kind": KIND, "base": "m", "manifest_sha256": "s", "finetune": to_dict(FinetuneConfig())}
    (tmp_path / "results.json").write_text("{}")
    for finished in (True, False):
        (tmp_path / "run.json").write_text(json.dumps({**facts, "finished": finished}))
        if finished:
            with pytest.raises(ConfigError, match=f"finished run with another {name}"):
                _begun(tmp_path, {**facts, name: "other"}, FinetuneConfig())
        else:
            assert _begun(tmp_path, {**facts, name: "other"}, FinetuneConfig()) is None


@pytest.mark.parametrize(
    ("protocol", "lr", "epochs", "patience"), [("fine", 1e-4, 30, 5), ("light", 1e-3, 100, 10)]
)
def test_what_is_not_chosen_is_the_protocols(protocol: Any, lr: float, epochs: int, patience: int) -> None:
    fit = FinetuneConfig(protocol=protocol).fit()
    assert (fit.lr, fit.max_epochs, fit.patience) == (lr, epochs, patience)


def test_a_probe_sums_up_windows_recordings_and_people_apart(
    store: RecordingStore, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = probing.evaluate
    values = {"metrics": 0.1, "recording_metrics": 0.2, "subject_metrics": 0.3}

    def evaluate(*given: Any) -> dict[str, Any]:
        row = true(*given)
        return row | {level: {"auroc": value} for level, value in values.items()}

    monkeypatch.setattr(probing, "evaluate", evaluate)
    config = ProbeConfig(protocols=("linear",), c="1.0", features="statistics")
    results = probing.probe(run, store.url, tmp_path / "probe", config).results
    for key, value in (("summary", 0.1), ("recording_summary", 0.2), ("subject_summary", 0.3)):
        assert [(row["metric"], row["mean"]) for row in results[key]] == [("auroc", value)], key
    told = results["provenance"]
    assert (told["config"], told["manifest_sha256"]) == (to_dict(config), store.manifest_sha256)
    assert told["store"] == store.url


def test_a_probes_folder_is_whole_wherever_it_is_to_be(tmp_path: Path) -> None:
    """In folders that are made for it; what JSON cannot say is refused, and the older one stays."""
    out = tmp_path / "new" / "deep" / "probe"
    arrays = {"x": np.arange(3)}
    folder.write_folder(out, {"who": "Zoë"}, arrays, arrays, keep=lambda new: (new / "more").touch())
    assert sorted(path.name for path in out.iterdir()) == [
        "embedding.npz", "more", "predictions.npz", "results.json",
    ]  # fmt: skip
    assert json.loads((out / "results.json").read_text(encoding="utf-8")) == {"who": "Zoë"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_folder(out, {"value": float("nan")}, arrays, arrays)
    assert json.loads((out / "results.json").read_text(encoding="utf-8")) == {"who": "Zoë"}
    assert [path.name for path in out.parent.iterdir()] == ["probe"]


def test_a_probe_waits_for_the_list_and_asks_first_whether_it_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def locked(run: Path, name: str, wait_s: float = 0.0) -> Any:
        asked.append((run, wait_s >= 30))
        return contextlib.nullcontext()

    monkeypatch.setattr(folder, "locked", locked)
    monkeypatch.setattr(folder, "refuse_unwritable", lambda out: asked.append(out))
    folder.append_to_run(tmp_path, tmp_path / "probe")
    folder.append_to_run(tmp_path, Path("/elsewhere/probe"))
    folder.append_to_run(tmp_path, tmp_path / "probe")
    assert json.loads((tmp_path / "probes.json").read_text()) == ["/elsewhere/probe", "probe"]
    folder.refuse_foreign_folder(tmp_path / "probe")
    assert asked == [*[(tmp_path, True)] * 3, tmp_path / "probe"]


class Asked(BaseException):
    """A checkpoint was to be read."""


@pytest.mark.parametrize("which", ["best", "last"])
@pytest.mark.parametrize("command", ["probe", "finetune"])
def test_the_checkpoint_is_the_one_asked_for(
    command: str, which: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(model: Any, which: str = "best", **more: Any) -> None:
        raise Asked(str(model), which, more)

    for module in (probing, tuning):
        monkeypatch.setattr(module, "load_checkpoint", load)
    work: Any = probing.probe if command == "probe" else finetune
    config: Any = ProbeConfig(which=which) if command == "probe" else FinetuneConfig(which=which)
    with pytest.raises(Asked) as asked:
        work("m", "s", tmp_path / "o", config)
    assert asked.value.args == ("m", which, {"needs": INPUT} if command == "probe" else {})


@pytest.mark.parametrize("centre", ["none", "recording", "running"])
def test_what_a_tuned_head_holds_unusual_is_measured_on_what_it_takes(
    centre: Any, store: RecordingStore, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of centred features where it was learnt on those, and of training windows alone."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((24, 3)) + np.repeat(10 * np.arange(6.0), 4)[:, None]
    monkeypatch.setattr(tuning, "extract_features", lambda *_, **__: features.astype(np.float32))
    config = FinetuneConfig(protocol="light", centre=centre, max_epochs=1, batch_size=8)
    finetune(run, store.url, tmp_path / "tuned", config)
    facts = DenseHead.load(tmp_path / "tuned" / "heads" / "light.safetensors").facts
    who = np.repeat([f"sub{i}" for i in range(6)], 4)
    taken = centred(
        features.astype(np.float32),
        np.char.replace(who, "sub", "rec"),
        centre,
        np.tile(2.0 * np.arange(4), 6),
    )
    learnt = np.isin(who, facts["people"]["train"])
    assert facts["range"]["unusual"]["limit"] == pytest.approx(
        usual_distance(taken[learnt])["limit"], rel=1e-4
    )
    assert facts["centre"] == centre


def test_options_of_a_probe_reach_its_protocols_and_its_progress_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Penalty, threshold, centring and views of the linear one, seeds, fit and centring of Light's."""
    asked: dict[str, list[dict[str, Any]]] = {"linear": [], "light": [], "fine": []}
    told: list[tuple[str, int, int]] = []

    def note(name: str) -> Any:
        return lambda *given, **more: asked[name].append({**more, "given": given})

    monkeypatch.setattr(probing, "linear_probe", note("linear"))
    monkeypatch.setattr(probing, "light_probe", note("light"))
    monkeypatch.setattr("eegm2.evaluation.protocols.modes.run_protocol", note("fine"))
    monkeypatch.setattr(probing, "feature_views", lambda kind, config: {kind: config})
    data, model = labelled_arrays(), tiny_model()
    split: Any = SimpleNamespace(indices="parts")
    checkpoint: Any = SimpleNamespace(model=model)
    features = np.zeros((len(data), 2))
    config = ProbeConfig(
        protocols=("light", "linear"),
        seeds=2,
        c="0.25",
        threshold="half",
        centre="recording",
        features="statistics",
    )
    list(probing._outcomes(checkpoint, features, data, split, config, lambda *of: told.append(of)))
    (linear,) = asked["linear"]
    assert {name: linear[name] for name in ("c", "threshold", "centre", "views")} == {
        "c": 0.25, "threshold": "half", "centre": "recording", "views": {"statistics": model.config},
    }  # fmt: skip
    assert [(one["seed"], one["centre"], one["config"]) for one in asked["light"]] == [
        (seed, "recording", config.light()) for seed in (0, 1)
    ]
    for one in (linear, *asked["light"]):
        assert one["given"][0] is features
        assert one["given"][1:] == (data, "parts")
    assert told == [("protocols", done, 3) for done in range(4)]
    fine = ProbeConfig(protocols=("fine",), seeds=2)
    list(probing._outcomes(checkpoint, features, data, split, fine, lambda *_: None))
    assert [(one["seed"], one["config"], one["model"]) for one in asked["fine"]] == [
        (seed, fine.fine(), model) for seed in (0, 1)
    ]


def test_a_probe_tells_how_far_it_is(store: RecordingStore, run: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    config = ProbeConfig(protocols=("linear",), c="1.0", features="statistics")
    probing.probe(run, store.url, tmp_path / "probe", config, lambda *of: told.append(of))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["features", "protocols"]
    for stage in stages:
        assert next((done, total) for name, done, total in reversed(told) if name == stage) == (
            (24, 24) if stage == "features" else (1, 1)
        )


@pytest.mark.parametrize("head", ["statistics", "attention", "flatten"])
def test_weights_that_are_frozen_stay_as_pretraining_left_them(
    head: Any, store: RecordingStore, run: Path, tmp_path: Path
) -> None:
    """By whichever head; those that are not named move."""
    config = FinetuneConfig(
        protocol="fine", head=head, freeze=("network.encoder.conv3",), max_epochs=1, batch_size=8
    )
    finetune(run, store.url, tmp_path / "tuned", config)
    before = load_checkpoint(run).model.state_dict()
    after = load_checkpoint(tmp_path / "tuned").model.state_dict()
    frozen = [name for name in before if name.startswith("encoder.conv3.")]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith("encoder.conv2."))
