"""The architecture, enforced: imports flow one way, `import eegm2` is light, nothing private leaks in."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import eegm2

SOURCE = Path(__file__).parents[1] / "src" / "eegm2"
#: A package may import from its own layer and the ones before it.
LAYERS = [
    [
        "config",
        "ending",
        "errors",
        "compiling",
        "code_cache",
        "records",
        "words",
        "atomic",
        "plugins",
        "progress",
    ],
    ["ops"],
    ["model"],
    ["data"],
    ["zoo"],
    ["training", "evaluation"],
    ["deploy", "hub"],
    ["report"],
    ["benchmark", "contracts"],
    ["cli"],
]
#: The same inside a package: its rooms, and the modules that lie beside them.
ROOMS = {
    "model": [
        ["config", "state", "statistics", "layers", "inputs", "shapes", "mixer"],
        ["mamba1", "mamba2", "block", "pretrained", "fused"],
        ["covariance"],
        ["features"],
        ["unet", "network", "pieces", "stretches"],
        ["heads", "authors", "streaming", "electrode_weights"],
    ],
    "data": [
        ["config", "labels", "joins", "names", "storage", "channels", "positions", "electrodes"],
        ["files"],
        ["signal"],
        ["store"],
        ["recipes"],
        ["windows"],
        ["preparing"],
        ["readers", "prepare", "splits"],  # former places
    ],
    "evaluation": [
        ["config"],
        ["windows"],
        ["features"],
        ["scores"],
        ["protocols"],
        ["baselines", "estimators", "probing", "reconstruct"],
        ["experiment", "finetuning"],
        ["sklearn"],  # a former place
    ],
    "deploy": [
        ["config", "trained_model"],
        ["device"],
        ["stream", "long"],
        ["heads", "export"],
        ["live", "predict"],
    ],
}
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


def name_of(path: Path) -> str:
    """``data.windows.scaling`` for its file; of a package, the package's name."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imported(tree: ast.AST) -> set[str]:
    """Our own modules that a module imports by a statement, by `import_module` or through the face."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name their package"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                inner = eegm2._EXPORTS.get(alias.name) if node.module == "eegm2" else node.module
                names.append(whole if whole.removeprefix("eegm2.") in MODULES else inner)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "eegm2":
            names.append(eegm2._EXPORTS.get(node.attr))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names += [ast.unparse(argument).strip("f\"'") for argument in node.args]
    found = {name.removeprefix("eegm2.") for name in names if name and name.startswith("eegm2.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in found}


@functools.cache
def imports() -> dict[str, set[str]]:
    """Which of our modules each of them imports."""
    return {name: imported(ast.parse(path.read_text())) - {name} for name, path in MODULES.items()}


def rank(floors: list[list[str]], room: str) -> int:
    return next((floor for floor, rooms in enumerate(floors) if room in rooms), -1)


def upward(module: str, other: str) -> bool:
    """Whether an import climbs: to a later package, or to a later room of the same one."""
    ours, theirs = module.split("."), other.split(".")
    if ours[0] != theirs[0]:
        return rank(LAYERS, theirs[0]) >= rank(LAYERS, ours[0]) and not (
            {ours[0], theirs[0]} == {"training", "evaluation"} or {ours[0], theirs[0]} <= set(LAYERS[0])
        )
    floors = ROOMS.get(ours[0], [])
    return len(ours) > 1 and len(theirs) > 1 and rank(floors, theirs[1]) > rank(floors, ours[1])


def circles(graph: dict[str, set[str]]) -> set[tuple[str, ...]]:
    """Groups of modules of which each reaches every other."""
    reach = {name: set(targets) for name, targets in graph.items()}
    for middle in graph:
        for start in graph:
            if middle in reach[start]:
                reach[start] |= reach[middle]
    groups = {
        tuple(sorted(o for o in graph if o in reach[n] and n in reach[o])) for n in graph if n in reach[n]
    }
    return {group for group in groups if len(group) > 1}


def test_imports_flow_one_way() -> None:
    found = {(a, b) for a, others in imports().items() for b in others if a[0] != "_" and upward(a, b)}
    assert not found


def test_modules_do_not_import_in_circles() -> None:
    assert not circles(imports())


def test_every_room_has_its_place() -> None:
    for package, floors in ROOMS.items():
        there = {name.split(".")[1] for name in MODULES if name.startswith(f"{package}.")}
        assert there == {room for floor in floors for room in floor}, package
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            first = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert len(first.split()) > 3, f"{name}: its docstring says what the room is for"


def test_the_rules_see_what_they_forbid() -> None:
    for line in ("from eegm2.cli import main", "import eegm2.cli.main", "import_module('eegm2.cli.main')"):
        assert imported(ast.parse(line)) == {"cli.main"}
    for line in ("from eegm2 import probe", "import eegm2\neegm2.probe(1)"):
        assert imported(ast.parse(line)) == {"evaluation.probing.run"}
    assert upward("data.windows.labelling", "training.config")
    assert upward("data.signal.filters", "data.windows.scaling")
    assert not upward("data.windows.scaling", "data.signal.filters")
    assert not upward("training.config", "data.config")
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {("a", "b", "c")}


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


def test_help_needs_no_heavy_module() -> None:
    command = "from typer.testing import CliRunner; from eegm2.cli.main import app"
    for arguments in (["--help"], ["pretrain", "--help"], ["benchmark", "--help"]):
        shown = f"r = CliRunner().invoke(app, {arguments!r}); assert r.exit_code == 0, r.output"
        code = f"{command}; {shown}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE.parent
        )
        assert result.stdout.strip() == "[]", arguments


def test_type_checkers_see_what_is_exported() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.col_offset and str(node.module).startswith("eegm2.")
        for alias in node.names
    }
    assert seen == eegm2._EXPORTS


def test_every_export_resolves() -> None:
    for name in eegm2.__all__:
        assert getattr(eegm2, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = eegm2.nothing
