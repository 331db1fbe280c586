"""Laws of a model's card: every fact under its name, every figure with its part, seeds and people."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.windows.splits import SplitManifest
from eegm2.deploy.heads.dense import DenseHead
from eegm2.errors import CheckpointError
from eegm2.hub.card import (
    _about,
    _beginning,
    _heads,
    _input,
    _limits,
    _one_person,
    _results,
    _splits,
    _training,
    model_card,
)
from eegm2.hub.folder import from_pretrained, save_pretrained, share_run, without_paths
from eegm2.hub.heads import copy_without_people
from eegm2.model.config import EEGM2Config
from eegm2.training.checkpoint import save_checkpoint
from eegm2.zoo import shipped
from eegm2.zoo.facts import facts_of
from eegm2.zoo.find import find_weights, model_folder
from tests.evaluation.helpers import tiny_model


def cells(text: str) -> dict[str, str]:
    """Return the rows of tables of two columns."""
    lines = [line.replace("\\", "").strip("|").split("|") for line in text.splitlines() if line[:1] == "|"]
    return {line[0].strip(): line[1].strip() for line in lines if len(line) == 2}


HEADER: dict[str, Any] = {
    "ch_names": ["Fz", "Cz", "Pz"], "sfreq_hz": 100.0, "windows": {"scaling": "robust", "window_s": 3.0},
    "preprocessing": {
        "reference": "average", "l_freq_hz": 0.5, "h_freq_hz": 40.0, "notch_hz": 0, "sfreq_hz": 100.0,
        "scale": 1e6, "missing": "interpolate", "flat": "drop",
    },
    "data": {"n_recordings": 40, "n_subjects": 14, "store": "eyes", "manifest_sha256": "abc"},
    "pretrain": {
        "preset": "light", "width": 8, "objective": "masked", "loss": "l1", "spectrum": "amplitude",
        "norm": "ortho", "epochs": 9, "batch_size": 12, "max_lr": 0.003, "seed": 5,
    },
    "epoch": 7, "step": 123, "val_loss": 0.31234,
    "init": {
        "model": "first", "weights_sha256": "0123456789abcdef",
        "data": {"store": "one", "n_subjects": 3}, "init": {"model": "zeroth", "data": {"n_subjects": 1}},
    },
}  # fmt: skip


def test_what_goes_in_is_said_with_its_unit() -> None:
    model: Any = SimpleNamespace(config=EEGM2Config.preset("light", n_chans=3, width=4))
    assert cells(_input(model, HEADER)) == {
        "": "", "---": "---", "channels, in this order": "Fz Cz Pz", "sampling rate": "100.0 Hz",
        "units": "microvolts in the store, then scaled as said below", "scaling": "robust",
        "window of training": "3.0 s", "reference": "average", "high-pass, Hz": "0.5", "low-pass, Hz": "40.0",
        "mains removed, Hz": "none", "sampling rate, Hz": "100.0", "factor on the samples": "1000000.0",
        "missing channels": "interpolate", "flat channels": "drop",
    }  # fmt: skip


def test_how_it_was_trained_is_said_once_and_whole() -> None:
    found = cells(_training(HEADER))
    for name, value in HEADER["pretrain"].items():
        assert found[name.replace("_", " ")] == str(value), name
    assert (found["recordings"], found["subjects"], found["store"]) == ("40", "14", "eyes")
    assert (found["epoch"], found["step"], found["validation loss"]) == ("7", "123", "0.3123")
    assert found["begun with the weights of"] == (
        "first (SHA-256 0123456789ab…), trained on one, 3 subjects; itself begun with zeroth "
        "(SHA-256 unknown…), trained on unknown data, 1 subject"
    )
    assert _beginning({}).endswith("an unknown number of subjects")
    assert _one_person({"data": {"n_subjects": 1}})
    assert not _one_person({"data": {"n_subjects": 2}})


def test_a_result_has_its_protocol_metric_mean_spread_and_seeds() -> None:
    row = {"protocol": "light", "metric": "auroc", "mean": 0.71234, "std": 0.05678, "n_seeds": 3}
    parts = {"train": {"n_windows": 900, "n_subjects": 30}, "test": {"n_windows": 50, "n_subjects": 5}}
    task = {"target": "eyes", "classes": ["a", "b"], "parts": parts, "pretraining_saw": "nothing"}
    text = _results([{"task": task, "summary": [row]}])
    assert "eyes: a / b; test on 50 windows of 5 subjects; nothing." in text
    assert "| protocol | metric | mean | std | seeds |" in text
    assert "| light | auroc | 0.7123 | 0.0568 | 3 |" in text


def test_a_head_is_told_with_whom_it_learnt_from_and_what_it_reached_on_others() -> None:
    facts = {"n_subjects": 9, "test": {"balanced_accuracy": 0.6543, "auroc": 0.7}}
    text = _heads([("linear.safetensors", ["a", "b"], facts), ("x", ["c"], {})]).replace("\\", "")
    row = "| heads/linear.safetensors | a from b | 9 subjects | balanced accuracy 0.654, auroc 0.700 |"
    assert row in text
    assert "| heads/x | c | unknown | not judged |" in text


@pytest.mark.parametrize("by", ["subject", "recording"])
def test_a_split_says_what_was_divided(by: Any) -> None:
    text = _splits(SplitManifest(("a", "b", "c"), ("d",), ("e", "f"), 7, by))
    assert f"By {by}, seed 7: 3 train, 1 val, 2 test." in text
    assert ("No subject is in two parts" in text) == (by == "subject")
    assert ("one person may be on both sides" in text) == (by == "recording")


def test_its_size_is_that_of_its_weights() -> None:
    model = tiny_model()
    text = model_card(model, {})
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in text
    assert f"width {model.config.width}, 3 channels" in text


@pytest.mark.parametrize("sfreq_hz", [None, 250.0])
@pytest.mark.parametrize("prepared_hz", [None, 200.0])
def test_a_network_of_ones_own_has_the_rate_that_is_said_of_it(
    sfreq_hz: float | None, prepared_hz: float | None, tmp_path: Path
) -> None:
    """The one given, else that of the preprocessing, in both places."""
    model, preprocessing = tiny_model(), PreprocessingConfig(sfreq_hz=prepared_hz or 128.0, h_freq_hz=30.0)
    windows = WindowConfig(window_s=3.0, scaling="robust")
    save_pretrained(
        model, tmp_path, ch_names=("Fz", "Cz", "Pz"), sfreq_hz=sfreq_hz,
        preprocessing=preprocessing if prepared_hz else None, windows=windows,
    )  # fmt: skip
    header = from_pretrained(tmp_path).header
    expected = sfreq_hz or prepared_hz or 128.0
    assert (header["sfreq_hz"], header["preprocessing"]["sfreq_hz"]) == (expected, expected)
    assert header["preprocessing"]["h_freq_hz"] == (30.0 if prepared_hz else PreprocessingConfig().h_freq_hz)
    assert (header["windows"]["window_s"], header["windows"]["scaling"]) == (3.0, "robust")
    assert header["ch_names"] == ["Fz", "Cz", "Pz"]


PEOPLE = ("ann b", "carl d", "eva f", "gus h")


def test_nobodys_name_leaves_with_a_head(tmp_path: Path) -> None:
    """Neither of those learnt from nor of those who judged, wherever in the facts they are."""
    judged = {"seed": 3, "fitted_on": list(PEOPLE[:2]), "left_out": list(PEOPLE[2:]), "n_subjects": 2}
    for facts in ({"validation": judged}, {"people": {"train": list(PEOPLE[:3]), "test": [PEOPLE[3]]}}):
        layers = [(np.ones((2, 1)), np.zeros(2))]
        DenseHead(np.zeros(1), np.ones(1), layers, ("x", "y"), facts={**facts, "c": 2.0}).save(tmp_path / "h")
        classes, kept = copy_without_people(tmp_path / "h", tmp_path / "out")
        assert (classes, kept["c"]) == (("x", "y"), 2.0)
        assert DenseHead.load(tmp_path / "out").facts == kept
        raw = (tmp_path / "out").read_bytes()
        assert not any(name.encode() in raw for name in PEOPLE)
        assert "train" in facts.get("people", {}) or kept["validation"] == {"seed": 3, "n_subjects": 2}
    assert kept["n_subjects"] == 3


def test_a_card_names_those_who_were_left_out_as_such() -> None:
    data = [{"name": "A", "people": ["x", "y"], "hours": 3.0, "licence": "CC0"}]
    about = {"licence": "MIT", "data": data, "left_out": ["p", "q", "r"], "results": ["one", "two"]}
    said = _about({"about": about}).replace("\\", "")
    assert "3 people were left out, and are none of those it saw: p, q, r." in said
    assert "\n- one\n" in said
    assert "\n- two\n" in said
    assert "Licence: MIT." in said
    assert "It has seen no data" not in said
    assert "It has seen no data: its weights are random." in _about({"about": {"licence": "MIT"}})


@pytest.mark.parametrize("which", ["best", "last"])
@pytest.mark.parametrize("shared_too", [False, True])
def test_the_weights_of_a_run_that_are_shared_are_those_asked_for(
    which: Any, shared_too: bool, tmp_path: Path
) -> None:
    """A folder that is a run is taken for one, whatever else lies in it."""
    for value, name in enumerate(("best", "last")):
        model = tiny_model()
        with torch.no_grad():
            next(model.parameters()).fill_(value)
        path = tmp_path / "run" / "checkpoints" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, model, {"epoch": value})
    if shared_too:
        save_checkpoint(tmp_path / "run" / "model.safetensors", tiny_model(), {"epoch": 9})
    share_run(tmp_path / "run", tmp_path / "out", which)
    shared = from_pretrained(tmp_path / "out")
    expected = ("best", "last").index(which)
    assert (next(shared.parameters()) == expected).all()
    assert shared.header["epoch"] == expected
    assert find_weights(tmp_path / "run", which).name == f"{which}.safetensors"


def test_trained_models_come_before_controls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name within each; the first is the one of examples."""
    names = ("untrained-a", "zebra", "apple", "untrained-b")
    for name in names:
        save_checkpoint(tmp_path / name / "model.safetensors", tiny_model(), {})
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
    assert list(shipped.shipped_models()) == ["apple", "zebra", "untrained-a", "untrained-b"]
    assert shipped.default_model() == "apple"


def test_what_ships_is_told_in_its_units(tmp_path: Path) -> None:
    about = {
        "parameters": 12345, "data": [{"name": "A", "people": ["x"], "hours": 2.5, "licence": "CC0"}],
        "results": ["r1", "r2"], "features": "state", "centre": "recording", "c": 0.1, "command": "make it",
    }  # fmt: skip
    model = tiny_model()
    save_checkpoint(
        tmp_path / "model.safetensors", model, {"about": about, "ch_names": ["Fz"], "sfreq_hz": 100.0}
    )
    found = facts_of("m", tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert found["size"] == f"{size / 1e6:.2f} MB, 12,345 parameters"
    assert (found["rate"], found["electrodes"], found["results"]) == ("100 Hz", "Fz", "r1; r2")
    assert found["trained on"] == "A (1 people, 2.5 h; CC0)"
    assert [found[name] for name in ("features", "centre", "c", "command")] == [
        "state",
        "recording",
        0.1,
        "make it",
    ]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/home/ann/eeg/store", "store"), ("~/eeg/store/", "store"), ("C:\\Users\\ann\\store", "store"),
        ("D:/ann/store", "store"), ("\\\\server\\ann\\store", "store"), ("eyes", "eyes"),
        ("ann/model", "ann/model"), (3, 3), (None, None), (["/a/b", {"c": "/d/e"}], ["b", {"c": "e"}]),
    ],
)  # fmt: skip
def test_no_folder_of_a_machine_leaves_with_a_model(value: Any, kept: Any) -> None:
    assert without_paths({"x": {"y": value}, "z": [value]}) == {"x": {"y": kept}, "z": [kept]}


@pytest.mark.parametrize("preset", ["eegm2", "light", "unet", "covariance"])
def test_limits_are_of_the_network_that_has_them(preset: str) -> None:
    """That a skip can solve the task is said of those that reconstruct; electrodes as they are taken."""
    model: Any = SimpleNamespace(config=EEGM2Config.preset(preset, n_chans=4, width=4))
    said = _limits(model)
    assert ("full-resolution skip" in said) == (preset in ("eegm2", "unet"))
    assert ("Any 4 to 256 electrodes" in said) == (preset == "covariance")
    assert ("Another montage needs another input embedding" in said) == (preset != "covariance")
    assert "Not a medical device" in said
    assert "identity included" in said


@pytest.mark.parametrize(
    ("model", "any_of"),
    [
        ({"embedding": "covariance", "n_virtual": 16}, True),
        ({"embedding": "covariance", "n_virtual": 0}, False),
        ({"embedding": "branches", "n_virtual": 16}, False), ({}, False),
    ],
)  # fmt: skip
def test_only_networks_with_virtual_channels_take_any_electrodes(
    model: dict[str, Any], any_of: bool, tmp_path: Path
) -> None:
    header = {"model": model, "ch_names": ["Fz", "Cz"]}
    text = json.dumps({"__metadata__": {"eegm2": json.dumps(header)}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    found = facts_of("m", tmp_path)
    assert found["electrodes"] == ("any four or more with known positions" if any_of else "Fz Cz")
    assert found["trained on"] == "nothing: random weights"


def test_a_shipped_model_is_called_by_its_own_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies on the disk under the name comes before it."""
    monkeypatch.chdir(tmp_path)
    name = shipped.default_model()
    place = shipped.SHIPPED / name
    assert (find_weights(name), model_folder(name)) == (place / "model.safetensors", place)
    for wrong in (name.upper(), name + " ", name[:-1]):
        with pytest.raises(CheckpointError, match=f"no such folder, file or model; .*{name}"):
            find_weights(wrong)
        assert model_folder(wrong) is None
    save_checkpoint(tmp_path / name / "model.safetensors", tiny_model(), {})
    assert find_weights(name).resolve() == tmp_path / name / "model.safetensors"
    assert model_folder(name) == Path(name)
