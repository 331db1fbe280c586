"""Processes that crash, hang or take too much memory are recorded; results are kept only where they hold."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eegm2.benchmark import commands, first
from eegm2.benchmark import run as run_module
from eegm2.benchmark.config import PEERS, BenchmarkConfig
from eegm2.benchmark.measure import measure
from eegm2.benchmark.memory import Peak
from eegm2.benchmark.peers import accepted_length
from eegm2.benchmark.run import measure_in_process, read_results, run, supervise
from eegm2.benchmark.suites import (
    COMMANDS,
    FIRST,
    HOUR,
    LENGTHS,
    SLOW_PEERS,
    SUITES,
    Measurement,
    available_cores,
    measurements,
)
from eegm2.benchmark.timing import spread
from eegm2.cli.main import app, main
from eegm2.errors import ConfigError
from tests.benchmark.synthetic import document, record

TINY = Measurement("forward", "light", 64, n_chans=2, width=8)


def supervised(code: str, timeout_s: float = 20.0, memory_gb: float = 2.0) -> dict[str, Any]:
    return supervise([sys.executable, "-c", code], dict(os.environ), timeout_s, memory_gb)


def test_a_measurement_in_its_own_process() -> None:
    found = measure_in_process(TINY, timeout_s=120, memory_gb=4)
    assert found["status"] == "ok", found
    assert found["error"] < 1e-4
    assert 0 < found["seconds"]["min"] <= found["seconds"]["median"] < found["wall_s"]
    assert found["seconds"]["n"] >= 3
    assert found["memory_mb"] < 200 < 10 * found["idle_mb"]
    assert found["bound"]["gflop"] > 0
    assert found["parameters"] > 1000


def test_how_a_process_ends_is_recorded() -> None:
    crashed = supervised("import sys; print('fine'); sys.exit('the disk is on fire')")
    assert crashed["status"] == "crashed"
    assert crashed["reason"] == "exit status 1: the disk is on fire"
    silent = supervised("print('not json')")
    assert (silent["status"], silent["reason"]) == ("crashed", "exit status 0: no message")
    killed = supervised("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert killed["reason"] == "exit status -9: no message"
    late = supervised("import time; time.sleep(60)", timeout_s=0.3)
    assert (late["status"], late["reason"]) == ("timeout", "more than 0.3 s")
    large = supervised("import time; a = bytearray(300_000_000); time.sleep(60)", memory_gb=0.1)
    assert (large["status"], large["reason"]) == ("memory", "more than 0.1 GB resident")
    good = supervised('print("noise"); print(\'{"status": "ok", "x": 3}\')')
    assert (good["status"], good["x"]) == ("ok", 3)


@pytest.mark.parametrize(
    ("error", "model", "status"),
    [
        (ValueError("too short\nby far"), "BIOT", "refused"),
        (ValueError("too short"), "light", "crashed"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "EEGPT", "memory"),
        (MemoryError(), "light", "memory"),
    ],
)
def test_what_a_model_raises_is_recorded(
    error: Exception, model: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(m: Measurement) -> None:
        raise error

    monkeypatch.setattr("eegm2.benchmark.subject.build_subject", fail)
    found = measure(Measurement("forward", model, 64).to_dict())
    assert found["status"] == status
    assert found["reason"] == f"{type(error).__name__}: {' '.join(str(error).split())}"


def test_a_missing_braindecode_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "braindecode", None)
    monkeypatch.setitem(sys.modules, "braindecode.models", None)
    found = measure(Measurement("forward", "BIOT", 64).to_dict())
    assert found["status"] == "not installed"
    assert "braindecode" in found["reason"]
    assert "pip install 'eegm2[baselines]'" in found["reason"]


class Fake:
    """Stands for the processes: notes what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **outcome: Any) -> None:
        self.asked: list[Measurement] = []
        self.outcome = outcome or {"status": "ok"}
        monkeypatch.setattr(run_module, "measure_in_process", self)

    def __call__(self, m: Measurement, **bounds: float) -> dict[str, Any]:
        self.asked.append(m)
        found = record(m.work, m.model, m.n_times, 0.01)
        return {**{key: found[key] for key in ("seconds", "memory_mb")}, **self.outcome}


THREADS = "1 thread" if available_cores() == 1 else f"{available_cores()} threads"
CONFIG = BenchmarkConfig(models=("light", "plain"), lengths=(64, 128), memory_gb=4.0)


def test_finished_measurements_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, said = tmp_path / "results.json", []
    fake = Fake(monkeypatch)
    first = run(CONFIG, out, said.append)
    assert len(fake.asked) == len(first["results"]) == 4
    assert read_results(out) == json.loads(json.dumps(first))
    content = json.loads(out.read_text())
    content["results"] = content["results"][:3]
    content["results"][1]["status"] = "crashed"
    content["results"][1]["reason"] = "exit status 1"
    out.write_text(json.dumps(content))
    fake.asked.clear()
    again = run(CONFIG, out, said.append)
    assert [m.title() for m in fake.asked] == [
        f"forward plain, 1 × 16 × 64, {THREADS}",
        f"forward plain, 1 × 16 × 128, {THREADS}",
    ]
    assert len(again["results"]) == 4
    assert any("2 measurements are kept" in line for line in said)


@pytest.mark.parametrize("change", ["machine", "code"])
def test_results_of_another_machine_or_source_are_not_kept(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, said = tmp_path / "results.json", []
    fake = Fake(monkeypatch)
    content = run(CONFIG, out)
    key = {"machine": "processor", "code": "source_sha256"}[change]
    content[change][key] = "another"
    out.write_text(json.dumps(content))
    fake.asked.clear()
    run(CONFIG, out, said.append)
    assert len(fake.asked) == 4
    assert "of another machine, version or source; measuring anew" in said[0]


def test_longer_inputs_are_not_tried_past_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, status="timeout", reason="more than 9 s")
    results = run(CONFIG)["results"]
    assert [m.n_times for m in fake.asked] == [64, 64]
    assert [r["status"] for r in results] == ["timeout", "timeout", "not run", "not run"]
    assert results[2]["reason"] == "1 × 64 met its bound (more than 9 s)"
    out = tmp_path / "results.json"
    run(CONFIG, out)
    fake.asked.clear()
    run(CONFIG, out)
    assert fake.asked == []
    run(BenchmarkConfig(models=CONFIG.models, lengths=(64,), memory_gb=5.0), out)
    assert len(fake.asked) == 2, "a bound was met that is another now"


def test_what_another_suite_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, out = Fake(monkeypatch), tmp_path / "results.json"
    run(CONFIG, out)
    other = run(BenchmarkConfig(models=("s1",), lengths=(64,), memory_gb=4.0), out)
    assert len(other["results"]) == 5
    assert read_results(out) == json.loads(json.dumps(other))
    fake.asked.clear()
    run(CONFIG, out)
    assert fake.asked == []
    assert len(read_results(out)["results"]) == 5


def test_what_would_take_too_long_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)  # 0.01 s at any size
    config = BenchmarkConfig(models=("light",), lengths=(64, 640_000), batch=(1, 2), memory_gb=4.0)
    results = run(config)["results"]
    assert [m.title() for m in fake.asked] == [
        f"forward light, {batch} × 16 × 64, {THREADS}" for batch in (1, 2)
    ]
    assert [r["status"] for r in results] == ["ok", "too long", "ok", "too long"]
    assert results[1]["reason"] == "some 100 s each, by 1 × 64"


def test_nothing_is_started_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    config = BenchmarkConfig(models=("light",), lengths=(64,), minutes=1e-9)
    (only,) = run(config)["results"]
    assert fake.asked == []
    assert only["status"] == "not run"
    assert "minutes were over" in only["reason"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not a file of benchmark results"),
        ("{", "not a file of benchmark results"),
        ('{"format": 7}', "format 7, expected 1"),
        ('{"format": 1, "results": [{"measurement": {"speed": 3}}]}', "not a file of benchmark results"),
    ],
)
def test_other_files_are_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_results(path)
    with pytest.raises(ConfigError, match=message):
        run(CONFIG, path)
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ("eegm3",)}, "models: got 'eegm3', expected one of eegm2, light"),
        ({"lengths": (7,)}, "lengths: got 7, expected at least 8"),
        ({"batch": (0,)}, "batch: got 0, expected at least 1"),
        ({"threads": -1}, "threads: got -1, expected at least 0"),
        ({"timeout_s": 0.0}, "timeout_s: got 0.0, expected more than 0"),
        ({"memory_gb": -1.0}, "memory_gb: got -1.0, expected 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BenchmarkConfig(**options)


def test_the_suites_hold_what_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eegm2.benchmark.suites.available_cores", lambda: 2)
    paper = measurements(BenchmarkConfig(suite="paper"))
    assert len(set(paper)) == len(paper)
    for work, batch, length, threads in itertools.product(("forward", "train"), (1, 16), LENGTHS[1:], (1, 2)):
        there = {
            m.model
            for m in paper
            if (m.work, m.batch, m.n_times, m.threads) == (work, batch, length, threads)
        }
        assert there >= {"light", "eegm2", "covariance", *PEERS}, (work, batch, length, threads)
    first = paper[:100]  # some seconds each: what a run of a quarter of an hour comes to
    assert {m.model for m in first} >= {"light", "eegm2", "covariance", *PEERS}
    for batch, length in itertools.product((1, 16), LENGTHS[1:]):
        aimed = [m for m in first if (m.work, m.batch, m.n_times) == ("forward", batch, length)]
        assert {m.model for m in aimed} >= {"light", *PEERS} - set(SLOW_PEERS), (batch, length)
    assert {m.n_times for m in first if m.work == "train"} >= {1400, 12_800}
    assert {m.cache for m in first if m.work == "first-forward"} == {"cold", "warm"}
    hours = [Measurement("forward", model, HOUR, threads=2) for model in ("light", "eegm2")]
    assert set(hours) <= set(paper[:20])
    assert Measurement("forward", "eegm2", HOUR, threads=2) in paper
    assert {m.work for m in paper} == {"forward", "blocks", "train", "scan", "scan-train", *FIRST, *COMMANDS}
    assert {m.threads for m in measurements(BenchmarkConfig(suite="paper", threads=1))} == {1}
    assert set(SUITES) == {"default", "paper", "first", "work", "quick"}
    assert {m.work for m in measurements(BenchmarkConfig(suite="first"))} == set(FIRST)
    on_mine = measurements(BenchmarkConfig(suite="work", data="some/where/mine"))
    assert {(m.work, m.data) for m in on_mine} == {(work, "mine") for work in COMMANDS}
    named = measurements(BenchmarkConfig(peers=True, train=True, lengths=(400,), batch=(2,)))
    assert {m.work for m in named} == {"forward", "train"}
    assert {m.model for m in named} == {"eegm2", "light", *PEERS}


def test_a_folder_of_recordings_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data: '.*nowhere' is not a folder; name one of recordings"):
        run(BenchmarkConfig(suite="work", data=str(tmp_path / "nowhere")))


def test_lengths_that_peers_accept() -> None:
    assert accepted_length("CBraMod", 50) == 200
    assert accepted_length("LUNA", 1400) == 1400
    assert accepted_length("EEGPT", 50) == 64
    assert accepted_length("BIOT", 50) == 50


def test_peak_memory_is_counted() -> None:
    peak = Peak()
    held = bytearray(64 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    assert 60 < peak.above_idle_mb() < 90
    del held
    peak.stop()
    assert 60 < peak.above_idle_mb() < 90, "the peak stays after the memory is given back"


def test_sampled_memory_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eegm2.benchmark.memory._reset", lambda: False)
    peak = Peak()
    assert "sampled" in peak.method
    import time

    held = bytearray(64 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(0.1)
    peak.stop()
    assert 60 < peak.above_idle_mb() < 90


def test_spread_of_times() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "q25": 1.5, "q75": 2.5, "min": 1.0, "n": 3}
    assert spread([3.0])["q75"] == 3.0


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch)
    out = tmp_path / "cpu.json"
    done = CliRunner().invoke(app, ["benchmark", "--quick", "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "forward EEGM2 Light, 1 × 512" in done.output
    assert "real time" in done.output
    rendered = CliRunner().invoke(app, ["benchmark", "--render", str(out)], catch_exceptions=False)
    assert rendered.exit_code == 0
    assert (tmp_path / "cpu.md").exists()


def test_the_command_refuses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--render", "no-such.json"], "no-such.json"),
        (["--render", "a.json", "--out", "b.json"], "--render: got --out as well"),
        (["--models", "eegm3"], "models: got 'eegm3'"),
    ):
        monkeypatch.setattr(sys, "argv", ["eegm2", "benchmark", *arguments])
        with pytest.raises(SystemExit, match="2"):
            main()
        said = capsys.readouterr().err
        assert message in said
        assert len(said.splitlines()) == 1


def test_documents_of_the_tests_are_documents(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    path.write_text(json.dumps(document(record("forward", "light", 64, 0.1))))
    assert read_results(path)["format"] == 1


NARROW = {"n_chans": 2, "width": 8, "threads": 1}


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["cold", "warm"])
def test_a_new_process_is_timed_from_its_start(cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "WARM", 1)
    monkeypatch.setattr(first, "COLD", 1)
    monkeypatch.setenv("EEGM2_BACKEND", "chunked")  # compiles nothing: the kernels have tests of their own
    found = measure(Measurement("first-forward", "light", 64, cache=cache, **NARROW).to_dict())
    assert found["status"] == "ok", found
    assert 0 < found["beyond_s"]["median"] < found["seconds"]["median"] < 60
    assert found["seconds"]["n"] == 1


def test_a_new_process_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(first.SCRIPTS, "first-forward", "raise ValueError('no brain')")
    found = measure(Measurement("first-forward", "light", 64, cache="cold", **NARROW).to_dict())
    assert (found["status"], found["reason"]) == ("crashed", "RuntimeError: ValueError: no brain")


def test_help_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "WARM", 1)
    found = measure(Measurement("help", "eegm2", 0).to_dict())
    assert found["status"] == "ok", found
    assert "beyond_s" not in found


def test_a_command_is_measured_against_the_bare_forward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings, scratch = tmp_path / "few", tmp_path / "scratch"
    recordings.mkdir()
    scratch.mkdir()
    for path in sorted(commands.recordings().glob("*.edf"))[:4]:
        shutil.copy(path, recordings)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv(commands.VARIABLE, str(recordings))
    monkeypatch.setattr(commands, "RUNS", 1)
    monkeypatch.setattr(commands, "EPOCH_WINDOWS", 32)
    for work, unit in (("embed", "files/min"), ("pretrain", "windows/s"), ("prepare", "MB/s")):
        found = measure(Measurement(work, "eegm2", 256, 8, width=8, data="few").to_dict())  # type: ignore[arg-type]
        assert found["status"] == "ok", found
        assert (found["unit"], found["files"]) == (unit, 4)
        assert found["rate"] > 0 < found["bare_rate"]
    left = [path.name for path in Path(tempfile.gettempdir()).iterdir()]
    assert [name for name in left if not name.startswith("torchinductor")] == []  # a folder of torch's
