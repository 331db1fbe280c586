"""The folder of a run: its lock, its tables, and errors of the disk in words."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eegm2.atomic import temporary_name, write_atomic
from eegm2.errors import ConfigError, EEGM2Error

LOCK = ".lock"


class RunLockedError(EEGM2Error):
    """Another process works in the folder."""


@contextlib.contextmanager
def locked(folder: Path, name: str = LOCK, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the folder for this process; a lock left by a process that died is taken over.

    Parameters
    ----------
    folder : Path
    name : str
        File that stands for the lock; one folder may have several for several purposes.
    wait_s : float
        How long to wait for another process.

    Raises
    ------
    RunLockedError
        If another process, here or on another machine, holds it; the message names process, machine and file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    own = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())})
    deadline = time.monotonic() + wait_s
    while not _create(path, own):
        try:
            _take_over(path, folder)
        except RunLockedError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path.read_text() == own:
                path.unlink()


def remove_stale_lock(folder: Path) -> None:
    """Remove the lock that a killed process left; leave one that is held."""
    path = folder / LOCK
    if path.exists():
        with contextlib.suppress(RunLockedError, OSError):
            _take_over(path, folder)


def _create(path: Path, text: str) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return True


def _take_over(path: Path, folder: Path) -> None:
    """Remove a stale lock, or raise RunLockedError."""
    try:
        text = path.read_text()
        if not text and 0 <= time.time() - path.stat().st_mtime < 5:  # not of a time to come
            time.sleep(0.1)  # its owner is writing it
            return
    except FileNotFoundError:
        return
    try:
        held = json.loads(text)
        pid, host, started = int(held["pid"]), str(held["host"]), float(held["started"])
    except (ValueError, KeyError, TypeError):
        pid, host, started = 0, socket.gethostname(), 0.0  # torn by a power cut
    if host != socket.gethostname():
        raise RunLockedError(
            f"{folder}: in use by process {pid} on {host}; choose another --out, "
            f"or delete {path} if that run is over"
        )
    if pid and abs(_started(pid) - started) < 2:
        raise RunLockedError(
            f"{folder}: in use by process {pid} of this machine; choose another --out, or stop that process"
        )
    stale = path.with_name(f"{path.name}-stale-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(stale)
        if stale.read_text() != text:  # somebody took it over in between: give theirs back
            with contextlib.suppress(FileExistsError):
                os.link(stale, path)
        stale.unlink()


def _started(pid: int) -> float:
    """Return when a process started, -1 if there is none; with the number it identifies the process.

    In seconds since the machine's start where the system says so: a clock that is set does not touch that.
    """
    with contextlib.suppress(OSError, IndexError, ValueError):
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return float(ticks) / os.sysconf("SC_CLK_TCK")
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return -1.0
    except psutil.AccessDenied:
        return float("nan")


class Table:
    """A CSV file that only grows, but for the rows after the point where a run goes on.

    Parameters
    ----------
    path : Path
        The file; made with its header when the first row is written.
    columns : tuple of str
        ``epoch`` and ``step`` among them.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns

    def truncate(self, *, epoch: int, step: int) -> None:
        """Keep only whole rows of up to `epoch` epochs and `step` steps."""
        rows = [row for row in self.rows() if int(row["step"]) <= step and int(row["epoch"]) <= epoch]
        if self.path.exists():
            text = io.StringIO()
            writer = csv.DictWriter(text, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_atomic(self.path, [text.getvalue().encode()])

    def rows(self) -> list[dict[str, str]]:
        """Return the whole rows; a torn last line is left out."""
        return read_rows(self.path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row; columns it lacks stay empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            writer.writeheader()
        writer.writerow(row)
        with self.path.open("a", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a table by its columns; a torn last line is left out, no file has none."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [row for row in csv.DictReader(whole) if None not in row.values()]


def refuse_unwritable(out: Path) -> None:
    """Raise a ConfigError before long work whose result could not be written at `out`."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        trial = temporary_name(out)
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        raise ConfigError(
            f"--out {out}: cannot be written there ({error.strerror or error}); choose another place"
        ) from error


@contextlib.contextmanager
def disk_errors(folder: Path, intact: str) -> Iterator[None]:
    """Turn an OSError while writing below `folder` into one line that says what is still whole."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise EEGM2Error(
            f"{where}: cannot write ({error.strerror or error}); {intact}; "
            "free some space or permit writing, then run the same command again"
        ) from error
