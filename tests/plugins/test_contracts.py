"""Every part of ours keeps the promises of its kind, a new one too; and a broken promise is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eegm2 import Baseline, BaselineRunner, Mixer, Objective, WindowDataset, linear_probe
from eegm2.contracts import check_baseline, check_dataset, check_mixer, check_objective
from eegm2.data.config import DATASETS
from eegm2.errors import ConfigError
from eegm2.model.config import MIXERS
from eegm2.training.objectives.options import OBJECTIVES
from tests.evaluation.helpers import labelled_store


@pytest.mark.parametrize("name", MIXERS.names)
def test_our_mixers(name: str) -> None:
    check_mixer(name)


@pytest.mark.parametrize("preset", ["eegm2", "covariance"])
@pytest.mark.parametrize("name", OBJECTIVES.names)
def test_our_objectives(name: str, preset: str) -> None:
    if preset == "covariance" and OBJECTIVES.find(name).decoder:
        pytest.skip("virtual channels are not reconstructed")
    check_objective(name, preset=preset)


@pytest.mark.parametrize("name", DATASETS.names)
def test_our_data_sets(name: str, tmp_path: Path) -> None:
    check_dataset(name, labelled_store(tmp_path / "store", seconds=12.0), window_s=1.0)


class Plain(Mixer):
    """A mean over the past, with faults to be planted."""

    causal = True

    def __init__(self, channels: int, config: Any) -> None:
        super().__init__()
        self.out = nn.Linear(channels, channels)

    def forward(self, u: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        past = u.new_zeros(len(u), u.shape[2]) if state is None else state[0]
        total = past[:, None] + u.cumsum(1)
        return self.out(total), (total[:, -1],)


class Unseeded(Plain):
    def forward(self, u: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = super().forward(u, state)
        return y + torch.rand(1), state


class Mingling(Plain):
    def forward(self, u: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(u - u.mean(0), state)


class Foreseeing(Plain):
    def forward(self, u: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(u - u.mean(1, keepdim=True), state)


class Forgetful(Plain):
    def forward(self, u: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(u, None)


class Idle(Plain):
    def __init__(self, channels: int, config: Any) -> None:
        super().__init__(channels, config)
        self.unused = nn.Linear(2, 2)


class Hidden(Plain):
    def __init__(self, channels: int, config: Any) -> None:
        super().__init__(channels, config)
        self.secret = torch.randn(channels)

    def forward(self, u: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(u * self.secret, state)


@pytest.mark.parametrize(
    ("mixer", "promise"),
    [
        (Unseeded, "in evaluation mode the same u gives the same y"),
        (Mingling, "windows of a batch do not see each other"),
        (Foreseeing, "depends on no later step"),
        (Forgetful, "goes on from the state"),
        (Idle, "every weight takes part in y; unused.weight, unused.bias has no gradient"),
        (Hidden, "the state dict holds everything"),
    ],
)
def test_a_mixer_that_breaks_a_promise(mixer: type[Mixer], promise: str) -> None:
    check_mixer(Plain)
    with pytest.raises(ConfigError, match=promise):
        check_mixer(mixer)


class Copy(Objective):
    """Reconstruct windows with noise from their seeds, with faults to be planted."""

    terms = ("loss", "noise")

    def forward(self, model: Any, x: Tensor, seeds: Any, origin: Any = None) -> Any:
        noise = torch.stack([self.noise(seed, place, x.shape[1:]) for place, seed in enumerate(seeds)])
        return self.made((model(x + noise) - x).abs().mean(), noise.abs().mean())

    def noise(self, seed: int, place: int, shape: Any) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def made(self, loss: Tensor, noise: Tensor) -> Any:
        return loss, noise


class OfTheGlobalGenerator(Copy):
    def noise(self, seed: int, place: int, shape: Any) -> Tensor:
        return torch.randn(shape)


class OfThePlace(Copy):
    def noise(self, seed: int, place: int, shape: Any) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(place)) * 10


class Attached(Copy):
    def made(self, loss: Tensor, noise: Tensor) -> Any:
        return loss, loss * 2


class Cut(Copy):
    def made(self, loss: Tensor, noise: Tensor) -> Any:
        return torch.ones((), requires_grad=True) * loss.detach(), noise


class Unnamed(Copy):
    terms = ("error", "noise")


@pytest.mark.parametrize(
    ("objective", "promise"),
    [
        (OfTheGlobalGenerator, "chance is drawn from the seeds"),
        (OfThePlace, "follows from its own seed"),
        (Attached, "detached"),
        (Cut, "a gradient reaches the network"),
        (Unnamed, "the first of its terms is loss"),
    ],
)
def test_an_objective_that_breaks_a_promise(objective: type[Objective], promise: str) -> None:
    check_objective(Copy)
    with pytest.raises(ConfigError, match=promise):
        check_objective(objective)


@dataclasses.dataclass(frozen=True)
class Nothing:
    """No options."""


def spread(data: Any) -> np.ndarray:
    """Return the standard deviation of every channel and window."""
    return np.asarray(data.x.std(-1))


def baseline(learn: Callable[[np.ndarray, Any, Any, int], Any]) -> Baseline:
    """Return a declaration that learns so."""
    return Baseline("spread", "for tests", lambda name, rate, options: BaselineRunner(spread, learn), Nothing)


def of_all(features: np.ndarray, data: Any, split: Any, seed: int) -> Any:
    return linear_probe(features / features[split.test].mean(), data, split)


def of_labels(features: np.ndarray, data: Any, split: Any, seed: int) -> Any:
    made = linear_probe(features, data, split)
    return dataclasses.replace(made, score=made.score + 0.01 * data.y[split.test][:, None])


def of_validation(features: np.ndarray, data: Any, split: Any, seed: int) -> Any:
    return linear_probe(features - features[split.val].mean(0) ** 2, data, split)


@pytest.mark.parametrize(
    ("learn", "promise"),
    [
        (of_all, "test windows do not move what is learnt"),
        (of_labels, "labels of the test part are not looked at"),
    ],
)
def test_a_baseline_that_breaks_a_promise(learn: Any, promise: str) -> None:
    check_baseline(baseline(lambda f, data, split, seed: linear_probe(f, data, split)))
    with pytest.raises(ConfigError, match=promise):
        check_baseline(baseline(learn))


class Noisy(WindowDataset):
    def read(self, row: int, start: int, out: np.ndarray) -> None:
        super().read(row, start, out)
        out += torch.rand(1).numpy()


class Apart(WindowDataset):
    def __getitems__(self, items: Any) -> Any:
        made = super().__getitems__(items)
        made.batch["x"] += 1
        return made


class Everybody(WindowDataset):
    def __init__(self, store: Any, config: Any, *, subjects: Any = None, **chosen: Any) -> None:
        super().__init__(store, config, **chosen)


class Double(WindowDataset):
    def window(self, row: int, start: int) -> np.ndarray:
        return super().window(row, start).astype(np.float64)


@pytest.mark.parametrize(
    ("dataset", "promise"),
    [
        (Noisy, "the same numbers every time"),
        (Apart, "windows read together are those read one by one"),
        (Everybody, "subjects= leaves the others out"),
        (Double, "x is float32"),
    ],
)
def test_a_data_set_that_breaks_a_promise(dataset: type, promise: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=promise):
        check_dataset(dataset, labelled_store(tmp_path / "store", seconds=12.0), window_s=1.0)
