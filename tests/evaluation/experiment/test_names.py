"""What is kept is found again when the library learns options, and not when a default has changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from eegm2.config import conflicts, non_defaults, option, to_dict
from eegm2.data.windows.splits import SplitManifest
from eegm2.evaluation.baselines.networks import NetworkOptions
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.experiment.cells import Cell
from eegm2.evaluation.experiment.config import DataPlan, ModelPlan
from eegm2.evaluation.experiment.pretrained import Wanted
from eegm2.evaluation.experiment.settings import Settings, chosen, outdated, resolved, settings_of
from eegm2.evaluation.experiment.splits import NamedSplit
from eegm2.evaluation.windows.labelled import Split
from eegm2.model.config import EEGM2Config
from eegm2.training.config import PretrainConfig
from tests.evaluation.experiments import details_of, evaluate, plan_text
from tests.evaluation.helpers import labelled_store

TEXT = plan_text("linear", "light")
PEOPLE = SplitManifest(("a",), ("b",), ("c",))


@dataclass(frozen=True)
class Longer(PretrainConfig):
    """PretrainConfig of a later release."""

    warp: float = option(2.0, "Something new.")


@dataclass(frozen=True)
class OtherDefault(PretrainConfig):
    """PretrainConfig whose default has changed."""

    weight_decay: float = option(0.5, "Another default.")


@dataclass(frozen=True)
class Outer:
    """A configuration in a configuration."""

    inner: PretrainConfig = field(default_factory=lambda: PretrainConfig(epochs=3))
    names: tuple[str, ...] = ("a",)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment in ``out``."""
    folder = tmp_path_factory.mktemp("names")
    labelled_store(folder / "store")
    assert evaluate(folder, TEXT).exit_code == 0
    return folder


def wanted(options: PretrainConfig) -> Wanted:
    return Wanted("fold0", options, 3, "store", PEOPLE)


def kept(run: Path, options: PretrainConfig) -> Path:
    """Write what a pretraining records."""
    run.mkdir(parents=True)
    model = EEGM2Config.preset(options.preset, n_chans=3, width=options.width)
    facts = {"run_format": 1, "model": to_dict(model), "windows": to_dict(options.window_config())}
    facts |= {"data": {"manifest_sha256": "store"}, "pretrain": to_dict(options)}
    (run / "run.json").write_text(json.dumps(facts))
    PEOPLE.to_json(run / "splits.json")
    return run


def test_only_what_differs_counts_at_any_depth() -> None:
    assert non_defaults(PretrainConfig()) == {}
    assert non_defaults(PretrainConfig(exclude_s=("0:5",), epochs=2)) == {"exclude_s": ["0:5"], "epochs": 2}
    assert non_defaults(Outer()) == {}
    assert non_defaults(Outer(PretrainConfig(epochs=4))) == {"inner": {"epochs": 4}}
    assert non_defaults(Outer(PretrainConfig(epochs=20))) == {"inner": {"epochs": 20}}
    assert non_defaults(FitConfig(lr=1.0), FitConfig(lr=2.0)) == {"lr": 1.0}


def test_a_record_is_compared_field_by_field() -> None:
    record = json.loads(json.dumps(to_dict(PretrainConfig(exclude_s=("0:5",)))))
    assert conflicts(record, PretrainConfig(exclude_s=("0:5",))) == []
    assert conflicts(record, PretrainConfig(seed=3)) == ["exclude_s", "seed"]
    assert conflicts(record, Longer(exclude_s=("0:5",))) == []
    assert conflicts(record, Longer(exclude_s=("0:5",), warp=3.0)) == ["warp"]
    assert conflicts(to_dict(Longer()), PretrainConfig()) == ["warp"]
    assert conflicts(record, OtherDefault(exclude_s=("0:5",))) == ["weight_decay"]
    assert "epochs" in conflicts(None, PretrainConfig())


def test_a_new_option_leaves_the_folder_of_a_pretraining(tmp_path: Path) -> None:
    name = wanted(PretrainConfig(epochs=3)).name
    assert wanted(Longer(epochs=3)).name == name
    assert wanted(Longer(epochs=3, warp=1.0)).name != name != wanted(PretrainConfig(epochs=4)).name
    assert wanted(PretrainConfig(epochs=3, workers=2, splits="x.json")).name == name
    run = kept(tmp_path / "run", PretrainConfig(epochs=3, workers=4))
    assert wanted(Longer(epochs=3)).fits(run)
    assert not wanted(Longer(epochs=3, warp=1.0)).fits(run)
    assert not replace(wanted(PretrainConfig(epochs=3)), n_chans=4).fits(run)
    assert not replace(wanted(PretrainConfig(epochs=3)), manifest_sha256="other").fits(run)
    other = replace(PEOPLE, train=("d",))
    assert not replace(wanted(PretrainConfig(epochs=3)), manifest=other).fits(run)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "run_format": 0}))
    assert not wanted(Longer(epochs=3)).fits(run)


def test_a_changed_default_does_not_take_old_weights(tmp_path: Path) -> None:
    before, now = wanted(PretrainConfig(epochs=3)), wanted(OtherDefault(epochs=3))
    assert before.name == now.name
    run = kept(tmp_path / before.name, PretrainConfig(epochs=3))
    assert before.fits(run)
    assert not now.fits(run)


def test_weights_of_another_default_are_left_and_trained_again(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "x")
    own = tmp_path / "x" / "out" / "pretrained" / "own"
    (first, _) = sorted(own.iterdir())
    facts = json.loads((first / "run.json").read_text())
    facts["pretrain"]["weight_decay"] = 0.5  # a default of then
    (first / "run.json").write_text(json.dumps(facts))
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    shown = evaluate(tmp_path / "x", TEXT, "--dry-run").output
    assert "after pretraining    linear fold0 seed 0" in shown
    assert "done                 linear fold1 seed 0" in shown
    assert evaluate(tmp_path / "x", TEXT).exit_code == 0
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    assert [run.name for run in sorted(own.iterdir()) if run.name.startswith("fold0")] == [
        first.name,
        f"{first.name}-2",
    ]
    assert evaluate(tmp_path / "x", TEXT, "--dry-run").output.startswith("done")
    assert (tmp_path / "x" / "out" / "results.json").read_bytes() == (
        done / "out" / "results.json"
    ).read_bytes()


def test_weights_are_found_under_any_name(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "x")
    for run in sorted((tmp_path / "x" / "out" / "pretrained" / "own").iterdir()):
        run.rename(run.with_name(run.name.partition("-")[0] + "-00000000"))
    assert "6 done, 2 not needed" in evaluate(tmp_path / "x", TEXT, "--dry-run").output


def test_a_cell_of_another_default_is_computed_again(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "x")
    (path,) = (tmp_path / "x" / "out" / "cells").glob("light-fold1-s1-*.json")
    facts = json.loads(path.read_text())
    assert facts["settings"]["fit"]["weight_decay"] == FitConfig().weight_decay
    facts["settings"]["fit"]["weight_decay"] = 0.5
    path.write_text(json.dumps(facts))
    assert "1 to do" in evaluate(tmp_path / "x", TEXT, "--dry-run").output
    assert evaluate(tmp_path / "x", TEXT).exit_code == 0
    assert json.loads(path.read_text())["settings"]["fit"]["weight_decay"] == FitConfig().weight_decay
    assert details_of(tmp_path / "x")["stale"] == []


@dataclass(frozen=True)
class LongerFit(FitConfig):
    """FitConfig of a later release."""

    warp: float = option(2.0, "Something new.")


MODELS = {
    "random": ModelPlan(
        name="random", protocol="linear", pretrained="random", preset="s5", width=4, c="validation"
    ),
    "light": ModelPlan(
        name="light", protocol="light", pretrained="own", fit={"max_epochs": 3}, scaling="zscore"
    ),
    "power": ModelPlan(name="power", baseline="band_power", options={"segment_s": 1.0}),
    "net": ModelPlan(name="net", baseline="biot", options={"max_epochs": 7}),
}


def key_of(name: str, settings: Settings) -> str:
    split = NamedSplit("fold0", Split(*[np.arange(1)] * 3), PEOPLE)
    cell = Cell(MODELS[name], split, 1)
    units = {"train": ["a"], "val": ["b"], "test": ["c"]}
    about = units, {"classes": ["x", "y"], "manifest_sha256": "m"}, "w"
    return cell.key(settings, *about)


def settings_named(name: str) -> Settings:
    windows = DataPlan(window_s=2.0).windows(MODELS[name].scaling)
    network = EEGM2Config.preset("s5", n_chans=3, width=4) if name == "random" else None
    return settings_of(MODELS[name], windows, network)


def test_a_new_option_leaves_the_keys_of_cells() -> None:
    settings = settings_named("light")
    fit, base = settings["fit"]
    assert chosen(settings)["fit"] == {"max_epochs": 3}  # Light's own defaults are not repeated
    longer = {**settings, "fit": (LongerFit(**to_dict(fit)), LongerFit(**to_dict(base)))}
    assert key_of("light", longer) == key_of("light", settings)
    assert not outdated(json.loads(json.dumps(resolved(settings))), longer)
    used = {**settings, "fit": (LongerFit(**to_dict(fit), warp=1.0), LongerFit(**to_dict(base)))}
    assert key_of("light", used) != key_of("light", settings)
    assert outdated(resolved(settings), used)
    assert outdated(None, settings)
    net = settings_named("net")
    changed = {**net, "options": (replace(net["options"][0], lr=0.5), replace(net["options"][1], lr=0.5))}
    assert key_of("net", changed) == key_of("net", net)
    assert outdated(resolved(net), changed)
    assert isinstance(net["options"][0], NetworkOptions)


def test_an_option_written_out_is_the_option_left_out() -> None:
    plain = MODELS["light"]
    written = replace(plain, fit={**plain.fit, "lr": 1e-3}, c=1.0)
    windows = DataPlan().windows()
    assert chosen(settings_of(plain, windows, None)) == chosen(settings_of(written, windows, None))


@pytest.mark.parametrize(
    ("name", "change", "decides"),
    [
        ("power", {"options": {"segment_s": 0.5}}, True),
        ("power", {"options": {}}, True),
        ("net", {"options": {"max_epochs": 8}}, True),
        ("light", {"fit": {"max_epochs": 4}}, True),
        ("light", {"scaling": "robust"}, True),
        ("random", {"c": "people"}, True),
        ("random", {"width": 8}, True),
        *((name, {"seeds": (3, 4)}, False) for name in ("power", "net", "light", "random")),
    ],
    ids=str,
)
def test_a_choice_that_decides_a_cell_is_in_its_key_and_no_other(
    name: str, change: dict[str, object], decides: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key_of(name, settings_named(name)), resolved(settings_named(name))
    assert not outdated(json.loads(json.dumps(before[1])), settings_named(name))
    monkeypatch.setitem(MODELS, name, replace(MODELS[name], **change))
    assert (key_of(name, settings_named(name)) != before[0]) == decides
    assert outdated(json.loads(json.dumps(before[1])), settings_named(name)) == decides


def test_what_a_baseline_leaves_to_its_defaults_is_not_in_its_key() -> None:
    assert chosen(settings_named("power"))["options"] == {"segment_s": 1.0}
    assert chosen(settings_named("net"))["options"] == {"max_epochs": 7}
