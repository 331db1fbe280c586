"""Names from file systems and files as they can be shown, written and compared."""

from __future__ import annotations

import os
import unicodedata


def shown(name: str | os.PathLike[str]) -> str:
    r"""Return a name that any terminal and any UTF-8 file can hold.

    Bytes of a file name that are not UTF-8 become ``\xfc`` and the like; line breaks and other control
    characters, which would tear a line apart, are written the same way.
    """
    text = os.fspath(name)
    try:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half characters that stand for no byte
        text = writable(text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def writable(text: str) -> str:
    r"""Return a text that a UTF-8 file can hold: half characters, as arrays may have, become ``\udc00``."""
    return text.encode("utf-8", "backslashreplace").decode()


def composed(name: str) -> str:
    """Return a name in Unicode's composed form, so that ``ü`` is one character whoever wrote it."""
    return unicodedata.normalize("NFC", name)
