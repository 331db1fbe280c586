"""Laws of pretraining: what is random and from what, what is validated and kept, what a schedule is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.splits import SplitManifest
from eegm2.model.config import EEGM2Config
from eegm2.model.network import build_model
from eegm2.training.checkpoint import load_checkpoint
from eegm2.training.config import PretrainConfig
from eegm2.training.gradient import GradientAverage, norm_of_gradients
from eegm2.training.objectives.base import Origin, window_seed
from eegm2.training.objectives.reconstruction import Reconstruction, hide, reconstruction_loss
from eegm2.training.optimiser import adamw_and_cycle
from eegm2.training.pretrain import pretrain
from tests.training.stores import tiny_store
from tests.training.test_pretrain import TINY, rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return tiny_store(tmp_path_factory.mktemp("laws") / "store")


class Watched:
    """An objective that keeps the seeds it was given, apart for training and validation."""

    def __init__(self) -> None:
        self.train: list[list[int]] = []
        self.val: list[list[int]] = []

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> Watched:
        true, watched = Reconstruction.forward, self

        def forward(
            task: Reconstruction, model: Any, x: Tensor, seeds: Sequence[int], origin: Origin | None = None
        ) -> Any:
            (watched.train if torch.is_grad_enabled() else watched.val).append(list(seeds))
            return true(task, model, x, seeds, origin)

        monkeypatch.setattr(Reconstruction, "forward", forward)
        return self


def seen_by_run(
    store: RecordingStore, folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> tuple[list[int], list[int], list[list[int]]]:
    """Return the seeds of two training epochs, and those of each validation."""
    with monkeypatch.context() as patched:
        watched = Watched().patch(patched)
        config = dataclasses.replace(TINY, objective="masked", seed=seed)
        pretrain(store, folder, config)
    per_epoch = len(watched.train) // 2
    first, second = (
        sorted(s for batch in watched.train[part] for s in batch)
        for part in (slice(None, per_epoch), slice(per_epoch, None))
    )
    half = len(watched.val) // 2
    return first, second, [[s for b in part for s in b] for part in (watched.val[:half], watched.val[half:])]


def test_masks_follow_the_seed_and_change_between_epochs_and_those_of_validation_do_not(
    store: RecordingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, validations = seen_by_run(store, tmp_path / "a", monkeypatch, seed=3)
    assert len(set(first)) == len(first) == 24, "every window has a seed of its own"
    assert not set(first) & set(second), "another epoch, other masks"
    assert validations[0] == validations[1]
    assert not set(validations[0]) & {*first, *second}
    assert first == sorted(window_seed(3, 0, window) for window in range(24))
    other_first, _, other_validations = seen_by_run(store, tmp_path / "b", monkeypatch, seed=4)
    assert not set(first) & set(other_first), "another run, other masks"
    assert not set(validations[0]) & set(other_validations[0])


def test_a_seed_decides_the_mask() -> None:
    x = torch.zeros(1, 4, 64)
    masks = [hide(x, [seed], patch=4, time_share=0.5, channel_share=0.25) for seed in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_the_average_is_validated_and_saved(store: RecordingStore, tmp_path: Path) -> None:
    """The validation loss of the last epoch is that of the saved weights, and no other weights' loss."""
    config = dataclasses.replace(TINY, ema_decay=0.7, max_lr=5e-3)
    folder = tmp_path / "run"
    pretrain(store, folder, config)
    kept = load_checkpoint(folder, "last").model
    split = SplitManifest.from_json(folder / "splits.json")
    windows = WindowDataset(store, config.window_config(), subjects=split.val)

    def loss(model: torch.nn.Module) -> float:
        x = torch.stack([windows[i]["x"] for i in range(len(windows))])
        with torch.no_grad():
            return float(reconstruction_loss(model.eval()(x), x).loss)

    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    raw = build_model(kept.config)
    raw.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    found = rows(folder)[-1]["val_loss"]
    assert loss(kept) == pytest.approx(found, rel=1e-5)
    assert abs(loss(raw) / found - 1) > 1e-4, "the weights themselves are others"


OPTIONS = {"max_lr": 3e-3, "pct_start": 0.4, "div_factor": 5.0, "final_div_factor": 20.0, "epochs": 3}


def rates(config: PretrainConfig, steps_per_epoch: int) -> list[float]:
    """Return the learning rate of every step of a run."""
    model = build_model(EEGM2Config.preset("eegm2", n_chans=3, width=4))
    optimizer, scheduler = adamw_and_cycle(model, config, steps_per_epoch)
    found = []
    for _ in range(config.n_epochs * steps_per_epoch):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_every_option_of_the_schedule_reaches_it() -> None:
    config = dataclasses.replace(TINY, **OPTIONS)
    found = rates(config, steps_per_epoch=20)
    assert len(found) == 60
    assert found[0] == pytest.approx(3e-3 / 5)
    assert max(found) == pytest.approx(3e-3)
    assert found.index(max(found)) == round(0.4 * 60) - 1
    assert found[-1] == pytest.approx(3e-3 / 5 / 20)
    for name, value in OPTIONS.items():
        other = dataclasses.replace(config, **{name: getattr(TINY, name) if name != "epochs" else 2})
        assert rates(other, 20) != found, f"{name} {value} changes nothing"


def test_a_run_follows_its_schedule(store: RecordingStore, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, **OPTIONS)
    pretrain(store, tmp_path / "run", config)
    logged = [row["lr"] for row in rows(tmp_path / "run", "steps")]
    assert logged[:-1] == pytest.approx(rates(config, steps_per_epoch=4)[1:], rel=1e-5)


CHANGES: dict[str, Any] = {
    "weight_decay": 0.9,
    "decayed": "matrices",
    "gradient_clip": 1e-3,
    "gradient_ema": 0.5,
    "accumulate": 2,
    "seed": 9,
}


@pytest.mark.parametrize("option", CHANGES)
def test_every_option_of_the_optimiser_changes_the_weights(
    store: RecordingStore, tmp_path: Path, option: str
) -> None:
    base = dataclasses.replace(TINY, epochs=1)
    found = []
    for name, config in (("a", base), ("b", dataclasses.replace(base, **{option: CHANGES[option]}))):
        pretrain(store, tmp_path / name, config)
        found.append(load_checkpoint(tmp_path / name, "last").model.state_dict())
    assert any(not torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_the_gradients_average_is_the_stated_one() -> None:
    """Twice by hand: ``m = 0.8 m + 0.2 g``, then ``g + 3 m``; a gradient that is not there counts as zero."""
    model = torch.nn.Linear(2, 1)
    average = GradientAverage(model, decay=0.8, gain=3.0)
    model.weight.grad, model.bias.grad = torch.tensor([[1.0, -2.0]]), torch.tensor([5.0])
    average.apply_to(model)
    torch.testing.assert_close(model.weight.grad, torch.tensor([[1.6, -3.2]]))
    torch.testing.assert_close(model.bias.grad, torch.tensor([8.0]))
    model.weight.grad, model.bias.grad = torch.tensor([[10.0, 0.0]]), None
    average.apply_to(model)
    torch.testing.assert_close(model.weight.grad, torch.tensor([[16.48, -0.96]]))
    torch.testing.assert_close(average.mean1, torch.tensor([0.8]))
    torch.testing.assert_close(norm_of_gradients(model), torch.tensor([16.48, -0.96]).norm())


def test_a_run_of_one_step_has_a_schedule() -> None:
    """The first of two steps, of which the warm-up is less than one."""
    found = rates(dataclasses.replace(TINY, epochs=1), steps_per_epoch=1)
    assert found == [pytest.approx(2.94445e-4, rel=1e-5)]


def test_patience_survives_a_resume(
    store: RecordingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worse epochs before the interruption and after it are added up; the best is not forgotten."""
    from eegm2.training.pretrain_step import PretrainStep
    from eegm2.training.recorder import Recorder
    from eegm2.training.state import Interrupted

    losses = {1: 5.0, 2: 4.0, 3: 4.5, 4: 4.4, 5: 4.3, 6: 4.2}
    stop_after = [0]

    def validated(step: PretrainStep, *_: Any) -> dict[str, float]:
        return {"loss": losses[step.place.epoch + 1]}

    def end(recorder: Recorder, step: PretrainStep, *args: Any) -> None:
        recorder.signals.caught = 15 if step.place.epoch + 1 == stop_after[0] else None
        true_end(recorder, step, *args)

    true_end = Recorder.end_epoch
    monkeypatch.setattr(Recorder, "end_epoch", end)
    monkeypatch.setattr("eegm2.training.loop.validate", validated)
    config = dataclasses.replace(TINY, epochs=6, patience=3)
    pretrain(store, tmp_path / "whole", config)
    assert [row["epoch"] for row in rows(tmp_path / "whole")] == [1, 2, 3, 4, 5]
    for stop in (3, 4):
        stop_after[0] = stop
        folder = tmp_path / f"stopped{stop}"
        with pytest.raises(Interrupted, match="interrupted"):
            pretrain(store, folder, config)
        stop_after[0] = 0
        pretrain(store, folder, config)
        assert [row["epoch"] for row in rows(folder)] == [1, 2, 3, 4, 5]
        assert load_checkpoint(folder, "best").header["val_loss"] == 4.0


@pytest.mark.parametrize("loss", ["l1+spectral", "mse+spectral"])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_masked_terms_do_not_depend_on_how_much_is_hidden(loss: str, share: float) -> None:
    """White error of one size, hidden over any share: every term keeps its expectation."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(400, 2, 64)
    y = torch.randn(x.shape, generator=generator)
    hidden = torch.zeros(x.shape, dtype=torch.bool)
    hidden[..., : round(share * 64)] = True
    whole = reconstruction_loss(y, x, loss=loss)
    part = reconstruction_loss(y, x, loss=loss, hidden=hidden)
    for name, a, b in zip(whole._fields, whole, part):
        assert float(b) == pytest.approx(float(a), rel=0.03), name


def test_nothing_hidden_is_no_division_by_zero() -> None:
    x = torch.ones(2, 2, 16)
    nothing = torch.zeros(x.shape, dtype=torch.bool)
    assert all(math.isfinite(float(v)) for v in reconstruction_loss(x + 1, x, hidden=nothing))
