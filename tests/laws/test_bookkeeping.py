"""Laws of what a run counts: means over windows, people and shares of stores, the share that is done."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from eegm2.data.store.facts import RecordingInfo
from eegm2.data.windows.pooled import PoolWindows
from eegm2.training.learner import Learner
from eegm2.training.means import Means, together
from eegm2.training.objectives.augment import Augment
from eegm2.training.objectives.options import AugmentOptions, ObjectiveOptions
from eegm2.training.objectives.reconstruction import Reconstruction
from eegm2.training.pretrain import pretrain
from eegm2.training.pretrain_step import PretrainStep
from eegm2.training.run_record import with_windows
from tests.training.stores import tiny_store
from tests.training.test_pretrain import TINY, rows


class Watch:
    """What a run does, step by step; its losses differ from batch to batch by more than chance."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.losses: dict[bool, list[tuple[int, float]]] = {True: [], False: []}
        self.progress: list[float] = []
        self.weights: list[torch.Tensor] = []
        self.average = torch.empty(0)
        true, take, watch = Learner.losses, PretrainStep.take, self

        def losses(learner: Learner, model: Any, batch: Any, epoch: int, windows: Any) -> Any:
            first, *rest = true(learner, model, batch, epoch, windows)
            n = len(batch["x"])
            watch.losses[epoch >= 0].append((n, float(first.detach()) + 10 * n))
            return (first + 10 * n, *rest)

        def taken(step: PretrainStep, *args: Any) -> None:
            take(step, *args)
            learner = step.learner
            watch.weights.append(torch.nn.utils.parameters_to_vector(learner.model.parameters()).detach())
            assert learner.average is not None
            watch.average = torch.nn.utils.parameters_to_vector(learner.average.module.parameters())

        monkeypatch.setattr(Learner, "losses", losses)
        monkeypatch.setattr(PretrainStep, "take", taken)
        monkeypatch.setattr(Reconstruction, "follow", lambda _, __, done: watch.progress.append(done))


def mean(counted: list[tuple[int, float]]) -> float:
    return sum(n * value for n, value in counted) / sum(n for n, _ in counted)


def test_a_run_counts_windows_and_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of batches of unlike sizes: losses are means over windows; the average is of weights after a step."""
    watch = Watch(monkeypatch)
    config = dataclasses.replace(TINY, batch_size=5, ema_decay=0.7, max_lr=5e-3)
    pretrain(tiny_store(tmp_path / "store", seconds=7.0), tmp_path / "run", config)
    for name, training in (("train_loss", True), ("val_loss", False)):
        counted = watch.losses[training]
        assert len({n for n, _ in counted}) > 1
        half = len(counted) // 2
        for row, of_epoch in zip(rows(tmp_path / "run"), (counted[:half], counted[half:])):
            assert row[name] == pytest.approx(mean(of_epoch), rel=1e-5), name
    steps = len(watch.losses[True])
    assert watch.progress == pytest.approx([(step + 1) / steps for step in range(steps)])
    average, *later = watch.weights
    for weights in later:
        average = 0.7 * average + 0.3 * weights
    torch.testing.assert_close(watch.average, average)


@pytest.mark.parametrize("shares", [(0.9, 0.1), (3.0, 1.0), (0.5, 0.5)])
def test_stores_count_by_their_shares_not_by_their_windows(shares: tuple[float, float]) -> None:
    means = {"a": Means(("loss", "l1")), "b": Means(("loss", "l1"))}
    means["a"].add((2.0, 1.0), 3)
    means["b"].add((5.0, 7.0), 100)
    found = together(means, dict(zip("ab", shares)))
    a, b = (share / sum(shares) for share in shares)
    assert found == pytest.approx({"loss": 2 * a + 5 * b, "l1": a + 7 * b, "loss/a": 2.0, "loss/b": 5.0})


class Windows:
    """What is known of windows of two stores: the person of each recording, and eight windows of each."""

    pool = ("one", "two")

    def __init__(self, *people: str) -> None:
        self.people = people

    def __len__(self) -> int:
        return 8 * len("".join(self.people))

    def of_store(self, number: int) -> Any:
        recordings = [
            RecordingInfo(f"r{i}", who, "", 8, 1.0, ()) for i, who in enumerate(self.people[number])
        ]
        return Part(recordings)


class Part(list[int]):
    """Windows of one store."""

    def __init__(self, recordings: list[RecordingInfo]) -> None:
        super().__init__(range(8 * len(recordings)))
        self.recordings = recordings


def test_people_are_counted_once_however_many_recordings_they_have() -> None:
    train, val = (cast(PoolWindows, Windows(*people)) for people in (("aac", "xx"), ("bb", "y")))
    facts = with_windows({"stores": [{}, {}]}, train, val, (0.5, 0.5))
    assert [(s["n_train_subjects"], s["n_val_subjects"]) for s in facts["stores"]] == [(2, 1), (1, 1)]
    assert [(s["n_train_windows"], s["n_val_windows"]) for s in facts["stores"]] == [(24, 16), (16, 8)]
    assert (facts["n_train_windows"], facts["n_val_windows"]) == (40, 24)


AUGMENTED = AugmentOptions(
    gain_db=3.0, sign=0.5, rereference=1.0, aperiodic_noise=0.5, channel_dropout=0.4, channel_subsets=1.0
)


@pytest.mark.parametrize("objective", ["reconstruction", "masked", "denoising"])
def test_validation_knows_no_augmentation(objective: str) -> None:
    """What is seen and what is to be given are the same with any augmentation, and so without one."""
    x = torch.randn(6, 8, 64, generator=torch.Generator().manual_seed(0))
    options = ObjectiveOptions(objective=objective)

    def shown(augmented: bool, training: bool) -> torch.Tensor:
        task = Reconstruction(options, 32.0, Augment(AUGMENTED, 32.0) if augmented else None)
        seen: list[torch.Tensor] = []

        def network(x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return torch.zeros_like(x)

        loss = task.train(training)(network, x, list(range(6))).loss
        return torch.cat([seen[0].flatten(), loss[None]])

    torch.testing.assert_close(shown(True, training=False), shown(False, training=False))
    assert not torch.equal(shown(True, training=True), shown(False, training=True))


def test_of_n_channels_the_average_is_as_likely_a_reference_as_each() -> None:
    x, seeds = torch.randn(900, 2, 16, generator=torch.Generator().manual_seed(0)), range(900)
    gone = x - Augment(AugmentOptions(rereference=1.0), 32.0).changed(x, seeds)
    shares = [
        float(torch.isclose(gone[:, 0], reference, atol=1e-5).all(-1).float().mean())
        for reference in (x[:, 0], x[:, 1], x.mean(1))
    ]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.06)
