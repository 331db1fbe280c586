"""What runs inside a process that is to be killed: it says where it is, and dies at a given write."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

WRITES = ("fsync", "replace", "rename", "link")


def run_inside(
    command: Callable[..., None],
    arguments: tuple[Any, ...],
    *,
    trace: str = "",
    at_write: int = 0,
    count: str = "",
) -> None:
    """Run a command quietly, ready to say where it is (SIGUSR2) and to die at a write.

    Parameters
    ----------
    command, arguments
        What to call.
    trace : str
        File for the stack at the time of death.
    at_write : int
        Die before (negative) or after this call of `WRITES`, counted from one.
    count : str
        File that is told how many such calls there were.
    """
    torch.set_num_threads(1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    file = None
    if trace:
        early = Path(f"{trace}.early")
        file = early.open("w")
        faulthandler.register(signal.SIGUSR2, file=file, all_threads=False)
        early.rename(trace)  # only now is it safe to ask
    made = _watch_writes(at_write, file)
    command(*arguments)
    if count:
        Path(count).write_text(str(len(made)))


def _watch_writes(at_write: int, file: Any) -> list[str]:
    """Count the calls that make a write final; die before (negative) or after that one of them."""
    made: list[str] = []

    def watched(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == -at_write:
                _die(file)
            result = function(*arguments, **options)
            if len(made) == at_write:
                _die(file)
            return result

        return call

    for name in WRITES:
        setattr(os, name, watched(getattr(os, name), name))
    return made


def _die(file: Any) -> None:
    faulthandler.dump_traceback(file, all_threads=False)
    os.kill(os.getpid(), signal.SIGKILL)
