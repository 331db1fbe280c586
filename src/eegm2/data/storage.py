"""Where a store's files live: a local folder, or any URL that fsspec opens.

Both offer the same few operations. A file appears whole or not at all: locally by a temporary name in the
same folder, fsync and rename; remotely because object stores publish an object when its upload is complete.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from eegm2.atomic import TEMPORARY, fsync_folder, temporary_name, write_atomic
from eegm2.errors import DataError


class Storage(Protocol):
    """The operations a store needs; names are relative, with forward slashes."""

    url: str

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Return the bytes [start, stop) of a file; FileNotFoundError if there is none."""

    def read_many(self, names: list[str]) -> dict[str, bytes]:
        """Return the whole content of several files, those that could be read."""

    def write(self, name: str, chunks: Iterable[bytes | memoryview], *, durable: bool = True) -> None:
        """Write a file whole or not at all; `durable` as `write_atomic` has it."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it is there already; return whether it was written."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size in bytes of each file directly in `folder`, by name; empty if it is not there."""

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""


def open_storage(path_or_url: str | Path) -> Storage:
    """Return the storage at a local path or an fsspec URL (``memory://``, ``s3://`` …)."""
    text = str(path_or_url)
    if "://" not in text:
        return LocalStorage(Path(text))
    if text.startswith("file://"):
        return LocalStorage(Path(text[len("file://") :]))
    return RemoteStorage(text)


class LocalStorage:
    """A folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = str(path)

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Return the bytes [start, stop) of a file."""
        with (self.path / name).open("rb") as file:
            file.seek(start or 0)
            return file.read(-1 if stop is None else stop - (start or 0))

    def read_many(self, names: list[str]) -> dict[str, bytes]:
        """Return the content of the files that could be read."""
        found = {}
        for name in names:
            with contextlib.suppress(OSError):
                found[name] = (self.path / name).read_bytes()
        return found

    def write(self, name: str, chunks: Iterable[bytes | memoryview], *, durable: bool = True) -> None:
        """Write a file whole or not at all."""
        write_atomic(self.path / name, chunks, durable=durable)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it is there; return whether it was written."""
        path = self.path / name
        if path.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(path)
        write_atomic(temporary, [data], durable=False)
        try:
            os.link(temporary, path)  # fails if the name is taken: the first of several writers wins
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if path.exists():
                return False
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)
        return True

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes of the files in a folder, by name."""

        def entries() -> Iterator[tuple[str, int]]:
            with os.scandir(self.path / folder) as listing:
                for entry in listing:
                    if entry.is_file() and not entry.name.startswith(TEMPORARY):
                        yield entry.name, entry.stat().st_size

        try:
            return dict(entries())
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        (self.path / name).unlink(missing_ok=True)


class RemoteStorage:
    """Any fsspec URL; the connection is opened again in every process, for fork and spawn alike."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._opened: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_opened": None}

    def _fs(self) -> tuple[Any, str]:
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec

            try:
                fs, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
            except (ImportError, ValueError) as error:
                raise DataError(f"{self.url}: cannot open this kind of address ({error})") from error
            self._opened = (os.getpid(), fs, root)
        return self._opened[1], self._opened[2]

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Return the bytes [start, stop) of a file."""
        fs, root = self._fs()
        data: bytes = fs.cat_file(f"{root}/{name}", start=start, end=stop)
        return data

    def read_many(self, names: list[str]) -> dict[str, bytes]:
        """Return the content of the files that could be read."""
        if not names:
            return {}
        fs, root = self._fs()
        found = fs.cat([f"{root}/{name}" for name in names], on_error="omit")
        return {path[len(root) + 1 :]: data for path, data in found.items()}

    def write(self, name: str, chunks: Iterable[bytes | memoryview], *, durable: bool = True) -> None:
        """Write a file whole or not at all; object stores make it durable by themselves."""
        fs, root = self._fs()
        folder, _, _ = f"{root}/{name}".rpartition("/")
        fs.makedirs(folder, exist_ok=True)
        with fs.open(f"{root}/{name}", "wb") as file:
            for chunk in chunks:
                file.write(chunk)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it is there; return whether it was written."""
        fs, root = self._fs()
        if fs.exists(f"{root}/{name}"):
            return False
        self.write(name, [data])
        return True

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes of the files in a folder, by name."""
        fs, root = self._fs()
        try:
            entries = fs.ls(f"{root}/{folder}", detail=True)
        except FileNotFoundError:
            return {}
        return {
            entry["name"].rpartition("/")[2]: int(entry["size"])
            for entry in entries
            if entry["type"] == "file"
        }

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        fs, root = self._fs()
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{root}/{name}")
