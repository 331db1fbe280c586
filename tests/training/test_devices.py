"""What the run's options are to the trainer, and what its state is to the run that goes on from it."""

from __future__ import annotations

import logging
import random
import resource
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.errors import CheckpointError, ConfigError
from eegm2.training import state as of_state
from eegm2.training import trainer as module
from eegm2.training.config import PretrainConfig
from eegm2.training.state import (
    FORMAT,
    AtomicCheckpointIO,
    Interrupted,
    gather,
    peak_memory_mb,
    random_state,
    read_state,
    set_random_state,
)
from eegm2.training.trainer import make_trainer, quiet_lightning, refuse_half_on_cpu

ALWAYS = {
    "reload_dataloaders_every_n_epochs": 1,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def given(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, has_val: bool = True, step: int = 3, **options: Any
) -> dict[str, Any]:
    """Return what Lightning's trainer is made with."""
    seen: dict[str, Any] = {}

    def made(**kwargs: Any) -> Any:
        seen.update(kwargs)
        return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))

    monkeypatch.setattr(module, "Trainer", made)
    make_trainer(folder, replace(PretrainConfig(), **options), ["one"], has_val=has_val, step=step)
    return seen


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"devices": "2"}, {"devices": 2}),
        ({"devices": "auto"}, {"devices": "auto"}),
        ({"devices": "-1"}, {"devices": -1}),
        ({"accelerator": "cpu"}, {"accelerator": "cpu"}),
        ({"num_nodes": 3}, {"num_nodes": 3}),
        ({"strategy": "ddp"}, {"strategy": "ddp"}),
        ({"precision": "bf16-mixed"}, {"precision": "bf16-mixed"}),
        ({"epochs": 7}, {"max_epochs": 7}),
        ({"accumulate": 4}, {"accumulate_grad_batches": 4}),
    ],
    ids=str,
)
def test_every_option_of_the_machine_reaches_the_trainer(
    options: dict[str, Any], expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = given(monkeypatch, tmp_path, **options)
    assert {name: seen[name] for name in [*expected, *ALWAYS]} == {**expected, **ALWAYS}
    assert (seen["callbacks"], seen["default_root_dir"]) == (["one"], tmp_path)
    assert [type(plugin) for plugin in seen["plugins"]] == [AtomicCheckpointIO]
    assert Path(seen["logger"].log_dir) == tmp_path / "logs" / "tensorboard"
    assert seen["logger"]._kwargs["purge_step"] == 3


@pytest.mark.parametrize(("has_val", "overfit", "share"), [(True, 0, 1.0), (False, 0, 0), (False, 2, 1.0)])
def test_there_is_a_validation_where_there_are_windows_for_one(
    has_val: bool, overfit: int, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = given(monkeypatch, tmp_path, has_val=has_val, overfit_batches=overfit)
    assert seen["limit_val_batches"] == share


def test_sharding_needs_gpus_and_keeps_whole_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for accelerator, there in (("cpu", True), ("mps", True), ("auto", False)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        with pytest.raises(ConfigError, match="strategy: got fsdp without CUDA devices"):
            given(monkeypatch, tmp_path, strategy="fsdp", accelerator=accelerator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    strategy = given(monkeypatch, tmp_path, strategy="fsdp", accelerator="auto")["strategy"]
    assert strategy._state_dict_type == "full"
    assert strategy.kwargs["use_orig_params"] is True


def test_what_lightning_refuses_is_said_with_the_options_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(**_: Any) -> Any:
        raise RuntimeError("no such\n  machine")

    monkeypatch.setattr(module, "Trainer", made)
    said = "accelerator 'cpu', devices '7', strategy 'ddp': no such machine; eegm2 info shows"
    with pytest.raises(ConfigError, match=said):
        make_trainer(
            tmp_path,
            replace(PretrainConfig(), devices="7", strategy="ddp", accelerator="cpu"),
            [],
            has_val=True,
            step=0,
        )


@pytest.mark.parametrize(
    ("precision", "device", "refused"),
    [
        ("16-mixed", "cpu", True),
        ("16-mixed", "cuda", False),
        ("bf16-mixed", "cpu", False),
        ("32-true", "cpu", False),
    ],
)
def test_half_precision_is_refused_on_a_cpu_alone(precision: str, device: str, refused: bool) -> None:
    config: Any = SimpleNamespace(precision=precision)
    if not refused:
        return refuse_half_on_cpu(config, torch.device(device))
    with pytest.raises(ConfigError, match="precision: got 16-mixed on a CPU"):
        refuse_half_on_cpu(config, torch.device(device))


def test_lightnings_advice_is_kept_from_the_screen_and_nothing_else() -> None:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_lightning():
            assert {logger.level for logger in loggers} == {logging.ERROR}
            warnings.warn_explicit("advice", UserWarning, "f", 1, module="lightning.pytorch.trainer")
            warnings.warn("the loader does not have many workers, which", stacklevel=1)
            warnings.warn("of ours", stacklevel=1)
    assert [str(w.message) for w in caught] == ["of ours"]
    assert [logger.level for logger in loggers] == levels


def draw() -> list[Any]:
    legacy: Any = np.random
    return [
        random.random(),
        random.gauss(0, 1),
        legacy.rand(),
        legacy.standard_normal(),
        *torch.rand(2).tolist(),
    ]


def test_chance_goes_on_where_it_was_left(tmp_path: Path) -> None:
    """Also between the two numbers of a normal pair, which Python and NumPy keep the second of."""
    kept = random_state()
    try:
        draw()
        AtomicCheckpointIO().save_checkpoint(
            {"chance": random_state(), "eegm2": {"format": FORMAT}}, tmp_path / "s"
        )
        expected = [draw(), draw()]
        set_random_state(AtomicCheckpointIO().load_checkpoint(tmp_path / "s")["chance"])
        assert [draw(), draw()] == expected
    finally:
        set_random_state(kept)


def test_a_state_is_read_where_there_is_no_gpu_or_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        AtomicCheckpointIO().save_checkpoint({"w": torch.ones(2), "eegm2": {"format": FORMAT}}, path)
    assert read_state(path)["w"].tolist() == [1, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["s.ckpt"]
    torch.save({"eegm2": {"format": 2}}, path)
    with pytest.raises(CheckpointError, match="format 2, this eegm2 reads up to 1"):
        read_state(path)
    for bad in (b"no archive", b""):
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"s\.ckpt: damaged \("):
            read_state(path)
    torch.save({"other": 1}, path)
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(path)
    with pytest.raises(CheckpointError, match=r"cannot be read \(No such file"):
        read_state(tmp_path / "none")


def test_memory_is_the_gpus_where_one_was_used_else_the_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    of_process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    assert peak_memory_mb() == pytest.approx(of_process, rel=0.2)
    for there, used, expected in ((True, 3 * 2**20, 3.0), (True, 0, of_process), (False, 2**20, of_process)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda used=used: used)
        assert peak_memory_mb() == pytest.approx(expected, rel=0.2)
    monkeypatch.setattr("sys.platform", "darwin")
    assert peak_memory_mb() == pytest.approx(of_process / 2**10, rel=0.2)


def test_what_every_process_has_is_gathered_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gather("mine") == ["mine"]

    def everyones(values: list[Any], value: Any) -> None:
        values[:] = [f"{value}{rank}" for rank in range(len(values))]

    for name, answer in (("is_available", True), ("is_initialized", True), ("get_world_size", 3)):
        monkeypatch.setattr(of_state.dist, name, lambda answer=answer: answer)
    monkeypatch.setattr(of_state.dist, "all_gather_object", everyones)
    assert gather("p") == ["p0", "p1", "p2"]
    assert str(Interrupted(15)) == "interrupted by SIGTERM"
    assert Interrupted(15).signum == 15
