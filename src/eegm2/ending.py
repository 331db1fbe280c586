"""Signals that end a command in an orderly way, the same for every command.

Ctrl-C, SIGTERM and SIGHUP raise `Interruption` where the command is, so that every ``finally`` on the way out
runs: temporary files go, locks are freed. What comes while that happens is noted and waits for it; after some
seconds a further signal interrupts again.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
PATIENCE_S = 10.0
"""So long a further signal waits for the command to clean up after the first one."""
AGAIN_S = 1.0
_dealt_with = threading.Event()


class Interruption(KeyboardInterrupt):
    """A signal ended the command; `signum` says which."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum


def status_of(error: BaseException) -> int:
    """Return the exit status by which a command says that a signal ended it (130 for Ctrl-C).

    Whoever asks has dealt with the interruption: what comes now waits until the command has ended.
    """
    _dealt_with.set()
    return _number(error) + 128


def _number(error: BaseException) -> int:
    return int(getattr(error, "signum", signal.SIGINT))


def signal_name(number: int) -> str:
    """Return what a signal is called."""
    return signal.Signals(number).name


def name_of(error: BaseException) -> str:
    """Return the name of the signal that ended a command."""
    return signal_name(_number(error))


@contextlib.contextmanager
def stopping(stop: threading.Event) -> Iterator[list[int]]:
    """Let the signals set `stop` in this block, for work that ends by itself; give those that came."""
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        came.append(number)
        stop.set()

    with _taking(note):
        yield came


@contextlib.contextmanager
def _taking(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Give the signals to a handler, unless they are ignored (nohup)."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, former if former is not None else signal.SIG_DFL)


def _taking_no_more() -> None:
    for name in NAMES:
        if hasattr(signal, name) and threading.current_thread() is threading.main_thread():
            signal.signal(getattr(signal, name), signal.SIG_IGN)


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Raise `Interruption` in this block for each of the signals.

    One that comes while the block unwinds from another waits. Where an interruption was swallowed, as
    libraries do in callbacks, it is raised again after a moment.
    """
    first_s: list[float] = []
    again: list[threading.Timer] = []
    _dealt_with.clear()

    def came(number: int, frame: Any) -> None:
        first_s.append(time.monotonic())
        patient = first_s[-1] - first_s[0] < PATIENCE_S
        if patient and (_dealt_with.is_set() or _unwinding(sys.exc_info()[1])):
            return
        if hasattr(signal, "pthread_kill"):
            main = threading.main_thread().ident
            again.append(threading.Timer(AGAIN_S, signal.pthread_kill, (main, number)))
            again[-1].daemon = True
            with contextlib.suppress(RuntimeError, MemoryError):  # where memory is limited
                again[-1].start()
        raise Interruption(number)

    unraisable = sys.unraisablehook
    sys.unraisablehook = lambda told: None if isinstance(told.exc_value, Interruption) else unraisable(told)
    with _taking(came):
        try:
            yield
        finally:
            sys.unraisablehook = unraisable
            if first_s:  # the process is ending: nothing may cut its last steps short
                _taking_no_more()
            for timer in again:
                timer.cancel()


def _unwinding(error: BaseException | None) -> bool:
    """Return whether an interruption is on its way out of the code that runs."""
    seen = 0
    while error is not None and seen < 100:
        if isinstance(error, KeyboardInterrupt):
            return True
        error, seen = error.__context__ or error.__cause__, seen + 1
    return False
