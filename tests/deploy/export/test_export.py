"""Exported files equal torch, hold their facts, and run where torch cannot be imported."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from eegm2 import StreamingEEGM2, build_model
from eegm2.data.config import PreprocessingConfig
from eegm2.deploy.config import ExportConfig
from eegm2.deploy.export.check import noise
from eegm2.deploy.export.run import export_model
from eegm2.deploy.export.runtime import OnnxModel, OnnxStream
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config
from tests.deploy.helpers import network

WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "scipy", "mne", "numba"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import numpy as np
from eegm2.deploy.export.runtime import OnnxStream
stream = OnnxStream(sys.argv[1])
x = np.load(sys.argv[2], allow_pickle=False)
parts = [stream.push(x[:, :, :50]), stream.push(x[:, :, 50:]), stream.flush()]
np.save(sys.argv[3], np.concatenate([p["representation"] for p in parts], axis=2))
assert "torch" not in sys.modules
"""


def trained(preset: str = "light", model: torch.nn.Module | None = None) -> TrainedModel:
    model = model if model is not None else network(preset)
    names = ("Fz", "Cz", "Pz")
    return TrainedModel(
        model, names, 100.0, "quantile95", 4.0, PreprocessingConfig(), "best.safetensors", "0"
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "light"
    export_model(trained(), out, ExportConfig(parts=("step",), hop=16))
    return out


@torch.no_grad()
def test_the_step_streams_as_torch_does_and_states_its_facts(exported: Path) -> None:
    model, x = network("light"), noise(2, 3, 301, seed=5)
    stream = OnnxStream(exported / "step.onnx", batch=2)
    parts = [stream.push(x[:, :, i : i + 37]) for i in range(0, 301, 37)] + [stream.flush()]
    y = np.concatenate([p["representation"] for p in parts], axis=2)
    np.testing.assert_allclose(y, model.encode(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-4)
    facts = stream.facts
    assert facts["ch_names"] == ["Fz", "Cz", "Pz"]
    assert (facts["sfreq_hz"], facts["scaling"], facts["hop"]) == (100.0, "quantile95", 16)
    assert facts["latency_samples"] == 15 + 16
    assert facts["latency_s"] == pytest.approx(31 / 100), "at the model's own rate"
    report = json.loads((exported / "export.json").read_text())
    assert set(report["files"]) == {"step.onnx", "step.int8.onnx", "step.pt2"}
    assert report["files"]["step.onnx"]["difference"] < 1e-4
    assert report["files"]["step.pt2"]["difference"] < 1e-5


def test_the_comparison_of_the_export_sees_one_percent(exported: Path) -> None:
    x = noise(1, 3, 160, seed=5)
    stream = OnnxStream(exported / "step.onnx")
    y = np.concatenate([stream.push(x)["representation"], stream.flush()["representation"]], axis=2)
    changed = network("light")
    with torch.no_grad():
        changed.encoder.conv3.weight.mul_(1.01)
        expected = changed.encode(torch.from_numpy(x)).numpy()
    assert np.abs(y - expected).max() > 1e-3


def test_state_can_be_saved_and_continued(exported: Path) -> None:
    x = noise(1, 3, 96, seed=6)
    whole, first = OnnxStream(exported / "step.onnx"), OnnxStream(exported / "step.onnx")
    whole.push(x[:, :, :40])
    first.push(x[:, :, :40])
    second = OnnxStream(exported / "step.onnx")
    second.state, second.position, second.waiting = dict(first.state), first.position, first.waiting
    expected = whole.push(x[:, :, 40:])["representation"]
    assert np.array_equal(second.push(x[:, :, 40:])["representation"], expected)


def test_8_bit_weights_state_their_measured_loss(exported: Path) -> None:
    facts = OnnxStream(exported / "step.int8.onnx").facts
    x = noise(1, 3, 400, seed=7)
    results = []
    for name in ("step.onnx", "step.int8.onnx"):
        stream = OnnxStream(exported / name)
        results.append(stream.push(x)["representation"])
    loss = np.linalg.norm(results[1] - results[0]) / np.linalg.norm(results[0])
    assert facts["int8_weights"] >= 1
    assert 0 < loss < 0.1
    assert facts["int8_loss"] / 3 < loss < facts["int8_loss"] * 3


def test_an_exported_file_runs_where_torch_cannot_be_imported(exported: Path, tmp_path: Path) -> None:
    x = noise(1, 3, 120, seed=8)
    np.save(tmp_path / "x.npy", x)
    arguments = [str(exported / "step.onnx"), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = network("light").encode(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=0, atol=1e-4)


def test_the_example_streams_a_file(exported: Path, tmp_path: Path) -> None:
    x = noise(1, 3, 203, seed=9)
    np.save(tmp_path / "x.npy", x[0])
    example = Path(__file__).parents[3] / "examples" / "onnx_stream.py"
    done = subprocess.run(
        [sys.executable, str(example), str(exported / "step.onnx"), str(tmp_path / "x.npy")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        mean = network("light").encode(torch.from_numpy(x)).mean().item()
    shape, found = done.stdout.splitlines()[-1].removeprefix("representation: ").split(" mean ")
    assert shape == "(1, 32, 25)"
    assert float(found) == pytest.approx(mean, abs=1e-4)


def test_bad_input_to_the_runtime_is_refused(exported: Path, tmp_path: Path) -> None:
    stream = OnnxStream(exported / "step.onnx")
    with pytest.raises(ValueError, match=r"got shape \(1, 2, 8\), expected \(1, 3\)"):
        stream.push(np.zeros((1, 2, 8)))
    with pytest.raises(ValueError, match="are not finite"):
        stream.push(np.full((1, 3, 8), np.nan))
    stream.push(np.zeros((1, 3, 5)))
    with pytest.raises(ValueError, match="holds 5 samples, expected none or at least 8"):
        stream.flush()
    with pytest.raises(ValueError, match="is a streaming step; open it with OnnxStream"):
        OnnxModel(exported / "step.onnx")
    with pytest.raises(ValueError, match="no such file"):
        OnnxStream(tmp_path / "none.onnx")


def test_what_cannot_be_exported_is_refused_and_nothing_is_left(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="is there already; name a new folder"):
        export_model(trained(), exported)
    with pytest.raises(ConfigError, match="got 'reconstruction', but this model has no decoder"):
        export_model(trained(), tmp_path / "a", ExportConfig(parts=("reconstruction",)))
    s5 = build_model(EEGM2Config.preset("s5", n_chans=3, width=4))
    with pytest.raises(ConfigError, match="preset s5 is not supported"):
        export_model(trained(model=s5), tmp_path / "a")
    import onnx

    translated = onnx.load(exported / "step.onnx")
    monkeypatch.setattr("eegm2.deploy.export.run.onnx_model", lambda part: translated)
    other = network("light", seed=1)
    with pytest.raises(ConfigError, match=r"step\.onnx differs from torch"):
        export_model(trained(model=other), tmp_path / "a", ExportConfig(parts=("step",), hop=16))
    with pytest.raises(ConfigError, match="parts: got 'decoder', expected some of"):
        ExportConfig(parts=("decoder",))
    assert list(tmp_path.iterdir()) == []


EXPORT_AND_WAIT = """
import sys
import time
from pathlib import Path
import eegm2.deploy.export.run as export
from eegm2.deploy.config import ExportConfig
from eegm2.ending import orderly, status_of
from tests.deploy.export.test_export import trained

def wait(part):
    print("waiting", flush=True)
    time.sleep(60)

export.onnx_model = wait
try:
    with orderly():
        export.export_model(trained(), sys.argv[1], ExportConfig(parts=("step",)))
except KeyboardInterrupt as ended:
    sys.exit(status_of(ended))
"""


def test_an_interrupted_export_leaves_nothing_behind(tmp_path: Path) -> None:
    out, host = tmp_path / "out", socket.gethostname()
    other = tmp_path / f".tmp-{host}-{os.getpid()}-a"
    killed = tmp_path / f".tmp-{host}-999999999-b"  # no process has this number
    for folder in (other, killed):
        folder.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", EXPORT_AND_WAIT, str(out)],
        env={**os.environ, "PYTHONPATH": f"src{os.pathsep}."},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    assert other in tmp_path.iterdir()
    (writing,) = set(tmp_path.iterdir()) - {other}
    assert writing.name.startswith(f".tmp-{host}-{child.pid}-")
    child.terminate()
    child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@torch.no_grad()
@pytest.mark.parametrize("preset", ["eegm2", "s4"])
def test_whole_networks_equal_torch_at_other_lengths_than_the_traced_one(preset: str, tmp_path: Path) -> None:
    model = network(preset, width=4)
    export_model(trained(model=model), tmp_path / "out", ExportConfig(int8=False))
    for batch, n_times in ((1, 8), (2, 77), (1, 1000), (3, 2051)):
        x = noise(batch, 3, n_times, seed=n_times)
        y = OnnxModel(tmp_path / "out" / "reconstruction.onnx")(x)
        np.testing.assert_allclose(y, model(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-4)
        f = OnnxModel(tmp_path / "out" / "encoder.onnx")(x)
        np.testing.assert_allclose(f, model.encode(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-4)
    stream, x = OnnxStream(tmp_path / "out" / "step.onnx"), noise(1, 3, 500, seed=0)
    y = np.concatenate([stream.push(x)["reconstruction"], stream.flush()["reconstruction"]], axis=2)
    torch_stream = StreamingEEGM2(model)
    expected = torch.cat([torch_stream.push(torch.from_numpy(x)), torch_stream.flush()], dim=2).numpy()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4)
