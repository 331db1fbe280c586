"""Checkpoints come back as they were written, or say what is wrong with them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from eegm2.data.channels import unnamed
from eegm2.data.config import WindowConfig
from eegm2.errors import CheckpointError
from eegm2.model.config import EEGM2Config
from eegm2.model.network import build_model
from eegm2.training.checkpoint import (
    FORMAT,
    Checkpoint,
    load_checkpoint,
    provenance,
    read_header,
    save_checkpoint,
    weights_sha256,
)
from eegm2.training.commit import source_commit

SMALL = EEGM2Config.preset("eegm2", n_chans=3, width=4)
HEADER: dict[str, Any] = {"windows": {"window_s": 2.0, "scaling": "zscore"}, "epoch": 3, "note": "µV"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "run é" / "checkpoints" / "best.safetensors"
    save_checkpoint(path, build_model(SMALL), {**HEADER, **provenance()})
    return path


def rewritten(path: Path, **changes: Any) -> Path:
    """Write the file again with some of its header changed."""
    header = {**read_header(path), **changes}
    save_file(load_file(path), path, metadata={"eegm2": json.dumps(header)})
    return path


@pytest.mark.parametrize("preset", ["eegm2", "light", "s3", "s5", "unet"])
def test_what_is_saved_is_loaded(preset: str, tmp_path: Path) -> None:
    model = build_model(EEGM2Config.preset(preset, n_chans=3, width=4)).eval()
    save_checkpoint(tmp_path / "m.safetensors", model, HEADER)
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert loaded.config == model.config
    assert loaded.header["epoch"] == 3
    assert loaded.windows == WindowConfig(window_s=2.0, scaling="zscore")
    assert not loaded.model.training
    x = torch.randn(2, 3, 64)
    torch.testing.assert_close(loaded.model(x), model(x), rtol=0, atol=0)


def test_the_json_beside_it_is_the_header(saved: Path) -> None:
    assert json.loads(saved.with_suffix(".json").read_text()) == read_header(saved)
    assert read_header(saved)["format"] == FORMAT
    assert read_header(saved)["versions"]["torch"] == torch.__version__


def test_a_run_folder_names_best_and_last(saved: Path) -> None:
    run = saved.parents[1]
    assert load_checkpoint(run).path == saved
    with pytest.raises(
        CheckpointError, match=r"last\.safetensors: no such checkpoint; there is best\.safetensors"
    ):
        load_checkpoint(run, "last")
    with pytest.raises(CheckpointError, match="which: got 'first', expected 'best' or 'last'"):
        load_checkpoint(run, "first")  # type: ignore[arg-type]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"nothing\.safetensors: no such checkpoint; eegm2 pretrain writes one"
    ):
        load_checkpoint(tmp_path / "nothing.safetensors")


def test_differing_fields_are_named_with_both_values(saved: Path) -> None:
    load_checkpoint(saved, config=SMALL)
    wanted = SMALL.replace(width=8, mixer="mamba1")
    with pytest.raises(
        CheckpointError, match=r"width is 4, expected 8; mixer is 'mamba2', expected 'mamba1'"
    ):
        load_checkpoint(saved, config=wanted)


@pytest.mark.parametrize("keep", [0, 4, 100, 20_000, -1])
def test_truncated(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(
        CheckpointError, match=r"best\.safetensors: damaged or truncated \(.*\); take another copy"
    ):
        load_checkpoint(saved)


def test_newer_format(saved: Path) -> None:
    with pytest.raises(
        CheckpointError, match=f"format {FORMAT + 1}, this eegm2 reads up to {FORMAT}; upgrade"
    ):
        load_checkpoint(rewritten(saved, format=FORMAT + 1))


def test_weights_of_another_shape(saved: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"do not fit the header: .* has shape \(4, 3, 1\), expected \(8, 3, 1\)"
    ):
        load_checkpoint(rewritten(saved, model=SMALL.replace(width=8).to_dict()))
    with pytest.raises(CheckpointError, match=r"do not fit the header: \d+ unknown, the first decoder"):
        load_checkpoint(rewritten(saved, model=SMALL.replace(decoder=False).to_dict()))
    light = rewritten(saved, model=SMALL.to_dict())
    tensors = {name: tensor for name, tensor in load_file(light).items() if not name.startswith("mediator")}
    save_file(tensors, light, metadata={"eegm2": json.dumps(read_header(light))})
    with pytest.raises(CheckpointError, match=r"do not fit the header: \d+ missing, the first mediator"):
        load_checkpoint(light)


def test_an_unknown_model_field(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model: unknown key 'wdith'.*newer eegm2"):
        load_checkpoint(rewritten(saved, model={**SMALL.to_dict(), "wdith": 4}))


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="has no eegm2 header"):
        load_checkpoint(tmp_path / "other.safetensors")
    torch.save({}, tmp_path / "best_model.pth")
    with pytest.raises(CheckpointError, match="not a state dict of tensors"):
        load_checkpoint(tmp_path / "best_model.pth")


def test_a_header_of_other_channels_or_without_an_input_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="ch_names has 2 names, the network 3 channels"):
        load_checkpoint(rewritten(saved, ch_names=["Fz", "Cz"]))
    assert load_checkpoint(rewritten(saved, ch_names=["Fz", "Cz", "Pz"])).header["ch_names"][2] == "Pz"
    for read in (load_checkpoint, read_header):
        with pytest.raises(CheckpointError, match="its header has no sfreq_hz, preprocessing, so the input"):
            read(saved, needs=("ch_names", "sfreq_hz", "preprocessing"))


@pytest.mark.parametrize("preset", ["eegm2", "covariance"])
@pytest.mark.parametrize(
    ("there", "as_trained"),
    [
        (("Fz", "Cz", "Pz", "Oz"), True),
        (("Fz", "Cz", "Pz"), True),
        (("EEG Fz-REF", "Cz", "P3", "Pz"), True),
        (("Fz", "Cz"), False),
        (("O1", "O2"), False),
        (("Fz", "Cz", "Pz-Cz"), True),
    ],
)
def test_what_lacks_an_electrode_is_prepared_as_it_is_where_any_will_do(
    preset: str, there: tuple[str, ...], as_trained: bool
) -> None:
    trained = ["Fz", "Cz", "Pz-Cz"]
    config = EEGM2Config.preset(preset, n_chans=4, width=4)
    header = {"ch_names": trained, "preprocessing": {"channels": trained, "l_freq_hz": 0.7}}
    found = Checkpoint(build_model(config), header, Path("m")).preprocessing_of(there)
    assert found.l_freq_hz == 0.7
    assert found.channels == (("Fz", "Cz", "Pz-Cz") if as_trained or preset == "eegm2" else ())


def test_the_hash_of_weights_is_of_names_kinds_shapes_and_values_in_order_of_names() -> None:
    model = torch.nn.ModuleDict({"b": torch.nn.Linear(2, 1), "a": torch.nn.Linear(1, 1, bias=False).half()})
    digest = hashlib.sha256()
    for name in ("a.weight", "b.bias", "b.weight"):
        tensor = model.state_dict()[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes())
    assert weights_sha256(model) == digest.hexdigest()


def test_the_authors_files_tell_what_their_paper_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eegm2.model.authors.load_authors_checkpoint", lambda path: build_model(SMALL))
    path = tmp_path / "theirs.pth"
    path.write_bytes(b"theirs")
    loaded = load_checkpoint(path, config=SMALL, needs=("ch_names", "sfreq_hz", "preprocessing", "windows"))
    assert (loaded.header["sfreq_hz"], loaded.windows, loaded.path) == (128.0, WindowConfig(), path)
    assert unnamed(loaded.header["ch_names"])
    assert len(loaded.header["ch_names"]) == 3
    assert read_header(path) == loaded.header
    with pytest.raises(CheckpointError, match="width is 4, expected 8"):
        load_checkpoint(path, config=SMALL.replace(width=8))


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(saved, build_model(SMALL), HEADER)
    assert saved.read_bytes() == before
    assert sorted(p.name for p in saved.parent.iterdir()) == ["best.json", "best.safetensors"]


def test_provenance_says_whether_the_checkout_is_that_of_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "src" / "eegm2" / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text("")

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@y", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr("eegm2.__file__", str(module))
    commit = source_commit.__wrapped__
    assert commit() is None
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "v1")
    assert commit() == git("rev-parse", "HEAD")
    assert commit(7) == commit()[:7]
    (tmp_path / "new").touch()
    assert commit() == git("rev-parse", "HEAD")
    module.write_text("changed")
    assert commit() == git("rev-parse", "HEAD") + "-dirty"
