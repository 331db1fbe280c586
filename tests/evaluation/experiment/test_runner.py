"""What a cell of an experiment asks for reaches the protocol that runs it, and splits are as declared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import DataError
from eegm2.evaluation.experiment import runners as module
from eegm2.evaluation.experiment import weights as of_weights
from eegm2.evaluation.experiment.runners import CellRunner
from eegm2.evaluation.experiment.splits import _official, named_splits
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.labelled import LabelledWindows
from tests.evaluation.helpers import labelled_arrays, labelled_store

FEATURES = np.arange(96.0).reshape(48, 2).astype(np.float32)


def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **asked: Any
) -> tuple[Outcome, list[tuple[str, tuple[Any, ...], dict[str, Any]]], list[Any]]:
    """Return what a cell of this model gives, what its protocol was asked, and what networks were."""
    usual: dict[str, Any] = {
        "baseline": "", "name": "m", "protocol": "linear", "scaling": "zscore", "features": "statistics",
        "c": "people", "threshold": "half", "centre": "running", "fresh": False,
    }  # fmt: skip
    model: Any = SimpleNamespace(**{**usual, **asked}, fit_config=lambda device: ("fit", device))
    seen: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    made = Outcome("p", 0, np.zeros((1, 2)), None, {"c": 3.0, "deterministic": True})
    for name in ("linear_probe", "light_probe", "run_protocol"):
        monkeypatch.setattr(module, name, lambda *a, name=name, **k: seen.append((name, a, k)) or made)
    monkeypatch.setattr(module, "extract_features", lambda *a, **k: FEATURES)
    monkeypatch.setattr(module, "feature_views", lambda kind, config: {kind: config})
    networks: list[Any] = []

    def network(model: Any, split: Any, seed: int) -> Any:
        networks.append(seed)
        return SimpleNamespace(config="shape")

    weights: Any = SimpleNamespace(network=network, fingerprint=lambda model, split, seed: f"weights {seed}")
    plan = SimpleNamespace(data=SimpleNamespace(windows=lambda scaling: {"scaling": scaling}))
    monkeypatch.setattr(module, "to_dict", lambda windows: windows)

    class Data:
        def __init__(self) -> None:
            self.plan, self.store, self.labelled = plan, SimpleNamespace(sfreq_hz=32.0), "labelled"

        def __call__(self, scaling: str) -> LabelledWindows:
            return labelled_arrays(n_times=8) if scaling == "zscore" else pytest.fail(scaling)

        def identity(self) -> dict[str, Any]:
            return {}

    cell: Any = SimpleNamespace(model=model, split=SimpleNamespace(indices="parts"), seed=5)
    runner = CellRunner(Data(), weights, tmp_path, "cuda")  # type: ignore[arg-type]
    return runner(cell), seen, networks


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("features", ["statistics", "tangent_state"])
def test_a_linear_cell_is_the_probe_with_all_that_it_asks_for(
    features: str, fresh: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With its seed; chance plays a part only where layers of the network are new."""
    made, seen, _ = run(monkeypatch, tmp_path, features=features, fresh=fresh)
    ((name, (x, data, parts), how),) = seen
    assert (name, parts, len(data)) == ("linear_probe", "parts", 48)
    np.testing.assert_array_equal(x, FEATURES)
    views = {"tangent_state": "shape"} if features == "tangent_state" else {}
    assert how == {"c": "people", "threshold": "half", "centre": "running", "views": views}
    assert made.seed == 5
    assert made.facts == {"c": 3.0, "deterministic": not fresh}
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_light_and_whole_networks_get_seed_settings_and_centring(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, seen, networks = run(monkeypatch, tmp_path, protocol="light")
    ((name, (_, _, parts), how),) = seen
    assert (name, parts) == ("light_probe", "parts")
    assert how == {"seed": 5, "config": ("fit", "cuda"), "centre": "running"}
    assert networks == [0], "features of a network without new layers are the same for every seed"
    for protocol in ("fine", "scratch"):
        _, seen, networks = run(monkeypatch, tmp_path, protocol=protocol)
        ((name, (what, _, parts), how),) = seen
        assert (name, what, parts, networks) == ("run_protocol", protocol, "parts", [5])
        assert how.pop("model").config == "shape"
        assert how == {"seed": 5, "config": ("fit", "cuda"), "centre": "running"}


def test_features_are_kept_and_taken_again_unless_damaged_or_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(monkeypatch, tmp_path)
    (kept,) = (tmp_path / "features").iterdir()
    assert run(monkeypatch, tmp_path)[2] == [], "no network is asked"
    for array in (FEATURES[:3], FEATURES[0]):
        np.save(kept, array)
        assert run(monkeypatch, tmp_path)[2] == [0]
    kept.write_bytes(b"damaged")
    assert run(monkeypatch, tmp_path)[2] == [0]
    run(monkeypatch, tmp_path, fresh=True)
    for kind in ("tangent_state", "state"):
        run(monkeypatch, tmp_path, features=kind)
    assert len(list((tmp_path / "features").iterdir())) == 4, "each kind by itself"


def plan_of(**splits: Any) -> Any:
    usual = {"scheme": "official", "seed": 0, "val": 0.4, "by": "subject", "train_subjects": (), "files": ()}
    return SimpleNamespace(
        path=Path("e.toml"), splits=SimpleNamespace(**{**usual, **splits}), place=lambda file: Path(file)
    )


def test_the_data_sets_own_test_part_is_whole_and_nothing_else_is_tested(tmp_path: Path) -> None:
    """Everybody else trains or validates: no test part is drawn."""
    official = {0: "train", 1: "train", 2: "train", 3: "train", 4: "test", 5: "test"}
    store = labelled_store(tmp_path / "store", official=official, seconds=8.0)
    data = dataclasses.replace(labelled_arrays(n_times=8))
    for seed in range(4):
        made = _official(plan_of(seed=seed), store, data).manifest
        assert made.test == ("sub4", "sub5")
        assert len(made.val) == 2
        assert sorted([*made.train, *made.val]) == ["sub0", "sub1", "sub2", "sub3"]
    with pytest.raises(DataError, match="no recording belongs to an official test part; use scheme 'folds'"):
        _official(plan_of(), labelled_store(tmp_path / "other", seconds=8.0), data)


@pytest.mark.parametrize("kinds", [("subject",), ("subject", "subject"), ("subject", "recording")])
def test_manifests_of_one_experiment_divide_the_same(kinds: tuple[str, ...], tmp_path: Path) -> None:
    store = labelled_store(tmp_path / "store", seconds=8.0)
    data = labelled_arrays(n_times=8)
    data = dataclasses.replace(data, recording=np.char.replace(data.subject, "sub", "rec"))
    files = []
    for number, by in enumerate(kinds):
        name = "sub" if by == "subject" else "rec"
        parts = [tuple(f"{name}{i}" for i in part) for part in ((0, 1, 2), (3,), (4, 5))]
        files.append(tmp_path / f"{number}.json")
        SplitManifest(*parts, 0, by, store.manifest_sha256).to_json(files[-1])  # type: ignore[arg-type]
    plan = plan_of(scheme="manifest", files=files)
    if len(set(kinds)) == 2:
        with pytest.raises(DataError, match="some manifests divide subjects, some recordings"):
            named_splits(plan, store, data)
        return
    made = named_splits(plan, store, data)
    assert [split.name for split in made] == [f"split{i}" for i in range(len(kinds))]
    assert all(set(data.subject[split.indices.test]) == {"sub4", "sub5"} for split in made)


@pytest.mark.parametrize(
    ("trained_on", "channels", "virtual", "expected"),
    [
        (["Cz", "Pz"], "adapt", False, "as it is"),
        (["Cz"], "adapt", False, ("adapted", 2, {"seed": 7, "trained_on": ["Cz"], "ch_names": ["Cz", "Pz"]})),
        (["Cz"], "refuse", False, "as it is"),
        (["Cz"], "adapt", True, ("on montage", ["Cz"], ["Cz", "Pz"], "places.tsv")),
    ],
)
def test_a_network_of_other_channels_gets_new_ends_from_the_cells_seed(
    trained_on: list[str], channels: str, virtual: bool, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must state its input; plugins that the pretraining named are trusted, and no others."""
    model = SimpleNamespace(config=SimpleNamespace(any_electrodes=virtual))
    found = SimpleNamespace(model=model, config=model.config, header={"ch_names": trained_on})
    asked: list[Any] = []
    monkeypatch.setattr(of_weights, "load_checkpoint", lambda *a, **k: asked.append((a, k)) or found)
    monkeypatch.setattr(of_weights, "adapt_channels", lambda m, n, **k: ("adapted", n, k))
    monkeypatch.setattr(of_weights, "on_montage", lambda m, *how: ("on montage", *how))
    monkeypatch.setattr(of_weights, "named_plugins", lambda options: ("mine", options))
    source = SimpleNamespace(options="options", which="last", channels=channels)
    data = SimpleNamespace(positions="places.tsv")
    weights: Any = object.__new__(of_weights.WeightSource)
    weights.plan = SimpleNamespace(pretrain={"own": source}, data=data, place=lambda file: file)
    weights.store = SimpleNamespace(ch_names=("Cz", "Pz"))
    weights.place = lambda source, split: ("place", source, split)
    made = weights.network(SimpleNamespace(fresh=False, pretrained="own"), "fold", 7)
    assert made is model if expected == "as it is" else (*made[:2], *map(_plain, made[2:])) == expected
    place = ("place", source, "fold")
    assert asked == [((place, "last"), {"needs": of_weights.INPUT, "trust": ("mine", "options")})]


def _plain(thing: Any) -> Any:
    return list(thing) if isinstance(thing, tuple) else thing
