"""Models that ship: made from a declaration, the same file again, listed, loaded offline by name."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from eegm2 import EEGM2
from eegm2.cli.main import app
from eegm2.zoo import shipped
from eegm2.zoo.facts import shipped_facts
from tests.evaluation.helpers import labelled_store

ROOT = Path(__file__).parents[2]
DECLARED = """
description = "A stand-in."
licence = "MIT"
features = "statistics"
results = ["eyes, 2 people never seen: AUROC 0.5"]

[pretrain]
preset = "eegm2"
objective = "reconstruction"
width = 4
window_s = 2.0
epochs = 1
batch_size = 8
val = 0.2
test = 0.0
seed = 3

[[data]]
name = "eyes"
licence = "CC0"
attribution = "nobody"
url = "https://example.org"
leave_out = ["sub4"]
leave_out_files = ["people.txt"]
"""


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_shipped", ROOT / "tools" / "make_shipped.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_a_declaration_gives_the_same_model_again(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = labelled_store(tmp_path / "store")
    (tmp_path / "stand-in.toml").write_text(DECLARED)
    (tmp_path / "people.txt").write_text("sub5\n")
    files = []
    for number in range(2):
        arguments = [str(tmp_path / "stand-in.toml"), "--store", f"eyes={store.url}"]
        arguments += ["--work", str(tmp_path / f"work{number}"), "--out", str(tmp_path / "weights")]
        monkeypatch.setattr(sys, "argv", ["make_shipped.py", *arguments])
        tool.main()
        files.append((tmp_path / "weights" / "stand-in" / "model.safetensors").read_bytes())
    assert files[0] == files[1]
    assert str(tmp_path).encode() not in files[0]
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "weights")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = EEGM2.from_pretrained("stand-in")
    about = model.header["about"]
    assert about["data"][0]["people"] == ["sub0", "sub1", "sub2", "sub3"]
    assert about["left_out"] == ["sub4", "sub5"]
    (facts,) = json.loads(CliRunner().invoke(app, ["models", "--json"], catch_exceptions=False).output)
    assert facts["name"] == "stand-in"
    assert facts["trained on"].startswith("eyes (4 people, 0.0 h; CC0)")
    card = CliRunner().invoke(app, ["models", "stand-in"], catch_exceptions=False).output
    assert "2 people were left out, and are none of those it saw: sub4, sub5" in card
    assert "AUROC 0.5" in card
    listed = CliRunner().invoke(app, ["models"], catch_exceptions=False).output
    assert "results     eyes, 2 people never seen: AUROC 0.5" in listed


def test_what_ships_is_small_and_says_what_it_saw() -> None:
    facts = shipped_facts()
    assert facts
    bundled = {path.name[:7] for path in (ROOT / "src/eegm2/data/bundled").glob("*.edf")}
    for entry in facts:
        folder = shipped.shipped_models()[entry["name"]]
        assert (folder / "model.safetensors").stat().st_size <= 4e6
        assert (folder / "README.md").is_file()
        assert entry["licence"]
        assert not bundled & set(entry["seen"].get("eyes", ())), "it saw people of the demo"
        assert EEGM2.from_pretrained(entry["name"]).config.n_chans > 0


def test_the_untrained_control_can_be_made_again(tool: ModuleType, tmp_path: Path, monkeypatch) -> None:
    declaration = ROOT / "tools" / "shipped" / "untrained-covariance.toml"
    monkeypatch.setattr(sys, "argv", ["make_shipped.py", str(declaration), "--out", str(tmp_path)])
    tool.main()
    again = EEGM2.from_pretrained(tmp_path / "untrained-covariance").state_dict()
    ours = EEGM2.from_pretrained("untrained-covariance").state_dict()
    assert all((again[name] - tensor).abs().max() < 1e-6 for name, tensor in ours.items())
