"""The documentation says what is so: commands and options exist, code compiles, nothing is fetched."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from eegm2.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md")) + [path for path in [ROOT / "README.md"] if path.is_file()]
GROUP = typer.main.get_group(app)


def blocks(path: Path, *languages: str) -> Iterator[str]:
    """Yield the fenced blocks of a page in one of the languages."""
    for language, text in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", path.read_text(), re.M | re.S):
        if language in languages:
            yield text


def commands(path: Path) -> Iterator[list[str]]:
    """Yield every eegm2 command of a page's shell blocks as words."""
    for block in blocks(path, "bash", "sh", "console", "toml"):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"(?:^|[\s/#:])(?:python\S* -m )?eegm2 ((?!\[)[a-z].*)", line)
            if found:
                yield ["eegm2", *shlex.split(found[1], comments=True)]


def check_command(words: list[str]) -> None:
    """Parse a command as the command line would, without running it."""
    name, arguments = words[1], words[2:]
    assert name in GROUP.commands, f"there is no command '{name}'"
    # Parsing also applies types and choices; callbacks of the command itself do not run.
    GROUP.commands[name].make_context(name, list(arguments), resilient_parsing=False)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_exist_with_their_options(path: Path) -> None:
    for words in commands(path):
        try:
            check_command(words)
        except SystemExit:
            continue  # --help and --version leave
        except Exception as error:
            pytest.fail(f"{path.name}: {' '.join(words)}: {error}")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("eegm2 prepare x --out y --no-such 3", "No such option"),
        ("eegm2 pretrain x --out y --width wide", "valid integer"),
        ("eegm2 pretrain x --out y --preset eegm3", "expected one of"),
        ("eegm2 nothing", "there is no command"),
    ],
)
def test_the_check_itself_finds(command: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        check_command(shlex.split(command))


def exists(module: str, name: str) -> bool:
    """Return whether a name can be imported; what needs an optional library is not looked into without it."""
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        return not (error.name or "").startswith("eegm2")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_python_blocks_compile_and_import_what_exists(path: Path) -> None:
    for block in blocks(path, "python"):
        if "--8<--" in block:
            continue
        compile(block, str(path), "exec")
        for module, names in re.findall(r"^from (eegm2[\w.]*) import ([\w, ]+)", block, re.M):
            for name in names.split(","):
                assert exists(module, name.strip()), f"{path.name}: {module}.{name}"


@pytest.mark.parametrize("path", [*PAGES, *sorted((ROOT / "examples").glob("*.py"))], ids=lambda p: p.name)
def test_pages_and_examples_use_the_public_face_alone(path: Path) -> None:
    text = path.read_text()
    for block in blocks(path, "python") if path.suffix == ".md" else [text]:
        deeper = re.findall(r"^\s*(?:from|import) (eegm2\.[\w.]+)", block, re.M)
        assert not deeper, f"{path.name}: {deeper}; export the names in eegm2/__init__.py"


def test_a_command_said_to_have_made_a_result_is_the_one_that_did() -> None:
    """`--out docs/results/X.json`: what the command says of a benchmark is what X keeps of its options."""
    checked = []
    for words in commands(ROOT / "docs" / "speed.md"):
        options = dict(zip(words[2::2], words[3::2]))
        kept = ROOT / options.pop("--out", "none")
        if words[1] == "benchmark" and kept.parent == ROOT / "docs" / "results":
            made = json.loads(kept.read_text())["options"]
            given = {name.removeprefix("--").replace("-", "_"): value for name, value in options.items()}
            for name, value in given.items():
                assert type(made[name])(value) == made[name], f"{kept.name} was made with {name} {made[name]}"
            checked.append(kept.name)
    assert checked == ["cpu.json"]


def test_api_pages_name_what_exists() -> None:
    found = 0
    for path in sorted((ROOT / "docs" / "api").glob("*.md")):
        for name in re.findall(r"^::: ([\w.]+)", path.read_text(), re.M):
            module, _, attribute = name.rpartition(".")
            assert exists(module, attribute), f"{path.name}: {name}"
            found += 1
    assert found > 30


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    for path in (ROOT / "docs").rglob("*.md"):
        if path.parent.name == "results":  # shown inside other pages
            continue
        assert str(path.relative_to(ROOT / "docs")) in text, path.name


def test_nothing_private_is_in_the_pages() -> None:
    for path in (*PAGES, ROOT / "mkdocs.yml"):
        assert not re.search(r"(?<![\w.])/(work|opt|home|root)/", path.read_text()), path.name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    loads = re.compile(r"<(?:script|img|iframe|source)[^>]+src=\"https?://|<link[^>]+href=\"https?://")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not loads.search(page.read_text()), f"{page.name} loads something from elsewhere"
