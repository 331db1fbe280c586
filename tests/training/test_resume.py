"""A run that was interrupted, however, ends bit for bit as one that was not."""

from __future__ import annotations

import csv
import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.training.config import PretrainConfig
from eegm2.training.objectives.reconstruction import Losses
from eegm2.training.pretrain import pretrain
from eegm2.training.recorder import Recorder
from eegm2.training.state import Interrupted
from tests.training.kill_harness import check
from tests.training.pretrain_kills import differences, oscillatory_kills, pretrain_kills
from tests.training.stores import tiny_store

TINY = PretrainConfig(
    preset="s5",
    width=4,
    window_s=1.0,
    epochs=2,
    batch_size=4,
    accumulate=2,
    seed=3,
    objective="masked",
    mask_channels=0.3,
    ema_decay=0.5,
    gradient_ema=0.9,
    checkpoint_blocks=True,
    checkpoint_windows=3,
    patience=5,
    checkpoint_every_steps=2,
    log_every_steps=1,
    accelerator="cpu",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return tiny_store(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def whole(store: RecordingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    pretrain(store, run, TINY)
    return run


def test_a_clock_that_jumps_changes_nothing(
    store: RecordingStore, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = time.time, 0

    def jumping() -> float:
        nonlocal calls
        calls += 1
        return real() + (-86_400.0, 86_400.0)[calls % 2]

    monkeypatch.setattr(time, "time", jumping)
    pretrain(store, tmp_path / "run", TINY)
    assert calls
    assert differences(whole, tmp_path / "run") == []
    with (tmp_path / "run" / "logs" / "performance.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == TINY.epochs
    assert all(float(value) > 0 for row in rows for name, value in row.items() if "_s" in name), rows


def signal_after(monkeypatch: pytest.MonkeyPatch, reads: int, number: int) -> None:
    """Send this process a signal while the given window is read."""
    read, count = WindowDataset.read, 0

    def reading(self: WindowDataset, *place: Any) -> None:
        nonlocal count
        count += 1
        if count == reads:
            os.kill(os.getpid(), number)
        read(self, *place)

    monkeypatch.setattr(WindowDataset, "read", reading)


@pytest.mark.parametrize(
    ("reads", "number"),
    [(2, signal.SIGINT), (14, signal.SIGTERM), (30, signal.SIGINT), (45, signal.SIGUSR1)],
    ids=["first batch", "mid-epoch", "validation", "second epoch"],
)
def test_signalled_and_resumed_is_uninterrupted(
    reads: int,
    number: int,
    store: RecordingStore,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_after(patch, reads, number)
        with pytest.raises(Interrupted, match=signal.Signals(number).name):
            pretrain(store, tmp_path / "run", TINY)
    assert signal.getsignal(number) == before
    assert not (tmp_path / "run" / ".lock").exists()
    torch.manual_seed(99)
    pretrain(store, tmp_path / "run", TINY)
    assert differences(whole, tmp_path / "run") == []


def test_a_difference_is_seen(
    store: RecordingStore, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the random states dropout goes another way, and the comparison says so."""
    monkeypatch.setattr("eegm2.training.recorder.set_random_state", lambda state: None)
    with monkeypatch.context() as patch:
        signal_after(patch, 14, signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            pretrain(store, tmp_path / "run", TINY)
    torch.manual_seed(99)
    pretrain(store, tmp_path / "run", TINY)
    assert any("safetensors" in what for what in differences(whole, tmp_path / "run"))


def test_a_finished_run_stays_as_it_is(store: RecordingStore, whole: Path) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    result = pretrain(store, whole, TINY)
    assert result.already_finished
    assert result.epoch == TINY.epochs
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_lr": 1e-3}, r"max_lr is 0\.0005 there, got 0\.001; give the same options"),
        ({"epochs": 3}, r"epochs is 2 there, got 3; the learning-rate cycle is laid out over all epochs"),
        ({"seed": 4, "loss": "l1"}, r"seed is 3 there, got 4.*|loss is 'l1\+spectral' there"),
    ],
)
def test_other_options_are_refused(
    change: dict[str, Any], message: str, store: RecordingStore, whole: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        pretrain(store, whole, dataclasses.replace(TINY, **change))


def test_another_store_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the store is not the one the run in .* began with"):
        pretrain(tiny_store(tmp_path / "store", seed=1), whole, TINY)


def test_a_full_disk_leaves_the_last_state_whole(
    store: RecordingStore, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write of the third state fails half-way; the second is there, and the run goes on from it."""
    import errno

    import eegm2.training.state as recorder

    write, states = recorder.write_atomic, 0

    def full(path: Path, chunks: Any) -> None:
        nonlocal states
        states += 1
        if states == 3:

            def half() -> Any:
                yield b"half of it"
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

            chunks = half()
        write(path, chunks)

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "write_atomic", full)
        with pytest.raises(
            Exception, match=r"last\.ckpt: cannot write \(No space left on device\); the previous state"
        ):
            pretrain(store, tmp_path / "run", TINY)
    state = recorder.read_state(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert state["eegm2"]["step"] > 0
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir() if "tmp" in p.name) == []
    pretrain(store, tmp_path / "run", TINY)
    assert differences(whole, tmp_path / "run") == []


@pytest.mark.forks
def test_killed_at_random_moments(tmp_path: Path) -> None:
    check(pretrain_kills(tmp_path, kills=2, seed=1), 2)


@pytest.mark.forks
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_fifty_random_moments(tmp_path: Path) -> None:
    check(pretrain_kills(tmp_path, kills=50, seed=2), 50, places=True)


@pytest.mark.forks
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_with_a_teacher_and_two_stores(tmp_path: Path) -> None:
    check(oscillatory_kills(tmp_path, kills=20, seed=3), 20)


def test_the_recorder_names_every_column() -> None:
    assert Recorder(Path("run"), {}, Losses._fields).metrics.columns[:9] == (
        *("epoch", "step", "train_loss", "train_l1", "train_spectral"),
        *("val_loss", "val_l1", "val_spectral", "lr"),
    )
