"""Fine-tuning that is interrupted goes on after its last whole epoch, to the same weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.evaluation.finetuning.run import STATE, finetune
from eegm2.evaluation.protocols import fitting
from eegm2.evaluation.protocols.resuming import FitState
from tests.evaluation.helpers import fake_run, labelled_store

EPOCHS = 5


class Stopped(BaseException):
    """Stands for a signal that no code catches."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("finetune")
    store = labelled_store(folder / "store")
    return {"store": Path(store.url), "run": fake_run(folder / "run", store)}


def kept(run: Path) -> dict[str, bytes]:
    """Every file of a run that holds weights or scores."""
    files = sorted([*run.glob("checkpoints/*"), *run.glob("heads/*")])
    return {path.name: path.read_bytes() for path in files}


def stop_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process, as it were, when so many epochs are kept."""
    write = FitState.write

    def then_stop(self: FitState, state: dict[str, Any], done: int, most: int) -> None:
        write(self, state, done, most)
        if done == epochs:
            raise Stopped

    monkeypatch.setattr(FitState, "write", then_stop)


def trained_epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count, from now on, the validations: one ends each epoch, one more scores each part."""
    seen: list[int] = []
    original = fitting.outputs

    def counted(network: Any, task: Any, indices: Any, config: Any) -> torch.Tensor:
        seen.append(len(indices))
        return original(network, task, indices, config)

    monkeypatch.setattr(fitting, "outputs", counted)
    return seen


@pytest.mark.parametrize("head", ["light", "statistics"])
def test_going_on_gives_the_same_as_never_stopping(
    head: str, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FinetuneConfig(head=head, max_epochs=EPOCHS, patience=EPOCHS, batch_size=8)  # type: ignore[arg-type]
    whole = finetune(places["run"], places["store"], tmp_path / "whole", config)
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(Stopped):
            finetune(places["run"], places["store"], tmp_path / "cut", config)
    assert (tmp_path / "cut" / STATE).is_file()
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["finished"] is False
    with monkeypatch.context() as patch:
        again = trained_epochs(patch)
        made = finetune(places["run"], places["store"], tmp_path / "cut", config)
        assert len(again) == EPOCHS - 2, "epochs that were done are not done again"
    assert kept(tmp_path / "cut") == kept(tmp_path / "whole")
    assert STATE.rpartition("/")[2] not in kept(tmp_path / "cut")
    for name in ("train_loss", "val_loss", "metrics", "best_epoch"):
        assert made.results[name] == whole.results[name]


def test_the_state_of_other_options_or_a_damaged_one_is_not_gone_on_from(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FinetuneConfig(max_epochs=3, patience=3, batch_size=8)
    expected = finetune(places["run"], places["store"], tmp_path / "whole", config)
    for number, damage in enumerate((lambda path: None, lambda path: path.write_bytes(b"PK damaged"))):
        run = tmp_path / f"cut{number}"
        with monkeypatch.context() as patch:
            stop_after(1, patch)
            other = replace(config, lr=1e-2 if number == 0 else 0.0)
            with pytest.raises(Stopped):
                finetune(places["run"], places["store"], run, other)
        damage(run / STATE)
        made = finetune(places["run"], places["store"], run, config)
        assert made.results["val_loss"] == expected.results["val_loss"]


def test_early_stopping_is_the_same_after_going_on(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FinetuneConfig(max_epochs=40, patience=1, batch_size=8, lr=3e-2)
    whole = finetune(places["run"], places["store"], tmp_path / "whole", config)
    epochs = whole.results["epochs"]
    assert epochs < 40, "the case stops early"
    with monkeypatch.context() as patch:
        stop_after(epochs, patch)
        with pytest.raises(Stopped):
            finetune(places["run"], places["store"], tmp_path / "cut", config)
    assert finetune(places["run"], places["store"], tmp_path / "cut", config).results["epochs"] == epochs
    assert kept(tmp_path / "cut") == kept(tmp_path / "whole")
