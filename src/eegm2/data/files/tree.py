"""All files below a folder, whatever a recipe makes of them; what cannot be one is named with its reason."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eegm2.data.files.formats import FOLDERS, has_reader, why_unread
from eegm2.data.names import shown

_VERSION_CONTROL = frozenset({".git", ".datalad", ".hg", ".svn", ".bzr", ".snapshot", ".ipynb_checkpoints"})
NOT_FETCHED = "a link that leads nowhere; fetch the content (datalad get, git annex get) or correct the link"


@dataclass(frozen=True, order=True)
class LeftOut:
    """A file or folder that may be EEG and is not taken, by its path below the source, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Tree:
    """What is below a folder.

    Attributes
    ----------
    root : Path
        The folder, or a single file.
    files : tuple of Path
        Every file, sorted; folders that are links are followed once. Hidden ones are not among them.
    left_out : tuple of LeftOut
        What is no file to be read: links that lead nowhere or in circles, hidden recordings, recordings that
        are folders, what may not be opened.
    """

    root: Path
    files: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]

    def recordings(self) -> list[Path]:
        """Return the files whose suffix has a reader."""
        return [path for path in self.files if has_reader(path)]

    def name(self, path: Path) -> str:
        """Return a path below the root as it is shown."""
        base = self.root if self.root.is_dir() else self.root.parent
        return shown(path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix())

    def unclaimed(self, claimed: Iterable[Path], outside: str) -> list[LeftOut]:
        """Return what looks like EEG and belongs to no recording: all of `left_out`, and files with a reason.

        Parameters
        ----------
        claimed : iterable of Path
            Files that belong to recordings that were found.
        outside : str
            The reason for files that could be read but that the recipe did not take.
        """
        taken = set(claimed)
        found = list(self.left_out)
        for path in self.files:
            if path not in taken:
                reason = outside if has_reader(path) else why_unread(path)
                if reason:
                    found.append(LeftOut(self.name(path), reason))
        return sorted(found)


@dataclass
class _Walk:
    """The state of a walk: what was found, and where it has been."""

    root: Path
    files: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    visited: set[tuple[int, int]] = field(default_factory=set)
    links: list[Path] = field(default_factory=list)

    def leave(self, path: Path, reason: str) -> None:
        """Name something that is not taken."""
        self.left_out.append(LeftOut(shown(path.relative_to(self.root).as_posix()), reason))

    def folder(self, folder: Path, *, hidden: bool) -> None:
        """Go through a folder and those below it; links to folders are kept for later."""
        status = folder.stat()
        self.visited.add((status.st_dev, status.st_ino))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self.leave(folder, f"a folder that cannot be opened ({error.strerror}); check its permissions")
            return
        for entry in entries:
            self.entry(Path(entry.path), entry.is_symlink(), hidden=hidden or entry.name.startswith("."))

    def entry(self, path: Path, link: bool, *, hidden: bool) -> None:
        """Sort one name of a folder in."""
        try:
            mode = path.stat().st_mode
        except OSError as error:
            reason = NOT_FETCHED if link else f"cannot be opened ({error.strerror}); check its permissions"
            if not hidden or has_reader(path):
                self.leave(path, reason)
            return
        if stat.S_ISDIR(mode):
            if path.name.lower() in _VERSION_CONTROL:
                return
            if kind := FOLDERS.get(path.suffix.lower()):
                self.leave(
                    path, f"a folder {path.suffix.lower()} ({kind}) is not read; export it as EDF or FIF"
                )
            elif link:
                self.links.append(path)
            else:
                self.folder(path, hidden=hidden)
        elif not stat.S_ISREG(mode):
            if has_reader(path):
                self.leave(path, "neither a file nor a folder; copy the recording there")
        elif hidden:
            if has_reader(path):
                self.leave(path, "hidden (a name that begins with a dot); rename it if it is a recording")
        else:
            self.files.append(path)

    def follow(self, link: Path) -> None:
        """Go through a folder that is a link, once, and not back to where the walk came from."""
        target, root = link.resolve(), self.root.resolve()
        status = target.stat()
        if target == root or root.is_relative_to(target):
            self.leave(link, "a link to a folder that holds this one; remove it")
        elif (status.st_dev, status.st_ino) in self.visited:
            self.leave(link, "a link to a folder that is read already; remove it")
        else:
            self.folder(link, hidden=any(part.startswith(".") for part in link.relative_to(self.root).parts))


def walk(root: Path) -> Tree:
    """Return everything below a folder; of a single file that alone."""
    if not root.is_dir():
        return Tree(root, (root,), ())
    state = _Walk(root)
    state.folder(root, hidden=False)
    while state.links:
        state.follow(state.links.pop(0))
    return Tree(root, tuple(sorted(state.files)), tuple(sorted(state.left_out)))


def files_below(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted, for recipes to choose from; none if it is not there."""
    if root.exists():
        yield from walk(root).files
