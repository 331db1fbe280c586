"""Centred fine-tuning: begins with the centred probe, learns what centring leaves, refuses what it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import FitConfig, ProbeConfig
from eegm2.evaluation.features.centring import centre_features
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.evaluation.protocols import tuning
from eegm2.evaluation.protocols.centred import TOGETHER, Centring
from eegm2.evaluation.protocols.fitting import History, Task, fit, outputs
from eegm2.evaluation.protocols.frozen import linear_probe
from eegm2.evaluation.protocols.modes import fine_tune, run_protocol
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.model.features import feature_views
from eegm2.model.heads import Downstream
from tests.evaluation.helpers import labelled_arrays, tiny_model
from tests.evaluation.protocols.test_modes import by_subject, tokens_network

BEGUN = FitConfig(max_epochs=1, lr=1e-30, head="statistics", begin="probe")


@pytest.fixture(scope="module")
def data() -> LabelledWindows:
    """Windows in much noise, in order, that each person has at a gain of their own."""
    made = labelled_arrays(n_times=64)
    gain = 4.0 ** np.arange(6)[[int(name[-1]) for name in made.subject]]
    noise = 2.5 * np.random.default_rng(3).standard_normal(made.x.shape)
    x = ((made.x + noise) * gain[:, None, None]).astype(np.float32)
    return replace(made, x=x, start_s=np.arange(len(made)).astype(float))


class Offsets(torch.nn.Module):
    """Two numbers of a window are its features; a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        with torch.no_grad():
            self.network.weight.copy_(torch.eye(2))

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)

    def answer(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features)


def shifted(n: int = 24) -> tuple[LabelledWindows, Split]:
    """Two numbers a window: one tells the classes apart within a recording, both have large offsets."""
    rng = np.random.default_rng(0)
    recording = np.repeat([f"r{i}" for i in range(9)], n)
    y = np.tile([0, 1], 9 * n // 2)
    offset = np.repeat(rng.normal(0, 20, (9, 2)), n, axis=0)
    x = offset + rng.normal(0, 0.5, (9 * n, 2)) + np.stack([2.0 * y, 0 * y], 1)
    made = LabelledWindows.from_arrays(x[:, None], y, recording, recording)
    parts = [np.flatnonzero(np.isin(recording, [f"r{i}" for i in who])) for who in (range(5), (5, 6), (7, 8))]
    return replace(made, x=made.x[:, 0], start_s=np.tile(np.arange(n), 9).astype(float)), Split(*parts)


def task_of(made: LabelledWindows, split: Split, centring: Centring | None) -> Task:
    return Task(lambda i: torch.from_numpy(made.x[i]), made.y, split.train, split.val, 2, centring)


@pytest.mark.parametrize("centre", ["recording", "running"])
def test_it_begins_with_the_centred_probe_of_frozen_features(centre: str, data: LabelledWindows) -> None:
    split, model = by_subject(data), tokens_network(data)
    features = extract_features(model, data, kind="tangent_state")
    views = feature_views("tangent_state", model.config)
    probe, plain = (
        linear_probe(features, data, split, c="people", centre=how, views=views) for how in (centre, "none")
    )
    made, _ = fine_tune("fine", data, split, model=model, seed=0, config=BEGUN, centre=centre)  # type: ignore[arg-type]
    assert made.facts["best_epoch"] == -1
    np.testing.assert_allclose(made.score, probe.score, atol=1e-5)
    np.testing.assert_allclose(made.val_score, probe.val_score, atol=1e-12)
    assert made.threshold == probe.threshold
    assert made.facts["begun_with"] == {"c": probe.facts["c"], "shares": probe.facts["shares"]}
    assert np.abs(probe.score - plain.score).max() > 1e-2, "centring is something here"


def test_the_first_round_begins_with_the_probe_of_those_who_train(data: LabelledWindows) -> None:
    """So that people who validate judge what they have not taught."""
    split, model = by_subject(data), tokens_network(data)
    tuned = replace(BEGUN, lr=1e-3, max_epochs=2)
    spoilt = replace(data, y=np.where(np.isin(np.arange(len(data)), split.val), 1 - data.y, data.y))
    first, other = (
        fine_tune("fine", d, split, model=model, seed=0, config=tuned, centre="recording")[0].facts
        for d in (data, spoilt)
    )
    assert first["train_loss"] == other["train_loss"]
    assert first["val_loss"] != other["val_loss"]


def test_people_who_validate_are_learnt_from_once_they_have_said_when_to_stop(data: LabelledWindows) -> None:
    split, model = by_subject(data), tokens_network(data)
    tuned = replace(BEGUN, lr=3e-4, max_epochs=3, patience=3)
    made, network = fine_tune("fine", data, split, model=model, seed=0, config=tuned, centre="recording")
    best = made.facts["best_epoch"]
    assert best >= 0
    assert len(made.facts["again_loss"]) == best + 1
    assert made.facts["val_loss"][best] == min(made.facts["val_loss"])
    begun, _ = fine_tune("fine", data, split, model=model, seed=0, config=BEGUN, centre="recording")
    assert np.abs(made.score - begun.score).max() > 1e-4
    assert not network.training


@pytest.mark.parametrize("regression", [False, True])
def test_the_second_round_keeps_the_scale_and_the_first_one_judges(
    regression: bool, data: LabelledWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a learning rate of next to nothing, both rounds are the probes that they begin with."""
    split, model = by_subject(data), tokens_network()
    if regression:  # values of those who validate lie elsewhere
        far = 50.0 * np.isin(np.arange(len(data)), split.val)
        data = replace(data, y=data.y + far + np.random.default_rng(0).random(len(data)), classes=())
    fitted = tuning.fit

    def first_epoch_counts(network: torch.nn.Module, task: Task, *args: Any, **kwargs: Any) -> History:
        made = fitted(network, task, *args, **kwargs)
        made.best_epoch = 0
        return made

    monkeypatch.setattr(tuning, "fit", first_epoch_counts)
    config = replace(BEGUN, batch_size=len(data), class_weights="none")
    made, _ = fine_tune("fine", data, split, model=model, seed=0, config=config, centre="recording")
    views = feature_views("tangent_state", model.config)
    features = extract_features(model, data, kind="tangent_state")
    learnt, nobody = np.concatenate([split.train, split.val]), split.val[:0]

    def probe(*parts: np.ndarray) -> np.ndarray:
        return linear_probe(features, data, Split(*parts), c="people", centre="recording", views=views).score

    np.testing.assert_allclose(made.score, probe(split.train, split.val, split.test), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(made.val_score, probe(split.train, nobody, split.val), rtol=1e-4, atol=1e-4)
    found = probe(split.train, split.val, learnt)
    if regression:
        loss = np.mean(((found - data.y[learnt]) / data.y[split.train].std()) ** 2)
    else:
        loss = -np.log(found[np.arange(len(learnt)), data.y[learnt]]).mean()
    np.testing.assert_allclose(made.facts["again_loss"], [loss], rtol=1e-3)


def test_the_first_step_sees_what_is_centred_offline_and_batches_have_recordings_together() -> None:
    made, split = shifted()
    centring = Centring(made, "recording", 32)
    pooled = lambda rows: torch.from_numpy(made.x[rows])  # noqa: E731
    centring.begin(pooled, split.train)
    batches = centring.batches(split.train, torch.Generator().manual_seed(0))
    assert sorted(np.concatenate(batches)) == sorted(split.train)
    expected = centre_features(made.x, made, "recording")
    for indices in batches:
        assert len(indices) <= 32 + TOGETHER
        _, counts = np.unique(made.recording[indices], return_counts=True)
        assert counts.min() >= TOGETHER
        found = centring.learning(pooled(indices), indices)
        np.testing.assert_allclose(found, expected[indices], atol=1e-5)


def test_what_has_moved_since_is_centred_by_the_batch_and_a_common_shift_has_no_gradient() -> None:
    made, split = shifted()
    centring = Centring(made, "recording", 32)
    centring.begin(lambda rows: torch.from_numpy(made.x[rows]), split.train)
    indices = centring.batches(split.train, torch.Generator().manual_seed(0))[0]
    scale = torch.tensor([1.5, 0.5], requires_grad=True)
    shift = torch.zeros(2, requires_grad=True)
    found = centring.learning(torch.from_numpy(made.x[indices]) * scale + shift, indices)
    moved = made.x[indices] * np.array([0.5, -0.5])
    for name in np.unique(made.recording[indices]):
        rows = made.recording[indices] == name
        moved[rows] -= moved[rows].mean(0)
    expected = centre_features(made.x, made, "recording")[indices] + moved
    np.testing.assert_allclose(found.detach(), expected, atol=1e-4)
    found.square().sum().backward()
    assert shift.grad is not None
    assert scale.grad is not None
    assert shift.grad.abs().max() < 1e-3 < scale.grad.abs().max()


def test_a_network_learns_what_offsets_hide() -> None:
    made, split = shifted()
    config = FitConfig(max_epochs=25, lr=3e-2, batch_size=32, patience=25)
    aurocs = []
    for centre in ("none", "recording"):
        torch.manual_seed(0)
        network = Offsets()
        network.forward = lambda x, net=network: net.answer(net.pooled(x))  # type: ignore[method-assign]
        task = task_of(made, split, Centring(made, centre, 32) if centre != "none" else None)  # type: ignore[arg-type]
        fit(network, task, config, 0)
        score = outputs(network, task, split.test, config).softmax(1).numpy()
        aurocs.append(classification_metrics(made.y[split.test], score).values["auroc"])
    assert aurocs[1] > 0.95
    assert aurocs[0] < 0.8


def test_a_recording_of_one_window_is_at_its_mean() -> None:
    """As in the frozen probe: nothing is known of it, and it gets the answer of a mean window."""
    made, split = shifted()
    one = replace(made, recording=made.recording.copy())
    one.recording[split.train[0]] = "alone"
    centring = Centring(one, "recording", 32)
    indices = split.train[:1]
    assert centring.judging(lambda rows: torch.from_numpy(one.x[rows]), indices).abs().max() == 0
    centring.begin(lambda rows: torch.from_numpy(one.x[rows]), split.train)
    found = centring.learning(torch.from_numpy(one.x[indices]) + 5, indices)
    assert found.abs().max() < 1e-5


@pytest.mark.parametrize("centre", ["recording", "running"])
def test_some_windows_are_centred_on_all_of_their_recording(centre: str) -> None:
    made, _ = shifted()
    made = replace(made, start_s=made.start_s[::-1].copy())
    centring = Centring(made, centre, 32)  # type: ignore[arg-type]
    some = np.array([50, 3, 90, 51])
    expected = centre_features(made.x, made, centre)[some]  # type: ignore[arg-type]
    pooled = lambda rows: torch.from_numpy(made.x[rows])  # noqa: E731
    np.testing.assert_allclose(centring.judging(pooled, some), expected, atol=1e-5)
    centring.begin(pooled, some)
    np.testing.assert_allclose(centring.learning(pooled(some), some), expected, atol=1e-5)


@pytest.mark.parametrize("head", ["statistics", "attention"])
def test_heads_of_other_presets_are_centred_too(head: str) -> None:
    data = labelled_arrays()
    data = replace(data, x=data.x + 3 * np.arange(6)[[int(n[-1]) for n in data.subject]][:, None, None])
    config = FitConfig(lr=3e-3, max_epochs=3, head=head, batch_size=16)  # type: ignore[arg-type]
    split = by_subject(data)
    made = run_protocol("fine", data, split, model=tiny_model(), config=config, centre="recording")
    network = made.learnt
    assert isinstance(network, Downstream)
    with torch.no_grad():
        features = network.pooled(data.batch(np.arange(len(data)))).numpy()
        less = centre_features(features, data, "recording")[split.test]
        expected = network.answer(torch.from_numpy(less).float()).softmax(1).numpy()
    np.testing.assert_allclose(made.score, expected, atol=1e-5)


def test_what_cannot_be_centred_is_refused() -> None:
    data = labelled_arrays()
    split, model = by_subject(data), tiny_model()
    with pytest.raises(ConfigError, match="centre: got 'recording' with head 'flatten', which reads a recon"):
        run_protocol("fine", data, split, model=model, centre="recording")
    with pytest.raises(ConfigError, match="centre: got 'running' with head 'flatten'"):
        FinetuneConfig(head="flatten", centre="running")
    with pytest.raises(ConfigError, match="centre: got 'recording' with protocol fine, which a probe gives"):
        ProbeConfig(protocols=("linear", "fine"), centre="recording")
    with pytest.raises(
        ConfigError, match="begin: got 'probe' with head 'light'; it is for --head statistics"
    ):
        FinetuneConfig(begin="probe")
    each = replace(data, recording=np.arange(len(data)).astype(str))
    config = FitConfig(head="statistics", max_epochs=1)
    with pytest.raises(DataError, match=r"centre: each of the \d+ recordings has one target throughout"):
        run_protocol("fine", each, split, model=model, config=config, centre="recording")
