"""What a protocol learnt, as arrays and as files: it answers as it did where it was learnt."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from eegm2.deploy.heads.dense import DenseHead
from eegm2.errors import CheckpointError, ConfigError
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.protocols import frozen
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe
from eegm2.evaluation.protocols.kept import HeadArrays, read_downstream, write_downstream, write_tuned
from eegm2.evaluation.protocols.resuming import FitState
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.model.config import EEGM2Config
from eegm2.model.heads import Downstream, TokensHead
from tests.evaluation.helpers import labelled_arrays, tiny_model
from tests.evaluation.protocols.test_frozen import by_subject
from tests.evaluation.protocols.test_modes import tokens_network


def features_of(data: LabelledWindows) -> np.ndarray:
    """Return features that say something of the class, one of them constant."""
    rng = np.random.default_rng(2)
    made = rng.standard_normal((len(data), 6)) * 3 + data.y[:, None] + 4
    made[:, 2] = 1.5
    return made


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("protocol", ["linear", "light"])
def test_a_kept_head_answers_as_it_did_where_it_was_learnt(
    protocol: str, classes: int, tmp_path: Path
) -> None:
    data = labelled_arrays(classes=classes)
    features, split = features_of(data), by_subject(data)
    if protocol == "linear":
        outcome = linear_probe(features, data, split)
    else:
        outcome = light_probe(features, data, split, config=FitConfig(max_epochs=2, batch_size=8))
    assert isinstance(outcome.learnt, HeadArrays)
    assert outcome.learnt.link == ("one-vs-rest" if protocol == "linear" else "softmax")
    assert len(outcome.learnt.layers) == (1 if protocol == "linear" else 3)
    head = DenseHead.from_arrays(outcome.learnt, data.classes, window_s=2.0)
    np.testing.assert_allclose(head(features[split.test]), outcome.score, atol=1e-6)
    head.save(tmp_path / "head.safetensors")
    again = DenseHead.load(tmp_path / "head.safetensors")
    assert (again.classes, again.link, again.facts) == (data.classes, head.link, {"window_s": 2.0})
    np.testing.assert_array_equal(again(features), head(features))
    with pytest.raises(ConfigError, match=r"head: got features \(48, 5\), expected \(windows, 6\)"):
        head(features[:, 1:])


def test_arrays_that_do_not_fit_are_no_head(tmp_path: Path) -> None:
    mean, scale, bias = np.zeros(3), np.ones(3), np.zeros(2)
    good = [(np.ones((4, 3)), np.zeros(4)), (np.ones((2, 4)), bias)]
    DenseHead(mean, scale, good, ("a", "b"))
    DenseHead(mean, scale, [(np.ones((1, 3)), np.zeros(1))], ("a", "b"), link="one-vs-rest")
    nan, zero = np.ones((2, 3)), np.array([1.0, 0.0, 1.0])
    nan[1, 1] = np.nan
    for wrong, message in (
        ((mean, np.ones(2), good, ("a", "b")), "mean, scale: got shapes"),
        ((np.zeros(0), np.ones(0), good, ("a", "b")), "mean, scale: got shapes"),
        ((np.zeros((3, 1)), np.ones((3, 1)), good, ("a", "b")), "mean, scale: got shapes"),
        ((mean, scale, good[1:], ("a", "b")), r"layer 0: got shapes \(2, 4\) and \(2,\) for 3 inputs"),
        ((mean, scale, [good[0], good[0]], ("a", "b")), "layer 1: got shapes"),
        ((mean, scale, [good[0], (np.ones((2, 4)), np.zeros(1))], ("a", "b")), "layer 1: got shapes"),
        ((mean, scale, [good[0], (np.ones(4), np.zeros(1))], ("a", "b")), "layer 1: got shapes"),
        ((mean, scale, [], ("a", "b")), "layers: got none"),
        ((mean, scale, [(nan, bias)], ("a", "b")), "something else than finite numbers"),
        ((mean, zero, good, ("a", "b")), "a scale of 0"),
        ((mean, scale, good, ("a", "b", "c")), "classes: got 3 for 2 scores"),
        ((mean, scale, [(np.ones((1, 3)), np.zeros(1))], ("a", "b")), "classes: got 2 for 1 scores"),
    ):
        with pytest.raises(ConfigError, match=message):
            DenseHead(*wrong)
    with pytest.raises(ConfigError, match="classes: got 3 for 1 scores"):
        DenseHead(mean, scale, [(np.ones((1, 3)), np.zeros(1))], tuple("abc"), link="one-vs-rest")
    with pytest.raises(ConfigError, match="link: got 'probit'"):
        DenseHead(mean, scale, good, ("a", "b"), link="probit")
    with pytest.raises(CheckpointError, match="cannot be read as a head"):
        DenseHead.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("classes", [("open", "shut"), ()])
def test_a_centred_linear_head_is_kept_as_arrays_of_its_features(
    classes: tuple[str, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Downstream(tokens_network(), max(len(classes), 1), 64, "statistics").eval()
    head = network.head
    assert isinstance(head, TokensHead)
    with torch.no_grad():
        for tensor in (head.norm.running_mean, head.norm.weight, head.norm.bias):
            tensor.normal_()  # type: ignore[union-attr]
        head.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        features = torch.randn(5, len(head.norm.bias))
        expected = network.answer(features)
        expected = expected.softmax(1) if classes else expected
    write_tuned(tmp_path / "h.safetensors", network, classes, {"centre": "recording", "n_times": 64})
    again = DenseHead.load(tmp_path / "h.safetensors")
    assert again.facts == {"centre": "recording", "n_times": 64, "features": "tangent_state"}
    np.testing.assert_allclose(again(features.double().numpy()), expected, atol=1e-5)
    write_tuned(tmp_path / "n.safetensors", network, classes, {"centre": "none", "n_times": 64})
    plain, *_ = read_downstream(tmp_path / "n.safetensors", network.network.config)
    assert torch.equal(plain.answer(features), network.answer(features))


@pytest.mark.parametrize("classes", [("open", "shut"), ()])
def test_a_kept_network_answers_as_it_did(classes: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Downstream(tiny_model(), max(len(classes), 1), 32, "attention").eval()
    write_downstream(tmp_path / "n.safetensors", network, classes, {"n_times": 32, "seed": 3})
    again, named, facts = read_downstream(tmp_path / "n.safetensors", network.network.config)
    assert (named, facts, again.training) == (classes, {"n_times": 32, "seed": 3}, False)
    x = torch.randn(2, 3, 32)
    assert torch.equal(again(x), network(x))
    for other in (tiny_model(4).config, EEGM2Config.preset("unet", n_chans=3, width=4)):
        with pytest.raises(CheckpointError, match="is not a fine-tuned network that eegm2 wrote") as caught:
            read_downstream(tmp_path / "n.safetensors", other)
        assert len(str(caught.value)) < len(str(tmp_path)) + 300, "not every name of a network"
    with pytest.raises(CheckpointError, match="cannot be read as a fine-tuned network"):
        read_downstream(tmp_path / "nowhere.safetensors", network.network.config)


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_the_penalty_that_is_asked_for_is_the_one_that_is_used(c: float) -> None:
    """Of classes and of values; C is the inverse penalty of both."""
    data = labelled_arrays(classes=2)
    features, split = features_of(data), by_subject(data)
    x = features[:, [0, 1, 3, 4, 5]]
    x = (x - x[split.train].mean(0)) / x[split.train].std(0)
    classes = linear_probe(features, data, split, c=c)
    model = LogisticRegression(C=c, max_iter=2000).fit(x[split.train], data.y[split.train])
    np.testing.assert_allclose(classes.score, model.predict_proba(x[split.test]), atol=1e-4)
    values = LabelledWindows.from_arrays(data.x, 5.0 + features[:, 0] + data.y, data.subject)
    ridge = Ridge(alpha=1 / c).fit(x[split.train], values.y[split.train])
    found = linear_probe(features, values, split, c=c)
    np.testing.assert_allclose(found.score, ridge.predict(x[split.test]), rtol=1e-6)
    assert found.val_score is not None
    np.testing.assert_allclose(found.val_score, ridge.predict(x[split.val]), rtol=1e-6)
    assert (found.facts["c"], found.facts["n_features"], found.facts["deterministic"]) == (c, 5, True)
    assert found.threshold is None


def test_a_probe_says_whether_it_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    data = labelled_arrays(classes=2)
    features, split = features_of(data), by_subject(data)
    assert linear_probe(features, data, split).facts["converged"] is True
    monkeypatch.setattr(frozen, "LogisticRegression", lambda C, max_iter: LogisticRegression(C=C, max_iter=1))
    assert linear_probe(features, data, split).facts["converged"] is False


def test_a_threshold_is_validations_or_a_half() -> None:
    data = labelled_arrays(classes=2)
    features, split = features_of(data), by_subject(data)
    assert linear_probe(features, data, split).threshold is not None
    assert linear_probe(features, data, split, threshold="half").threshold is None
    quick = partial(FitConfig, max_epochs=1, batch_size=8)
    assert light_probe(features, data, split, config=quick()).threshold is not None
    assert light_probe(features, data, split, config=quick(threshold="half")).threshold is None


def test_values_of_the_light_probe_come_back_in_their_own_unit() -> None:
    """A perceptron learns standardised values; what it predicts is near the mean of those it learnt."""
    data = labelled_arrays()
    values = LabelledWindows.from_arrays(data.x, 1000.0 + 2 * data.y, data.subject)
    split: Split = by_subject(values)
    outcome = light_probe(features_of(data), values, split, config=FitConfig(max_epochs=1))
    assert outcome.val_score is not None
    for score in (outcome.score, outcome.val_score):
        assert np.abs(score - 1001).max() < 3


def test_the_state_of_a_fit_is_of_that_fit_alone(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = tmp_path / "state.pt"
    state = FitState(path, "this", lambda done, most: seen.append((done, most)))
    assert state.read() is None
    state.write({"loss": 1.5}, 2, 5)
    assert seen == [(2, 5)]
    assert state.read() == {"loss": 1.5, "mark": "this"}
    assert FitState(path, "another").read() is None
    path.write_bytes(b"PK damaged")
    assert state.read() is None
    FitState(path, "another").write({"loss": 2.5}, 1, 5)
    assert state.read() is None
    state.remove()
    state.remove()
    assert not path.exists()
