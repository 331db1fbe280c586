"""Which files a reader opens, asked of Python itself: only those of the recording's folder.

Headers can name other files in more ways than anybody can list, so what they name is checked where it is
known (`eegm2.data.files.naming`) and what is then opened is watched here: a file for reading that lies
elsewhere is refused, and those of the recording are remembered with size and time, so that a change in any is
noticed.
Libraries in C that open files by themselves (HDF5) are not seen; their files are checked beforehand.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eegm2.errors import DataError

Stat = tuple[int, int]
MISSING: Stat = (-1, 0)


@dataclass
class Opened:
    """The files of a recording, with size and modification time (ns) when each was first opened.

    Attributes
    ----------
    folders : tuple of str
        Where they may lie; each ends in a separator.
    targets : set of str
        Where links in these folders lead, as far as they were announced.
    files : dict
        Path → what it was like.
    strangers : list of str
        Other files that were opened, or would have been.
    """

    folders: tuple[str, ...]
    targets: set[str] = field(default_factory=set)
    files: dict[str, Stat] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)

    def note(self, path: Any) -> None:
        """Remember a file that is opened for reading, or refuse it."""
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (links are not followed)
        if name in self.targets or name.startswith(_libraries()):
            return
        if name.startswith(self.folders):
            self.files.setdefault(name, stat_of(Path(name)))
        elif os.path.isfile(name):  # noqa: PTH113
            self.strangers.append(name)
            raise DataError(f"{name}: opened, but no file of {self.folders[0]}")


def depends_on(*paths: Path) -> None:
    """Announce files that a recording depends on, those that are missing and those behind links included."""
    opened = _watching.get()
    for path in paths if opened is not None else ():
        assert opened is not None
        opened.files.setdefault(os.path.abspath(path), stat_of(path))  # noqa: PTH100
        opened.targets.add(os.path.realpath(path))


_watching: contextvars.ContextVar[Opened | None] = contextvars.ContextVar("opened", default=None)
_installed: list[bool] = []


def stat_of(path: Path) -> Stat:
    """Return size and modification time (ns) of a file; (-1, 0) if it is not there."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return MISSING
    return stat.st_size, stat.st_mtime_ns


@contextlib.contextmanager
def watch(*folders: Path) -> Iterator[Opened]:
    """Allow only files of some folders and of the libraries to be opened for reading.

    Parameters
    ----------
    *folders : Path
        The data set's folder, those of the recording.

    Raises
    ------
    DataError
        If another file was opened, even where the reader caught that.
    """
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)
    opened = Opened(tuple(str(folder.absolute()).rstrip(os.sep) + os.sep for folder in folders))
    token = _watching.set(opened)
    try:
        yield opened
    finally:
        _watching.reset(token)
    if opened.strangers:
        raise DataError(
            f"{opened.strangers[0]}: is read by a recording of {folders[0]}, but is not in it; put it there"
        )


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """See every file that Python opens."""
    if event != "open":
        return
    opened = _watching.get()
    path, mode, flags = arguments
    if opened is None or not isinstance(path, str | bytes):
        return
    writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else False
    if writes or (isinstance(mode, str) and mode[:1] in "wax"):
        return
    token = _watching.set(None)  # what follows may open files itself
    try:
        opened.note(path)
    finally:
        _watching.reset(token)


_prefixes: list[tuple[str, ...]] = []


def _libraries() -> tuple[str, ...]:
    """Return where Python's own files and the system's lie."""
    if not _prefixes:
        here = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()]
        here += [place for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
        here += [str(Path(__file__).parents[2]), str(Path.home() / ".mne"), str(Path.home() / ".cache")]
        here += [os.environ.get("NUMBA_CACHE_DIR", "")]
        system = ["/proc", "/sys", "/dev", "/usr/share", "/usr/lib", "/lib"] if os.name == "posix" else []
        kept = {os.path.abspath(place) for place in here if len(Path(place).parts) > 2}  # noqa: PTH100
        _prefixes.append(tuple(place.rstrip(os.sep) + os.sep for place in (*sorted(kept), *system)))
    return _prefixes[0]
