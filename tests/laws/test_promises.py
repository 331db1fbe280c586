"""The law of contracts: a part that breaks a promise, one alone, is refused by the name of that promise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eegm2.contracts import check_baseline, check_dataset, check_mixer, check_objective
from eegm2.data.windows.dataset import WindowDataset
from eegm2.errors import ConfigError
from eegm2.evaluation.protocols.frozen import linear_probe
from tests.evaluation.helpers import labelled_store
from tests.plugins.test_contracts import Copy, Plain, baseline


class Alone(Plain):
    def forward(self, u: Tensor, state: Any = None) -> Any:
        return super().forward(u, state)[0]


class Short(Plain):
    def forward(self, u: Tensor, state: Any = None) -> Any:
        y, after = super().forward(u, state)
        return (y[:, 1:] if u.shape[1] == 7 else y), after


class Unbounded(Plain):
    def forward(self, u: Tensor, state: Any = None) -> Any:
        y, after = super().forward(u, state)
        return y / 0, after


class Deaf(Plain):
    def forward(self, u: Tensor, state: Any = None) -> Any:
        return super().forward(u.detach(), state)


class Sideways(Plain):
    def forward(self, u: Tensor, state: Any = None) -> Any:
        y, (after,) = super().forward(u, None if state is None else (state[0].T,))
        return y, (after.T,)


class Growing(Plain):
    def forward(self, u: Tensor, state: Any = None) -> Any:
        y, (after,) = super().forward(u, None if state is None else (state[0][:, -1],))
        return y, (after[:, None].expand(-1, u.shape[1], -1),)


class Begun(Plain):
    def forward(self, u: Tensor, state: Any = None) -> Any:
        return super().forward(u, (torch.ones(len(u), u.shape[2]),) if state is None else state)


@pytest.mark.parametrize(
    ("mixer", "promise"),
    [
        (Alone, r"returns \(y, state\)"),
        (Short, "y has the shape of u at length 7"),
        (Unbounded, "y is finite"),
        (Deaf, "a gradient reaches u"),
        (Sideways, "a state is tensors, the batch first"),
        (Growing, "a state keeps its shape"),
        (Begun, "a state of zeros is the start of a recording"),
    ],
)
def test_a_mixer(mixer: Any, promise: str) -> None:
    with pytest.raises(ConfigError, match=promise):
        check_mixer(mixer)


class Twice(Copy):
    terms = ("loss", "loss")


class Endless(Copy):
    def made(self, loss: Tensor, noise: Tensor) -> Any:
        return loss, noise / 0


class Counting(Copy):
    calls = 0

    def made(self, loss: Tensor, noise: Tensor) -> Any:
        self.calls += 1
        return loss / self.calls, noise


@pytest.mark.parametrize(
    ("objective", "promise"),
    [
        (Twice, "terms have different names"),
        (Endless, "losses are finite"),
        (Counting, "what is random about a window follows from its own seed"),
    ],
)
def test_an_objective(objective: Any, promise: str) -> None:
    with pytest.raises(ConfigError, match=promise):
        check_objective(objective)


def too_few(outcome: Any, data: Any, split: Any) -> dict[str, Any]:
    return {"score": outcome.score[1:]}


def cut_by_test(outcome: Any, data: Any, split: Any) -> dict[str, Any]:
    return {"threshold": float(data.x[split.test].std())}


def of_nothing(outcome: Any, data: Any, split: Any) -> dict[str, Any]:
    return {"score": np.full_like(outcome.score, 0.5)}


def told(outcome: Any, data: Any, split: Any) -> dict[str, Any]:
    return {"score": outcome.score + 0.01 * data.y[split.test][:, None]}


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        (too_few, "there is a score of every test window"),
        (cut_by_test, "test windows do not move the threshold"),
        (of_nothing, "scores are of the test windows"),
        (told, "labels of the test part are not looked at"),
    ],
)
def test_a_baseline(change: Any, promise: str) -> None:
    def learn(features: Any, data: Any, split: Any, seed: int) -> Any:
        outcome = linear_probe(features, data, split)
        return dataclasses.replace(outcome, **change(outcome, data, split))

    with pytest.raises(ConfigError, match=promise):
        check_baseline(baseline(learn))


def test_a_baseline_may_look_at_validation_to_stop_and_for_nothing_else() -> None:
    def learn(features: Any, data: Any, split: Any, seed: int) -> Any:
        return linear_probe(features - features[split.val].mean(0) ** 2, data, split)

    with pytest.raises(ConfigError, match="validation windows do not move what is learnt"):
        check_baseline(baseline(learn))
    check_baseline(baseline(learn), stops=True)


class Empty(WindowDataset):
    def __len__(self) -> int:
        return 0


class Cropped(WindowDataset):
    def __getitem__(self, item: int) -> Any:
        made = super().__getitem__(item)
        return {**made, "x": made["x"][:, 1:]}


class Holed(WindowDataset):
    def __getitem__(self, item: int) -> Any:
        made = super().__getitem__(item)
        return {**made, "x": made["x"] / 0}


class Misnumbered(WindowDataset):
    def __getitem__(self, item: int) -> Any:
        return {**super().__getitem__(item), "index": 0}


@pytest.mark.parametrize(
    ("dataset", "promise"),
    [
        (Empty, "there are windows"),
        (Cropped, "x has shape"),
        (Holed, "x is finite"),
        (Misnumbered, "index is the window's number"),
    ],
)
def test_a_data_set(dataset: Any, promise: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=promise):
        check_dataset(dataset, labelled_store(tmp_path / "store", seconds=8.0), window_s=1.0)
