"""Pretraining from a store to a run folder: what it leaves, how it learns, how it fails."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import ConfigError, DataError, EEGM2Error
from eegm2.model.config import EEGM2Config
from eegm2.model.network import build_model
from eegm2.training.checkpoint import load_checkpoint, read_header
from eegm2.training.config import PretrainConfig
from eegm2.training.learner import Learner
from eegm2.training.optimiser import adamw_and_cycle, decay_groups
from eegm2.training.pretrain import pretrain
from eegm2.training.pretrain_step import PretrainStep
from tests.training.stores import tiny_store

TINY = PretrainConfig(
    width=4, window_s=1.0, epochs=2, batch_size=6, seed=3, log_every_steps=1, accelerator="cpu"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return tiny_store(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def run(store: RecordingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "résumé"
    pretrain(store, folder, TINY)
    return folder


def rows(run: Path, name: str = "metrics") -> list[dict[str, float]]:
    with (run / "logs" / f"{name}.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def weights(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(run, which).model.state_dict()  # type: ignore[arg-type]


def spoil(monkeypatch: pytest.MonkeyPatch, recording: str, start_s: float) -> None:
    """Make one window of the store not finite."""
    read = WindowDataset.read

    def reading(self: WindowDataset, recording_row: int, start: int, out: Any) -> None:
        read(self, recording_row, start, out)
        if self.recordings[recording_row].id == recording and start == start_s * self.store.sfreq_hz:
            out[1, 5] = float("nan")

    monkeypatch.setattr(WindowDataset, "read", reading)


class TestWhatItLeaves:
    def test_files(self, run: Path) -> None:
        expected = {
            *("run.json", "splits.json", "checkpoints/last.ckpt"),
            *(f"checkpoints/{w}.{kind}" for w in ("best", "last") for kind in ("safetensors", "json")),
            *(f"logs/{name}.csv" for name in ("metrics", "steps", "performance")),
        }
        found = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
        assert expected <= found
        assert all(name.startswith("logs/tensorboard/") for name in found - expected)
        assert any("tfevents" in name for name in found)

    def test_one_row_per_epoch(self, run: Path) -> None:
        found = rows(run)
        assert [(row["epoch"], row["step"]) for row in found] == [(1, 4), (2, 8)]
        for row in found:
            assert row["train_loss"] == pytest.approx(row["train_l1"] + row["train_spectral"])
            assert row["val_loss"] == pytest.approx(row["val_l1"] + row["val_spectral"])
        assert found[1]["val_loss"] < found[0]["val_loss"]

    def test_header(self, run: Path, store: RecordingStore) -> None:
        header = read_header(run, "last")
        losses = [row["val_loss"] for row in rows(run)]
        assert header["val_loss"] == losses[-1]
        assert read_header(run, "best")["val_loss"] == min(losses)
        assert (header["epoch"], header["step"]) == (2, 8)
        assert header["pretrain"]["seed"] == 3
        assert header["ch_names"] == list(store.ch_names)
        assert header["sfreq_hz"] == store.sfreq_hz
        assert header["data"]["manifest_sha256"] == store.manifest_sha256
        assert header["data"]["n_train_windows"] == 24
        assert str(store.url) not in (run / "run.json").read_text()
        assert json.loads((run / "run.json").read_text())["finished"] is True

    def test_split_and_weights(self, run: Path, store: RecordingStore) -> None:
        split = SplitManifest.from_json(run / "splits.json", store)
        assert (len(split.train), len(split.val), len(split.test)) == (2, 1, 1)
        checkpoint = load_checkpoint(run)
        assert checkpoint.windows == TINY.window_config()
        assert checkpoint.preprocessing == store.preprocessing
        assert checkpoint.model(torch.zeros(1, 3, 32)).shape == (1, 3, 32)

    def test_one_cycle(self, run: Path) -> None:
        """The rate starts at max_lr / 2, the paper's 2.5e-4, peaks once, ends at a hundredth of the start."""
        config = dataclasses.replace(TINY, epochs=1)
        model = build_model(EEGM2Config.preset("eegm2", n_chans=3, width=4))
        optimizer, scheduler = adamw_and_cycle(model, config, steps_per_epoch=100)
        rates = []
        for _ in range(99):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
        assert rates[0] == pytest.approx(2.5e-4)
        assert max(rates) == pytest.approx(5e-4)
        assert rates.index(max(rates)) == 9
        assert rates[-1] == pytest.approx(2.5e-6)
        assert rows(run)[-1]["lr"] < rows(run)[0]["lr"]

    @pytest.mark.parametrize(("steps", "pct_start"), [(10, 0.1), (2, 0.5), (20, 0.05), (9, 0.1), (1, 1.0)])
    def test_a_warm_up_of_one_step(self, steps: int, pct_start: float) -> None:
        config = dataclasses.replace(TINY, epochs=1, pct_start=pct_start)
        optimizer, scheduler = adamw_and_cycle(torch.nn.Linear(2, 2), config, steps)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert all(0 < rate <= config.max_lr for rate in rates)


class TestLearning:
    def test_overfitting_a_batch_brings_the_loss_down(self, store: RecordingStore, tmp_path: Path) -> None:
        config = dataclasses.replace(TINY, overfit_batches=1, epochs=16, max_lr=2e-2, loss="mse+spectral")
        pretrain(store, tmp_path / "run", config)
        found = rows(tmp_path / "run")
        assert len(found) == found[-1]["step"] == 16
        assert found[-1]["train_loss"] < 0.5 * found[0]["train_loss"]
        assert found[-1]["val_loss"] < 0.5 * found[0]["train_loss"]

    def test_every_parameter_moves(self, run: Path, store: RecordingStore) -> None:
        from lightning.fabric import seed_everything

        seed_everything(TINY.seed, verbose=False)
        fresh = build_model(EEGM2Config.preset("eegm2", n_chans=3, width=4)).state_dict()
        trained = weights(run)
        assert [name for name in fresh if torch.equal(fresh[name], trained[name])] == []

    def test_two_accumulated_batches_are_one_twice_as_large(
        self, store: RecordingStore, tmp_path: Path
    ) -> None:
        base = dataclasses.replace(TINY, epochs=1)
        pretrain(store, tmp_path / "one", dataclasses.replace(base, batch_size=12))
        pretrain(store, tmp_path / "two", dataclasses.replace(base, batch_size=6, accumulate=2))
        one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
        for name, weight in one.items():
            torch.testing.assert_close(two[name], weight, rtol=2e-3, atol=2e-5)

    @pytest.mark.parametrize(
        "change", [{"precision": "bf16-mixed"}, {"workers": 1}, {"val": 0.0, "test": 0.0}]
    )
    def test_ways_to_run(
        self, change: dict[str, Any], store: RecordingStore, run: Path, tmp_path: Path
    ) -> None:
        config = dataclasses.replace(TINY, **change)
        result = pretrain(store, tmp_path / "run", config)
        assert result.epoch == 2
        if "workers" in change:
            assert all(
                torch.equal(a, b) for a, b in zip(weights(run).values(), weights(tmp_path / "run").values())
            )
        if "precision" in change:
            assert {weight.dtype for weight in weights(tmp_path / "run").values()} == {torch.float32}
            assert rows(tmp_path / "run")[0]["train_loss"] == pytest.approx(
                rows(run)[0]["train_loss"], rel=0.05
            )
        if "val" in change:
            assert "val_loss" not in rows(tmp_path / "run")[0]
            assert read_header(tmp_path / "run", "best")["epoch"] == 2

    def test_checkpointed_blocks_train_to_the_same_weights(
        self, store: RecordingStore, run: Path, tmp_path: Path
    ) -> None:
        pretrain(store, tmp_path / "run", dataclasses.replace(TINY, checkpoint_blocks=True))
        plain, found = weights(run), weights(tmp_path / "run")
        assert all(torch.equal(found[name], plain[name]) for name in plain)
        with pytest.raises(ConfigError, match="checkpoint_blocks: preset unet has no sequence blocks"):
            PretrainConfig(preset="unet", checkpoint_blocks=True)

    def test_fast_dev_run_is_two_batches(self, store: RecordingStore, tmp_path: Path) -> None:
        result = pretrain(store, tmp_path / "run", dataclasses.replace(TINY, epochs=500, fast_dev_run=True))
        assert (result.epoch, result.step) == (1, 2)

    def test_early_stopping(self, store: RecordingStore, tmp_path: Path) -> None:
        config = dataclasses.replace(TINY, epochs=30, max_lr=1e-12, patience=2, norm="forward")
        worse = dataclasses.replace(config, weight_decay=0.0)
        result = pretrain(store, tmp_path / "run", worse)
        found = [row["val_loss"] for row in rows(tmp_path / "run")]
        assert result.epoch == len(found) < 30
        assert min(found[:-2]) <= min(found[-2:])
        assert pretrain(store, tmp_path / "run", worse).already_finished

    def test_moving_average_is_what_is_kept(self, store: RecordingStore, tmp_path: Path) -> None:
        config = dataclasses.replace(TINY, ema_decay=0.9)
        pretrain(store, tmp_path / "run", config)
        state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        kept = weights(tmp_path / "run")
        assert all(torch.equal(kept[name], state[f"average.module.{name}"]) for name in kept)
        assert not all(torch.equal(kept[name], state[f"model.{name}"]) for name in kept)

    def test_weight_decay_spares_the_scan(self) -> None:
        for preset in ("eegm2", "s3", "s5"):
            model = build_model(EEGM2Config.preset(preset, n_chans=3, width=4))
            names = {id(parameter): name for name, parameter in model.named_parameters()}
            own = {"eegm2": {"A_log", "D", "dt_bias"}, "s3": {"A_log", "D"}, "s5": set()}[preset]
            for decayed in ("all", "matrices"):
                made = decay_groups(model.named_parameters(), 0.01, decayed)
                groups = {group["weight_decay"]: group["params"] for group in made}
                spared = {names[id(parameter)].rpartition(".")[2] for parameter in groups.get(0.0, [])}
                vectors = {n.rpartition(".")[2] for n, p in model.named_parameters() if p.dim() < 2}
                assert spared == (own if decayed == "all" else own | vectors)
                assert sum(map(len, groups.values())) == len(names)


class TestFaults:
    def test_a_window_that_is_not_finite_stops_the_run_by_name(
        self, store: RecordingStore, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recording = json.loads((run / "splits.json").read_text())["train"][0].replace("sub", "rec")
        spoil(monkeypatch, recording, 3.0)
        with pytest.raises(
            DataError, match=rf"epoch 1, step \d: loss is nan; windows: {recording} at 3 s \(their"
        ):
            pretrain(store, tmp_path / "run", TINY)
        assert not (tmp_path / "run" / ".lock").exists()

    def test_or_is_skipped_and_counted(
        self, store: RecordingStore, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        recording = json.loads((run / "splits.json").read_text())["train"][0].replace("sub", "rec")
        spoil(monkeypatch, recording, 3.0)
        pretrain(store, tmp_path / "run", dataclasses.replace(TINY, on_nonfinite="skip"))
        assert capsys.readouterr().out.count(f"windows: {recording} at 3 s") == 2
        assert [row["skipped"] for row in rows(tmp_path / "run")] == [1, 2]
        assert all(torch.isfinite(weight).all() for weight in weights(tmp_path / "run").values())

    def test_a_validation_window_that_is_not_finite_stops_the_run_by_name(
        self, store: RecordingStore, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recording = json.loads((run / "splits.json").read_text())["val"][0].replace("sub", "rec")
        spoil(monkeypatch, recording, 3.0)
        with pytest.raises(
            DataError,
            match=rf"epoch 1: validation loss of 6 windows is not finite; windows: {recording} at 3 s",
        ):
            pretrain(store, tmp_path / "run", TINY)

    def test_or_its_batch_is_left_out_and_said(
        self, store: RecordingStore, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        recording = json.loads((run / "splits.json").read_text())["val"][0].replace("sub", "rec")
        spoil(monkeypatch, recording, 3.0)
        pretrain(store, tmp_path / "run", dataclasses.replace(TINY, on_nonfinite="skip"))
        assert capsys.readouterr().out.count(f"windows: {recording} at 3 s") == 2
        kept = [row["val_loss"] for row in rows(tmp_path / "run")]
        assert kept[1] < kept[0]
        header = read_header(tmp_path / "run", "best")
        assert (header["epoch"], header["val_loss"]) == (2, pytest.approx(kept[1]))

    def test_a_skipped_step_moves_nothing(
        self, store: RecordingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All gradients overflow, so that after every step the weights are the first ones."""
        monkeypatch.setattr(PretrainStep, "_clip", lambda self: torch.tensor(float("inf")))
        config = dataclasses.replace(TINY, on_nonfinite="skip", epochs=1)
        pretrain(store, tmp_path / "run", config)
        from lightning.fabric import seed_everything

        seed_everything(TINY.seed, verbose=False)
        fresh = build_model(EEGM2Config.preset("eegm2", n_chans=3, width=4)).state_dict()
        assert all(torch.equal(fresh[name], weight) for name, weight in weights(tmp_path / "run").items())
        assert rows(tmp_path / "run")[0]["skipped"] == 4

    @pytest.mark.parametrize(
        "error",
        [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory"), MemoryError()],
    )
    def test_out_of_memory(
        self, error: Exception, store: RecordingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise error

        monkeypatch.setattr(Learner, "losses", fail)
        with pytest.raises(
            EEGM2Error, match=r"out of memory at 6 windows of 1 s; .*--batch-size 3 --accumulate 2"
        ):
            pretrain(store, tmp_path / "run", TINY)

    def test_a_worker_that_dies(
        self, store: RecordingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(self: WindowDataset, *place: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(WindowDataset, "read", die)
        with pytest.raises(
            EEGM2Error, match=r"workers: a process that reads windows died .*use fewer --workers"
        ):
            pretrain(store, tmp_path / "run", dataclasses.replace(TINY, workers=1))

    def test_a_worker_whose_death_is_noticed_inside_somebody_elses_code(
        self, store: RecordingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Torch raises from a signal handler; Lightning's logger makes another error of whatever comes."""

        def noticed(*_: Any) -> None:
            try:
                raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
            except RuntimeError as error:
                raise ValueError("you tried to log 0.353") from error

        monkeypatch.setattr("eegm2.training.recorder.Recorder._to_tensorboard", noticed)
        with pytest.raises(EEGM2Error, match=r"workers: .* died \(DataLoader worker \(pid 7\) is killed by"):
            pretrain(store, tmp_path / "run", TINY)

    def test_a_folder_of_something_else(self, store: RecordingStore, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("all of it")
        with pytest.raises(ConfigError, match=r"holds thesis\.tex and no run; choose an empty folder"):
            pretrain(store, tmp_path, TINY)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]

    def test_a_run_that_never_trained_may_begin_with_other_options(
        self, store: RecordingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Learner, "losses", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError, match="division"):
                pretrain(store, tmp_path / "run", dataclasses.replace(TINY, split_seed=1))
        pretrain(store, tmp_path / "run", dataclasses.replace(TINY, epochs=1, val=0.4))
        assert len(json.loads((tmp_path / "run" / "splits.json").read_text())["val"]) == 2

    def test_a_damaged_state(self, store: RecordingStore, run: Path, tmp_path: Path) -> None:
        import shutil

        shutil.copytree(run, tmp_path / "run")
        state = tmp_path / "run" / "checkpoints" / "last.ckpt"
        state.write_bytes(state.read_bytes()[:1000])
        facts = json.loads((tmp_path / "run" / "run.json").read_text())
        (tmp_path / "run" / "run.json").write_text(json.dumps({**facts, "finished": False}))
        with pytest.raises(EEGM2Error, match=r"last\.ckpt: damaged \(.*\); take another copy"):
            pretrain(store, tmp_path / "run", TINY)

    def test_no_such_device(self, store: RecordingStore, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"accelerator 'mps', devices 'auto', strategy 'auto': .*eegm2 info"
        ):
            pretrain(store, tmp_path / "run", dataclasses.replace(TINY, accelerator="mps"))


class TestConfig:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"epochs": 0}, "epochs: got 0, expected at least 1"),
            ({"max_lr": 0.0}, "max_lr: got 0.0, expected a number above 0"),
            ({"pct_start": 1.5}, "pct_start: got 1.5, expected a share between 0 and 1"),
            ({"ema_decay": 1.0}, "ema_decay: got 1.0, expected 0 <= ema_decay < 1"),
            ({"window_s": -1.0}, "window_s: got -1.0"),
            ({"val": 0.6, "test": 0.6}, "val, test: got 0.6, 0.6"),
            ({"objective": "masked", "mask_time": 0.0}, "mask_time, mask_channels: both are 0"),
            ({"patience": 3, "val": 0.0}, "patience: got 3 without validation"),
            ({"ema_decay": 0.9, "strategy": "fsdp"}, "ema_decay: got 0.9 with strategy fsdp"),
        ],
    )
    def test_values_that_cannot_be_used(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            PretrainConfig(**change)

    def test_the_defaults_are_the_papers_but_for_the_epochs(self) -> None:
        config = PretrainConfig()
        assert (config.batch_size, config.max_lr, config.weight_decay, config.gradient_clip) == (
            64,
            5e-4,
            1e-2,
            1.0,
        )
        assert (config.pct_start, config.div_factor, config.final_div_factor) == (0.1, 2.0, 100.0)
        assert (config.loss, config.spectrum, config.norm, config.alpha, config.beta) == (
            *("l1+spectral", "complex", "backward", 1.0, 1.0),
        )
