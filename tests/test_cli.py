"""The command line as a user meets it: help, version, errors, configuration files."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

import eegm2
from eegm2.cli.main import app
from eegm2.cli.options import SEVERAL, options
from eegm2.config import option
from eegm2.errors import ConfigError
from eegm2.zoo.find import MODEL_HELP

runner = CliRunner()


@dataclasses.dataclass
class Cooking:
    """A configuration with every kind of field."""

    minutes: int = option(3, "Minutes to cook.")
    heat: float = option(0.5, "Heat, 0 to 1.")
    salt: bool = option(True, "Add salt.")
    style: Literal["soft", "hard"] = option("soft", "How it should be.")
    spices: tuple[str, ...] = option((), "Spices, any number.")
    cook: str | None = option(None, "Who cooks.")
    sizes: tuple[int, ...] = option((60,), "Sizes, in grams.")


def command(received: list[Any]) -> typer.Typer:
    application = typer.Typer()

    @application.command()
    @options(Cooking)
    def cook(egg: str, config: Cooking) -> None:
        received.append((egg, config))

    return application


def test_options_files_and_defaults_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "cooking.toml"
    file.write_text('minutes = 5\nspices = ["pepper"]\nstyle = "hard"\n')
    received: list[Any] = []
    arguments = ["quail", "--config", str(file), "--minutes", "7", "--no-salt"]
    assert runner.invoke(command(received), arguments, catch_exceptions=False).exit_code == 0
    assert received == [("quail", Cooking(7, 0.5, False, "hard", ("pepper",), None))]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--spices salt,pepper", ("salt", "pepper")),
        ("--spices salt --spices pepper", ("salt", "pepper")),
        ("--spices salt,pepper --spices dill,", ("salt", "pepper", "dill")),
        (r"--spices 'salt\, fine,dill'", ("salt, fine", "dill")),
        ("", ()),
    ],
)
def test_lists_take_commas_and_repetition(given: str, expected: tuple[str, ...]) -> None:
    received: list[Any] = []
    runner.invoke(command(received), ["egg", *shlex.split(given)], catch_exceptions=False)
    assert received[0][1].spices == expected


def test_lists_of_numbers_are_numbers_or_refused() -> None:
    received: list[Any] = []
    runner.invoke(command(received), ["egg", "--sizes", "50,70"], catch_exceptions=False)
    assert received[0][1].sizes == (50, 70)
    with pytest.raises(ConfigError, match="sizes: got 50,big, expected whole numbers with commas between"):
        runner.invoke(command(received), ["egg", "--sizes", "50,big"], catch_exceptions=False)


def test_every_list_of_every_command_takes_commas() -> None:
    group = typer.main.get_group(app)
    found = 0
    for name, one in group.commands.items():
        for parameter in one.params:
            if not parameter.multiple or parameter.param_type_name == "argument":
                continue
            found += 1
            assert (parameter.help or "").endswith(SEVERAL), f"{name} {parameter.opts}"
            made = one.make_context(name, [parameter.opts[0], "3,4"], resilient_parsing=True)
            parsed = parameter.process_value(made, ["3,4"])
            assert [str(value) for value in parsed] == ["3", "4"], f"{name} {parameter.opts}"
    assert found > 20


def test_every_command_that_takes_a_model_says_how_to_name_it_in_the_same_words() -> None:
    group = typer.main.get_group(app)
    named = {"RUN", "MODEL", "RUN_A", "[RUN]"}
    found = {
        name: parameter.help
        for name, one in group.commands.items()
        for parameter in one.params
        if (parameter.param_type_name == "argument" and parameter.metavar in named)
        or parameter.opts == ["--model"]
    }
    for other in ("report", "demo"):  # the folder of a run; a model that ships
        found.pop(other)
    every = "probe predict finetune stream export head share embed info reconstruct compare calibrate"
    assert set(found) == set(every.split())
    for name, text in found.items():
        assert MODEL_HELP in text, name


def test_every_field_is_in_the_help() -> None:
    text = runner.invoke(command([]), ["--help"]).output
    for field in dataclasses.fields(Cooking):
        assert "--" + field.name in text
        assert field.metadata["help"].split(",")[0] in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("minuts = 5", "unknown key 'minuts'; did you mean 'minutes'"),
        ('salt = "False"', "salt: got 'False', expected bool"),
        ("minutes = 1.5", "minutes: got 1.5, expected int"),
        ('style = "raw"', "style: got 'raw', expected one of 'soft', 'hard'"),
        ("minutes = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "cooking.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        runner.invoke(command([]), ["egg", "--config", str(file)], catch_exceptions=False)


def test_version_and_info() -> None:
    assert runner.invoke(app, ["--version"]).output.strip() == f"eegm2 {eegm2.__version__}"
    output = runner.invoke(app, ["info"], catch_exceptions=False).output
    assert "torch:" in output
    assert "backend:" in output


def test_every_command_has_help() -> None:
    group = typer.main.get_group(app)
    assert {"info"} <= set(group.commands)
    for name in group.commands:
        result = runner.invoke(app, [name, "--help"])
        assert result.exit_code == 0, name
        assert len(result.output.splitlines()) > 3, name


@pytest.mark.parametrize(
    "page", ["cp932", *(pytest.param(p, marks=pytest.mark.slow) for p in ("cp1252", "cp1251", "ascii"))]
)
def test_no_command_ends_for_want_of_a_character(page: str) -> None:
    code = "import sys; sys.argv = ['eegm2', 'prepare', '\\u773c\\udcfc', '--out', 'o']"
    code += "; from eegm2.cli.main import main; main()"
    environment = {**os.environ, "PYTHONIOENCODING": page}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode == 2
    assert b"no such file or folder; check the name" in done.stderr
    assert b"Traceback" not in done.stderr
