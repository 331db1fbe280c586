"""What decays, and a teacher that follows: which weights, by how much, and what they see."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from eegm2.data.store.recording_store import RecordingStore
from eegm2.model.config import EEGM2Config
from eegm2.model.network import build_model
from eegm2.training.config import PretrainConfig
from eegm2.training.objectives.base import Origin
from eegm2.training.optimiser import adamw, adamw_and_cycle, decay_groups
from tests.laws.test_objectives_by_definition import OSCILLATORY, drawn, task
from tests.training.stores import tiny_store

CHANNELS = ("Fp1", "Fp2", "C3", "C4", "O1", "O2", "Pz")
#: mamba_ssm's own, and those whose zero means a frequency, a width or no shrinkage.
NEVER = {"A_log", "D", "dt_bias", "log_centre_hz", "log_width_hz", "shrinkage_logit"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return tiny_store(tmp_path_factory.mktemp("data") / "s", subjects=2, seconds=5, channels=CHANNELS)


def network_of(preset: str) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_virtual": 5} if preset == "covariance" else {}
    return build_model(EEGM2Config.preset(preset, n_chans=7, width=8, **sizes))


@pytest.mark.parametrize("decayed", ["all", "matrices"])
@pytest.mark.parametrize("preset", ["eegm2", "s1", "s3", "s5", "unet", "covariance"])
def test_weights_shrink_by_rate_times_decay_and_spared_ones_not_at_all(preset: str, decayed: Any) -> None:
    """Seen by a step without gradients, which moves nothing else (Loshchilov & Hutter, 2019)."""
    model = network_of(preset)
    named = dict(model.named_parameters())
    frozen = next(iter(named))
    named[frozen].requires_grad_(False)
    with torch.no_grad():
        for parameter in named.values():
            parameter.add_(torch.sign(parameter) + (parameter == 0))  # none is near zero
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    optimiser = adamw(decay_groups(model.named_parameters(), 0.4, decayed), lr=0.25)
    for parameter in named.values():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    seen = set()
    for name, parameter in named.items():
        last = name.split(".")[-1]
        vector = before[name].dim() < 2
        spared = name == frozen or last in NEVER or (decayed == "matrices" and vector)
        seen.add((last in NEVER, vector))
        torch.testing.assert_close(parameter.detach(), before[name] * (1.0 if spared else 0.9), msg=name)
    assert {(False, True), (False, False)} <= seen
    if preset in ("eegm2", "s1", "s3", "covariance"):
        assert any(never for never, _ in seen)


@pytest.mark.parametrize("decayed", ["all", "matrices"])
def test_a_run_decays_what_its_options_say(decayed: Any) -> None:
    config = dataclasses.replace(
        PretrainConfig(), weight_decay=0.07, decayed=decayed, max_lr=0.3, div_factor=3.0
    )
    model = network_of("covariance")
    optimiser, _ = adamw_and_cycle(model, config, 10)
    decay = {id(p): g["weight_decay"] for g in optimiser.param_groups for p in g["params"]}
    assert all(g["lr"] == pytest.approx(0.1) for g in optimiser.param_groups)
    assert len(decay) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        spared = name.split(".")[-1] in NEVER or (decayed == "matrices" and parameter.dim() < 2)
        assert decay[id(parameter)] == (0.0 if spared else 0.07), name
    plain = decay_groups(torch.nn.Linear(3, 2, bias=False).named_parameters(), 0.1, decayed)
    assert [g["weight_decay"] for g in plain] == [0.1]
    bare = decay_groups(torch.nn.LayerNorm(3).named_parameters(), 0.1, decayed)
    assert [g["weight_decay"] for g in bare] == [0.1 if decayed == "all" else 0.0]


@pytest.mark.parametrize(("first", "last"), [(0.5, 0.9), (0.99, 0.9995), (0.0, 0.0)])
def test_a_teacher_follows_ever_more_slowly(first: float, last: float, store: RecordingStore) -> None:
    """By a half cosine from one decay to the other; every weight alike, and nothing of it is trained."""
    network, objective = task(store, teacher_decay=first, teacher_decay_end=last)
    teacher = objective.teacher
    assert teacher is not None
    for mine, theirs in zip(teacher.parameters(), network.parameters()):
        torch.testing.assert_close(mine, theirs)
        assert mine is not theirs
        assert not mine.requires_grad
    trained = {id(parameter) for parameter in objective.parameters() if parameter.requires_grad}
    assert not trained & {id(parameter) for parameter in teacher.parameters()}
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.add_(1.0 + number)
    expected = [parameter.detach().double().clone() for parameter in teacher.parameters()]
    for progress in (0.0, 0.25, 0.5, 1.0, 1.7):
        decay = first + (last - first) * (1 - math.cos(math.pi * min(progress, 1.0))) / 2
        expected = [decay * a + (1 - decay) * b.double() for a, b in zip(expected, network.parameters())]
        objective.follow(network, progress)
        for mine, wanted in zip(teacher.parameters(), expected):
            torch.testing.assert_close(mine.double(), wanted, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("latent", "contrast", "there"), [(1.0, 0.0, True), (0.0, 1.0, True), (0.0, 0.0, False), (1.0, 1.0, True)]
)
def test_there_is_a_teacher_where_its_states_are_predicted_or_told_apart(
    latent: float, contrast: float, there: bool, store: RecordingStore
) -> None:
    network, objective = task(store, latent=latent, contrast=contrast)
    assert (objective.teacher is not None) == there
    objective.follow(network, 0.5)
    assert ("latent" in objective.terms) == (latent > 0)
    assert ("pooled_latent" in objective.terms) == (latent > 0)
    assert ("contrast" in objective.terms) == (contrast > 0)


def test_a_teacher_sees_the_whole_window_and_the_network_what_is_left(store: RecordingStore) -> None:
    """Neither what is hidden, missing or added in training reaches it, nor does a gradient."""
    options = {"channel_dropout": 0.4, "gain_db": 3.0, "aperiodic_noise": 0.5}
    network, objective = task(store, **options)
    states, shown = objective.view.states, []

    def watched(model: Any, x: torch.Tensor, number: int, kept: Any, hidden: Any) -> torch.Tensor:
        shown.append((model is objective.teacher, x.detach().clone(), kept, hidden))
        return states(model, x, number, kept, hidden)

    object.__setattr__(objective.view, "states", watched)
    x = drawn(8, 7, 64)
    objective.train()
    loss, *_ = objective(network, x, range(8), Origin(0, [0] * 4 + [1] * 4))
    loss.backward()
    of_teacher = [entry for entry in shown if entry[0]]
    of_network = [entry for entry in shown if not entry[0]]
    assert len(of_teacher) == len(of_network) == 1
    torch.testing.assert_close(of_teacher[0][1], x)
    assert of_teacher[0][2:] == (None, None)
    assert float((of_network[0][1] - x).abs().max()) > 0.1
    assert not bool(of_network[0][2].all())
    assert bool(of_network[0][3].any())
    assert objective.teacher is not None
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    assert any(parameter.grad is not None for parameter in network.parameters())


def test_weights_of_the_terms_are_those_asked_for(store: RecordingStore) -> None:
    weights = {"band_power": 0.7, "tangent": 1.3, "latent": 2.1, "variance": 0.4, "covariance": 0.3}
    network, objective = task(store, **weights, contrast=1.7, pooled=0.6)
    objective.eval()
    loss, *parts = objective(network, drawn(8, 7, 64), range(8), Origin(0, [0] * 4 + [1] * 4))
    assert objective.terms[0] == "loss"
    named = dict(zip(objective.terms[1:], map(float, parts)))
    every = {**weights, "contrast": 1.7}
    every |= {f"pooled_{name}": 0.6 * every[name] for name in ("band_power", "tangent", "latent")}
    assert set(named) == set(every)
    assert float(loss.detach()) == pytest.approx(
        sum(every[name] * value for name, value in named.items()), rel=1e-5
    )
    assert all(value > 0 for value in named.values())
    assert OSCILLATORY.contrast == 0.5


def test_predicted_are_the_mean_states_of_patches_and_of_windows(store: RecordingStore) -> None:
    """Of the network's own states, steps of a patch alike; counted where it is hidden, or everywhere."""
    for share in (0.5, 0.0):
        network, objective = task(store, hide_time=share, patch_s=0.75)
        states, given, seen = objective.view.states, [], []

        def watched(model: Any, *rest: Any, states: Any = states, seen: Any = seen) -> torch.Tensor:
            found = states(model, *rest)
            seen.append((found, rest[-1]))
            return found

        predicted = objective._predicted

        def kept(*arguments: Any, predicted: Any = predicted, given: Any = given) -> Any:
            given.append(arguments)
            return predicted(*arguments)

        object.__setattr__(objective.view, "states", watched)
        object.__setattr__(objective, "_predicted", kept)
        objective.eval()
        with torch.no_grad():
            objective(network, drawn(6, 7, 70), range(6), Origin(0, [0] * 6))
        ((of_patch, pooled, _, counted),) = given
        own, hidden = seen[-1]
        steps = objective.patch // objective.view.step
        n_patches = 70 // objective.patch
        assert (steps, n_patches) == (3, 2)
        for patch in range(n_patches):
            part = own[:, patch * steps : (patch + 1) * steps]
            torch.testing.assert_close(of_patch[:, patch], part.mean(1))
            inside = hidden[:, patch * steps : (patch + 1) * steps]
            assert torch.equal(inside.all(1), inside.any(1))
            assert torch.equal(counted[:, patch], inside.all(1) if share else torch.ones(6, dtype=torch.bool))
        assert not bool(hidden[:, n_patches * steps :].any())
        torch.testing.assert_close(pooled, objective.view.pool(own, network.config))


def test_a_run_keeps_of_its_task_what_is_learnt_and_nothing_of_the_montage(store: RecordingStore) -> None:
    """Heads, teacher, first filter bank and what standardises targets: stored runs go on with these."""
    _, objective = task(store, neighbours=1.0)
    kept = {name.split(".")[0] for name in objective.state_dict()}
    assert kept == {
        *("patch_head", "pooled_head", "projection", "neighbours_head", "neighbourhoods", "teacher"),
        *("tangents", "standards", "view"),
    }
    apart = ("places", "bins", "weights", "taper")
    assert not [name for name in objective.state_dict() if name.split(".")[-1].rstrip("0123456789") in apart]
    standards = {name for name in objective.state_dict() if name.startswith("standards.")}
    names = ("band_power", "tangent", "pooled_band_power", "pooled_tangent")
    assert standards == {f"standards.{n}.{part}" for n in names for part in ("mean", "square", "batches")}
