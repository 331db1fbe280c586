"""Names that leave it in doubt who a recording is from are questioned; those that do not are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.config import PrepareConfig
from eegm2.data.preparing.finding import find_recordings
from tests.data.samples import eeg, write_edf


def found(root: Path, names: str, table: str = "") -> list[str]:
    for name in names.split():
        path = root / "in" / f"{name}.edf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0")
    (root / "who.csv").write_text(table.replace(" ", "\n"))
    config = PrepareConfig(table=str(root / "who.csv") if table else "")
    return list(find_recordings(root / "in", config).messages)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("sub-sub-001_eyes sub-sub-002_eyes", "2 recordings count as those of one person, 'sub-sub'"),
        ("sub-sub-01/a sub-sub-02/a", "names go on after it (sub-sub-01, sub-sub-02)"),
        (
            "sub-hc-1_rest sub-hc-2_rest sub-hc-3_rest sub-hc-4_rest sub-pd-1_rest",
            "4 recordings count as those of one person, 'sub-hc', though their names go on after it "
            "(sub-hc-1, sub-hc-2, sub-hc-3 and 1 more)",
        ),
        ("data/p1 data/p2", "all 2 recordings count as those of one person, 'data' (data/p1.edf"),
        ("sub-eeg_p1 sub-eeg_p2", "all 2 recordings count as those of one person, 'sub-eeg'"),
        ("hc/p1 hc/p2 hc/p3 pd/p4 pd/p5", "2 folders count as 2 people, though their files have no names in "
         "common: 'hc' has p1.edf, p2.edf, p3.edf"),
        ("hc/p1/rest hc/p2/rest hc/p3/rest pd/p4/rest", "'hc' has p1/rest.edf, p2/rest.edf, p3/rest.edf"),
    ],
)  # fmt: skip
def test_several_people_under_one_name_are_questioned(names: str, said: str, tmp_path: Path) -> None:
    (message,) = found(tmp_path, names)
    assert said in message
    assert message.endswith("say whose with --table (a CSV with columns recording and subject)")


@pytest.mark.parametrize(
    "names",
    [
        "one",
        "ann ben",
        "sub-01_run-1 sub-01_run-2 sub-02_run-1",
        "sub-01/ses-1/sub-01_ses-1_eeg sub-01/ses-2/sub-01_ses-2_eeg sub-02/ses-1/sub-02_ses-1_eeg",
        "sub-01-rest sub-02-rest",
        "ann/rest ann/task ann/sleep ben/rest",
        "ann/ann_1 ann/ann_2 ann/ann_3 ben/ben_1",
        "ann/may ann/june ben/july",
    ],
)
def test_what_is_in_no_doubt_is_not_questioned(names: str, tmp_path: Path) -> None:
    assert found(tmp_path, names) == []


def test_a_table_that_names_people_answers(tmp_path: Path) -> None:
    names = "sub-sub-1 sub-sub-2 sub-sub-3"
    table = "recording,subject sub-sub-1,ann sub-sub-2,ben"
    assert [m for m in found(tmp_path, names, table) if "one person" in m] == []
    (message,) = (m for m in found(tmp_path, names, "recording,label sub-sub-1,rest") if "one person" in m)
    assert "3 recordings count" in message
    whole = table + " sub-sub-3,sub-sub"
    assert found(tmp_path, names, whole) == []


def test_a_data_set_that_declares_its_names_is_believed(tmp_path: Path) -> None:
    for run in (1, 2):
        path = tmp_path / "sub-sub-01" / "eeg" / f"sub-sub-01_task-rest_run-{run}_eeg.edf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0")
    (tmp_path / "dataset_description.json").write_text("{}")
    assert find_recordings(tmp_path, PrepareConfig()).messages == ()


def test_the_command_says_it(tmp_path: Path) -> None:
    for seed, name in enumerate(("sub-sub-1", "sub-sub-2")):
        write_edf(tmp_path / "in" / f"{name}.edf", eeg(2, 1280, seed=seed), ["Fz", "Cz"])
    command = ["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--jobs", "1", "--no-isolate"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "recordings  2 of 1 subject, " in result.output
    assert "warning     2 recordings count as those of one person, 'sub-sub'" in result.output
    assert "1 warning; see prepare_report.json" in result.output
