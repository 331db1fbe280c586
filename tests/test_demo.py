"""The demo, as a new user runs it: everything it promises is there, and a second run goes on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli import demo as module
from eegm2.cli.main import app
from eegm2.report.document import Section

ROOT = Path(__file__).parents[1]
EPOC = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")


def write_person(path: Path, number: int, *, labelled: bool = True, seconds: int = 12) -> None:
    """Write EEG in which 10 Hz is stronger while the eyes are closed."""
    from edfio import Edf, EdfAnnotation, EdfSignal

    rng, n = np.random.default_rng(number), seconds * 128
    rhythm = np.sin(2 * np.pi * 10 * np.arange(n) / 128) * rng.uniform(0.5, 1, (14, 1))
    closed, open_ = (20 * size * rhythm + 10 * rng.standard_normal((14, n)) for size in (1.5, 0.2))
    about = {"physical_dimension": "uV", "physical_range": (-500, 500)}
    signals = [
        EdfSignal(np.clip(row, -499, 499), 128, label=f"EEG {name}", **about)
        for name, row in zip(EPOC, np.concatenate([closed, open_], axis=1))
    ]
    spans = [EdfAnnotation(0, seconds, "eyes_closed"), EdfAnnotation(seconds, seconds, "eyes_open")]
    path.parent.mkdir(parents=True, exist_ok=True)
    Edf(signals, annotations=spans if labelled else []).write(path)


def test_the_demo_shows_a_finding_on_people_never_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = tmp_path / "bundled"
    for number in range(8):
        write_person(bundled / f"sub-{number:03d}_task-eyes_eeg.edf", number)
    monkeypatch.setattr(module, "BUNDLED", bundled)
    arguments = ["demo", "--out", str(tmp_path / "demo"), "--model", "untrained-covariance"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = re.search(r"untrained-covariance: AUROC (\S+) \[.*\] on windows of 8 people", result.output)
    assert found is not None
    assert float(found[1]) > 0.95
    assert "band power: AUROC" in result.output
    assert "untrained control: random weights" in result.output
    rows = json.loads((tmp_path / "demo" / "evaluation" / "results.json").read_text())
    assert {row["model"] for row in rows} == {"untrained-covariance", "band power"}
    task = json.loads((tmp_path / "demo" / "probe" / "results.json").read_text())["task"]
    predicted = json.loads((tmp_path / "demo" / "predictions" / "predictions.json").read_text())
    (recording,) = predicted["recordings"]
    assert recording["subject"] in task["parts"]["test"]["subjects"]
    assert not recording["warnings"], "the head has not seen this person"
    page = (tmp_path / "demo" / "report.html").read_text()
    for fact in ("The finding", "Person by person", "untrained control", "By occlusion", "eegm2 finetune"):
        assert fact in page, fact
    with mock.patch.object(Section, "figure"):  # drawn once is enough
        assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0, "it goes on"


def test_the_demo_takes_recordings_without_labels(tmp_path: Path) -> None:
    for number in range(3):
        write_person(tmp_path / "mine" / f"p{number}.edf", number, labelled=False)
    arguments = ["demo", "--data", str(tmp_path / "mine"), "--out", str(tmp_path / "demo")]
    arguments += ["--width", "4", "--epochs", "1"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "probe left out" in result.output
    assert "eegm2 prepare --table" in result.output
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "demo" / "run" / "checkpoints" / "best.safetensors").stat().st_size > 1000


def test_what_is_bundled_is_what_is_said() -> None:
    from eegm2.data.files.readers import read_raw

    files = sorted((ROOT / "src/eegm2/data/bundled").glob("*.edf"))
    assert len(files) == 16
    raw = read_raw(files[0])
    spans = {a["description"]: a["duration"] for a in raw.annotations}
    assert spans == {"eyes_closed": 60.0, "eyes_open": 60.0, "BAD boundary": 0.0}
    assert "CC BY 4.0" in (files[0].parent / "ATTRIBUTION.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_on_the_bundled_people(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo")], catch_exceptions=False)
    found = re.search(r": AUROC (\S+) \[.*\] on windows of 16 people", result.output)
    assert found is not None
    assert float(found[1]) > 0.85


def test_the_readme_has_its_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^python3 -m venv .*$", readme, flags=re.MULTILINE)
    assert [command.split(" && ")[-1] for command in commands] == [
        ".venv/bin/eegm2 demo",
        ".venv/bin/pytest -n 2",
    ]
    assert all("-c constraints.txt" in command for command in commands)


@pytest.mark.parametrize("path", ["src/eegm2", "tests", "docs", "benchmarks", "examples", "tools"])
def test_the_tree_of_the_readme_is_true(path: str) -> None:
    assert (ROOT / path).exists()
    assert path.split("/")[-1] in (ROOT / "README.md").read_text()
