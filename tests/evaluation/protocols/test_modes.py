"""Fine and scratch: what moves and what does not, dropout in every epoch, heads, learning rates."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from eegm2.config import to_dict
from eegm2.data.config import WindowConfig
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.features.transfer import adapt_channels
from eegm2.evaluation.protocols.fitting import Task, fit, parameter_groups
from eegm2.evaluation.protocols.frozen import linear_probe
from eegm2.evaluation.protocols.layers import freeze, layer_groups, level_of
from eegm2.evaluation.protocols.modes import fine_tune, run_protocol
from eegm2.evaluation.scores.outcome import evaluate
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.model.config import EEGM2Config
from eegm2.model.features import feature_views
from eegm2.model.heads import Downstream, light_head
from eegm2.model.network import EEGM2, build_model
from eegm2.training.checkpoint import save_checkpoint
from tests.evaluation.helpers import CHANNELS, PREPROCESSING, SFREQ_HZ, labelled_arrays, tiny_model

ONE_STEP = FitConfig(max_epochs=1, batch_size=1000, lr=1e-3)


def by_subject(data: LabelledWindows) -> Split:
    parts = (["sub0", "sub1", "sub2", "sub3"], ["sub4"], ["sub5"])
    return Split(*(data.where_subject(names) for names in parts))


def still(before: dict[str, torch.Tensor], after: torch.nn.Module) -> set[str]:
    return {name for name, p in after.named_parameters() if torch.equal(before[name], p)}


def state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("preset", ["eegm2", "s1", "s3", "s5", "light", "unet"])
@pytest.mark.parametrize("head", ["flatten", "statistics", "attention"])
def test_after_one_step_everything_trainable_has_moved_and_nothing_frozen(preset: str, head: str) -> None:
    if (preset, head) == ("light", "flatten"):
        pytest.skip("Light has no reconstruction to flatten")
    torch.manual_seed(0)
    config = EEGM2Config.preset(preset, n_chans=3, width=4)
    network = Downstream(build_model(config), 2, 32, head)
    data = labelled_arrays()
    split = by_subject(data)
    frozen_before = {name for name, p in network.named_parameters() if not p.requires_grad}
    before = state(network)
    task = Task(data.batch, data.y, split.train, split.val, 2)
    fit(network, task, ONE_STEP, 0, layer_groups(network, dataclasses.replace(ONE_STEP, layer_decay=0.9)))
    assert still(before, network) == frozen_before
    assert not any(name.startswith("head") for name in frozen_before)


def test_a_frozen_encoder_stays_and_the_head_learns() -> None:
    """The authors' optimiser is built before the head exists, so the head never learns (PAPER.md §7)."""
    model = tiny_model()
    data = labelled_arrays()
    config = dataclasses.replace(ONE_STEP, freeze=("network.encoder", "network.med*"))
    _, network = fine_tune("fine", data, by_subject(data), model=model, seed=0, config=config)
    pretrained = state(model)
    unmoved = {name for name, p in network.network.named_parameters() if torch.equal(pretrained[name], p)}
    assert unmoved == {name for name in pretrained if name.startswith(("encoder", "mediator"))}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = Downstream(copy.deepcopy(model), 2, 32)
    assert still(state(fresh.head), network.head) == set()


def test_fine_tuning_leaves_the_pretrained_model_alone() -> None:
    model, data = tiny_model(), labelled_arrays()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for head in ("flatten", "statistics"):
        run_protocol(
            "fine", data, by_subject(data), model=model, config=dataclasses.replace(ONE_STEP, head=head)
        )
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.decoder is not None


def test_dropout_is_on_in_every_training_epoch_and_off_in_every_validation() -> None:
    """The authors' validation leaves dropout off from the second epoch (PAPER.md §7)."""
    data = labelled_arrays()
    split = by_subject(data)
    modes: list[tuple[bool, bool]] = []
    network = torch.nn.Sequential(torch.nn.Flatten(), light_head(96, 2))
    network[1][2].register_forward_hook(
        lambda module, x, y: modes.append((module.training, torch.is_grad_enabled()))
    )
    fit(
        network,
        Task(data.batch, data.y, split.train, split.val, 2),
        FitConfig(max_epochs=3, batch_size=32),
        0,
    )
    assert modes == [(True, True), (False, False)] * 3


def test_early_stopping_keeps_the_best_epoch() -> None:
    data = labelled_arrays()
    split = by_subject(data)
    y = data.y.copy()
    y[split.val] = 1 - y[split.val]  # validation contradicts: the longer, the worse
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), light_head(96, 2, dropout=0.0))
    config = FitConfig(max_epochs=50, patience=3, lr=1e-2)
    task = Task(data.batch, y, split.train, split.val, 2)
    history = fit(network, task, config, 0)
    assert len(history.val_loss) == history.best_epoch + 1 + config.patience
    assert min(history.val_loss) == history.val_loss[history.best_epoch]
    with torch.no_grad():
        weights = torch.tensor([1.0, 1.0])
        loss = torch.nn.functional.cross_entropy(
            network(data.batch(split.val)), torch.from_numpy(y[split.val]), weights
        )
    assert float(loss) == pytest.approx(history.val_loss[history.best_epoch], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "head"), [("fine", "flatten"), ("fine", "attention"), ("scratch", "statistics")]
)
def test_whole_networks_find_the_rhythm(name: str, head: str) -> None:
    data = labelled_arrays()
    config = FitConfig(lr=3e-3, max_epochs=12, patience=12, head=head, batch_size=8, layer_decay=0.9)
    outcome = run_protocol(name, data, by_subject(data), model=tiny_model(), config=config)
    assert evaluate(outcome, data, by_subject(data).test)["metrics"]["auroc"] > 0.9
    assert outcome.threshold is not None


def test_fine_regresses_too() -> None:
    data = labelled_arrays()
    values = LabelledWindows.from_arrays(data.x, data.y * 100.0 + 20, data.subject)
    config = FitConfig(lr=3e-3, max_epochs=12, patience=12, batch_size=8)
    outcome = run_protocol("fine", values, by_subject(values), model=tiny_model(), config=config)
    row = evaluate(outcome, values, by_subject(values).test)
    assert row["metrics"]["pearson_r"] > 0.8
    assert row["metrics"]["mae"] < 40


def test_scratch_ignores_the_pretrained_weights_and_fine_does_not() -> None:
    data = labelled_arrays()
    other = tiny_model()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    one, two = (
        run_protocol("scratch", data, by_subject(data), model=m, config=ONE_STEP).score
        for m in (tiny_model(), other)
    )
    np.testing.assert_array_equal(one, two)
    one, two = (
        run_protocol("fine", data, by_subject(data), model=m, config=ONE_STEP).score
        for m in (tiny_model(), other)
    )
    assert np.abs(one - two).max() > 1e-4


def test_a_pooled_head_takes_any_length_and_the_papers_one() -> None:
    x = torch.randn(2, 3, 50)
    for head in ("statistics", "attention"):
        assert Downstream(tiny_model(), 3, 32, head)(x).shape == (2, 3)
    with pytest.raises(ConfigError, match=r"tied to \(n_chans, n_times\) = \(3, 32\), got \(3, 50\)"):
        Downstream(tiny_model(), 3, 32)(x)
    with pytest.raises(ConfigError, match="head 'flatten' needs a reconstruction, and Light has none"):
        Downstream(tiny_model(preset="light"), 3, 32)
    with pytest.raises(ConfigError, match="head: got 'mean', expected flatten"):
        Downstream(tiny_model(), 3, 32, "mean")


def test_the_learning_rate_falls_towards_the_input() -> None:
    network = Downstream(tiny_model(), 2, 32)
    config = FitConfig(lr=1.0, layer_decay=0.5)
    rate = {id(p): g["lr"] for g in layer_groups(network, config) for p in g["params"]}
    of = {name: rate[id(p)] for name, p in network.named_parameters()}
    assert of["head.out.weight"] == 1.0
    assert of["network.decoder.output.weight"] == 0.5
    assert of["network.mediator.linear_in.weight"] == 0.5**4
    assert of["network.encoder.embedding.fuse.weight"] == 0.5**8
    assert len(of) == len(list(network.named_parameters()))
    pooled = Downstream(tiny_model(), 2, 32, "statistics")
    rate = {id(p): g["lr"] for g in layer_groups(pooled, config) for p in g["params"]}
    assert rate[id(pooled.network.mediator.linear_in.weight)] == 0.5
    assert level_of("network.encoder.block1.mixer.A_log") == level_of("network.encoder.linear1.bias")


def test_weight_decay_spares_vectors_and_mambas_own() -> None:
    groups = parameter_groups(Downstream(tiny_model(), 2, 32), FitConfig(weight_decay=0.3))
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert all(p.dim() > 1 for p in groups[0]["params"])
    mamba1 = Downstream(build_model(EEGM2Config.preset("s3", n_chans=3, width=4)), 2, 32)
    decayed = {id(p) for p in parameter_groups(mamba1, FitConfig())[0]["params"]}
    assert not [n for n, p in mamba1.named_parameters() if n.endswith("A_log") and id(p) in decayed]


def test_class_weights_balance_the_loss() -> None:
    """A network that sees nothing learns the classes' weighted shares: a half each, or 3 to 1."""
    y, everything = np.repeat([0, 1], [30, 10]), np.arange(40)
    task = Task(lambda i: torch.zeros(len(i), 1), y, everything, everything, 2)
    for weights, share in (("balanced", 0.5), ("none", 0.75)):
        torch.manual_seed(0)
        network = torch.nn.Linear(1, 2)
        config = FitConfig(max_epochs=300, lr=2e-2, class_weights=weights, patience=300, batch_size=40)
        fit(network, task, config, 0)
        assert network(torch.zeros(1, 1)).softmax(1)[0, 0].item() == pytest.approx(share, abs=0.01)


def test_what_cannot_be_fitted_is_refused() -> None:
    data = labelled_arrays()
    network = Downstream(tiny_model(), 2, 32)
    with pytest.raises(ConfigError, match=r"freeze: 'encoder' matches no parameter; there are head.hidden"):
        freeze(network, ("encoder",))
    freeze(network, ("*",))
    with pytest.raises(DataError, match="every parameter is frozen"):
        layer_groups(network, FitConfig())
    with pytest.raises(
        ConfigError, match="protocol: got 'finetune', expected one of linear, light, fine, scratch"
    ):
        run_protocol("finetune", data, by_subject(data), model=tiny_model())
    broken = LabelledWindows.from_arrays(data.x * np.nan, data.y, data.subject)
    with pytest.raises(DataError, match=r"the loss is (nan|inf) in epoch 0"):
        run_protocol("fine", broken, by_subject(broken), model=tiny_model(), config=ONE_STEP)
    with pytest.raises(ConfigError, match=r"layer_decay: got 1\.5"):
        FitConfig(layer_decay=1.5)


@pytest.mark.parametrize("preset", ["eegm2", "s1", "light", "unet"])
def test_another_channel_count_keeps_all_but_the_ends(preset: str) -> None:
    torch.manual_seed(0)
    model = build_model(EEGM2Config.preset(preset, n_chans=3, width=4)).eval()
    made = adapt_channels(model, 5, seed=1)
    x = torch.randn(2, 5, 32)
    assert made(x).shape == model(torch.randn(2, 3, 32)).shape[:1] + made(x).shape[1:]
    assert made.config.n_chans == 5
    assert not made.training
    old, new = model.state_dict(), made.state_dict()
    changed = {name for name in new if new[name].shape != old[name].shape}
    assert all(torch.equal(old[name], new[name]) for name in new if name not in changed)
    assert 0 < len(changed) <= 5
    assert torch.equal(adapt_channels(model, 5, seed=1).encode(x), made.encode(x))
    assert not torch.equal(adapt_channels(model, 5, seed=2).encode(x), made.encode(x))


def test_shared_channels_keep_their_weights() -> None:
    model = tiny_model()
    made = adapt_channels(model, 2, trained_on=["Fz", "T3", "Oz"], ch_names=["EEG T7-REF", "C4"])
    old, new = model.encoder.embedding.branches[1].weight, made.encoder.embedding.branches[1].weight
    assert torch.equal(new[:, 0], old[:, 1])
    assert not torch.equal(new[:, 1], old[:, 1])
    assert torch.equal(made.decoder.output.weight[0], model.decoder.output.weight[1])
    with pytest.raises(ConfigError, match="got 1 names in ch_names, expected 2"):
        adapt_channels(model, 2, trained_on=["a", "b", "c"], ch_names=["a"])


def tokens_network(data: LabelledWindows | None = None, seed: int = 0) -> EEGM2:
    shape = EEGM2Config.preset("covariance", n_chans=3, width=4, n_virtual=0, sfreq_hz=32.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return EEGM2(shape).eval()


def tokens_run(path: Path) -> Path:
    """Write a run folder around such a network, for the channels of `labelled_store`."""
    header = {
        "preprocessing": to_dict(PREPROCESSING),
        "windows": to_dict(WindowConfig(window_s=2.0)),
        "ch_names": list(CHANNELS),
        "sfreq_hz": SFREQ_HZ,
    }
    (path / "checkpoints").mkdir(parents=True)
    save_checkpoint(path / "checkpoints" / "best.safetensors", tokens_network(), header)
    return path


@pytest.mark.parametrize("classes", [2, 3])
def test_tuning_can_begin_with_the_probe_and_keeps_it_if_nothing_is_better(classes: int) -> None:
    data = labelled_arrays(classes=classes, n_times=64)
    split, model = by_subject(data), tokens_network(data)
    features = extract_features(model, data, kind="tangent_state")
    views = feature_views("tangent_state", model.config)
    probe = linear_probe(features, data, split, c="people", views=views)
    still_there = FitConfig(max_epochs=1, lr=1e-30, head="statistics", begin="probe")
    outcome, network = fine_tune("fine", data, split, model=model, seed=0, config=still_there)
    assert outcome.facts["best_epoch"] == -1
    assert outcome.score is not None
    assert probe.score is not None
    if classes == 2:
        np.testing.assert_allclose(outcome.score, probe.score, atol=1e-4)
    assert (outcome.score.argmax(1) == probe.score.argmax(1)).all()
    assert network.head.begun
    if classes == 3:
        return
    tuned = dataclasses.replace(still_there, max_epochs=2, lr=1e-3)
    moved, _ = fine_tune("fine", data, split, model=model, seed=0, config=tuned)
    assert moved.facts["best_epoch"] >= 0
    assert not np.array_equal(moved.score, outcome.score)


def test_a_probe_of_a_value_is_begun_with_too() -> None:
    data = labelled_arrays(n_times=64)
    values = dataclasses.replace(data, y=10.0 + 3 * data.y + 0.1 * np.arange(len(data)) % 1, classes=())
    split, model = by_subject(values), tokens_network(values)
    features, views = (
        extract_features(model, values, kind="tangent_state"),
        feature_views("tangent_state", model.config),
    )
    probe = linear_probe(features, values, split, c="people", views=views)
    config = FitConfig(max_epochs=1, lr=1e-30, head="statistics", begin="probe")
    outcome, _ = fine_tune("fine", values, split, model=model, seed=0, config=config)
    assert outcome.facts["best_epoch"] == -1
    np.testing.assert_allclose(outcome.score, probe.score, atol=1e-3)


def test_a_head_that_is_not_linear_in_features_cannot_begin_with_the_probe() -> None:
    data = labelled_arrays()
    config = FitConfig(max_epochs=1, head="statistics", begin="probe")
    with pytest.raises(ConfigError, match="begin: got 'probe' with head 'statistics' of preset eegm2; it is"):
        fine_tune("fine", data, by_subject(data), model=tiny_model(), seed=0, config=config)
