"""A bundle decides on a device as the stream does, with NumPy and ONNX Runtime alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from eegm2.cli.main import app
from eegm2.data.signal.quality import typical_amplitude
from eegm2.deploy.export.bundle import runtime_source
from eegm2.deploy.heads.dense import DenseHead
from eegm2.errors import CheckpointError, ConfigError, DataError
from tests.data.samples import eeg, write_edf, write_store
from tests.deploy.helpers import checkpoint

NAMES = ("Fz", "Cz", "Pz", "Oz")
SOURCE = ("Pz", "A1", "EEG Fz-REF", "Oz", "Cz")
EXAMPLE = Path(__file__).parents[3] / "examples" / "decide_on_a_device.py"
#: Runs a script in a Python in which nothing but the bundle's own needs can be imported.
ALONE = """
import runpy, sys
for name in ("torch", "scipy", "eegm2", "mne", "sklearn", "onnx", "safetensors"):
    sys.modules[name] = None
script, *sys.argv = sys.argv[1:]
sys.argv = [script, *sys.argv]
runpy.run_path(script, run_name="__main__")
"""
CASES = [("light", "statistics", []), ("eegm2", "covariance", ["--protocol", "light"])]
CASES += [
    (
        "covariance",
        "tangent_spread_state",
        ["--scaling", "recording", "--centre", "running", "--warm-up", "2"],
    )
]


def call(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    return done.output


def microvolts() -> np.ndarray:
    rng = np.random.default_rng(3)
    return eeg(5, 250 * 16, seed=3) + 100 * rng.standard_normal((5, 1))


@pytest.mark.parametrize(("preset", "features", "more"), CASES)
def test_a_device_decides_as_the_stream_does(
    preset: str, features: str, more: list[str], tmp_path: Path
) -> None:
    store = write_store(tmp_path / "store", ch_names=NAMES, n_times=2560)
    model = checkpoint(tmp_path / "m.safetensors", preset, ch_names=NAMES)
    head, out = tmp_path / "h.safetensors", tmp_path / "device"
    call("head", model, store.url, "--features", features, "--out", head, *more)
    named = ["--channels", ",".join(SOURCE), "--source-hz", 250]
    said = call("export", model, "--head", head, "--out", out, *named)
    assert "bundle.onnx" in said
    assert sorted(path.name for path in out.iterdir()) == ["bundle.onnx", "eegm2_runtime.py", "export.json"]
    assert (out / "bundle.onnx").stat().st_size < 25e6

    file = write_edf(tmp_path / "r.edf", microvolts(), SOURCE, sfreq_hz=250.0)
    lines = tmp_path / "o.jsonl"
    call("stream", "--source", file, "--speed", 0, "--model", model, "--head", head, "--out", lines)
    streamed = [json.loads(line) for line in lines.read_text().splitlines()]
    streamed = [line for line in streamed if line["type"] == "decision"]
    from eegm2.data.files.readers import read_raw

    samples = read_raw(file)[:][0].T * 1e6
    text = "\n".join(",".join(f"{value:.9g}" for value in row) for row in samples)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(EXAMPLE), str(out)],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    decided = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(decided) == len(streamed) > 10
    for ours, theirs in zip(decided, streamed):
        np.testing.assert_allclose(ours["probabilities"], theirs["probabilities"], rtol=0, atol=1e-4)
        assert (ours["decided"], ours["sample"]) == (theirs["decided"], theirs["sample"])
        assert ours["time_s"] == pytest.approx(theirs["time_s"], abs=1e-5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    store = write_store(folder / "store", ch_names=NAMES, n_times=2560)
    model = checkpoint(folder / "m.safetensors", "light", ch_names=NAMES)
    call("head", model, store.url, "--out", folder / "h.safetensors")
    call("export", model, "--head", folder / "h.safetensors", "--out", folder / "device")
    return folder / "device" / "bundle.onnx"


def test_a_calibration_is_kept_and_anothers_is_refused(bundle: Path, tmp_path: Path) -> None:
    from eegm2.deploy.export.decoder import Decoder

    x, file = eeg(4, 128 * 8), tmp_path / "ann.json"
    first = Decoder(bundle, calibration=file, person="ann", device="A").push(x)
    again = Decoder(bundle, calibration=file, person="ann", device="A")
    assert len(again.push(x)) > len(first), "no baseline is needed any more"
    assert again.calibration is not None
    assert again.calibration.id == first[0]["calibration"]
    with pytest.raises(DataError, match=r"ann.json: is of person 'ann', not of 'bob'; name another file"):
        Decoder(bundle, calibration=file, person="bob")
    with pytest.raises(DataError, match=r"ann.json: is of device 'A', not of 'B'"):
        Decoder(bundle, calibration=file, person="ann", device="B")


def test_gaps_are_filled_or_begin_anew_and_bad_input_is_refused(bundle: Path) -> None:
    from eegm2.deploy.export.decoder import Decoder

    x = eeg(4, 128 * 12)
    whole = Decoder(bundle).push(x)
    short = Decoder(bundle)
    got = short.push(x[:, :1000]) + short.push(x[:, 1004:], missing=4)
    assert [d["sample"] for d in got] == [d["sample"] for d in whole]
    assert got[-1]["time_s"] == whole[-1]["time_s"]
    long = Decoder(bundle)
    got = long.push(x[:, :600]) + long.push(x[:, 700:], missing=100)
    assert [d["sample"] for d in got].count(256) == 2, "windows begin anew"
    assert long.counts["missing"] == 100
    assert got[-1]["time_s"] > 11, "time goes on over the gap"
    with pytest.raises(DataError, match=r"push: got shape \(2, 1536\), expected \(4, samples\)"):
        Decoder(bundle).push(x[:2])
    x[1, 5] = np.nan
    with pytest.raises(DataError, match="push: Cz has values that are not numbers"):
        Decoder(bundle).push(x)
    with pytest.raises(DataError, match=r"typical amplitude is .* µV, EEG has 0.2 to 2000"):
        Decoder(bundle).push(1e-6 * eeg(4, 128 * 12))


def test_a_head_of_another_model_and_options_without_a_head_are_refused(bundle: Path, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m.safetensors", "light", ch_names=(*NAMES, "C3"))
    head = tmp_path / "h.safetensors"
    DenseHead(np.zeros(100), np.ones(100), [(np.zeros((2, 100)), np.zeros(2))], ("a", "b")).save(head)
    with pytest.raises(CheckpointError, match=r"takes 100 features, the network gives 288"):
        call("export", model, "--head", head, "--out", tmp_path / "x")
    with pytest.raises(ConfigError, match="source_hz: belongs to a bundle; give --head as well"):
        call("export", model, "--source-hz", 250, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_runtime_is_one_file_without_double_names() -> None:
    tree = ast.parse(runtime_source())
    defined = [n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    defined += [
        t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)
    ]
    assert len(defined) == len(set(defined))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            assert module.split(".")[0] in {*sys.stdlib_module_names, "numpy", "onnxruntime"}


def test_the_device_measures_the_amplitude_that_the_store_does() -> None:
    from eegm2.deploy.device.scale import window_scale

    for n_times in (500, 5000):
        x = eeg(4, n_times)
        assert window_scale(x, "recording")[1][0, 0] == pytest.approx(typical_amplitude(x), rel=1e-12)
