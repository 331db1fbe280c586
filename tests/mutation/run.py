"""Plant single faults in the modules that do the scientific bookkeeping, and see whether a test falls.

    python -m tests.mutation.run --sample 6               # 6 of every module, always the same ones
    python -m tests.mutation.run                          # every module and mutant, hours
    python -m tests.mutation.run --only evaluation.scores --sample 40
    python -m tests.mutation.run --again                  # what lived, with the tests as they are now
    python -m tests.mutation.run --survivors              # what lived, of the kept results

Libraries, modules and tests are loaded once; a mutant is a forked process in which one function has the
faulty code (what runs at import is read anew) and the tests that run the changed line are run, quick ones
first, until one falls; no file is changed. Which tests run which lines is measured once, see ``coverage.py``.
Verdicts are kept (see `--out`) as they come and hold as long as the module is as it was; a mutant counts as
equivalent only if ``equivalent.toml`` says why.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mutation.coverage import OPTIONS, choose, measured
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.planting import ROOT, exchange, forked, plant, source_of

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


def digest(module: str) -> str:
    """Return what a module says, whatever its imports, comments and line breaks."""
    tree = ast.parse(source_of(module).read_text())
    body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)]
    return hashlib.sha256("".join(ast.unparse(node) for node in body).encode()).hexdigest()[:16]


def statement_at(tree: ast.Module, line: int) -> int:
    """Return the first line of the innermost statement at a line; 0 where it runs at import."""
    inside = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    function = any(isinstance(n, ast.FunctionDef) and n.body[0].lineno <= line for n in inside)
    return max(node.lineno for node in inside) if function else 0


def pending(module: str, sample: int, again: bool, kept: dict[str, Any]) -> list[Mutant]:
    """Return the mutants of a module that have no verdict yet; of those that lived too, if `again`."""
    state = digest(module)
    entry = kept.setdefault(module, {})
    if entry.get("source") != state:
        entry.clear()
        entry |= {"source": state, "killed": 0, "survived": [], "done": []}
    every = mutants(source_of(module).read_text())
    entry["mutants"] = len(every)
    todo = [m for m in (every[:sample] if sample else every) if m.key not in entry["done"]]
    if again:
        excused = equivalents().get(module, {})
        lived = {s["key"] for s in entry["survived"] if s["change"] not in excused}
        todo += [m for m in every if m.key in lived]
    return todo


class Session:
    """A pytest plugin: tests are collected once, and instead of being run they wait for mutants."""

    def __init__(self, work: Callable[[Session], None]) -> None:
        self.work = work
        self.items: dict[str, Any] = {}
        self.failed = False

    def pytest_runtestloop(self, session: Any) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.work(self)
        return True

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed |= report.failed

    def tried(self, chosen: list[str]) -> dict[str, Any]:
        """Run tests until one falls (in a forked process)."""
        items = [self.items[name] for name in chosen if name in self.items]
        for item, after in zip(items, [*items[1:], None]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.failed:
                return {"lives": False, "by": item.nodeid}
        return {"lives": True}


def read_anew(module: str, mutant: Mutant, chosen: list[str]) -> dict[str, Any]:
    """Run tests on a module whose faulty line runs when it is imported (in a forked process)."""
    import pytest

    plant(module, mutant.source)
    return {"lives": int(pytest.main([*OPTIONS, "-x", *chosen])) == 0}


def try_all(
    todo: list[tuple[str, Mutant]], tests: dict[str, Any], longest_s: float, note: Callable[..., None]
) -> None:
    """Try mutants and tell each verdict to `note`."""
    import pytest

    late = []

    def one(module: str, mutant: Mutant, run: Callable[[list[str]], dict[str, Any]]) -> None:
        line = statement_at(ast.parse(source_of(module).read_text()), mutant.line)
        chosen, seconds = choose(tests, module, line, longest_s)
        began = time.monotonic()
        result = forked(lambda: run(chosen), 20 + 4 * seconds) if chosen else {"lives": True}
        if "raised" in result:
            raise RuntimeError(f"{module}:{mutant.line} {mutant.change}: {result['raised']}")
        note(module, mutant, result.get("lives", False), time.monotonic() - began)

    def in_session(session: Session) -> None:
        for module, mutant in todo:
            plant_it = exchange(module, mutant.source, mutant.line)
            if plant_it is None:
                late.append((module, mutant))
            else:
                one(module, mutant, lambda chosen, it=plant_it: (it(), session.tried(chosen))[1])

    files = sorted(tests)
    pytest.main([*OPTIONS, *files], plugins=[Session(in_session)])
    for module, mutant in late:
        one(module, mutant, lambda chosen, m=module, f=mutant: read_anew(m, f, chosen))


def keep(entry: dict[str, Any], mutant: Mutant, lives: bool) -> None:
    """Note a verdict."""
    this = {"key": mutant.key, "line": mutant.line, "change": mutant.change}
    if mutant.key not in entry["done"]:
        entry["done"].append(mutant.key)
        entry["survived"] += [this] if lives else []
        entry["killed"] += not lives
    elif not lives:
        entry["survived"] = [lived for lived in entry["survived"] if lived["key"] != mutant.key]
        entry["killed"] += 1


def load_everything() -> None:
    """Import the libraries and our modules, once for all mutants."""
    for library in LIBRARIES:
        __import__(library)
    for path in (ROOT / "src" / "eegm2").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        if not name.endswith(("__init__", "__main__")) and "ops.gpu" not in name:
            __import__(name)


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
    parser.add_argument("--only", nargs="+", default=[""], help="modules that begin with one of these")
    parser.add_argument("--sample", type=int, default=0, help="mutants per module (default: all)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=60.0, help="of tests for one mutant; 0: all")
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

    def note(module: str, mutant: Mutant, lives: bool, seconds: float) -> None:
        keep(kept[module], mutant, lives)
        word = f"{'SURVIVED' if lives else 'killed':8} {seconds:5.1f} s"
        print(f"{word} {module}:{mutant.line} {mutant.change[:150]}", flush=True)
        save()

    excused = equivalents()
    if arguments.survivors:
        for module, entry in kept.items():
            if not module.startswith(tuple(arguments.only)):
                continue
            for lived in entry["survived"]:
                if lived["change"] not in excused.get(module, {}):
                    print(f"{module}:{lived['line']}  {lived['change']}")
    else:
        load_everything()
        todo = []
        for module in known:
            if module.startswith(tuple(arguments.only)):
                todo += [(module, m) for m in pending(module, arguments.sample, arguments.again, kept)]
        places = sorted({place for module, _ in todo for place in known[module]})
        tests = measured(list(known), places) if todo else {}
        try_all(todo, tests, arguments.seconds, note)
    found = counts(results)
    print(json.dumps(found))
    return int(found["survived"] > 0)


if __name__ == "__main__":
    sys.exit(main())
