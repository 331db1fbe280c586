"""LSL and BrainFlow in separate processes on loopback, bounded in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.deploy.trained_model import load_trained
from tests.deploy.helpers import checkpoint

TIMEOUT_S = 180  # a bound for what hangs; a busy machine may take long to start a process
NAMES = ("Fz", "C3", "Cz")

SENDER = """
import sys, time
import numpy as np
from eegm2.deploy.live.lsl import LslOutlet, load_pylsl

name, path = sys.argv[1:]
x = np.load(path, allow_pickle=False)
outlet = LslOutlet(name, "EEG", ["Cz", "EEG FZ-REF", "C3"], 128.0, "volts")
print("ready", flush=True)
assert outlet._outlet.wait_for_consumers(150)
start = load_pylsl().local_clock()
for i in range(0, x.shape[1], 32):
    # stamps make the clock; sending faster than real time keeps the test short
    outlet.push(x[[2, 0, 1], i : i + 32] * 1e-6, start + (i + 31) / 128)
    time.sleep(0.005)
time.sleep(600)  # until it is killed
"""

RECEIVER = """
import sys
import numpy as np
from eegm2.deploy.live.lsl import LslSource

source = LslSource(sys.argv[1], resolve_s=120)
source.open()
print("ready", flush=True)
parts, n = [], 0
while n < int(sys.argv[2]):
    chunk = source.read(64, 120)
    if not chunk.x_uv.size:
        continue
    parts.append(chunk.x_uv)
    n += chunk.x_uv.shape[1]
np.save(sys.argv[3], np.concatenate(parts, axis=1))
"""

PLAYBACK = """
import sys
import numpy as np
from brainflow import BoardIds, BoardShim, DataFilter
d = BoardShim.get_board_descr(BoardIds.SYNTHETIC_BOARD.value)
n = int(sys.argv[2]) if len(sys.argv) > 2 else 2500
data = np.zeros((d["num_rows"], n))
data[d["eeg_channels"]] = 30 * np.sin(2 * np.pi * 10 * np.arange(n) / 250)
data[d["package_num_channel"]] = np.arange(n) % 256
data[d["timestamp_channel"]] = 1e9 + np.arange(n) / 250
DataFilter.write_file(data, sys.argv[1], "w")
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stream(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eegm2", "stream", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def values(records: list[dict]) -> np.ndarray:
    return np.concatenate([r["values"] for r in records if r["type"] == "reconstruction"], axis=1)


def received(tmp_path: Path, model: Path, name: str) -> list[dict]:
    """Send x.npy by LSL, stream it in a process of its own, and return what that wrote."""
    sender = start(SENDER, name, str(tmp_path / "x.npy"))
    try:
        assert sender.stdout.readline() == "ready\n", sender.stderr.read()
        done = stream(
            *("--source", "lsl", "--stream-name", name, "--model", str(model)),
            *("--out", str(tmp_path / f"{name}.jsonl"), "--duration-s", "7.9", "--chunk-s", "0.05"),
            *("--calibration-s", "0", "--scale-uv", "20", "--reconnect-s", "0"),
            *("--timeout-s", "120", "--buffer-s", "60"),
        )
    finally:
        sender.kill()
        sender.communicate()  # closes its pipes
    assert done.returncode == 0, done.stderr
    return read_lines(tmp_path / f"{name}.jsonl")


def test_lsl_between_processes_equals_offline(tmp_path: Path) -> None:
    """Whatever arrives whole equals the network on the whole signal.

    A machine too busy to answer the synchronisation of clocks in time makes gaps that are none; that is seen
    in the statistics, and then the signal is sent again.
    """
    pytest.importorskip("pylsl")
    x = 20 * np.random.default_rng(0).standard_normal((3, 1024))
    np.save(tmp_path / "x.npy", x)
    model = checkpoint(tmp_path / "m.safetensors", ch_names=NAMES, l_freq_hz=0.0, h_freq_hz=0.0)
    for attempt in range(3):
        records = received(tmp_path, model, f"test-{os.getpid()}-{attempt}")
        statistics = records[-1]
        if (statistics["dropped"], statistics["gaps"], statistics["restarts"]) == (0, 0, 0):
            break
    else:
        pytest.fail(f"never arrived whole: {statistics}")
    n = statistics["samples"]
    assert 1000 <= n <= 1024
    y = values(records)
    assert y.shape == (3, n)
    with torch.no_grad():
        offline = load_trained(model).model(torch.from_numpy(x[None] / 20).float())[0].numpy()
    np.testing.assert_allclose(y[:, : n - 32], offline[:, : n - 32], rtol=0, atol=2e-4)


def test_the_reconstruction_goes_out_by_lsl(tmp_path: Path) -> None:
    pytest.importorskip("pylsl")
    from eegm2.deploy.live.lsl import LslOutlet

    name = f"out-{os.getpid()}"
    outlet = LslOutlet(name, "EEG", list(NAMES), 128.0, "microvolts")
    receiver = start(RECEIVER, name, "256", str(tmp_path / "got.npy"))
    try:
        assert receiver.stdout.readline() == "ready\n", receiver.stderr.read()
        x = np.random.default_rng(0).standard_normal((3, 256)).astype(np.float32)
        for i in range(0, 256, 64):
            outlet.push(x[:, i : i + 64], 100.0 + (i + 63) / 128)
        assert receiver.wait(timeout=TIMEOUT_S) == 0, receiver.stderr.read()
    finally:
        receiver.kill()
        receiver.communicate()
    np.testing.assert_allclose(np.load(tmp_path / "got.npy"), x, rtol=1e-6)


@pytest.mark.slow
def test_a_missing_lsl_stream_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pylsl")
    model = checkpoint(tmp_path / "m.safetensors", ch_names=NAMES)
    quick = ("--reconnect-s", "0", "--timeout-s", "1")
    done = stream("--source", "lsl", "--stream-name", "nobody", "--model", str(model), *quick)
    assert done.returncode == 2
    assert (
        "error: LSL stream 'nobody': no stream with name 'nobody' within 1 s" in done.stderr.splitlines()[-1]
    )


@pytest.mark.slow
def test_the_synthetic_board_streams(tmp_path: Path) -> None:
    pytest.importorskip("brainflow")
    model = checkpoint(tmp_path / "m.safetensors", ch_names=NAMES)
    done = stream(
        *("--source", "brainflow", "--model", str(model), "--out", str(tmp_path / "out.jsonl")),
        *("--duration-s", "1.5", "--calibration-s", "0", "--scale-uv", "30"),
    )
    assert done.returncode == 0, done.stderr
    statistics = read_lines(tmp_path / "out.jsonl")[-1]
    assert statistics["samples"] >= 350
    assert values(read_lines(tmp_path / "out.jsonl")).shape[1] >= 64


@pytest.mark.slow
def test_the_playback_board_plays_a_file(tmp_path: Path) -> None:
    pytest.importorskip("brainflow")
    made = start(PLAYBACK, str(tmp_path / "board.csv"))
    assert made.wait(timeout=TIMEOUT_S) == 0, made.stderr.read()
    model = checkpoint(tmp_path / "m.safetensors", ch_names=NAMES)
    done = stream(
        *("--source", "brainflow", "--board", "playback", "--board-file", str(tmp_path / "board.csv")),
        *("--model", str(model), "--out", str(tmp_path / "out.jsonl"), "--duration-s", "2"),
        *("--calibration-s", "0", "--scale-uv", "30"),
    )
    assert done.returncode == 0, done.stderr
    statistics = read_lines(tmp_path / "out.jsonl")[-1]
    assert statistics["samples"] >= 450
    assert statistics["gaps"] == 0


@pytest.mark.slow
def test_an_lsl_stream_that_stops_and_comes_back_is_taken_up_again(tmp_path: Path) -> None:
    pytest.importorskip("pylsl")
    np.save(tmp_path / "x.npy", 20 * np.random.default_rng(0).standard_normal((3, 512)))
    model = checkpoint(tmp_path / "m.safetensors", ch_names=NAMES, l_freq_hz=0.0, h_freq_hz=0.0)
    name, code = f"back-{os.getpid()}", SENDER.replace("time.sleep(600)", "time.sleep(1)")
    first = start(code, name, str(tmp_path / "x.npy"))
    assert first.stdout.readline() == "ready\n"
    receiver = subprocess.Popen(
        [
            *(sys.executable, "-m", "eegm2", "stream", "--source", "lsl", "--stream-name", name),
            *("--model", str(model), "--out", str(tmp_path / "out.jsonl"), "--duration-s", "7.5"),
            *("--calibration-s", "0", "--scale-uv", "20", "--reconnect-s", "20", "--timeout-s", "2"),
        ],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    second = None
    try:
        assert first.wait(timeout=TIMEOUT_S) == 0
        second = start(code, name, str(tmp_path / "x.npy"))
        assert receiver.wait(timeout=TIMEOUT_S) == 0, receiver.stderr.read()
    finally:
        for process in (first, second, receiver):
            if process is not None:
                process.kill()
                process.communicate()
    records = read_lines(tmp_path / "out.jsonl")
    assert records[-1]["reconnects"] == 1
    assert records[-1]["restarts"] == 1
    assert {"event": "restart", "why": "the source came back"}.items() <= next(
        r for r in records if r.get("event") == "restart"
    ).items()


#: A short session: contact 2 s, baseline 3 s, four blocks of 3 s after half a second each.
SHORT = (
    *("--cue", "rest:3", "--cue", "task:3", "--rounds", "2", "--pause-s", "0.5", "--settle-s", "0.5"),
    *("--baseline-s", "2", "--contact", "warn"),
)


def calibrated(tmp_path: Path, model: Path, *source: str) -> dict:
    """Calibrate from a source, stream what came out of it, and return the report."""
    made = CliRunner().invoke(
        app, ["calibrate", *source, *SHORT, "--model", str(model), "--out", str(tmp_path / "own")]
    )
    assert made.exit_code == 0, (made.output, made.exception)
    assert "balanced accuracy" in made.output
    report = json.loads((tmp_path / "own" / "report.json").read_text())
    assert [block["label"] for block in report["validation"]["blocks"]] == ["rest", "task", "task", "rest"]
    out = tmp_path / "o.jsonl"
    command = ["stream", "--source", str(tmp_path / "own" / "recording.edf"), "--speed", "0"]
    command += ["--model", str(model), "--head", str(tmp_path / "own" / "head.safetensors")]
    command += ["--calibration", str(tmp_path / "own" / "calibration.json"), "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, (done.output, done.exception)
    assert sum(line["type"] == "decision" for line in read_lines(out)) > 10
    return report


def test_a_calibration_over_lsl(tmp_path: Path) -> None:
    pytest.importorskip("pylsl")
    np.save(tmp_path / "x.npy", 20 * np.random.default_rng(0).standard_normal((3, 128 * 30)))
    model, name = checkpoint(tmp_path / "m.safetensors", "light", ch_names=NAMES), f"own-{os.getpid()}"
    sender = start(SENDER, name, str(tmp_path / "x.npy"))
    try:
        assert sender.stdout.readline() == "ready\n", sender.stderr.read()
        source = ("--source", "lsl", "--stream-name", name, "--buffer-s", "60", "--timeout-s", "120")
        report = calibrated(tmp_path, model, *source, "--reconnect-s", "0", "--chunk-s", "0.1")
    finally:
        sender.kill()
        sender.communicate()
    assert report["device"].startswith(name)


@pytest.mark.slow
def test_a_calibration_with_the_synthetic_board(tmp_path: Path) -> None:
    pytest.importorskip("brainflow")
    model = checkpoint(tmp_path / "m.safetensors", "light", ch_names=NAMES)
    report = calibrated(tmp_path, model, "--source", "brainflow", "--board", "synthetic")
    assert report["device"] == "brainflow synthetic"


@pytest.mark.slow
def test_a_calibration_with_the_playback_board(tmp_path: Path) -> None:
    pytest.importorskip("brainflow")
    made = start(PLAYBACK, str(tmp_path / "board.csv"), "7500")
    assert made.wait(timeout=TIMEOUT_S) == 0, made.stderr.read()
    model = checkpoint(tmp_path / "m.safetensors", "light", ch_names=NAMES)
    board = ("--source", "brainflow", "--board", "playback", "--board-file", str(tmp_path / "board.csv"))
    assert calibrated(tmp_path, model, *board)["validation"]["n_blocks"] == 4
