"""Models kept in folders and shared on the hub, without a network."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from eegm2 import EEGM2, EEGM2Config
from eegm2.cli.main import app
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import CheckpointError
from eegm2.hub import from_pretrained, model_card, save_pretrained, share_run
from eegm2.model.network import build_model
from eegm2.training.checkpoint import save_checkpoint

HOSTILE = '<script>alert("x")</script> | [a](javascript:x) `b`\n# c'
HEADER: dict[str, Any] = {
    "ch_names": ["AF3", "F7", HOSTILE],
    "sfreq_hz": 128.0,
    "preprocessing": {"l_freq_hz": 0.5, "h_freq_hz": 40.0, "reference": "keep"},
    "windows": {"window_s": 4.0, "scaling": "quantile95"},
    "data": {"store": HOSTILE, "manifest_sha256": "ab" * 32, "n_recordings": 7, "n_subjects": 5},
    "pretrain": {"preset": "eegm2", "epochs": 3, "splits": "/home/someone/secret/splits.json"},
    "epoch": 2,
    "step": 30,
    "val_loss": 0.25,
    "versions": {"eegm2": "0.1"},
    "commit": "c0ffee",
}


@pytest.fixture
def model() -> EEGM2:
    torch.manual_seed(1)
    made = EEGM2(EEGM2Config.preset("eegm2", n_chans=3, width=4)).eval()
    made.header = HEADER
    return made


def run_folder(folder: Path, model: EEGM2) -> Path:
    """Write what the commands pretrain and probe leave, as far as sharing reads it."""
    for which in ("best", "last"):
        save_checkpoint(folder / "checkpoints" / f"{which}.safetensors", model, HEADER)
    SplitManifest(("someone",), ("other",), ("third", HOSTILE), seed=4).to_json(folder / "splits.json")
    results = {
        "format": 1,
        "task": {
            "classes": ["open", HOSTILE],
            "target": "eyes",
            "parts": {"test": {"n_windows": 40, "n_subjects": 2}},
            "pretraining_saw": "none of the test subjects",
        },
        "summary": [{"protocol": "linear", "metric": "auroc", "mean": 0.5, "std": 0.0, "n_seeds": 1}],
    }
    (folder / "probe").mkdir()
    (folder / "probe" / "results.json").write_text(json.dumps(results))
    (folder / "probes.json").write_text(json.dumps(["probe", "gone"]))
    return folder


def test_a_folder_gives_the_model_back(model: EEGM2, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path / "ein Modell µ")
    again = EEGM2.from_pretrained(folder)
    x = torch.randn(2, 3, 64)
    with torch.inference_mode():
        assert torch.equal(again(x), model(x))
    assert not again.training
    assert again.header["ch_names"] == HEADER["ch_names"]
    assert again.config == model.config
    assert json.loads((folder / "config.json").read_text())["n_chans"] == 3


@pytest.mark.parametrize("preset", ["light", "s4", "unet"])
def test_every_kind_of_network_is_kept(preset: str, tmp_path: Path) -> None:
    made = build_model(EEGM2Config.preset(preset, n_chans=2, width=4))
    again = from_pretrained(save_pretrained(made, tmp_path))
    assert type(again) is type(made)
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), again.state_dict().values()))


def test_runs_and_files_are_read_too(model: EEGM2, tmp_path: Path) -> None:
    run = run_folder(tmp_path, model)
    for place in (run, run / "checkpoints" / "last.safetensors"):
        assert from_pretrained(place).header["step"] == 30


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "a/b/c", "a/../b", "~/model"])
def test_what_is_neither_folder_nor_name_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(f"{name}: no such folder")):
        from_pretrained(name)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such checkpoint; nor model\.safetensors"):
        from_pretrained(tmp_path)


def test_the_card_says_what_is_known_and_escapes_every_name(model: EEGM2, tmp_path: Path) -> None:
    folder = share_run(run_folder(tmp_path / "run", model), tmp_path / "shared")
    card = (folder / "README.md").read_text()
    for fact in (
        "AF3 F7",
        "128.0 Hz",
        "0.5",
        "quantile95",
        "ab" * 32,
        "1 train, 1 val, 2 test",
        "auroc",
        "c0ffee",
    ):
        assert fact in card, fact
    assert "<script" not in card
    assert "&lt;script&gt;" in card
    assert "](javascript" not in card
    assert "\n# c" not in card
    assert all(line.count("|") - line.count("\\|") in (0, 3, 6) for line in card.splitlines()), (
        "a table is broken"
    )
    assert "someone" not in card, "names of subjects stay out of the card"


def test_paths_of_this_machine_stay_out_of_a_shared_model(model: EEGM2, tmp_path: Path) -> None:
    folder = share_run(run_folder(tmp_path / "run", model), tmp_path / "shared")
    assert from_pretrained(folder).header["pretrain"]["splits"] == "splits.json"
    for path in folder.iterdir():
        assert b"/home/someone" not in path.read_bytes(), path.name
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_a_card_of_an_unknown_model_says_so() -> None:
    card = model_card(EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=4)), {})
    assert "names unknown" in card
    assert "No probe of this model was recorded" in card
    assert "trained on one person" not in card.lower()


def test_one_persons_model_is_called_one() -> None:
    made = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=4))
    assert "Trained on one person" in model_card(made, {"data": {"n_subjects": 1}})


def test_the_card_says_when_subjects_were_divided() -> None:
    made = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=4))
    by_subject = model_card(made, {}, splits=SplitManifest(("a",), ("b",), ("c",)))
    assert "No subject is in two parts" in by_subject
    by_recording = model_card(made, {}, splits=SplitManifest(("a",), ("b",), ("c",), by="recording"))
    assert "one person may be on both sides" in by_recording
    assert "No subject is in two parts" not in by_recording


def test_the_command_shares_a_run(model: EEGM2, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", model)
    result = CliRunner().invoke(
        app, ["share", str(run), "--out", str(tmp_path / "out")], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert from_pretrained(tmp_path / "out").header["step"] == 30


def test_a_full_disk_leaves_one_line(model: EEGM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot write the model \(No space left on device\)"):
        model.save_pretrained(tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


def test_without_huggingface_hub_folders_work_and_names_give_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=4))
    EEGM2.from_pretrained(model.save_pretrained(tmp_path / "model"))
    expected = "owner/name: the hub needs huggingface_hub, which is not installed; pip install 'eegm2[hub]'"
    for call in (lambda: EEGM2.from_pretrained("owner/name"), lambda: model.push_to_hub("owner/name")):
        with pytest.raises(CheckpointError, match=re.escape(expected)):
            call()


class TestHub:
    """With huggingface_hub, offline."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        hub = pytest.importorskip("huggingface_hub")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        return hub

    def test_upload_sends_weights_and_card(
        self, model: EEGM2, monkeypatch: pytest.MonkeyPatch, offline: Any
    ) -> None:
        sent: dict[str, Any] = {}

        def create_repo(self: Any, repo_id: str, **options: Any) -> Any:
            sent["private"] = options.get("private")
            return type("Repo", (), {"repo_id": repo_id})()

        def upload_folder(self: Any, *, repo_id: str, folder_path: Any, **options: Any) -> str:
            sent["name"] = repo_id
            sent["files"] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            return f"https://huggingface.co/{repo_id}/commit/1"

        monkeypatch.setattr(offline.HfApi, "create_repo", create_repo)
        monkeypatch.setattr(offline.HfApi, "upload_folder", upload_folder)
        address = model.push_to_hub("owner/name", private=True)
        assert address == "https://huggingface.co/owner/name/commit/1"
        assert sent["name"] == "owner/name"
        assert sent["private"] is True
        assert {"model.safetensors", "config.json", "README.md"} <= sent["files"].keys()
        assert b"library_name: eegm2" in sent["files"]["README.md"]

    def test_a_model_in_the_cache_is_read_without_a_network(self, model: EEGM2, tmp_path: Path) -> None:
        commit = "0123456789" * 4
        place = tmp_path / "models--owner--name"
        model.save_pretrained(place / "snapshots" / commit)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(commit)
        again = EEGM2.from_pretrained("owner/name", cache_dir=tmp_path)
        assert again.header["step"] == 30

    def test_offline_is_one_line(self, model: EEGM2, tmp_path: Path) -> None:
        with pytest.raises(
            CheckpointError,
            match=r"owner/name: no such folder here, nor to be had from the hub .*; go online",
        ) as error:
            EEGM2.from_pretrained("owner/name", cache_dir=tmp_path)
        assert "\n" not in str(error.value)
        with pytest.raises(CheckpointError, match="owner/name: the hub did not take the model") as error:
            model.push_to_hub("owner/name")
        assert "\n" not in str(error.value)
