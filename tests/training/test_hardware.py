"""What needs other hardware or a compiler is refused in words; torchrun's two processes train."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import ConfigError
from eegm2.training.config import PretrainConfig
from eegm2.training.gradient import GradientAverage
from eegm2.training.pretrain import pretrain
from tests.training.stores import tiny_store

ROOT = Path(__file__).parents[2]
TINY = PretrainConfig(width=4, window_s=1.0, epochs=1, batch_size=8, accelerator="cpu")
OPTIONS = ["--width", "4", "--window-s", "1", "--epochs", "2", "--batch-size", "4", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return tiny_store(tmp_path_factory.mktemp("data") / "store")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "16-mixed"}, "precision: got 16-mixed on a CPU, .* use --precision bf16-mixed"),
        ({"strategy": "fsdp", "devices": "2"}, "strategy: got fsdp without CUDA devices, .* use ddp"),
    ],
)
def test_what_a_cpu_cannot_do_is_refused(
    change: dict[str, Any], message: str, store: RecordingStore, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain(store, tmp_path / "run", dataclasses.replace(TINY, **change))


@pytest.mark.parametrize("name", ["ema_decay", "gradient_ema"])
def test_averages_are_refused_with_sharded_weights(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: got 0.5 with strategy fsdp, which shards weights"):
        PretrainConfig(strategy="fsdp", **{name: 0.5})
    with pytest.raises(ConfigError, match=f"{name}: got 1.0, expected 0 <= {name} < 1"):
        PretrainConfig(**{name: 1.0})


def test_the_gradients_average_follows_its_formula() -> None:
    model = torch.nn.Linear(2, 1)
    average = GradientAverage(model, decay=0.8, gain=3.0)
    mean = torch.zeros(1, 2)
    for step in range(10):
        gradient = torch.tensor([[1.0, (-1.0) ** step]])
        model.weight.grad, model.bias.grad = gradient.clone(), None
        average.apply_to(model)
        mean = 0.8 * mean + 0.2 * gradient
        torch.testing.assert_close(model.weight.grad, gradient + 3 * mean)
    assert mean[0, 0] > 5 * mean[0, 1].abs()  # the steady part is the stronger one
    assert dict(average.named_buffers())["mean0"] is not None
    torch.testing.assert_close(average.get_buffer("mean0"), mean)


@pytest.mark.parametrize("change", [{"gradient_ema": 0.9}, {"gradient_ema": 0.9, "gradient_ema_gain": 0.0}])
def test_the_average_is_off_at_gain_zero_and_changes_weights_else(
    change: dict[str, Any], store: RecordingStore, tmp_path: Path
) -> None:
    from eegm2.training.checkpoint import load_checkpoint

    plain, other = tmp_path / "plain", tmp_path / "other"
    pretrain(store, plain, TINY)
    pretrain(store, other, dataclasses.replace(TINY, **change))
    weights = [load_checkpoint(run, "last").model.state_dict() for run in (plain, other)]
    assert list(weights[0]) == list(weights[1])
    same = all(torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values()))
    assert same == ("gradient_ema_gain" in change)


def run_command(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=800, env=variables, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1700)
def test_torchrun_trains_in_two_processes_and_goes_on(store: RecordingStore, tmp_path: Path) -> None:
    """As examples/torchrun_pretrain.sh starts it, but on CPUs."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--nnodes", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "eegm2", "pretrain"]
    command += [store.url, "--out", str(tmp_path / "run"), *OPTIONS]
    command += ["--devices", "2", "--num-nodes", "1", "--strategy", "ddp"]
    done = run_command(command)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 processes" in done.stdout
    assert done.stdout.count("finished after 2 epochs") == 1
    again = run_command(command)
    assert again.returncode == 0, again.stderr[-2000:]
    assert again.stdout.count("had finished before") == 1


@pytest.mark.slow
@pytest.mark.timeout(1700)
def test_compile_without_a_compiler_names_it(store: RecordingStore, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    command = [sys.executable, "-m", "eegm2", "pretrain", store.url, "--out", str(tmp_path / "run"), *OPTIONS]
    environment = {"PATH": str(tmp_path / "bin"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = run_command([*command, "--compile"], **environment)
    assert done.returncode == 2, done.stderr[-2000:]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "error: compile: torch.compile failed on this machine" in line
    assert "g++" in line
