"""EEGM2ForClassification keeps the contract of braindecode's models."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch

from eegm2 import EEGM2ForClassification
from eegm2.errors import CheckpointError, ConfigError
from tests.evaluation.helpers import SFREQ_HZ, fake_run, installed_braindecode, labelled_store

CHS = [{"ch_name": name} for name in ("F3", "C3", "P3")]


def made(**options: object) -> EEGM2ForClassification:
    torch.manual_seed(0)
    return EEGM2ForClassification(3, 32, 2, sfreq=SFREQ_HZ, width=2, **options).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["flatten", "statistics", "attention"])
def test_features_are_what_the_last_layer_takes(head: str) -> None:
    module, x = made(head=head), torch.randn(4, 3, 32)
    found = module(x, return_features=True)
    assert set(found) == {"features", "cls_token"}
    assert found["features"].shape == (4, module.final_layer.in_features)
    torch.testing.assert_close(module.final_layer(found["features"]), module(x))


def test_a_configuration_makes_the_same_shape_again() -> None:
    module = made(chs_info=CHS, head="statistics", scaling="zscore", drop_prob=0.25)
    config = json.loads(json.dumps(module.get_config()))
    again = EEGM2ForClassification.from_config(config)
    assert again.get_config() == config
    again.load_state_dict(module.state_dict())
    x = torch.randn(2, 3, 32)
    torch.testing.assert_close(again.eval()(x), module(x))
    other = EEGM2ForClassification.from_config({**config, "n_outputs": 5})
    assert other(x).shape == (2, 5)


def test_saved_and_read_with_the_same_or_another_head(tmp_path: Path) -> None:
    module, x = made(chs_info=CHS), torch.randn(2, 3, 32)
    folder = module.save_pretrained(tmp_path / "kept")
    again = EEGM2ForClassification.from_pretrained(folder)
    assert not again.training
    torch.testing.assert_close(again(x), module(x), rtol=0, atol=0)
    assert EEGM2ForClassification.from_pretrained(folder, n_outputs=2).n_outputs == 2
    other = EEGM2ForClassification.from_pretrained(folder, n_outputs=5)
    assert other(x).shape == (2, 5)
    torch.testing.assert_close(
        other(x, return_features=True)["features"], module(x, return_features=True)["features"]
    )
    with pytest.raises(ConfigError, match="was saved with its options; leave width out"):
        EEGM2ForClassification.from_pretrained(folder, width=8)
    file = folder / "classifier.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        EEGM2ForClassification.from_pretrained(folder)


def test_a_pretrained_model_gets_a_fresh_head(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", labelled_store(tmp_path / "store", subjects=1))
    module = EEGM2ForClassification.from_pretrained(run, n_outputs=3)
    assert (module.n_outputs, module.sfreq) == (3, SFREQ_HZ)
    assert module(torch.randn(2, module.n_chans, module.n_times)).shape == (2, 3)
    longer = EEGM2ForClassification.from_pretrained(run, n_outputs=3, n_times=96, head="statistics")
    weights = longer.body.network.encoder.linear1.weight
    torch.testing.assert_close(weights, module.body.network.encoder.linear1.weight)
    with pytest.raises(ConfigError, match="was trained at 32 Hz; resample"):
        EEGM2ForClassification.from_pretrained(run, sfreq=64.0)
    with pytest.raises(CheckpointError, match="no such folder, file or model"):
        EEGM2ForClassification.from_pretrained(tmp_path / "nothing")


def test_braindecodes_own_classes_have_this_contract() -> None:
    installed_braindecode()
    from braindecode.models.base import EEGModuleMixin

    theirs = inspect.signature(EEGModuleMixin.__init__).parameters
    ours = inspect.signature(EEGM2ForClassification.__init__).parameters
    assert set(theirs) <= set(ours)
    for name in ("get_config", "from_config", "reset_head", "from_pretrained", "save_pretrained"):
        assert callable(getattr(EEGModuleMixin, name, None)) or name in ("from_pretrained", "save_pretrained")
        assert callable(getattr(EEGM2ForClassification, name)), name
    parameters = inspect.signature(EEGM2ForClassification.reset_head).parameters
    assert set(inspect.signature(EEGModuleMixin.reset_head).parameters) == set(parameters)
