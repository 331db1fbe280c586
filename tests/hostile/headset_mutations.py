"""Damage that knows what headset files are made of: chunks of XDF, rows and columns of tables."""

from __future__ import annotations

import re
import struct

import numpy as np

from tests.data.xdf import chunk

Chunk = tuple[int, bytes]
COUNTS = (0, 1, 2, 127, 129, 255, 65_535, 2**24 + 1, 2**31 - 1, 2**32 - 1)
DOUBLES = (0.0, -3.0, 1e9, -1e9, 1e300, float("nan"), float("inf"))
SAMPLES = 3


def chunks_of(data: bytes) -> list[Chunk]:
    """Return the chunks of a file of `tests.data.xdf`."""
    at, found = 4, []
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 1)
        found.append((struct.unpack_from("<H", data, at + 5)[0], data[at + 7 : at + 5 + length]))
        at += 5 + length
    return found


def joined(chunks: list[Chunk]) -> bytes:
    """Return the file of some chunks."""
    return b"XDF:" + b"".join(chunk(*one) for one in chunks)


def _one(generator: np.random.Generator, chunks: list[Chunk], tags: tuple[int, ...]) -> int:
    return int(generator.choice([i for i, (tag, _) in enumerate(chunks) if tag in tags]))


def _of(generator: np.random.Generator, values: tuple) -> object:
    return values[int(generator.integers(len(values)))]


def lie_about_length(data: bytes, generator: np.random.Generator) -> bytes:
    """State another length of a chunk, near the true one or far from it."""
    chunks = chunks_of(data)
    place = _one(generator, chunks, tuple(range(7)))
    start = len(joined(chunks[:place]))
    (length,) = struct.unpack_from("<I", data, start + 1)
    lie = length + int(generator.integers(-40, 41)) if generator.random() < 0.5 else _of(generator, COUNTS)
    return data[: start + 1] + struct.pack("<I", max(0, int(str(lie)))) + data[start + 5 :]


def change_tag(data: bytes, generator: np.random.Generator) -> bytes:
    """Make a chunk one of another kind."""
    chunks = chunks_of(data)
    place = _one(generator, chunks, tuple(range(7)))
    chunks[place] = (int(generator.integers(0, 9)), chunks[place][1])
    return joined(chunks)


def change_stream(data: bytes, generator: np.random.Generator) -> bytes:
    """Give a chunk to another stream, there or not."""
    chunks = chunks_of(data)
    place = _one(generator, chunks, (2, 3, 4, 6))
    tag, content = chunks[place]
    chunks[place] = (tag, struct.pack("<I", int(generator.integers(0, 4))) + content[4:])
    return joined(chunks)


def change_offset(data: bytes, generator: np.random.Generator) -> bytes:
    """Write a hostile time or value into a clock offset."""
    chunks = chunks_of(data)
    place = _one(generator, chunks, (4,))
    content = bytearray(chunks[place][1])
    struct.pack_into("<d", content, 4 + 8 * int(generator.integers(2)), _of(generator, DOUBLES))
    chunks[place] = (4, bytes(content))
    return joined(chunks)


def change_count(data: bytes, generator: np.random.Generator) -> bytes:
    """State another number of samples in a chunk."""
    chunks = chunks_of(data)
    place = _one(generator, chunks, (SAMPLES,))
    content = chunks[place][1]
    chunks[place] = (SAMPLES, content[:5] + struct.pack("<I", _of(generator, COUNTS)) + content[9:])
    return joined(chunks)


def change_stamp(data: bytes, generator: np.random.Generator) -> bytes:
    """Write a hostile time stamp, or leave out that there is one."""
    chunks = chunks_of(data)
    place = _one(generator, chunks, (SAMPLES,))
    content = bytearray(chunks[place][1])
    if generator.random() < 0.3:
        content[9] = int(generator.integers(256))
    else:
        struct.pack_into("<d", content, 10, _of(generator, (*DOUBLES, 50.0, 104.0)))
    chunks[place] = (SAMPLES, bytes(content))
    return joined(chunks)


def change_header(data: bytes, generator: np.random.Generator) -> bytes:
    """Lie in a stream's description: kind of value, number of channels, rate, unit, names, type."""
    chunks = chunks_of(data)
    place = _one(generator, chunks, (2,))
    tag, content = chunks[place]
    name, values = _of(
        generator,
        (
            ("channel_format", ("int16", "double64", "string", "int32", "int8", "int64", "float16", "")),
            ("channel_count", ("0", "-1", "5", "7", "6.0", "1073741824", "abc")),
            ("nominal_srate", ("0", "-1", "64", "1e308", "nan", "inf", "abc", "256", "130")),
            ("unit", ("millivolts", "V", "uV", "", "furlong")),
            ("label", ("Fp2", "", "Fz")),
            ("type", ("eeg", "Markers", "", "ECG")),
        ),
    )  # type: ignore[misc]
    text = str(_of(generator, values)).encode()
    changed = re.sub(rf"(?<=<{name}>)[^<]*".encode(), text, content, count=1)
    chunks[place] = (tag, changed)
    return joined(chunks)


def move_chunks(data: bytes, generator: np.random.Generator) -> bytes:
    """Leave a chunk out, write it twice, or exchange two."""
    chunks = chunks_of(data)
    first, second = (int(i) for i in generator.choice(len(chunks), 2, replace=False))
    kind = int(generator.integers(3))
    if kind == 0:
        del chunks[first]
    elif kind == 1:
        chunks.insert(first, chunks[first])
    else:
        chunks[first], chunks[second] = chunks[second], chunks[first]
    return joined(chunks)


def cut_chunk(data: bytes, generator: np.random.Generator) -> bytes:
    """End within the last chunks, as a recorder that was killed."""
    chunks = chunks_of(data)
    keep = int(generator.integers(len(chunks) // 2, len(chunks)))
    last = chunk(*chunks[keep])
    return joined(chunks[:keep]) + last[: int(generator.integers(1, len(last)))]


XDF = (
    lie_about_length, change_tag, change_stream, change_offset, change_count, change_stamp, change_header,
    move_chunks, cut_chunk,
)  # fmt: skip


def _table(data: bytes) -> tuple[bytes, list[list[bytes]]]:
    separator = b";" if b";" in data.split(b"\n", 1)[0] else b","
    return separator, [line.split(separator) for line in data.rstrip(b"\n").split(b"\n")]


def _text(separator: bytes, rows: list[list[bytes]]) -> bytes:
    return b"\n".join(separator.join(row) for row in rows) + b"\n"


def other_separator(data: bytes, generator: np.random.Generator) -> bytes:
    """Separate the cells otherwise, in the whole table or from some row on."""
    separator, rows = _table(data)
    other = bytes([generator.choice(list(b";,\t |"))])
    first = 0 if generator.random() < 0.5 else int(generator.integers(len(rows)))
    return (_text(separator, rows[:first]) if first else b"") + _text(other, rows[first:])


def decimal_commas(data: bytes, generator: np.random.Generator) -> bytes:
    """Write commas in numbers: in all, in a row or in a cell; in quotes or not."""
    separator, rows = _table(data)
    kind = int(generator.integers(3))
    row = int(generator.integers(1, len(rows)))
    for i in range(1, len(rows)) if kind == 0 else [row]:
        for j in range(len(rows[i])) if kind < 2 else [int(generator.integers(len(rows[i])))]:
            rows[i][j] = rows[i][j].replace(b".", b",")
            if generator.random() < 0.1:
                rows[i][j] = b'"' + rows[i][j] + b'"'
    return _text(separator, rows)


def change_columns(data: bytes, generator: np.random.Generator) -> bytes:
    """Leave a column out, in the titles alone, in the rows alone or in both; or repeat a title."""
    separator, rows = _table(data)
    place, kind = int(generator.integers(len(rows[0]))), int(generator.integers(4))
    if kind == 3:
        rows[0][place] = rows[0][int(generator.integers(len(rows[0])))]
        return _text(separator, rows)
    for i, row in enumerate(rows):
        if kind == 2 or (kind == 0) == (i == 0):
            del row[place]
    return _text(separator, rows)


def change_title(data: bytes, generator: np.random.Generator) -> bytes:
    """Write a title with another unit, or in quotes, or in other letters."""
    separator, rows = _table(data)
    place = int(generator.integers(len(rows[0])))
    title = rows[0][place]
    changes = (title + b" (mV)", b'"' + title + b'"', title.lower(), title + b" ", b"uV", b"")
    rows[0][place] = bytes(changes[int(generator.integers(len(changes)))])
    return _text(separator, rows)


def change_cells(data: bytes, generator: np.random.Generator) -> bytes:
    """Put something that is no number, or a hostile one, into one to three cells."""
    separator, rows = _table(data)
    for _ in range(int(generator.integers(1, 4))):
        row = rows[int(generator.integers(1, len(rows)))]
        values = (
            b"NaN",
            b"nan",
            b"",
            b"inf",
            b"-inf",
            b"1e400",
            b"none",
            b"#VALUE!",
            b"1_000",
            b"--",
            b"0x1",
        )
        row[int(generator.integers(len(row)))] = values[int(generator.integers(len(values)))]
    return _text(separator, rows)


def move_rows(data: bytes, generator: np.random.Generator) -> bytes:
    """Shuffle a stretch of rows, write it twice, leave it out or exchange two stretches."""
    separator, rows = _table(data)
    size = int(generator.integers(2, 200))
    at = int(generator.integers(1, len(rows) - size))
    some, kind = rows[at : at + size], int(generator.integers(4))
    if kind == 0:
        generator.shuffle(some)
        rows[at : at + size] = some
    elif kind == 1:
        rows[at:at] = some
    elif kind == 2:
        del rows[at : at + size]
    else:
        rows[at : at + size] = some[size // 2 :] + some[: size // 2]
    return _text(separator, rows)


def change_times(data: bytes, generator: np.random.Generator) -> bytes:
    """Set the clock back or forward from a row on, repeat a time, or count in another unit."""
    separator, rows = _table(data)
    at, kind = int(generator.integers(1, len(rows))), int(generator.integers(4))
    step = 1000.0 if separator == b";" else 1.0
    for i in range(1, len(rows)):
        time = float(rows[i][0])
        if kind == 0 and i >= at:
            time += step * float(generator.choice([-3600, -2]))
        elif kind == 1 and i >= at:
            time += step * 60
        elif kind == 2 and i == at and i > 1:
            time = float(rows[i - 1][0])
        elif kind == 3:
            time *= 1000
        rows[i][0] = b"%.4f" % time
    return _text(separator, rows)


def recode(data: bytes, generator: np.random.Generator) -> bytes:
    """Write the table in another encoding, with a byte order mark or other ends of lines."""
    text = data.decode("utf-8", "replace")
    codes = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32")
    kind = int(generator.integers(6))
    if kind < len(codes):
        return text.encode(codes[kind])
    if kind == 4:
        return data.replace(b"\n", b"\r\n")
    return data[: len(data) // 2] + b"\xe9\xb5" + data[len(data) // 2 :]


def cut_line(data: bytes, generator: np.random.Generator) -> bytes:
    """End within the last line, as a recorder that was killed."""
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    return data[: int(generator.integers(last, len(data)))]


TABLE = (
    other_separator, decimal_commas, change_columns, change_title, change_cells, move_rows, change_times,
    recode, cut_line,
)  # fmt: skip
