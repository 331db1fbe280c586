"""Signals end commands with one line and the conventional status, once, twice, and where swallowed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

#: A command that holds a lock and writes a file while the signals come.
COMMAND = """
import sys, time
from pathlib import Path
from eegm2.cli.main import app, main
from eegm2.atomic import write_atomic
from eegm2.training.runfolder import locked

@app.command("wait")
def wait() -> None:
    def chunks():
        yield b"a"
        print("ready", flush=True)
        {work}
        yield b"b"
    with locked(Path({folder!r})):
        try:
            write_atomic(Path({folder!r}) / "file", chunks())
        finally:
            time.sleep({cleaning})

sys.argv = ["eegm2", "wait"]
main()
"""
SWALLOWED = """
        class Late:
            def __del__(self):
                time.sleep(2)
        Late()
        time.sleep(60)
"""


def ended(folder: Path, name: str, times: int, work: str = "time.sleep(60)", cleaning: float = 0.0) -> str:
    """Send a signal to the command; return what it said after checking how it ended."""
    code = COMMAND.format(work=work, folder=str(folder), cleaning=cleaning)
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    for number in range(times):
        time.sleep(0.2 * number)
        child.send_signal(getattr(signal, name))
    _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + getattr(signal, name), said
    assert sorted(path.name for path in folder.iterdir()) == [], said
    return said


@pytest.mark.parametrize(
    ("name", "times"),
    [
        *((name, 1) for name in SIGNALS),
        *(pytest.param(name, 2, marks=[] if name == "SIGTERM" else pytest.mark.slow) for name in SIGNALS),
    ],
)
def test_a_command_ends_in_one_line(name: str, times: int, tmp_path: Path) -> None:
    said = ended(tmp_path, name, times, cleaning=0.5 * (times > 1))
    assert said.splitlines() == [
        f"ended by {name}; nothing is half-written, the same command can be run again"
    ]


def test_an_interruption_that_is_swallowed_comes_again(tmp_path: Path) -> None:
    said = ended(tmp_path, "SIGTERM", 1, work=SWALLOWED)
    assert said.splitlines() == [
        "ended by SIGTERM; nothing is half-written, the same command can be run again"
    ]


def test_a_signal_that_is_ignored_stays_so() -> None:
    from eegm2.ending import orderly

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_given_back() -> None:
    from eegm2.ending import orderly

    before = [signal.getsignal(getattr(signal, name)) for name in SIGNALS]
    with orderly():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(getattr(signal, name)) for name in SIGNALS] == before
