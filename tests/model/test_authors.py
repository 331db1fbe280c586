"""The authors' checkpoints: found by their keys, read strictly and safely, written back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from eegm2 import EEGM2, EEGM2Config, load_authors_checkpoint, save_authors_checkpoint
from eegm2.errors import CheckpointError
from eegm2.model.authors import authors_state_dict
from tests.model.vectors import PRESET_OF, SEEDS, SHAPES, weights


@pytest.mark.parametrize("variant", SEEDS)
def test_a_checkpoint_survives_the_round_trip(variant: str, tmp_path: Path) -> None:
    state = weights(variant)
    torch.save(state, tmp_path / "best_model.pth")
    model = load_authors_checkpoint(tmp_path / "best_model.pth")
    assert model.config.preset_name == PRESET_OF[variant]
    assert model.config.n_chans == 16
    assert not model.training
    save_authors_checkpoint(model, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert {k: list(v.shape) for k, v in back.items()} == SHAPES[variant]
    for key, value in state.items():
        torch.testing.assert_close(back[key], value, rtol=0, atol=0)


def test_missing_and_unexpected_keys_are_named() -> None:
    state = weights("EEGM2")
    state["surprise"] = state.pop("decoder2.bias")
    with pytest.raises(
        CheckpointError, match=r"missing keys \['decoder2.bias'\], unexpected keys \['surprise'\]"
    ):
        load_authors_checkpoint(state)


def test_a_wrong_shape_is_named() -> None:
    state = weights("EEGM2")
    state["decoder2.bias"] = state["decoder2.bias"][:-1]
    with pytest.raises(CheckpointError, match=r"decoder2.bias has shape \(127,\), expected \(128,\)"):
        load_authors_checkpoint(state)


class Payload:
    """Runs code when unpickled by a careless reader."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("was-run"),))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth: not a checkpoint that can be read safely"):
        load_authors_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a checkpoint"), (b"garbage" * 100, "not a checkpoint"), (None, "cannot be read")],
)
def test_an_unreadable_file_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"broken\.pth: {message}"):
        load_authors_checkpoint(path)


def test_strangers_keys_are_refused() -> None:
    with pytest.raises(CheckpointError, match="belong to no known variant"):
        load_authors_checkpoint({"layer.weight": torch.zeros(2)})


@pytest.mark.parametrize("width", [1, 3, 4, 12, 20, 24])
def test_every_width_is_read_back(width: int, tmp_path: Path) -> None:
    network = EEGM2(EEGM2Config.preset("eegm2", n_chans=3, width=width)).eval()
    save_authors_checkpoint(network, tmp_path / "a.pth")
    back = load_authors_checkpoint(tmp_path / "a.pth")
    x = torch.randn(1, 3, 64)
    torch.testing.assert_close(back(x), network(x), rtol=0, atol=0)
    assert back.config.width == width


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
        lambda state: {"model": {f"_orig_mod.{key}": value for key, value in state.items()}, "step": 1},
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
    ],
)
def test_what_trainers_wrap_is_unwrapped(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    state = weights("EEGM2")
    torch.save(wrap(state), tmp_path / "wrapped.pth")
    back = authors_state_dict(load_authors_checkpoint(tmp_path / "wrapped.pth"))  # type: ignore[arg-type]
    for key, value in state.items():
        torch.testing.assert_close(back[key], value, rtol=0, atol=0)


def test_a_finer_tensor_than_the_weights_gets_a_sentence() -> None:
    network = EEGM2(EEGM2Config.preset("eegm2", n_chans=3, width=2)).eval()
    with pytest.raises(ValueError, match=r"torch\.float64, the network has torch\.float32; convert with x"):
        network(torch.zeros(1, 3, 64, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"convert with x\.double\(\)"):
        network.double().encode(torch.zeros(1, 3, 64))
