"""Compiled code on disk: read without what only the compiler needs, and safe where processes start together.

Numba's own cache makes its whole compiler ready before it reads (0.3 s), does not read what it could not
write, and numbers its files: of two processes that compile one function for different types at the same time
both can take the same number, and the next process runs the one in place of the other. Here a file's name
says what its code was compiled for, and its first bytes are a digest of all that it depends on and of the
code itself, so that one that is damaged, outdated or another's is compiled again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding
from numba.core.caching import CompileResultCacheImpl, FunctionCache, dumps
from numba.core.runtime import nrt

from eegm2.atomic import temporary_name

_DIGEST = hashlib.sha256().digest_size


class CodeFiles:
    """The files of one function.

    Parameters
    ----------
    folders : sequence of str
        Where to look; the first is written to.
    base : str
        Beginning of the files' names.
    stamp : object
        Says which source they are of.
    """

    def __init__(self, folders: Sequence[str], base: str, stamp: object) -> None:
        self._folders, self._base = [Path(folder) for folder in folders], base
        self._made_from = (numba.__version__, stamp)

    def name(self, key: tuple[Any, ...]) -> str:
        """Return the name of the file for one signature and processor."""
        return f"{self._base}.{hashlib.sha256(repr(key[:2]).encode()).hexdigest()[:16]}.nbc"

    def load(self, key: tuple[Any, ...]) -> Any | None:
        """Return what was saved; None where there is nothing, or nothing that can be trusted."""
        for folder in self._folders:
            try:
                content = (folder / self.name(key)).read_bytes()
            except OSError:
                continue
            digest, code = content[:_DIGEST], content[_DIGEST:]
            if digest == self._digest(key, code):
                return pickle.loads(code)  # noqa: S301 (of this package, as the digest says)
        return None

    def save(self, key: tuple[Any, ...], data: Any) -> None:
        """Write one file, whole or not at all; a folder that takes none is left as it is."""
        code, path = dumps(data), self._folders[0] / self.name(key)
        temporary = temporary_name(path)
        try:
            temporary.write_bytes(self._digest(key, code) + code)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _digest(self, key: tuple[Any, ...], code: bytes) -> bytes:
        return hashlib.sha256(repr((self._made_from, key)).encode() + code).digest()


class CodeCache(FunctionCache):
    """Numba's cache of a function's compiled code, in files as above.

    Attributes
    ----------
    writable : bool
        Whether new code can be kept for the next process.
    """

    def __init__(self, function: Any) -> None:
        self.writable = True
        try:
            super().__init__(function)
        except RuntimeError:  # Numba found no folder that it can write
            self.writable, self._impl_class = False, _Anywhere
            super().__init__(function)
        folders = [self.cache_path, *_readable(function)]
        stamp = self._impl.locator.get_source_stamp()
        base = self._impl.filename_base
        self._cache_file: Any = CodeFiles(list(dict.fromkeys(folders)), base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any | None:
        """Return the code for a signature, or None; the compiler is not made ready for it."""
        _lend_runtime()
        return self._load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code where it can be kept."""
        if self.writable:
            with contextlib.suppress(OSError):  # the folder has gone, or takes nothing any more
                super().save_overload(sig, data)


def _unchecked(locator: type[Any]) -> type[Any]:
    """Return one of Numba's ways to find a folder without the test that it can be written."""
    return type(locator.__name__, (locator,), {"ensure_cache_path": lambda self: None})


_LOCATORS = [_unchecked(locator) for locator in CompileResultCacheImpl._locator_classes]


class _Anywhere(CompileResultCacheImpl):
    _locator_classes = _LOCATORS


def _readable(function: Any) -> list[str]:
    """Return the folders where a process that could write there has left code."""
    file = inspect.getfile(function)
    found = (locator.from_function(function, file) for locator in _LOCATORS)
    paths = [locator.get_cache_path() for locator in found if locator is not None]
    named = getattr(numba.config, "CACHE_DIR", "")  # who names a folder means that one
    return [path for path in paths if not named or Path(path).is_relative_to(named)]


@functools.cache
def _lend_runtime() -> None:
    """Let loaded code find Numba's allocation of arrays, which its compiler else makes known."""
    helpers: Any = nrt._nrt
    for name, address in helpers.c_helpers.items():
        binding.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
