"""Plant single faults in the modules that do the scientific bookkeeping, and see whether a test falls.

    python -m tests.mutation.run --sample 6               # 6 of every module, always the same ones
    python -m tests.mutation.run                          # every module and mutant, hours
    python -m tests.mutation.run --only evaluation.scores --sample 40
    python -m tests.mutation.run --fresh 2 --round third  # 2 of every module that were never met
    python -m tests.mutation.run --again                  # what lived, with the tests as they are now
    python -m tests.mutation.run --survivors              # what lived, of the kept results

Libraries, modules and tests are loaded once; a mutant is a forked process in which one function has the
faulty code (what runs at import is read anew where nothing was) and the tests that run the changed line are
run until one falls, first those that saw faults of the module before, then near and quick ones; no file is
changed. Which tests run which lines is measured once, see ``coverage.py``; tests that take long are left out
unless `--longest 0` asks for all, and of the others ten seconds are run: `--again --seconds 60` asks more of
them for what lived. What falls, dies or does not end must do so twice, and pass where nothing is planted.
Verdicts are kept (see `--out`) as they come and hold as long as the module is as it was; a mutant counts as
equivalent only if ``equivalent.toml`` says why.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import json
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mutation.coverage import OPTIONS, choose, measured
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.planting import ROOT, Fresh, exchange, forked, plant, source_of

Run = Callable[[list[str], str, float], dict[str, Any]]  # tests, a module's source, seconds → what came of it
HERE = Path(__file__).parent
RESULTS = ROOT / "docs" / "results" / "mutants.json"
LIBRARIES = (
    "numpy", "scipy.signal", "scipy.stats", "torch", "sklearn.linear_model", "sklearn.multiclass", "numba",
    "lightning.fabric", "mne", "matplotlib.figure", "pytest", "hypothesis", "edfio", "typer.testing",
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


def scopes(source: str) -> dict[tuple[int, int], str]:
    """Return, by first and last line, what a module's functions, methods and other statements say.

    Comments and line breaks do not count; decorators and defaults of a function do.
    """
    found = {}
    for node in ast.parse(source).body:
        parts = node.body if isinstance(node, ast.ClassDef) else [node]
        for part in parts:
            says = hashlib.sha256(ast.unparse(part).encode()).hexdigest()[:8]
            found[part.lineno, part.end_lineno or part.lineno] = says
    return found


def scope_of(module: str, mutant: Mutant) -> str:
    """Return what the function or statement says that a mutant changes: a verdict holds as long as that."""
    said = _scopes(source_of(module).read_text())
    return next(says for (first, last), says in said.items() if first <= mutant.line <= last)


_scopes = functools.cache(scopes)


def statement_at(tree: ast.Module, line: int) -> int:
    """Return the first line of the innermost statement at a line; 0 where it runs at import."""
    inside = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    function = any(isinstance(n, ast.FunctionDef) and n.body[0].lineno <= line for n in inside)
    return max(node.lineno for node in inside) if function else 0


def pending(module: str, sample: int, again: bool, kept: dict[str, Any], fresh: int = 0) -> list[Mutant]:
    """Return the mutants of a module that have no verdict yet; of those that lived too, if `again`.

    Verdicts on what a module no longer says are dropped. Of `fresh` mutants none was ever met.
    """
    every = mutants(source_of(module).read_text())
    says = {mutant.key: scope_of(module, mutant) for mutant in every}
    entry = kept.setdefault(module, {"killed": {}, "survived": {}})
    entry["mutants"] = len(every)
    entry["killed"] = {key: was for key, was in entry["killed"].items() if says.get(key) == was}
    entry["survived"] = {
        key: lived for key, lived in entry["survived"].items() if says.get(key) == lived["scope"]
    }
    if fresh:
        return [m for m in every if m.key not in entry.get("first", {})][:fresh]
    excused = equivalents().get(module, {}) if again else ()
    return [
        m
        for number, m in enumerate(every)
        if (
            m.key not in entry["killed"]
            and m.key not in entry["survived"]
            and number < (sample or len(every))
        )
        or (again and m.key in entry["survived"] and m.name not in excused)
    ]


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

    def tried(self, chosen: list[str], plant_it: Callable[[], None] | None) -> dict[str, Any]:
        """Plant a fault and run tests until one falls (in a forked process)."""
        assert plant_it is not None
        plant_it()
        items = [self.items[name] for name in chosen if name in self.items]
        for item, after in zip(items, [*items[1:], None]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.failed:
                return {"lives": False, "by": item.nodeid}
        return {"lives": True}


def read_anew(request: tuple[str, str, list[str]]) -> dict[str, Any]:
    """Run tests on a module whose faulty line runs when it is imported (where nothing of ours is loaded)."""
    import pytest

    module, source, chosen = request
    plant(module, source)
    watched = Fallen()
    code = int(pytest.main([*OPTIONS, "-x", *chosen], plugins=[watched]))
    return {"lives": code == 0, **({"by": watched.by} if watched.by else {})}


class Fallen:
    """A pytest plugin that notes which test fell."""

    by = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.by = report.nodeid


def try_all(
    todo: list[tuple[str, Mutant]],
    tests: dict[str, Any],
    longest_s: float,
    note: Callable[..., None],
    fresh: Fresh,
) -> None:
    """Try mutants and tell each verdict to `note`."""
    import pytest

    late: list[tuple[str, Mutant]] = []
    sound: dict[tuple[bool, str], bool] = {}
    near = {name: tuple(place.split("::")[0] for place in places) for name, places in targets().items()}
    saw: dict[str, Counter[str]] = defaultdict(Counter)  # which tests have seen faults of a module

    def one(module: str, mutant: Mutant, run: Run, anew: bool = False) -> None:
        line = statement_at(ast.parse(source_of(module).read_text()), mutant.line)
        chosen, seconds = choose(tests, module, line, longest_s, near.get(module, ()))
        chosen = [name for name in chosen if sound.get((anew, name), True)]
        chosen.sort(key=[name for name, _ in saw[module].most_common(10)].__contains__, reverse=True)
        began, limit_s = time.monotonic(), 20 + 4 * seconds
        result = run(chosen, mutant.source, limit_s) if chosen else {"lives": True}
        if "raised" in result:
            raise RuntimeError(f"{module}:{mutant.line} {mutant.change}: {result['raised']}")
        if result.get("lives", False):
            return note(module, mutant, True, time.monotonic() - began)
        name = str(result.get("by", ""))
        asked = chosen[: chosen.index(name) + 1] if name in chosen else chosen
        suspects = [name] if name else chosen
        key = (anew, " ".join(suspects))
        if key not in sound:  # do they pass where nothing is planted?
            sound[key] = run(suspects, source_of(module).read_text(), 120.0).get("lives", False)
        if not sound[key]:
            print(f"falls with no fault planted, left out: {' '.join(suspects)}", flush=True)
        elif run(asked, mutant.source, limit_s).get("lives", False):
            print(f"falls now and then, left out: {' '.join(suspects)}", flush=True)
        else:
            saw[module].update(suspects[:1])
            return note(module, mutant, False, time.monotonic() - began)
        sound.update({(anew, suspect): False for suspect in suspects})
        return one(module, mutant, run, anew)

    def in_session(session: Session) -> None:
        for module, mutant in todo:
            if exchange(module, mutant.source, mutant.line) is None:
                late.append((module, mutant))
                continue

            def run(
                chosen: list[str], source: str, limit_s: float, m: str = module, at: int = mutant.line
            ) -> Any:
                return forked(lambda: session.tried(chosen, exchange(m, source, at)), limit_s)

            one(module, mutant, run)

    files = sorted(tests)
    pytest.main([*OPTIONS, *files], plugins=[Session(in_session)])
    for module, mutant in late:
        one(module, mutant, lambda names, source, s, m=module: fresh((m, source, names), s), anew=True)


def keep(entry: dict[str, Any], module: str, mutant: Mutant, lives: bool, met: str) -> None:
    """Note a verdict, and for good what a mutant's first was."""
    verdict = "survived" if lives else "killed"
    entry.setdefault("first", {}).setdefault(mutant.key, f"{verdict}, {met}")
    entry["survived"].pop(mutant.key, None)
    scope = scope_of(module, mutant)
    if lives:
        entry["survived"][mutant.key] = {"line": mutant.line, "change": mutant.name, "scope": scope}
    else:
        entry["killed"][mutant.key] = scope


def load_libraries() -> None:
    """Import what we and the tests use, once for all mutants."""
    for library in LIBRARIES:
        __import__(library)


def load_everything() -> None:
    """Import our modules too."""
    for path in (ROOT / "src" / "eegm2").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        if not name.endswith(("__init__", "__main__")) and "ops.gpu" not in name:
            __import__(name)


def equivalents() -> dict[str, dict[str, str]]:
    """Return, by module and name, why a mutant does nothing that anybody could see."""
    return tomllib.loads((HERE / "equivalent.toml").read_text())


def load(path: Path) -> dict[str, Any]:
    """Return kept results: ``in_all`` (modules and mutants there were), ``modules`` (one entry each)."""
    return json.loads(path.read_text()) if path.exists() else {"in_all": {}, "modules": {}}


def counts(results: dict[str, Any]) -> dict[str, Any]:
    """Return what is known in all: tried, killed, equivalent, alive, and of how many there were.

    ``first`` has the same of what the tests said in each round of what they met first, before any was added.
    """
    excused = equivalents()
    found = dict.fromkeys(("tried", "killed", "equivalent", "survived", "modules"), 0)
    first: dict[str, Counter[str]] = {}
    for module, entry in results["modules"].items():
        same = {key for key, s in entry["survived"].items() if s["change"] in excused.get(module, {})}
        found["tried"] += len(entry["killed"]) + len(entry["survived"])
        found["killed"] += len(entry["killed"])
        found["equivalent"] += len(same)
        found["survived"] += len(entry["survived"]) - len(same)
        found["modules"] += bool(entry["killed"] or entry["survived"])
        for key, said in entry.get("first", {}).items():
            verdict, _, met = said.partition(", ")
            if not met:  # before this was kept
                continue
            first.setdefault(met, Counter())["equivalent" if key in same else verdict] += 1
    in_all = {f"{name}_in_all": number for name, number in results["in_all"].items()}
    return {**found, **in_all, "first": {met: dict(first[met]) for met in sorted(first)}}


def main() -> int:
    """Try mutants; return 1 where one lives that nobody has excused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="modules that begin with one of these")
    parser.add_argument("--sample", type=int, default=0, help="mutants per module (default: all)")
    parser.add_argument("--round", default="later rounds", help="under which first verdicts are counted")
    parser.add_argument("--fresh", type=int, default=0, help="so many of every module that were never met")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of tests for one mutant; 0: all")
    parser.add_argument("--longest", type=float, default=2.0, help="leave out longer tests; 0: none")
    parser.add_argument("--tests", nargs="+", help="files and folders of tests to ask instead of all known")
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
        keep(kept[module], module, mutant, lives, arguments.round)
        word = f"{'SURVIVED' if lives else 'killed':8} {seconds:5.1f} s"
        print(f"{word} {module}:{mutant.line} {mutant.name[:150]}", flush=True)
        save()

    excused = equivalents()
    if arguments.survivors:
        for module, entry in kept.items():
            if not module.startswith(tuple(arguments.only)):
                continue
            for lived in entry["survived"].values():
                if lived["change"] not in excused.get(module, {}):
                    print(f"{module}:{lived['line']}  {lived['change']}")
    else:
        load_libraries()
        fresh = Fresh(read_anew)
        load_everything()
        groups: dict[tuple[str, ...], list[tuple[str, Mutant]]] = {}
        for module in known:
            if module.startswith(tuple(arguments.only)):
                todo = groups.setdefault(tuple(arguments.tests or known[module]), [])
                todo += [
                    (module, m)
                    for m in pending(module, arguments.sample, arguments.again, kept, arguments.fresh)
                ]
        for places, todo in groups.items():
            if todo:
                tests = measured(list(known), list(places), arguments.longest)
                if arguments.tests:
                    tests = {file: tests[file] for file in tests if file.startswith(places)}
                try_all(todo, tests, arguments.seconds, note, fresh)
    found = counts(results)
    print(json.dumps(found))
    return int(found["survived"] > 0)


if __name__ == "__main__":
    sys.exit(main())
