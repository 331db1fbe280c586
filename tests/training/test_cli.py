"""``eegm2 pretrain``: every option in its help, one line for every ending."""

from __future__ import annotations

import dataclasses
import re
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.errors import ConfigError
from eegm2.training.config import PretrainConfig
from tests.training.stores import tiny_store
from tests.training.test_resume import signal_after

OPTIONS = [
    "--preset",
    "s4",
    "--width",
    "4",
    "--window-s",
    "1",
    "--epochs",
    "1",
    "--batch-size",
    "6",
    "--seed",
    "3",
]


def test_help_shows_every_option() -> None:
    text = CliRunner().invoke(app, ["pretrain", "--help"], env={"COLUMNS": "200"}).output
    for field in dataclasses.fields(PretrainConfig):
        assert re.search(rf"--{field.name.replace('_', '-')}\b", text), field.name
        assert field.metadata["help"], field.name
    assert "--out" in text


def test_stopped_then_the_same_command_goes_on_then_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_store(tmp_path / "store")
    command = ["pretrain", str(tmp_path / "store"), "--out", str(tmp_path / "run"), *OPTIONS]
    monkeypatch.setattr("sys.argv", ["eegm2", *command])
    with monkeypatch.context() as patch:
        signal_after(patch, 8, signal.SIGINT)
        stopped = CliRunner().invoke(app, command)
    assert stopped.exit_code == 130
    assert (
        f"stopped; to go on: eegm2 pretrain {tmp_path / 'store'} --out {tmp_path / 'run'}" in stopped.output
    )
    finished = CliRunner().invoke(app, command)
    assert finished.exit_code == 0
    assert "going on from epoch 1, batch 2, step 2" in finished.output
    assert re.search(
        r"finished after 1 epoch, 4 steps; train loss [\d.]+, validation loss [\d.]+", finished.output
    )
    assert str(tmp_path / "run" / "checkpoints" / "best.safetensors") in finished.output
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0
    assert "had finished before after 1 epoch," in again.output


def test_another_option_is_an_error_of_one_line(tmp_path: Path) -> None:
    tiny_store(tmp_path / "store")
    command = ["pretrain", str(tmp_path / "store"), "--out", str(tmp_path / "run"), *OPTIONS]
    assert CliRunner().invoke(app, command).exit_code == 0
    refused = CliRunner().invoke(app, [*command, "--max-lr", "0.1"])
    assert isinstance(refused.exception, ConfigError)
    assert "\n" not in str(refused.exception)
    assert "max_lr is 0.0005 there, got 0.1" in str(refused.exception)
