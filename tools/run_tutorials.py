"""Run the tutorials of ``docs/tutorials`` and write their pages, with what they print and draw.

Usage: python tools/run_tutorials.py [NAME ...] [--out docs/tutorials]

A tutorial is a Python script in cells (``# %%``), as Jupytext reads it: ``# %% [markdown]`` has text,
``# %% language="bash"`` has commands, the rest is Python. A cell whose last line is a figure shows it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "tutorials"
DPI = 110
_CELL = re.compile(r"^# %%(.*)$", re.M)


@dataclass
class Cell:
    """One cell of a tutorial.

    Attributes
    ----------
    kind : str
        "markdown", "bash" or "python".
    source : str
        Its text, freed of comment signs where it is no Python.
    printed : str
        What it printed.
    figures : list of bytes
        PNG files of the figures it showed.
    """

    kind: str
    source: str
    printed: str = ""
    figures: list[bytes] = field(default_factory=list)


def read_cells(script: Path) -> list[Cell]:
    """Return the cells of a script in order; what stands before the first one is left out."""
    parts = _CELL.split(script.read_text(encoding="utf-8"))[1:]
    cells = []
    for mark, text in zip(parts[::2], parts[1::2], strict=True):
        kind = "markdown" if "[markdown]" in mark else "bash" if "bash" in mark else "python"
        if kind != "python":
            text = re.sub(r"^# ?", "", text, flags=re.M)
        cells.append(Cell(kind, text.strip("\n")))
    return cells


def run(cells: list[Cell], folder: Path) -> None:
    """Run the cells in an empty folder, the Python ones in one namespace; what they yield is kept in them."""
    space: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for number, cell in enumerate(cells):
            if cell.kind == "bash":
                cell.printed = "".join(_commands(cell.source))
            elif cell.kind == "python":
                cell.printed, shown = _python(cell.source, space, f"cell {number}")
                cell.figures = [_png(shown)] if hasattr(shown, "savefig") else []


def _commands(text: str) -> Iterator[str]:
    """Run the lines of a shell cell with this interpreter's eegm2 and yield what they print."""
    paths = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] != "eegm2":
            raise ValueError(f"a shell cell has commands of eegm2 only, got: {line}")
        done = subprocess.run(
            [sys.executable, "-m", *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "100"},
        )
        if done.returncode:
            raise RuntimeError(f"{line}\n{done.stdout}{done.stderr}")
        yield _lasting(done.stdout)


def _lasting(printed: str) -> str:
    """Return what was printed without the lines that only say where and how fast it was."""
    kept = [line for line in printed.splitlines() if '"commit"' not in line and "  speed  " not in line]
    text = "\n".join(re.sub(r"  \d[\d.]* windows/s  \d+ MB.*$", "", line) for line in kept)
    return f"{text}\n" if text else ""


def _python(text: str, space: dict[str, Any], where: str) -> tuple[str, Any]:
    """Run a cell and return what it printed and the value of its last line."""
    tree = ast.parse(text, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, where, "exec"), space)
        value = None if last is None else eval(compile(ast.Expression(last.value), where, "eval"), space)
    return printed.getvalue(), value


def _png(figure: Any) -> bytes:
    """Return a figure as a small PNG on white, of 256 colours, its text as large as the page's."""
    from PIL import Image

    drawn, made = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, facecolor="white")
    image = Image.open(drawn).convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE)
    image.save(made, format="png", optimize=True)
    return made.getvalue()


def page(script: Path, cells: list[Cell]) -> str:
    """Return a tutorial as Markdown with its outputs; the last line names the script it was made from."""
    parts, number = [], 0
    for cell in cells:
        parts.append(cell.source if cell.kind == "markdown" else f"```{cell.kind}\n{cell.source}\n```")
        if cell.printed.strip():
            parts.append(f'```{{.text title="Output"}}\n{cell.printed.rstrip()}\n```')
        for _ in cell.figures:
            number += 1
            parts.append(f"![Figure {number} of this tutorial]({script.stem}-{number}.png)")
    parts.append(f"*The whole of it as a script: [{script.name}]({script.name}).*")
    parts.append(made_from(script))
    return "\n\n".join(parts) + "\n"


def made_from(script: Path) -> str:
    """Return the line by which a page tells whether it is of this form of its script."""
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    return f"<!-- python tools/run_tutorials.py {script.stem}, from SHA-256 {digest} -->"


def write(script: Path, cells: list[Cell], out: Path) -> list[Path]:
    """Write page and figures, remove figures of an earlier form, and return the files."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{script.stem}-*.png"):
        old.unlink()
    files = [out / f"{script.stem}.md"]
    files[0].write_text(page(script, cells), encoding="utf-8")
    for number, figure in enumerate((figure for cell in cells for figure in cell.figures), 1):
        files.append(out / f"{script.stem}-{number}.png")
        files[-1].write_bytes(figure)
    return files


def main() -> None:
    """Run the tutorials named, or all, and print the files written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = sorted(path.stem for path in FOLDER.glob("*.py"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(known)}; none: all")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the pages")
    arguments = parser.parse_args()
    for name in arguments.names or known:
        script = FOLDER / f"{name}.py"
        cells = read_cells(script)
        with tempfile.TemporaryDirectory() as folder:
            run(cells, Path(folder))
        for path in write(script, cells, arguments.out.resolve()):
            print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
