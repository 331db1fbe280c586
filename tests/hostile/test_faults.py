"""Full disks, unwritable folders, names of any script: the old stays whole, the error is one line."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from eegm2 import EEGM2, EEGM2Config
from eegm2.cli.main import app, main
from eegm2.config import to_dict
from eegm2.data.labels import LabelSpan
from eegm2.data.store.facts import RecordingInfo
from eegm2.data.store.recording_store import RecordingStore, StoreWriter
from eegm2.errors import EEGM2Error
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint
from tests.data.samples import EPOC, eeg, write_edf, write_store


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Make the system refuse to let any file of this process grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_store_keeps_the_old_recording_when_the_new_one_does_not_fit(tmp_path: Path) -> None:
    store = write_store(tmp_path, 2, 256)
    before = files(tmp_path)
    writer = StoreWriter(tmp_path, store.preprocessing, store.ch_names, dtype="float32")
    array = np.ones((len(store.ch_names), 50_000), np.float32)
    with largest_file(20_000), pytest.raises(OSError, match="File too large"):
        writer.write(RecordingInfo("r0", "s0", "", 0, 128.0, store.ch_names), array)
    assert files(tmp_path) == before
    assert RecordingStore(tmp_path).verify() == {}


def test_prepare_says_which_recording_did_not_fit_and_goes_on(tmp_path: Path) -> None:
    source, store = tmp_path / "in", tmp_path / "store"
    write_edf(source / "short.edf", eeg(14, 128 * 4), EPOC)
    write_edf(source / "tall.edf", eeg(14, 128 * 60), EPOC)
    arguments = ["prepare", str(source), "--out", str(store), "--no-isolate"]
    with largest_file(60_000):
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "skipped     tall: tall.edf: File too large; check the disk and" in result.output
    assert [info.id for info in RecordingStore(store).recordings] == ["short"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "1 prepared, 1 unchanged" in result.output, (
        "with space again, the same command completes the store"
    )


def test_a_checkpoint_stays_whole_when_its_successor_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.safetensors"
    old = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=4))
    save_checkpoint(path, old, {"step": 1})
    before = files(tmp_path)
    new = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=16))
    with largest_file(20_000), pytest.raises((OSError, EEGM2Error), match="File too large"):
        save_checkpoint(path, new, {"step": 2})
    assert files(tmp_path) == before
    loaded = load_checkpoint(path)
    assert loaded.header["step"] == 1
    assert all(torch.equal(a, b) for a, b in zip(loaded.model.parameters(), old.parameters()))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, where the system lets us mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip("the system lets nobody mount a file system here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_really_full_disk(small_disk: Path, tmp_path: Path) -> None:
    store, run = small_disk / "store", small_disk / "run"
    write_edf(tmp_path / "one.edf", eeg(14, 128 * 8), EPOC)
    prepare = ["prepare", str(tmp_path / "one.edf"), "--out", str(store)]
    assert CliRunner().invoke(app, prepare, catch_exceptions=False).exit_code == 0
    filler = os.open(small_disk / "filler", os.O_CREAT | os.O_WRONLY)
    with suppress(OSError):
        while True:
            os.write(filler, bytes(4096))
    os.close(filler)
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=4))
    with pytest.raises((OSError, EEGM2Error), match="No space left on device"):
        save_checkpoint(run / "last.safetensors", model, {})
    assert not (run / "last.safetensors").exists()
    write_edf(tmp_path / "two.edf", eeg(14, 128 * 8, seed=1), EPOC)
    prepare[1] = str(tmp_path / "two.edf")
    result = CliRunner().invoke(app, prepare)
    assert isinstance(result.exception, EEGM2Error | OSError), result.output
    assert f"No space left on device for {store}" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert RecordingStore(store).verify() == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "{edf}", "--out", "{blocked}/store"],
        ["pretrain", "{store}", "--out", "{blocked}/run", "--width", "2", "--epochs", "1"],
        ["embed", "{run}", "{edf}", "--out", "{blocked}/one.npz"],
        ["reconstruct", "{run}", "{edf}", "--out", "{blocked}/one.fif"],
        ["share", "{run}", "--out", "{blocked}/model"],
        ["report", "{run}", "--out", "{blocked}/report.html"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_folder_that_cannot_be_written(
    arguments: list[str],
    places: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file where a folder should be refuses everybody, root too."""
    monkeypatch.setattr(sys, "argv", ["eegm2", *(argument.format(**places) for argument in arguments)])
    with pytest.raises(SystemExit, match="2"):
        main()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "blocked" in lines[0]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("places")
    edf = write_edf(folder / "one.edf", eeg(2, 128 * 20), ["Fz", "Cz"])
    store = write_store(folder / "store", 4, 128 * 20)
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=2))
    header = {
        "ch_names": list(store.ch_names),
        "sfreq_hz": 128.0,
        "preprocessing": to_dict(store.preprocessing),
        "windows": {"window_s": 4.0},
        "data": {
            "store": "store",
            "manifest_sha256": store.manifest_sha256,
            "n_recordings": 4,
            "n_subjects": 4,
        },
    }
    for which in ("best", "last"):
        save_checkpoint(folder / "run" / "checkpoints" / f"{which}.safetensors", model, header)
    (folder / "blocked").write_text("a file")
    names = {"edf": edf, "store": store.url, "run": folder / "run", "blocked": folder / "blocked"}
    return {name: str(path) for name, path in names.items()}


def test_paths_of_any_script(tmp_path: Path) -> None:
    folder = tmp_path / "Aufnahmen µ 漢字 🙂 it's"
    write_edf(folder / "Größe 1.edf", eeg(14, 128 * 8), EPOC, annotations=[(1.0, 2.0, "Augen geöffnet")])
    arguments = ["prepare", str(folder), "--out", str(folder / "Ablage")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    store = RecordingStore(folder / "Ablage")
    assert [info.id for info in store.recordings] == ["Größe 1"]
    assert store.recordings[0].labels == (LabelSpan(1.0, 2.0, "Augen geöffnet"),)
    assert store.read("Größe 1").shape[0] == 14


def test_a_damaged_recording_is_named_and_the_rest_is_usable(tmp_path: Path) -> None:
    store = write_store(tmp_path, 3, 256)
    path = next((tmp_path / "recordings").glob("r1-*.raw"))
    data = bytearray(path.read_bytes())
    data[777] ^= 1
    path.write_bytes(data)
    result = CliRunner().invoke(app, ["verify", str(tmp_path)], catch_exceptions=True)
    assert result.exit_code != 0
    assert "r1" in result.output + str(result.exception)
    problems = store.verify()
    assert list(problems) == ["r1"]
    assert "checksum" in problems["r1"]
    assert [info.id for info in store.recordings] == ["r0", "r2"]
    assert store.read("r2").shape == (2, 256)
