"""The chunks of an XDF file, looked through before pyxdf reads them.

pyxdf goes on behind damage with a line in a log, and repeats the last values where a file ends within a
sample. Here every chunk must end where it says, and hold exactly the samples that it counts. Laid out as in
the XDF specification, version 1.0 (https://github.com/sccn/xdf/wiki/Specifications).
"""

from __future__ import annotations

import gzip
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from eegm2.errors import DataError

_FIRST, _HEADER, _SAMPLES, _OFFSET, _BOUNDARY, _FOOTER = range(1, 7)
_BOUNDARY_BYTES = 16
_OF_STREAMS = (_HEADER, _SAMPLES, _OFFSET, _FOOTER)
_VALUE_BYTES = {"int8": 1, "int16": 2, "int32": 4, "int64": 8, "float32": 4, "double64": 8, "string": 0}
_LENGTHS = {1: "<B", 4: "<I", 8: "<Q"}
#: Compressed files are refused beyond this, before they fill the memory.
_MOST_BYTES = 2**31
_PIECE_BYTES = 2**20


def check_chunks(path: Path) -> None:
    """Refuse a file whose chunks contradict themselves.

    Raises
    ------
    DataError
        If a chunk does not end where it says, is of a stream that was not announced or was announced twice,
        holds other than the samples that it counts, or has a clock offset that is no number.
    """
    data = _content(path)
    if data[:4] != b"XDF:":
        raise DataError(
            f"{path}: cannot be read as XDF (it does not begin as such files do); record it again"
        )
    streams: dict[int, tuple[int, int]] = {}
    closed: set[int] = set()
    for number, start, stop in _chunks(data, path):
        tag = struct.unpack_from("<H", data, start)[0]
        content = start + 2
        try:
            if tag not in range(1, 7):
                raise ValueError(f"is of the unknown kind {tag}")
            if tag == _FIRST and number > 1:
                raise ValueError("is a second beginning of the file")
            if tag == _BOUNDARY and stop - content != _BOUNDARY_BYTES:
                raise ValueError("is a mark of a boundary with something else in it")
            if tag not in _OF_STREAMS:
                continue
            stream = struct.unpack_from("<I", data[content:stop])[0]
            content += 4
            if tag == _HEADER:
                if stream in streams:
                    raise ValueError(f"announces stream {stream} again")
                streams[stream] = _announced(data[content:stop])
            elif stream not in streams:
                raise ValueError(f"belongs to stream {stream}, which was not announced")
            elif tag == _SAMPLES:
                _check_samples(data, content, stop, *streams[stream])
            elif tag == _FOOTER and stream in closed:
                raise ValueError(f"closes stream {stream} again")
            elif tag == _FOOTER:
                closed.add(stream)
            elif not all(map(math.isfinite, struct.unpack("<dd", data[content:stop]))):
                raise ValueError("has a clock offset that is no number")
        except (ValueError, struct.error, IndexError, KeyError) as error:
            said = str(error) if isinstance(error, ValueError) else "ends before its content does"
            raise DataError(
                f"{path}: damaged: chunk {number} at byte {start} {said}; copy the file again"
            ) from error


def _content(path: Path) -> bytes | bytearray:
    if path.suffix.lower() != ".xdfz":
        return path.read_bytes()
    data = bytearray()
    with gzip.open(path) as file:
        while piece := file.read(_PIECE_BYTES):  # one read of all would make room for the most at once
            data += piece
            if len(data) > _MOST_BYTES:
                raise DataError(
                    f"{path}: holds more than {_MOST_BYTES >> 30} GiB; decompress it to an .xdf file"
                )
    return data


def _chunks(data: bytes | bytearray, path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield number, start (at the tag) and end of each chunk."""
    at, number = 4, 0
    while at < len(data):
        number += 1
        try:
            length, start = _length(data, at)
        except (ValueError, struct.error) as error:
            raise DataError(
                f"{path}: damaged: chunk {number} at byte {at} states no length; copy the file again"
            ) from error
        if length < 2 or start + length > len(data):
            raise DataError(
                f"{path}: truncated or damaged: chunk {number} at byte {at} states {length} bytes, the "
                f"file has {len(data) - start} more; copy the file again"
            )
        yield number, start, start + length
        at = start + length


def _length(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return a length of 1, 4 or 8 bytes, and where it ends."""
    size = data[at] if at < len(data) else 0
    if size not in _LENGTHS:
        raise ValueError("states no length")
    return int(struct.unpack_from(_LENGTHS[size], data, at + 1)[0]), at + 1 + size


def _announced(header: bytes | bytearray) -> tuple[int, int]:
    """Return a stream's number of channels and bytes a value (0: text)."""

    def text(name: str) -> str:
        found = re.search(rf"<{name}>\s*([^<]*?)\s*</{name}>".encode(), header)
        return found[1].decode("utf-8", "replace") if found else ""

    count, kind = text("channel_count"), text("channel_format")
    if not (count.isascii() and count.isdigit() and int(count) > 0):
        raise ValueError(f"announces '{count:.20}' channels")
    if kind not in _VALUE_BYTES:
        raise ValueError(f"announces values of the unknown kind '{kind:.20}'")
    return int(count), _VALUE_BYTES[kind]


def _check_samples(data: bytes | bytearray, at: int, stop: int, n_chans: int, value_bytes: int) -> None:
    """Walk over the samples of a chunk; ValueError unless they end where it ends."""
    count, at = _length(data, at)
    for place in range(count):
        if at < stop:
            stamped = data[at]
            if stamped not in (0, 8):
                raise ValueError(f"has no time stamp where sample {place + 1} of {count} begins")
            if stamped and not math.isfinite(struct.unpack_from("<d", data, at + 1)[0]):
                raise ValueError(f"has a time stamp that is no number at sample {place + 1}")
            at += 1 + stamped
            if value_bytes:
                at += n_chans * value_bytes
            for _ in range(0 if value_bytes else n_chans):
                size, at = _length(data, at)
                at += size
            if at <= stop:
                continue
        raise ValueError(f"counts {count} samples and ends within number {place + 1}")
    if at != stop:
        raise ValueError(f"counts {count} samples, {stop - at} bytes follow them")
