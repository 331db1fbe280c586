"""Which tests run which statements of the modules that are tried, measured once and kept.

Every statement of the modules' functions is made to say that it runs. What is kept holds for a test file as
long as it and the modules that it reached are as they were; otherwise it is measured again.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.planting import ROOT, exchange_all, forked, source_of

KEPT = ROOT / "build" / "mutation-coverage.json"
LOG = os.dup(1)  # a forked process has none of its own
OPTIONS = [
    *("-q", "-n", "0", "-s", "-p", "no:cacheprovider", "--no-header", "--tb=no", "--disable-warnings"),
    "--timeout=0",  # by the clock a busy machine takes any time
    *("-o", "filterwarnings=default"),  # the libraries that are there already cannot be rewritten, and say so
]


class Spoken(ast.NodeTransformer):
    """Makes every statement in a function say that it runs."""

    def visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list) and not isinstance(node, ast.Module | ast.ClassDef):
                setattr(node, name, [part for one in statements for part in (_said(one), one)])
        return node


def _said(statement: ast.stmt) -> ast.stmt:
    """Return what says that a statement runs, at its place."""
    said = ast.parse(f"_runs({statement.lineno})").body[0]
    for node in ast.walk(said):
        ast.copy_location(node, statement)
    return said


class Listening:
    """A pytest plugin that notes what every test runs, and keeps what the tests of a file ran."""

    def __init__(self, modules: list[str], longest_s: float) -> None:
        self.modules, self.longest_s = modules, longest_s
        self.now: set[tuple[str, int]] = set()
        self.files: dict[str, dict[str, Any]] = {}
        self.began_s = time.monotonic()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Any:
        with _no_longer_than(10 * self.longest_s):  # much of it is for other tests too
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Any:
        with _no_longer_than(self.longest_s):
            return (yield)

    def pytest_runtest_logreport(self, report: Any) -> None:
        file = report.nodeid.split("::")[0]
        if file not in self.files:
            self.keep()
            self.files[file] = {"setup": set(), "tests": {}, "bad": []}
        entry = self.files[file]
        if report.when == "setup":  # what a shared fixture runs counts for every test of the file
            entry["setup"] |= self.now
            self.setup_s = report.duration
        elif report.when == "call" and report.passed:
            seconds = round(report.duration + self.setup_s, 3)
            entry["tests"][report.nodeid] = {"seconds": seconds, "lines": _by_module(self.now)}
        if report.failed:
            entry["bad"].append(report.nodeid)
        self.now.clear()

    def pytest_sessionfinish(self) -> None:
        self.keep()

    def keep(self) -> None:
        """Keep the file that has just ended."""
        if not self.files:
            return
        file, entry = self.files.popitem()
        self.files[file] = entry
        kept = _kept()
        setup = _by_module(entry["setup"])
        modules = set(setup).union(*(test["lines"] for test in entry["tests"].values()))
        reached = [str(source_of(module).relative_to(ROOT)) for module in sorted(modules)]
        known = {"modules": self.modules, "longest_s": self.longest_s}
        kept[file] = {**entry, **known, "setup": setup, "state": _state([file, *reached])}
        KEPT.parent.mkdir(exist_ok=True)
        temporary = KEPT.with_suffix(".tmp")
        temporary.write_text(json.dumps(kept))
        temporary.replace(KEPT)
        seconds, self.began_s = time.monotonic() - self.began_s, time.monotonic()
        bad = f", not passing in time: {entry['bad']}" if entry["bad"] else ""
        os.write(LOG, f"{file}: {len(entry['tests'])} tests in {seconds:.0f} s{bad}\n".encode())


def _kept() -> dict[str, Any]:
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def _state(paths: Iterable[str]) -> dict[str, str]:
    """Return what files are now; empty for one that is not there."""
    there = {path: ROOT / path for path in paths}
    return {
        path: hashlib.sha256(full.read_bytes()).hexdigest()[:16] if full.exists() else ""
        for path, full in there.items()
    }


def _by_module(lines: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for module, line in sorted(lines):
        found[module].append(line)
    return dict(found)


def measured(modules: list[str], tests: list[str], longest_s: float) -> dict[str, dict[str, Any]]:
    """Return of every test file what its set-up and its tests run; measure what is not kept.

    Parameters
    ----------
    modules : list of str
        In which statements are counted.
    tests : list of str
        Files and folders that must be known; what is known of others is returned too.
    longest_s : float
        Of the processor's time; tests that take longer are not asked. 0: all are.
    """
    files = sorted({str(f.relative_to(ROOT)) for place in tests for f in _files(ROOT / place.split("::")[0])})
    known = _current(modules, longest_s)
    stale = [file for file in files if file not in known]
    if stale:
        found = forked(lambda: _measure(modules, stale, longest_s), 3600)
        if "code" not in found:
            raise RuntimeError(f"the tests could not be measured: {found}")
    return _current(modules, longest_s)


def _current(modules: list[str], longest_s: float) -> dict[str, dict[str, Any]]:
    """Return what is kept and still holds, of tests in which all these modules were listened to."""
    known = {}
    for file, entry in _kept().items():
        enough = not entry["longest_s"] or 0 < longest_s <= entry["longest_s"]
        heard = set(modules) <= set(entry.get("modules", ()))
        if heard and (enough or not entry["bad"]) and entry["state"] == _state(entry["state"]):
            known[file] = entry
    return known


@contextlib.contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes more of the processor's time; 0: never."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("test_*.py"))


def _measure(modules: list[str], files: list[str], longest_s: float) -> dict[str, int]:
    plugin = Listening(modules, longest_s)
    for module in modules:
        tree = Spoken().visit(ast.parse(source_of(module).read_text()))
        exchange_all(module, tree, _runs=_saying(plugin, module))
    return {"code": int(pytest.main([*OPTIONS, *files], plugins=[plugin]))}


def _saying(plugin: Listening, module: str) -> Any:
    return lambda line: plugin.now.add((module, line))


def choose(
    files: dict[str, dict[str, Any]], module: str, line: int, longest_s: float, near: tuple[str, ...] = ()
) -> tuple[list[str], float]:
    """Return the tests that run a line (all that run any of the module for 0), near and quick ones first.

    Parameters
    ----------
    files : dict
        From `measured`.
    module : str
    line : int
        Of the statement.
    longest_s : float
        So long all may take together; 0: as long as they take.
    near : tuple of str
        Beginnings of the names of tests that are asked first.

    Returns
    -------
    list of str, float
        Tests, and their seconds.
    """

    def runs(lines: dict[str, list[int]]) -> bool:
        return line in lines.get(module, ()) if line else module in lines

    hits = []
    for file, entry in files.items():
        in_setup = runs(entry["setup"])
        hits += [
            (t["seconds"], file, name) for name, t in entry["tests"].items() if in_setup or runs(t["lines"])
        ]
    if line and not hits:  # of compiled functions nobody hears which lines run
        return choose(files, module, 0, longest_s, near)
    chosen: dict[str, list[str]] = {}
    seconds = 0.0
    for one, file, name in sorted(hits, key=lambda hit: (not hit[1].startswith(near), *hit)):
        if not chosen or not longest_s or seconds + one <= longest_s:
            chosen.setdefault(file, []).append(name)  # a file's tests follow each other and share its set-up
            seconds += one
    return [name for names in chosen.values() for name in names], seconds
