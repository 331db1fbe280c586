"""One way to name a model: every name finds its file, a mistyped one is met with the nearest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from eegm2 import EEGM2, EEGM2Config, save_authors_checkpoint
from eegm2.data.channels import placeholders
from eegm2.deploy.trained_model import load_trained
from eegm2.errors import CheckpointError
from eegm2.hub import from_pretrained
from eegm2.training.checkpoint import load_checkpoint, read_header, save_checkpoint
from eegm2.zoo import find, find_weights, shipped


@pytest.fixture
def model() -> EEGM2:
    torch.manual_seed(1)
    return EEGM2(EEGM2Config.preset("eegm2", n_chans=3, width=16)).eval()


@pytest.fixture
def places(model: EEGM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """One model under every kind of name; the hub must not be asked."""

    def ask(name: str, *_: object, **__: object) -> Path:
        raise AssertionError(f"the hub was asked for {name}")

    monkeypatch.setattr(find, "download", ask)
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    about = {"ch_names": ["Fz", "Cz", "Pz"], "sfreq_hz": 128.0}
    model.save_pretrained(tmp_path / "weights" / "small-one", **about)
    model.save_pretrained(tmp_path / "runs" / "shared", **about)
    run = tmp_path / "runs" / "first" / "checkpoints" / "best.safetensors"
    save_checkpoint(run, model, {**about, "preprocessing": {}})
    save_authors_checkpoint(model, tmp_path / "best_model.pth")
    return {
        "run": "runs/first",
        "folder": "runs/shared",
        "file": "runs/shared/model.safetensors",
        "shipped": "small-one",
        "authors": "best_model.pth",
    }


@pytest.mark.parametrize("kind", ["run", "folder", "file", "shipped", "authors"])
def test_every_name_gives_the_same_network_everywhere(
    kind: str, places: dict[str, str], model: EEGM2
) -> None:
    x = torch.randn(1, 3, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for load in (load_checkpoint, load_trained, lambda name: load_checkpoint(Path(name))):
            assert torch.equal(load(places[kind]).model(x), model(x))
        assert torch.equal(from_pretrained(places[kind])(x), model(x))
    names = placeholders(3) if kind == "authors" else ["Fz", "Cz", "Pz"]
    assert list(load_trained(places[kind]).ch_names) == names
    assert read_header(places[kind])["ch_names"] == names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs/frist", "runs/frist: no such folder, file or model; did you mean runs/first?"),
        ("rums/first", "rums/first: no such folder, file or model; did you mean runs/first?"),
        ("runs/elsewhere", "runs/elsewhere: no such folder, file or model; models that ship"),
        ("smal-one", "did you mean 'small-one'? (models that ship with eegm2: small-one)"),
        ("nothing", "models that ship with eegm2: small-one; the hub's are named owner/name"),
        ("runs/shared/mdel.safetensors", "did you mean runs/shared/model.safetensors?"),
        ("./absent", "./absent: no such folder"),
    ],
)
def test_a_wrong_name_is_met_with_the_nearest(name: str, message: str, places: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_checkpoint(name)


def test_the_hub_is_asked_for_what_cannot_be_a_path(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = {}

    def download(name: str, file: str, **options: object) -> Path:
        asked.update(name=name, file=file, **options)
        return tmp_path / "runs" / "shared" / "model.safetensors"

    monkeypatch.setattr(find, "download", download)
    assert find_weights("someone/model", revision="v1").is_file()
    assert asked == {"name": "someone/model", "file": "model.safetensors", "revision": "v1"}


def test_a_network_of_ones_own_loop_is_told_its_input(model: EEGM2, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path, ch_names=["a", "b", "c"], sfreq_hz=200.0)
    trained = load_trained(folder)
    assert (trained.ch_names, trained.sfreq_hz) == (("a", "b", "c"), 200.0)
    assert trained.preprocessing.sfreq_hz == 200.0
    with pytest.raises(CheckpointError, match="ch_names: got 2 different names, the network has 3 channels"):
        model.save_pretrained(tmp_path, ch_names=["a", "b", "b"])
    with pytest.raises(CheckpointError, match=r"sfreq_hz: got -1\.0, expected a rate"):
        model.save_pretrained(tmp_path, sfreq_hz=-1.0)
