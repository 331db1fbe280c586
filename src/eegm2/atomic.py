"""The one way to write a file: under a temporary name in the same folder, synced, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

TEMPORARY = ".tmp-"


def fsync_folder(folder: Path) -> None:
    """Make renames in `folder` durable, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def temporary_name(path: Path, ending: str = "") -> Path:
    """Return a hidden name beside `path` by which `remove_stale_temporaries` knows its writer."""
    return path.with_name(f"{TEMPORARY}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}{ending}")


def write_atomic(path: Path, chunks: Iterable[bytes | memoryview], *, durable: bool = True) -> None:
    """Write `chunks` to `path` so that it holds the old content or all of the new one, never a part.

    The content is synced before the file gets its name, so the name can only ever mean all of it, whenever
    the process is killed or the power fails. The folder is synced after that, so that the name itself
    outlasts a power cut; where another file of the same folder follows that this one is nothing without,
    `durable=False` leaves it to that one.
    """
    with whole_file(path, durable=durable) as temporary, temporary.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)


@contextlib.contextmanager
def whole_file(path: Path, *, ending: str = "", durable: bool = True) -> Iterator[Path]:
    """Give a name to write to, for libraries that open files themselves; `path` gets the content after it.

    Parameters
    ----------
    path : Path
        What is to be written; its folder is made.
    ending : str
        Of the temporary name, for writers that look at it.
    durable : bool
        As in `write_atomic`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path, ending)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_folder(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to write to, which takes the place of `path` after that.

    What was there stays until all of the new one is written. What killed writers left beside it goes first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(path.parent)
    new, old = temporary_name(path), temporary_name(path)
    try:
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    fsync_folder(path.parent)


def remove_stale_temporaries(folder: Path, *, older_than_s: float = 86_400.0) -> None:
    """Remove what interrupted writers left: of processes of this host that ended, or older than a day."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError, ValueError):
            host, process, _ = path.name[len(TEMPORARY) :].rsplit("-", 2)
            ours = host == socket.gethostname()
            if (ours and not _alive(int(process))) or time.time() - path.stat().st_mtime > older_than_s:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _alive(process: int) -> bool:
    import psutil

    return psutil.pid_exists(process)
