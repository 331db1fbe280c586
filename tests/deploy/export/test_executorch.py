"""The ExecuTorch file of the streaming step; its package is large and optional."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eegm2.deploy.config import ExportConfig
from eegm2.deploy.export.run import export_model
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.windowed import WindowedHead
from eegm2.deploy.trained_model import load_trained
from eegm2.errors import ConfigError
from eegm2.model.features import usual_kind, window_features
from tests.data.samples import eeg
from tests.deploy.export.test_export import trained
from tests.deploy.helpers import checkpoint

NAMES = ("Fz", "Cz", "Pz", "Oz")


def test_whole_windows_are_refused_in_executorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("eegm2.deploy.export.run.import_module", lambda name: None)
    config = ExportConfig(parts=("encoder",), format=("executorch",))
    with pytest.raises(ConfigError, match="got encoder for the format executorch, which holds fixed shapes"):
        export_model(trained(), tmp_path / "out", config)
    with pytest.raises(ConfigError, match="format: got 'tflite', expected some of onnx, torch, executorch"):
        ExportConfig(format=("tflite",))


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name.partition(".")[0])

    monkeypatch.setattr("eegm2.deploy.export.run.import_module", absent)
    with pytest.raises(ConfigError, match=r"executorch is missing; pip install 'eegm2\[executorch\]'"):
        export_model(trained(), tmp_path / "out", ExportConfig(format=("executorch",)))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("preset", ["light", "eegm2"])
def test_the_executorch_step_equals_torch_and_holds_its_facts(preset: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("executorch.runtime", reason="executorch is not installed")
    report = export_model(trained(preset), tmp_path / "out", ExportConfig(format=("executorch",), hop=16))
    assert list(report["files"]) == ["step.pte"]
    assert 0 < report["files"]["step.pte"]["difference"] < 1e-4
    program = runtime.Runtime.get().load_program(tmp_path / "out" / "step.pte")
    facts = json.loads(bytes(program.load_method("eegm2").execute([])[0].numpy()))
    assert (facts["ch_names"], facts["hop"], facts["scaling"]) == (["Fz", "Cz", "Pz"], 16, "quantile95")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("preset", ["light", "covariance"])
def test_the_executorch_bundle_decides_as_the_stream_does(preset: str, tmp_path: Path) -> None:
    pytest.importorskip("executorch.runtime", reason="executorch is not installed")
    from eegm2.deploy.export.check import ExecutorchStream
    from eegm2.deploy.export.decoder import Decoder

    trained = load_trained(checkpoint(tmp_path / "m.safetensors", preset, ch_names=NAMES))
    kind = usual_kind(trained.config)
    shape = trained.config
    n = window_features(torch.zeros(1, shape.representation_channels, 4), kind, shape).shape[1]
    layers = [(np.random.default_rng(0).standard_normal((2, n)) / 20, np.zeros(2))]
    facts = {"window_s": 2.0, "hop_s": 0.5, "calibration_s": 4.0, "scaling": "quantile95", "features": kind}
    head = DenseHead(np.zeros(n), np.ones(n), layers, ("a", "b"), facts=facts)
    config = ExportConfig(format=("executorch",), source_hz=250.0)
    report = export_model(trained, tmp_path / "out", config, head)
    assert sorted(report["files"]) == ["bundle.onnx", "bundle.pte", "eegm2_runtime.py"]
    assert report["files"]["bundle.pte"]["difference"] < 1e-4
    x = eeg(len(NAMES), 250 * 12, 250.0)
    place = tmp_path / "out" / "bundle.pte"
    ours = Decoder(place, network=ExecutorchStream(place)).push(x)
    theirs = Decoder(tmp_path / "out" / "bundle.onnx").push(x)
    assert [d["time_s"] for d in ours] == [d["time_s"] for d in theirs]
    assert len(ours) > 8
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-4)


def test_a_head_of_windows_has_no_executorch_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("eegm2.deploy.export.run.import_module", lambda name: None)
    model = trained()
    head = WindowedHead(model.model, ("a", "b"), {"n_times": 256})
    with pytest.raises(
        ConfigError, match="executorch takes the streaming step, and this head was learnt on sep"
    ):
        export_model(model, tmp_path / "out", ExportConfig(format=("executorch",)), head)
