"""How a fault gets into a module: a function gets other code, or a process reads the module anew."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

ROOT = Path(__file__).parents[2]
LOOKS, LOOK_S = 60, 1.0


def source_of(module: str) -> Path:
    return ROOT / "src" / "eegm2" / (module.replace(".", "/") + ".py")


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another source."""

    def __init__(self, module: str, source: str) -> None:
        self.name, self.path, self.source = f"eegm2.{module}", source_of(module), source

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return (
            importlib.util.spec_from_file_location(name, self.path, loader=self)
            if name == self.name
            else None
        )

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def plant(module: str, source: str) -> None:
    """Let this process, which has not imported the module yet, import it from a source of its own."""
    sys.meta_path.insert(0, Planted(module, source))


def exchange(module: str, source: str, line: int) -> Callable[[], None] | None:
    """Return what gives the function around a line the code that it has in another source of its module.

    Every name that holds the function then runs that code, and nothing is read anew. None where the line runs
    at import, or the function is not one of Python's own (compiled, say).
    """
    found = _function_at(ast.parse(source_of(module).read_text()), line)
    live = sys.modules.get(f"eegm2.{module}")
    if found is None or live is None:
        return None
    path, first = found
    code = dict(_codes(compile(source, str(source_of(module)), "exec"))).get((".".join(path), first))
    function = _live(vars(live), path)
    if code is None or function is None or function.__code__.co_firstlineno != first:
        return None
    if code.co_freevars != function.__code__.co_freevars:
        return None
    return functools.partial(setattr, function, "__code__", code)


def exchange_all(module: str, tree: ast.Module, **given: Any) -> None:
    """Give every function of a loaded module its code in a changed tree, whose lines are as they were.

    What runs at import, and functions that are not Python's own, stay as they are. `given` are names that the
    new code needs.
    """
    live = vars(importlib.import_module(f"eegm2.{module}"))
    live.update(given)
    for (name, first), code in _codes(compile(tree, str(source_of(module)), "exec")):
        function = None if "<" in name else _live(live, tuple(name.split(".")))
        if function is None or function.__code__.co_firstlineno != first:
            continue
        if function.__code__.co_freevars == code.co_freevars:
            function.__code__ = code


def _function_at(tree: ast.AST, line: int, path: tuple[str, ...] = ()) -> tuple[tuple[str, ...], int] | None:
    """Return the names to the outermost function whose body has a line, and the function's first line."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and node.lineno <= line <= (node.end_lineno or 0):
            return _function_at(node, line, (*path, node.name))
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line <= (node.end_lineno or 0):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return (*path, node.name), first
        if isinstance(node, ast.If | ast.Try) and node.lineno <= line <= (node.end_lineno or 0):
            return _function_at(node, line, path)
    return None


def _codes(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (constant.co_qualname, constant.co_firstlineno), constant
            if "<locals>" not in constant.co_qualname:
                yield from _codes(constant)


def _live(names: Any, path: tuple[str, ...]) -> FunctionType | None:
    """Return the function that names lead to, within what wraps it."""
    thing: Any = None
    for name in path:
        if name not in names:
            return None
        thing = names[name]
        names = getattr(thing, "__dict__", {})
    if isinstance(thing, property):
        thing = thing.fget
    while not isinstance(thing, FunctionType) or hasattr(thing, "__wrapped__"):
        if hasattr(thing, "py_func"):  # numba has compiled it
            return None
        inner = getattr(thing, "__func__", None) or getattr(thing, "__wrapped__", None)
        if inner is None:
            inner = getattr(thing, "func", None)
        if inner is None:
            return None
        thing = inner
    return thing


def forked(task: Callable[[], Any], limit_s: float) -> dict[str, Any]:
    """Run a task in a process of its own and return what it returned, or that it took too long or died.

    The limit is on the processor's time, for machines are shared; who only waits is ended after a minute.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            os.setsid()
            used = resource.getrusage(resource.RUSAGE_SELF)
            limit = int(used.ru_utime + used.ru_stime + limit_s) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
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

    def read() -> None:
        with os.fdopen(reader) as said:
            done.append(said.read())

    reading = threading.Thread(target=read)
    reading.start()
    idle, looked = 0, time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - looked > LOOK_S:
            idle, looked = 0 if _works(child) else idle + 1, time.monotonic()
        if idle > LOOKS:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"timeout": True}
        time.sleep(0.01)
    reading.join(5)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return {"timeout": True}
    return json.loads(done[0]) if done and done[0] else {"died": True}


class Fresh:
    """A process with the libraries and none of our modules, which does tasks in children of its own.

    Made before any module of ours is imported: what a line does at import can only be seen where nothing was.

    Parameters
    ----------
    do : callable
        Takes a request and returns the answer, both plain values.
    """

    def __init__(self, do: Callable[[Any], dict[str, Any]]) -> None:
        asked, self._ask = os.pipe()
        answered, answer = os.pipe()
        if os.fork() == 0:
            os.close(self._ask)
            with os.fdopen(asked) as requests:
                for line in requests:
                    request, limit_s = json.loads(line)
                    found = forked(functools.partial(do, request), limit_s)
                    os.write(answer, json.dumps(found).encode() + b"\n")
            os._exit(0)
        os.close(asked)
        os.close(answer)
        self._answers = os.fdopen(answered)

    def __call__(self, request: Any, limit_s: float) -> dict[str, Any]:
        """Return the answer to a request, as :func:`forked` does."""
        line = json.dumps([request, limit_s]).encode() + b"\n"
        while line:
            line = line[os.write(self._ask, line) :]
        return json.loads(self._answers.readline())


def _works(session: int) -> bool:
    """Return whether any process of a session computes, would if it could, or was made to stop."""
    if not Path("/proc/self").exists():
        return True
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):  # it has ended
            continue
        if int(of) == session and state in "RDTt":
            return True
    return False
