"""The architecture, enforced: imports flow one way, `import eegm2` is light, nothing private leaks in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "eegm2"
#: A package may import from its own layer and the ones before it.
LAYERS = [
    ["config", "errors", "compiling", "words"],
    ["ops"],
    ["model"],
    ["data"],
    ["training", "evaluation"],
    ["deploy", "hub"],
    ["report"],
    ["benchmark"],
    ["cli"],
]
RANK = {package: rank for rank, packages in enumerate(LAYERS) for package in packages}
HEAVY = (
    "torch",
    "mne",
    "matplotlib",
    "numba",
    "lightning",
    "onnx",
    "onnxruntime",
    "sklearn",
    "scipy",
    "pandas",
)


def imported(tree: ast.AST) -> set[str]:
    """Names of eegm2's own packages that a module imports anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("eegm2.")}
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_flow_one_way(path: Path) -> None:
    package = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if package in ("__init__", "__main__"):
        return
    upward = {name for name in imported(ast.parse(path.read_text())) if RANK.get(name, -1) > RANK[package]}
    assert not upward, f"{path.name} is in '{package}' and may not import {sorted(upward)}"


@pytest.mark.parametrize("command", ["import eegm2", "import eegm2.cli.main"])
def test_import_is_light(command: str) -> None:
    code = f"{command}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=SOURCE.parent,
        timeout=60,
    )
    assert result.stdout.strip() == "[]"


def test_every_export_resolves() -> None:
    import eegm2

    for name in eegm2.__all__:
        assert getattr(eegm2, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = eegm2.nothing
