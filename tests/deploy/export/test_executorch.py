"""The ExecuTorch file of the streaming step; its package is large and optional."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eegm2.deploy.config import ExportConfig
from eegm2.deploy.export.run import export_model
from eegm2.errors import ConfigError
from tests.deploy.export.test_export import trained


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
