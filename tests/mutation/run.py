"""Plant single faults in the modules that do the scientific bookkeeping, and see whether a test falls.

    python -m tests.mutation.run                          # every module and mutant, many hours
    python -m tests.mutation.run --sample 40              # 40 of every module, always the same ones
    python -m tests.mutation.run --only evaluation.scores --sample 40
    python -m tests.mutation.run --survivors              # what lived, of the kept results

A mutant is run in a forked process that already holds the heavy libraries and reads one module with the fault
in it; no file is changed. Only tests that run the changed line are run, the quickest first. Kept results (see
`--out`) are taken up again where module and tests are as they were; a mutant counts as equivalent only if
``equivalent.toml`` says why.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
RESULTS = ROOT / "docs" / "results" / "mutants.json"
LIBRARIES = (
    "numpy", "scipy.signal", "scipy.stats", "torch", "sklearn.linear_model", "sklearn.multiclass", "numba",
    "lightning.pytorch", "mne", "matplotlib.figure", "pytest", "hypothesis", "edfio", "typer.testing",
    "safetensors.torch", "torch.utils.tensorboard",
)  # fmt: skip


def targets() -> dict[str, list[str]]:
    """Return the tests of every module that is tried, in order of importance."""
    found: dict[str, list[str]] = {}
    for group in tomllib.loads((HERE / "targets.toml").read_text())["group"]:
        for pattern in group["modules"]:
            paths = sorted((ROOT / "src" / "eegm2").glob(pattern.replace(".", "/") + ".py"))
            assert paths, f"targets.toml: {pattern} names no module"
            for path in paths:
                name = ".".join(path.relative_to(ROOT / "src" / "eegm2").with_suffix("").parts)
                if path.name != "__init__.py":
                    found.setdefault(name, group["tests"])
    return found


def source_of(module: str) -> Path:
    return ROOT / "src" / "eegm2" / (module.replace(".", "/") + ".py")


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another source."""

    def __init__(self, module: str, source: str, **given: Any) -> None:
        self.name, self.path, self.source = f"eegm2.{module}", source_of(module), source
        self.given = given

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return (
            importlib.util.spec_from_file_location(name, self.path, loader=self)
            if name == self.name
            else None
        )

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        module.__dict__.update(self.given)
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


class Coverage(ast.NodeTransformer):
    """Which tests run which statements of a module, and how long they take; a pytest plugin.

    Every statement of the module's source is made to say that it runs.
    """

    def __init__(self) -> None:
        self.lines = set[int]()
        self.of_test: dict[str, list[int]] = {}
        self.of_setup: dict[str, set[int]] = defaultdict(set)
        self.seconds: dict[str, float] = {}

    def visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list) and not isinstance(node, ast.Module | ast.ClassDef):
                said = [ast.parse(f"_runs({statement.lineno})").body[0] for statement in statements]
                setattr(node, name, [part for pair in zip(said, statements) for part in pair])
        return node

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "setup":  # what a shared fixture runs counts for every test of the file
            self.of_setup[report.nodeid.split("::")[0]] |= self.lines
        elif report.when == "call" and report.passed:
            self.of_test[report.nodeid] = sorted(self.lines)
            self.seconds[report.nodeid] = report.duration
        self.lines.clear()


def forked(task: Any, limit_s: float) -> dict[str, Any]:
    """Run a task in a process of its own and return what it wrote, or that it took too long or died."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            with os.fdopen(writer, "w") as out:
                try:
                    json.dump(task(), out)
                except BaseException as error:  # a mutant may do anything
                    json.dump({"raised": repr(error)}, out)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    done: list[str] = []
    reading = threading.Thread(target=lambda: done.append(os.fdopen(reader).read()))
    reading.start()
    end = time.monotonic() + limit_s
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"timeout": True}
        time.sleep(0.01)
    reading.join(5)
    return json.loads(done[0]) if done and done[0] else {"died": True}


def measure(module: str, tests: list[str]) -> dict[str, Any]:
    """Run the tests on the module as it is."""
    import pytest

    plugin = Coverage()
    tree = plugin.visit(ast.parse(source_of(module).read_text()))
    plant(module, ast.unparse(ast.fix_missing_locations(tree)), _runs=plugin.lines.add)
    code = pytest.main([*OPTIONS, *tests], plugins=[plugin])
    setup = {file: sorted(lines) for file, lines in plugin.of_setup.items()}
    return {"code": int(code), "tests": plugin.of_test, "setup": setup, "seconds": plugin.seconds}


OPTIONS = [
    *("-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=no"),
    *("-o", "filterwarnings=default"),  # the libraries that are there already cannot be rewritten, and say so
]


def plant(module: str, source: str, **given: Any) -> None:
    """Let this process import the module from a source of its own."""
    forget(module)
    sys.meta_path.insert(0, Planted(module, source, **given))


def tried(module: str, mutant: Mutant, chosen: list[str]) -> dict[str, Any]:
    """Run the chosen tests on the mutant."""
    import pytest

    plant(module, mutant.source)
    return {"code": int(pytest.main([*OPTIONS, *chosen]))}


def chosen_tests(mutant: Mutant, tree: ast.Module, measured: dict[str, Any]) -> list[str]:
    """Return the tests that run the mutated statement (all, of what runs at import), the quickest first."""
    inside = [
        n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n.lineno <= mutant.line <= n.end_lineno
    ]
    line = max(node.lineno for node in inside)
    hit = [
        test
        for test, lines in measured["tests"].items()
        if line in lines or line in measured["setup"].get(test.split("::")[0], [])
    ]
    return sorted(hit or measured["tests"], key=lambda test: measured["seconds"].get(test, 0.0))


def digest(module: str) -> str:
    """Return what a module says, whatever its imports, comments and line breaks."""
    tree = ast.parse(source_of(module).read_text())
    body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)]
    return hashlib.sha256("".join(ast.unparse(node) for node in body).encode()).hexdigest()[:16]


def forget(module: str) -> None:
    """Drop a module, and all that imports it by any way, from what is loaded."""
    users: dict[str, set[str]] = defaultdict(set)
    for name in [name for name in sys.modules if name.split(".")[0] in ("eegm2", "tests")]:
        path = getattr(sys.modules[name], "__file__", None)
        for node in ast.walk(ast.parse(Path(path).read_text())) if path else ():
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    users[f"{node.module}.{alias.name}"].add(name)
                users[str(node.module)].add(name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    users[alias.name].add(name)
    todo, gone = [f"eegm2.{module}"], set[str]()
    while todo:
        name = todo.pop()
        if name not in gone:
            gone.add(name)
            todo += users[name]
    for name in gone:
        package, _, last = name.rpartition(".")
        if sys.modules.pop(name, None) is not None and last in vars(sys.modules.get(package, sys)):
            delattr(sys.modules[package], last)


def run_module(
    module: str, tests: list[str], sample: int, again: bool, kept: dict[str, Any], save: Any
) -> None:
    """Try the mutants of one module that have no verdict yet; those that lived too, if `again`."""
    state = digest(module)
    entry = kept.setdefault(module, {})
    if entry.get("source") != state:
        entry.clear()
        entry |= {"source": state, "killed": 0, "survived": [], "done": []}
    tree = ast.parse(source_of(module).read_text())
    every = mutants(source_of(module).read_text())
    entry["mutants"] = len(every)
    todo = [m for m in (every[:sample] if sample else every) if m.key not in entry["done"]]
    if again:
        excused = equivalents().get(module, {})
        lived = {(s["line"], s["change"]) for s in entry["survived"] if s["change"] not in excused}
        todo += [m for m in every if (m.line, m.change) in lived]
    if not todo:
        return
    measured = forked(lambda: measure(module, tests), 1200)
    if measured.get("code") != 0:
        print(f"{module}: its tests fail as it is ({measured.get('code', measured)})", flush=True)
        return
    for mutant in todo:
        chosen = chosen_tests(mutant, tree, measured)
        limit_s = 30 + 5 * sum(measured["seconds"].get(test, 0.0) for test in chosen)
        began = time.monotonic()
        result = forked(lambda mutant=mutant, chosen=chosen: tried(module, mutant, chosen), limit_s)
        if "raised" in result:
            raise RuntimeError(f"{module}: the tests could not be run: {result['raised']}")
        this, lives = {"line": mutant.line, "change": mutant.change}, result.get("code") == 0
        if mutant.key not in entry["done"]:
            entry["done"].append(mutant.key)
            entry["survived"] += [this] if lives else []
            entry["killed"] += not lives
        elif not lives:
            entry["survived"].remove(this)
            entry["killed"] += 1
        word = f"{'SURVIVED' if lives else 'killed':8} {time.monotonic() - began:5.1f} s"
        print(f"{word} {module}:{mutant.line} {mutant.change[:150]}", flush=True)
        save()


def equivalents() -> dict[str, dict[str, str]]:
    """Return, by module and change, why a mutant does nothing that anybody could see."""
    return tomllib.loads((HERE / "equivalent.toml").read_text())


def load(path: Path) -> dict[str, Any]:
    """Return kept results: ``in_all`` (modules and mutants there were), ``modules`` (one entry each)."""
    return json.loads(path.read_text()) if path.exists() else {"in_all": {}, "modules": {}}


def counts(results: dict[str, Any]) -> dict[str, int]:
    """Return what is known in all: tried, killed, equivalent, alive, and of how many there were."""
    excused = equivalents()
    found = dict.fromkeys(("tried", "killed", "equivalent", "survived", "modules"), 0)
    for module, entry in results["modules"].items():
        same = sum(lived["change"] in excused.get(module, {}) for lived in entry["survived"])
        found["tried"] += len(entry["done"])
        found["killed"] += entry["killed"]
        found["equivalent"] += same
        found["survived"] += len(entry["survived"]) - same
        found["modules"] += bool(entry["done"])
    return {**found, **{f"{name}_in_all": number for name, number in results["in_all"].items()}}


def main() -> int:
    """Try mutants; return 1 where one lives that nobody has excused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="modules that begin with this")
    parser.add_argument("--sample", type=int, default=0, help="mutants per module (default: all)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true", help="what lived too, with the tests as they are now")
    parser.add_argument("--survivors", action="store_true", help="run nothing, say what lived")
    arguments = parser.parse_args()
    results = load(arguments.out)
    kept: dict[str, Any] = results["modules"]
    known = targets()
    every = sum(len(mutants(source_of(module).read_text())) for module in known)
    results["in_all"] = {"modules": len(known), "mutants": every}

    def save() -> None:
        temporary = arguments.out.with_suffix(".tmp")
        temporary.write_text(
            json.dumps({**results, "modules": dict(sorted(kept.items()))}, indent=1, ensure_ascii=False)
            + "\n"
        )
        temporary.replace(arguments.out)

    excused = equivalents()
    if arguments.survivors:
        for module, entry in kept.items():
            for lived in entry["survived"]:
                if lived["change"] not in excused.get(module, {}) and module.startswith(arguments.only):
                    print(f"{module}:{lived['line']}  {lived['change']}")
    else:
        for library in LIBRARIES:
            __import__(library)
        for path in (ROOT / "src" / "eegm2").rglob("*.py"):
            name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
            if not name.endswith(("__init__", "__main__")) and "ops.gpu" not in name:
                __import__(name)
        for module, tests in known.items():
            if module.startswith(arguments.only):
                run_module(module, tests, arguments.sample, arguments.again, kept, save)
    found = counts(results)
    print(json.dumps(found))
    return int(found["survived"] > 0)


if __name__ == "__main__":
    sys.exit(main())
