"""What decays, by how much a step moves, and that the cycle changes the rate and nothing else."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from eegm2.training.config import PretrainConfig
from eegm2.training.optimiser import UNDECAYED, adamw, adamw_and_cycle, decay_groups


def named() -> dict[str, torch.nn.Parameter]:
    shapes = {"a.weight": (2, 3), "a.bias": (3,), "norm.weight": (4,), "conv.weight": (2, 1, 3)}
    shapes |= {f"mixer.{name}": (2, 2) for name in UNDECAYED} | {"D.weight": (2, 2), "frozen": (2, 2)}
    made = {name: torch.nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    made["frozen"].requires_grad_(False)
    return made


@pytest.mark.parametrize(
    ("decayed", "spared"), [("all", set()), ("matrices", {"a.bias", "norm.weight"})], ids=["all", "matrices"]
)
def test_what_is_trained_is_in_one_group_and_what_is_spared_does_not_decay(
    decayed: str, spared: set[str]
) -> None:
    parameters = named()
    groups = decay_groups(parameters.items(), 0.3, decayed)  # type: ignore[arg-type]
    name_of = {id(p): name for name, p in parameters.items()}
    found = {g["weight_decay"]: sorted(name_of[id(p)] for p in g["params"]) for g in groups}
    never = {f"mixer.{name}" for name in UNDECAYED} | spared
    assert found == {0.3: sorted({*parameters} - never - {"frozen"}), 0.0: sorted(never)}
    assert decay_groups([("frozen", parameters["frozen"])], 0.3, decayed) == []  # type: ignore[arg-type]


def test_a_step_is_adamws_in_one_pass_on_a_cpu() -> None:
    """Decoupled decay (Loshchilov & Hutter 2019): the first step moves by ``lr (sign g + decay w)``."""
    w = torch.nn.Parameter(torch.tensor([[2.0, -3.0]]))
    optimiser = adamw([{"params": [w], "weight_decay": 0.1}], lr=0.01)
    assert optimiser.defaults["fused"] is True
    w.grad = torch.tensor([[5.0, 0.2]])
    optimiser.step()
    torch.testing.assert_close(w.detach(), torch.tensor([[2.0 - 0.01 - 0.002, -3.0 - 0.01 + 0.003]]))
    elsewhere = adamw([{"params": [torch.nn.Parameter(torch.ones(1, device="meta"))]}], lr=0.01)
    assert elsewhere.defaults["fused"] is None


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "pct_start"), [(2, 10, 0.3), (1, 1, 0.5), (1, 10, 0.1), (3, 7, 0.9)]
)
def test_the_cycle_is_two_half_cosines_of_the_rate_alone(
    epochs: int, per_epoch: int, pct_start: float
) -> None:
    options = {"max_lr": 0.4, "div_factor": 8.0, "final_div_factor": 50.0, "weight_decay": 0.2}
    config = dataclasses.replace(PretrainConfig(), epochs=epochs, pct_start=pct_start, **options)
    model = torch.nn.Linear(2, 1)
    optimiser, scheduler = adamw_and_cycle(model, config, per_epoch)
    steps = max(2, epochs * per_epoch)
    up = (1.5 if pct_start * steps == 1 else pct_start * steps) - 1
    for step in range(steps):
        low, share = (0.05, step / up) if step <= up else (0.001, 1 - (step - up) / (steps - 1 - up))
        expected = low + (0.4 - low) * (1 - math.cos(math.pi * share)) / 2
        assert optimiser.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-6), step
        assert all(group["betas"] == (0.9, 0.999) for group in optimiser.param_groups), step
        assert sorted(group["weight_decay"] for group in optimiser.param_groups) == [0.2]
        optimiser.step()
        if step < steps - 1:
            scheduler.step()
