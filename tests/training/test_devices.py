"""What the run's options are to Fabric, and what its state is to the run that goes on from it."""

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
from eegm2.training import devices as module
from eegm2.training import processes
from eegm2.training.config import PretrainConfig
from eegm2.training.devices import make_fabric, quiet_lightning, refuse_half_on_cpu
from eegm2.training.processes import gather
from eegm2.training.state import (
    FORMAT,
    Interrupted,
    peak_memory_mb,
    random_state,
    read_state,
    set_random_state,
    write_state,
)


def given(monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    """Return what Fabric is made with."""
    seen: dict[str, Any] = {}

    def made(**kwargs: Any) -> Any:
        seen.update(kwargs)
        return SimpleNamespace(device=torch.device("cpu"))

    monkeypatch.setattr(module, "Fabric", made)
    make_fabric(replace(PretrainConfig(), **options))
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
        ({"precision": "32-true"}, {"precision": "32-true"}),
    ],
    ids=str,
)
def test_every_option_of_the_machine_reaches_fabric(
    options: dict[str, Any], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = given(monkeypatch, **options)
    assert {name: seen[name] for name in expected} == expected
    assert seen.keys() == {"accelerator", "devices", "num_nodes", "strategy", "precision"}


@pytest.mark.parametrize(
    ("accelerator", "cuda", "device"),
    [("auto", True, "cuda"), ("gpu", True, "cuda"), ("cpu", True, "cpu"), ("auto", False, "cpu")],
)
def test_half_precision_is_of_the_device_and_of_the_network_alone(
    accelerator: str, cuda: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: cuda)
        seen = given(patch, precision="bf16-mixed", accelerator=accelerator)
    half = seen["plugins"]
    assert (half.precision, half.device, half.scaler) == ("bf16-mixed", device, None)
    assert type(half).__qualname__ == "MixedPrecision", "its name in a state"
    assert "precision" not in seen
    x = torch.randn(2, 3)
    assert half.convert_input({"x": x})["x"] is x
    assert half.convert_output((x,))[0] is x
    half.device = "cpu"
    with half.forward_context():
        assert not torch.is_autocast_cache_enabled()
        assert torch.nn.functional.linear(x, x).dtype == torch.bfloat16


def test_sharding_needs_gpus_and_keeps_whole_states(monkeypatch: pytest.MonkeyPatch) -> None:
    for accelerator, there in (("cpu", True), ("mps", True), ("auto", False)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        with pytest.raises(ConfigError, match="strategy: got fsdp without CUDA devices"):
            given(monkeypatch, strategy="fsdp", accelerator=accelerator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    seen = given(monkeypatch, strategy="fsdp", accelerator="auto", precision="bf16-mixed")
    assert seen["strategy"]._state_dict_type == "full"
    assert seen["strategy"]._fsdp_kwargs["use_orig_params"] is True
    assert seen["precision"] == "bf16-mixed", "sharding has an arithmetic of its own"


def test_what_lightning_refuses_is_said_with_the_options_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(**_: Any) -> Any:
        raise RuntimeError("no such\n  machine")

    monkeypatch.setattr(module, "Fabric", made)
    said = "accelerator 'cpu', devices '7', strategy 'ddp': no such machine; eegm2 info shows"
    with pytest.raises(ConfigError, match=said):
        make_fabric(replace(PretrainConfig(), devices="7", strategy="ddp", accelerator="cpu"))


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
            warnings.warn_explicit("advice", UserWarning, "f", 1, module="lightning.fabric.connector")
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
        write_state(tmp_path / "s", {"chance": random_state(), "eegm2": {"format": FORMAT}})
        expected = [draw(), draw()]
        set_random_state(read_state(tmp_path / "s")["chance"])
        assert [draw(), draw()] == expected
    finally:
        set_random_state(kept)


def test_a_state_is_read_where_there_is_no_gpu_or_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        write_state(path, {"w": torch.ones(2), "eegm2": {"format": FORMAT}})
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
        monkeypatch.setattr(processes.dist, name, lambda answer=answer: answer)
    monkeypatch.setattr(processes.dist, "all_gather_object", everyones)
    assert gather("p") == ["p0", "p1", "p2"]
    assert str(Interrupted(15)) == "interrupted by SIGTERM"
    assert Interrupted(15).signum == 15
