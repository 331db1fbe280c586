"""What an objective promises the loop: as many numbers as it names, or its author is told what it gave."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eegm2.errors import ConfigError
from eegm2.training.objectives.base import Objective, Origin, refuse_network

ONE, ORIGIN = torch.tensor(1.0), Origin(0, [0])


class Given(Objective):
    """Gives what it was given."""

    terms = ("loss", "part")

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found

    def forward(self, *_: Any) -> Any:
        return self.found


@pytest.mark.parametrize("kind", [tuple, list])
def test_as_many_numbers_as_it_names_are_taken(kind: type) -> None:
    found = kind([ONE, ONE])
    assert Given(found).losses(None, torch.zeros(1), [0], ORIGIN) is found


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (ONE, "a Tensor, expected a tuple of 2 numbers: loss, part"),
        ((ONE,), r"a tuple of shapes \[\(\)\], expected"),
        ([ONE, ONE, ONE], r"a list of shapes \[\(\), \(\), \(\)\], expected"),
        ((torch.ones(3), ONE), r"a tuple of shapes \[\(3,\), \(\)\], expected"),
        ((), "a tuple, expected"),
        (None, "a NoneType, expected"),
        ({"loss": ONE, "part": ONE}, "a dict, expected"),
    ],
    ids=str,
)
def test_anything_else_is_refused_by_what_it_is(found: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"objective Given: forward gave {said}"):
        Given(found).losses(None, torch.zeros(1), [0], ORIGIN)


def test_a_network_that_does_not_suit_is_refused_and_no_other() -> None:
    setting: Any = SimpleNamespace(config=SimpleNamespace(objective="masked", preset="light"))
    refuse_network(setting, True, "a decoder")
    with pytest.raises(ConfigError, match="objective: masked needs a decoder; preset light has none"):
        refuse_network(setting, False, "a decoder")


@pytest.mark.parametrize("numbers", [[4], [4, 9, 2]])
def test_a_batch_is_of_the_store_of_its_windows_however_few(numbers: list[int]) -> None:
    windows: Any = SimpleNamespace(store_of=lambda n: 10 * n, recordings_of=lambda n: [100 + i for i in n])
    assert Origin.of(windows, numbers) == (40, [100 + i for i in numbers], windows, numbers)


def test_without_a_setting_there_are_no_options_and_parts_are_modules() -> None:
    assert Objective().options is None
    assert Objective(SimpleNamespace(options=3)).options == 3  # type: ignore[arg-type]
    part = Given(None)
    part.head = torch.nn.Linear(1, 1)
    assert [name for name, _ in part.named_parameters()] == ["head.weight", "head.bias"]
    assert Origin(0, [1]).numbers == ()
