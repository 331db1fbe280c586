"""The tutorials run, and their pages are what running them gave."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "tutorials"
SCRIPTS = sorted(FOLDER.glob("*.py"))
MOST_BYTES = 1_000_000


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_tutorials", ROOT / "tools" / "run_tutorials.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["run_tutorials"] = made  # dataclasses look their module up
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool()


def pictures(page: str) -> list[str]:
    return re.findall(r"^!\[[^\]]+\]\(([\w-]+\.png)\)$", page, re.M)


def test_there_is_one_per_kind_of_user() -> None:
    assert [path.stem for path in SCRIPTS] == ["device", "pretraining", "researcher"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_page_is_of_the_script_as_it_is(script: Path, tool: ModuleType) -> None:
    page = script.with_suffix(".md").read_text()
    again = f"python tools/run_tutorials.py {script.stem}"
    assert tool.made_from(script) in page, f"{script.name} has changed; run {again}"
    for cell in tool.read_cells(script):
        shown = cell.source if cell.kind == "markdown" else f"```{cell.kind}\n{cell.source}\n```"
        assert shown in page
    assert pictures(page), "a tutorial without a figure"
    assert all((FOLDER / name).is_file() for name in pictures(page))


def test_all_figures_are_small_and_shown() -> None:
    shown = {name for script in SCRIPTS for name in pictures(script.with_suffix(".md").read_text())}
    there = {path.name: path.stat().st_size for path in FOLDER.glob("*.png")}
    assert set(there) == shown
    assert sum(there.values()) < MOST_BYTES


def test_the_runner_shows_what_cells_print_and_draw(tool: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "small.py"
    script.write_text(
        "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nfrom matplotlib.figure import Figure\n\n"
        "print(6 * 7)\n"
        'x = Figure()\n\n# %%\nx\n\n# %% language="bash"\n# eegm2 --version\n'
    )
    cells = tool.read_cells(script)
    assert [cell.kind for cell in cells] == ["markdown", "python", "python", "bash"]
    tool.run(cells, tmp_path)
    assert cells[1].printed == "42\n"
    assert cells[2].figures[0].startswith(b"\x89PNG")
    assert cells[3].printed.startswith("eegm2 ")
    files = tool.write(script, cells, tmp_path / "out")
    assert [path.name for path in files] == ["small.md", "small-1.png"]
    page = files[0].read_text()
    assert page.startswith("# Title\n\nText.\n")
    assert pictures(page) == ["small-1.png"]


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ('# %% language="bash"\n# rm -rf x\n', ValueError, "commands of eegm2 only"),
        ('# %% language="bash"\n# eegm2 nothing\n', RuntimeError, "No such command"),
        ("# %%\nassert 1 == 2\n", AssertionError, ""),
    ],
)
def test_a_cell_that_fails_fails_the_run(
    cell: str, error: type[Exception], message: str, tool: ModuleType, tmp_path: Path
) -> None:
    script = tmp_path / "bad.py"
    script.write_text(cell)
    with pytest.raises(error, match=message):
        tool.run(tool.read_cells(script), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_tutorials_run(script: Path, tool: ModuleType, tmp_path: Path) -> None:
    if script.stem == "device":
        pytest.importorskip("onnxscript")
    cells = tool.read_cells(script)
    (tmp_path / "work").mkdir()
    tool.run(cells, tmp_path / "work")
    files = tool.write(script, cells, tmp_path / "out")
    page, committed = files[0].read_text(), script.with_suffix(".md").read_text()
    assert pictures(page) == pictures(committed)
    words = [re.sub(r"[\d.]+", "0", text) for text in (page, committed)]
    headings = [re.findall(r"^#+ .*$", text, re.M) for text in words]
    assert headings[0] == headings[1]
