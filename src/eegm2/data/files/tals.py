"""Time-stamped annotation lists: the texts and the clock of EDF+ and BDF+ files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from eegm2.data.labels import LabelSpan

#: Onset, duration and texts of one list; the format allows line feeds and tabs in a text.
_LIST = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15((?:\d+(?:\.\d*)?)?))?\x14(.*)\x14", re.DOTALL)
_STAMP = re.compile(rb"([+-]\d+(?:\.\d*)?)\x14\x14")


class NotText(ValueError):
    """An annotation that is neither UTF-8 nor Latin-1."""


@dataclass
class AnnotationTexts:
    """What the annotation signals of a file say.

    Attributes
    ----------
    labels : list of LabelSpan
        Onsets in seconds after the first sample.
    unreadable : int
        Lists that are not written as the format has it.
    latin : bool
        Whether some text was Latin-1.
    """

    labels: list[LabelSpan] = field(default_factory=list)
    unreadable: int = 0
    latin: bool = False


def record_onset(block: bytes) -> float | None:
    """Return the time that a record's first list states, in seconds; None if there is none."""
    found = _STAMP.match(block)
    return float(found[1]) if found else None


def read_texts(blocks: Iterable[bytes], start_s: float, ch_names: Iterable[str]) -> AnnotationTexts:
    """Read the lists of all records.

    Parameters
    ----------
    blocks : iterable of bytes
        The bytes of an annotation signal, record after record.
    start_s : float
        Time of the first sample on the file's clock.
    ch_names : iterable of str
        A text may end in ``@@`` and one of them, which is not part of the label.

    Raises
    ------
    NotText
        If a text cannot be decoded.
    """
    found, channels = AnnotationTexts(), set(ch_names)
    for block in blocks:
        for entry in filter(None, block.split(b"\0")):
            parts = _LIST.fullmatch(entry)
            if parts is None:
                found.unreadable += 1
                continue
            onset_s, duration_s = float(parts[1]) - start_s, float(parts[2] or 0)
            for text in _decoded(parts[3].split(b"\x14"), found):
                label, mark, channel = text.rpartition("@@")
                named = bool(mark) and channel in channels
                found.labels.append(LabelSpan(onset_s, duration_s, label if named else text))
    found.labels.sort()
    return found


def _decoded(texts: Iterable[bytes], found: AnnotationTexts) -> Iterator[str]:
    """Yield texts on one line each; empty ones are left out."""
    for raw in filter(None, texts):
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text, found.latin = raw.decode("latin-1"), True
        text = " ".join(text.split("\n")).replace("\r", "").replace("\t", " ")
        if found.latin and not text.isprintable():
            raise NotText(f"an annotation is neither UTF-8 nor Latin-1: {text[:40]!r}")
        yield text
