"""Our own JSON files are refused by the name of the field that is wrong, or shown without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eegm2.config import read_toml
from eegm2.errors import CheckpointError, ConfigError, DataError
from eegm2.records import HEADER, PROBE, QUALITY, RUN, Record, checked, parse_json, read_record, sound_fields

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"ch_names": None}, "ch_names is None, expected a list of different names"),
        ({"ch_names": ["a", "a"]}, "ch_names is"),
        ({"sfreq_hz": float("nan")}, "sfreq_hz is nan, expected a number above 0"),
        ({"sfreq_hz": True}, "sfreq_hz is True"),
        ({"data": 3}, "data is 3, expected a table"),
        ({"data": {"n_subjects": -1}}, "data.n_subjects is -1, expected a count"),
        ({"versions": {"torch": 2}}, "versions is"),
        (["x"], "it is"),
    ],
)
def test_a_wrong_field_is_named(value: Any, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem.replace("[", r"\[")):
        checked(value, HEADER, "m.safetensors", CheckpointError)


def test_sound_and_unknown_fields_pass() -> None:
    value = {"ch_names": ["a"], "sfreq_hz": 128, "val_loss": float("nan"), "commit": None, "of_tomorrow": []}
    assert checked(value, HEADER, "m", CheckpointError) == value


def test_lists_of_tables_are_looked_into() -> None:
    rows = {"rows": [{"recording": "a", "status": "rejected"}, {"recording": "b", "status": 5}]}
    with pytest.raises(DataError, match=r"rows\[1\]\.status is 5, expected text"):
        checked(rows, Record({"rows": [QUALITY]}), "quality.json", DataError)
    with pytest.raises(DataError, match=r"rows\[0\]\.status is missing"):
        checked({"rows": [{"recording": "a"}]}, Record({"rows": [QUALITY]}), "quality.json", DataError)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (DEEP, "nested too deeply"),
        ("9" * 5000, "damaged"),
        ("\udcff", "damaged"),
        ("{", "damaged"),
        ("", "damaged"),
    ],
)
def test_texts_that_no_parser_takes(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=problem) as error:
        read_record(path, RUN)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json: cannot be read \(No such file"):
        read_record(tmp_path / "run.json", RUN)


def test_what_is_sound_is_kept_for_reports() -> None:
    value = {
        "task": {"classes": "abc", "target": "eyes"},
        "protocols": [{"protocol": "linear", "metrics": 3}, 5],
        "notes": ["a", 1],
    }
    kept, problems = sound_fields(value, PROBE)
    assert kept == {"task": {"target": "eyes"}, "protocols": [{"protocol": "linear"}]}
    assert [text.split(" is ")[0] for text in problems] == [
        "task: classes", "protocols", "protocols: metrics", "notes",
    ]  # fmt: skip
    assert sound_fields(None, PROBE) == ({}, [])
    assert sound_fields([1], PROBE)[0] == {}


def test_half_a_character_is_refused() -> None:
    assert parse_json('"\\ud83d\\ude42"') == "\U0001f642"
    with pytest.raises(ValueError, match="surrogates"):
        parse_json('{"a": ["\\ud800"]}')


def test_numbers_that_are_true_json() -> None:
    assert parse_json('{"a": 1e5}') == {"a": 1e5}


@pytest.mark.parametrize(
    "content", [b"a = '\xff\xfe'", b"a = " + b"9" * 5000, b"a = " + b"[" * 3000, b"a = "]
)
def test_toml_that_no_parser_takes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.toml: not valid TOML"):
        read_toml(path)
