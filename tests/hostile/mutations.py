"""Damage to files, drawn from a seed: the kinds that disks, transfers, careless tools and attackers cause.

A mutation takes a file's bytes and gives other bytes. The general kinds know nothing of formats; the
header kinds know where each format keeps the numbers that a reader trusts.
"""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.hostile.headset_mutations import TABLE, XDF
from tests.hostile.seeds import Seed
from tests.hostile.user_mutations import USERS

Mutation = Callable[[bytes, np.random.Generator], bytes]

#: What a hostile writer puts where a number belongs.
NUMBERS = (
    b"-1", b"0", b"1", b"2", b"255", b"65535", b"2147483647", b"4294967295", b"99999999", b"1e308", b"1e-308",
    b"nan", b"inf", b"-inf", b"", b"abc", b"0x10", b"1,5", b"12 34", b"\xff\xfe", b"../../x", b"<b>x</b>",
)  # fmt: skip
#: The same as 32-bit integers: sizes and counts of the binary formats.
INTEGERS = (-1, 0, 1, 7, 255, 65_535, 2**20, 2**24 + 1, 2**31 - 1, -(2**31), -8, 2**30)


@dataclass(frozen=True)
class Mutant:
    """A damaged recording: `main` is given to the reader; `name` says what was done."""

    name: str
    main: Path
    size: int


def flip_bytes(data: bytes, generator: np.random.Generator) -> bytes:
    """Change 1 to 64 bytes anywhere."""
    out = bytearray(data)
    for place in generator.integers(0, len(out), generator.integers(1, 65)):
        out[place] ^= int(generator.integers(1, 256))
    return bytes(out)


def flip_header(data: bytes, generator: np.random.Generator) -> bytes:
    """Change 1 to 16 bytes in the first kilobyte or so, where headers are."""
    size = min(len(data), 1200)
    return flip_bytes(data[:size], generator) + data[size:]


def truncate(data: bytes, generator: np.random.Generator) -> bytes:
    """Keep the beginning; a third of the cuts fall in the header, some leave nothing."""
    return data[: int(generator.integers(0, min(len(data), 2000) if generator.random() < 0.3 else len(data)))]


def zero_fill(data: bytes, generator: np.random.Generator) -> bytes:
    """Replace a stretch by zeros, as a file system does after a crash."""
    start = int(generator.integers(0, len(data)))
    stop = min(len(data), start + int(generator.integers(1, 1 + len(data) // 2)))
    return data[:start] + bytes(stop - start) + data[stop:]


def swap_blocks(data: bytes, generator: np.random.Generator) -> bytes:
    """Exchange two blocks of 512 bytes (less in small files)."""
    size = min(512, max(1, len(data) // 4))
    count = len(data) // size
    first, second = (int(place) * size for place in generator.choice(count, 2, replace=False))
    out = bytearray(data)
    out[first : first + size], out[second : second + size] = (
        data[second : second + size],
        data[first : first + size],
    )
    return bytes(out)


def repeat_tail(data: bytes, generator: np.random.Generator) -> bytes:
    """Append a part of the file again, as an interrupted and resumed download does."""
    return data + data[int(generator.integers(0, len(data))) :]


def insert_text(data: bytes, generator: np.random.Generator) -> bytes:
    """Put foreign text somewhere: everything behind it moves."""
    place = int(generator.integers(0, len(data)))
    return data[:place] + NUMBERS[int(generator.integers(len(NUMBERS)))] + data[place:]


def edit_edf_header(data: bytes, generator: np.random.Generator) -> bytes:
    """Lie in one to three of the numeric fields of an EDF or BDF header (sizes, counts, rates, ranges)."""
    n_signals = int(data[252:256])
    fields = [(0, 8), (168, 8), (176, 8), (184, 8), (192, 44), (236, 8), (244, 8), (252, 4)]
    start = 256
    for width in (
        16,
        80,
        8,
        8,
        8,
        8,
        8,
        80,
        8,
        32,
    ):  # label, transducer, dimension, four ranges, filter, samples
        fields += [(start + i * width, width) for i in range(n_signals)]
        start += width * n_signals
    out = bytearray(data)
    for _ in range(int(generator.integers(1, 4))):
        place, width = fields[int(generator.integers(len(fields)))]
        out[place : place + width] = NUMBERS[int(generator.integers(len(NUMBERS)))][:width].ljust(width)
    return bytes(out)


def edit_text_value(data: bytes, generator: np.random.Generator) -> bytes:
    """Replace the value, or a part of it, on one line ``key=value`` (BrainVision)."""
    lines = data.split(b"\n")
    places = [i for i, line in enumerate(lines) if b"=" in line]
    if not places:
        return flip_bytes(data, generator)
    place = places[int(generator.integers(len(places)))]
    key, _, value = lines[place].partition(b"=")
    parts = value.split(b",")
    parts[int(generator.integers(len(parts)))] = NUMBERS[int(generator.integers(len(NUMBERS)))]
    lines[place] = key + b"=" + b",".join(parts)
    return b"\n".join(lines)


def drop_line(data: bytes, generator: np.random.Generator) -> bytes:
    """Leave one line out, or write it twice."""
    lines = data.split(b"\n")
    place = int(generator.integers(len(lines)))
    lines[place : place + 1] = [] if generator.random() < 0.5 else [lines[place]] * 2
    return b"\n".join(lines)


def lie_big_endian(data: bytes, generator: np.random.Generator) -> bytes:
    """Write a hostile 32-bit number over an aligned word of the header or directory (FIF)."""
    return _lie(data, generator, ">i4")


def lie_little_endian(data: bytes, generator: np.random.Generator) -> bytes:
    """Write a hostile 32-bit number over an aligned word (MAT file tags)."""
    return _lie(data, generator, "<i4")


def _lie(data: bytes, generator: np.random.Generator, kind: str) -> bytes:
    words = len(data) // 4
    head = min(words, 600)
    out = bytearray(data)
    for _ in range(int(generator.integers(1, 3))):
        word = int(generator.integers(0, head) if generator.random() < 0.8 else generator.integers(0, words))
        value = np.array(INTEGERS[int(generator.integers(len(INTEGERS)))], dtype=kind)
        out[4 * word : 4 * word + 4] = value.tobytes()
    return bytes(out)


def edit_mat_number(data: bytes, generator: np.random.Generator) -> bytes:
    """Overwrite one of the doubles of an EEGLAB set: nbchan, pnts, srate, trials, xmax and the like."""
    numbers = [m.start() for m in re.finditer(rb"\x09\x00\x00\x00\x08\x00\x00\x00", data)]
    if not numbers:
        return lie_little_endian(data, generator)
    place = numbers[int(generator.integers(min(len(numbers), 12)))] + 8
    value = (-1.0, 0.0, 0.5, 1e9, 1e18, 1e308, float("nan"), float("inf"), 3.0, 2.0**31)
    number = np.array(value[int(generator.integers(len(value)))], dtype="<f8").tobytes()
    return data[:place] + number + data[place + 8 :]


def edit_gdf_header(data: bytes, generator: np.random.Generator) -> bytes:
    """Lie in a number of a GDF header or of its table of events: sizes, counts, ranges, codes of units."""
    n_signals = struct.unpack_from("<H", data, 252)[0]
    places = [(184, "<H"), (236, "<i"), (244, "<I"), (248, "<I"), (252, "<H")]
    for signal in range(n_signals):
        places += [(256 + 102 * n_signals + 2 * signal, "<H")]
        places += [(256 + at * n_signals + 8 * signal, "<d") for at in (104, 112, 120, 128)]
        places += [(256 + at * n_signals + 4 * signal, "<i") for at in (216, 220)]
    table = len(data) - 8 - 12 * 2
    places += [(table + 1, "<H"), (table + 4, "<f"), (table + 8, "<I")]
    out = bytearray(data)
    for _ in range(int(generator.integers(1, 3))):
        place, code = places[int(generator.integers(len(places)))]
        number = (*INTEGERS, 4274, 4276, 512)[int(generator.integers(len(INTEGERS) + 3))]
        limit = 2 ** (8 * struct.calcsize(code))
        value = float(number) if code in ("<d", "<f") else number % limit
        if code == "<i" and value >= limit // 2:
            value -= limit
        struct.pack_into(code, out, place, value)
    return bytes(out)


def edit_npy_header(data: bytes, generator: np.random.Generator) -> bytes:
    """Lie in the header of a NumPy array: its shape, type or order."""
    shapes = (b"(10, 6, -25)", b"(99, 6, 256)", b"(10, 256)   ", b"(9**9**9,)  ")
    types = (b"<f8", b"|O ", b"<c8", b">f4")
    changes = [(b"(10, 6, 256)", shape) for shape in shapes] + [(b"<f4", kind) for kind in types]
    changes += [
        (b"False", b"True "),
        (b"descr", b"decsr"),
        (b"(10,)", b"(1e9)"),
        (b"NUMPY\x01", b"NUMPY\x09"),
    ]
    there = [(old, new) for old, new in changes if old in data]
    old, new = there[int(generator.integers(len(there)))]
    return data.replace(old, new, 1)


def edit_cell(data: bytes, generator: np.random.Generator) -> bytes:
    """Replace one cell of a table, or one value of a TOML file."""
    lines = data.split(b"\n")
    place = int(generator.integers(len(lines)))
    parts = re.split(rb"([,=])", lines[place])
    parts[2 * int(generator.integers((len(parts) + 1) // 2))] = NUMBERS[int(generator.integers(len(NUMBERS)))]
    lines[place] = b"".join(parts)
    return b"\n".join(lines)


def inside_gzip(data: bytes, generator: np.random.Generator) -> bytes:
    """Damage what a compressed file holds, and compress it again; sometimes far more than it held."""
    content = gzip.decompress(data)
    if generator.random() < 0.1:
        return gzip.compress(content + bytes(int(generator.integers(1, 200)) << 20), 1)
    kinds = (flip_header, truncate, lie_big_endian, zero_fill)
    return gzip.compress(kinds[int(generator.integers(len(kinds)))](content, generator), 1)


GENERAL: tuple[Mutation, ...] = (
    flip_bytes, flip_header, truncate, zero_fill, swap_blocks, repeat_tail, insert_text,
)  # fmt: skip
BY_SUFFIX: dict[str, tuple[Mutation, ...]] = {
    ".edf": (edit_edf_header, edit_edf_header),
    ".bdf": (edit_edf_header, edit_edf_header),
    ".vhdr": (edit_text_value, edit_text_value, drop_line),
    ".vmrk": (edit_text_value, drop_line),
    ".set": (lie_little_endian, edit_mat_number),
    ".fif": (lie_big_endian, lie_big_endian),
    ".gdf": (edit_gdf_header, edit_gdf_header),
    ".gz": (inside_gzip, inside_gzip),
    ".npy": (edit_npy_header,),
    ".csv": (edit_cell, drop_line),
    ".toml": (edit_cell, drop_line),
}
#: Of the main file of a kind, besides those of its suffix.
BY_KIND: dict[str, tuple[Mutation, ...]] = {
    "xdf": XDF * 2,
    "muselsl csv": TABLE * 2,
    "declared csv": TABLE * 2,
}


def mutate_as_users(seed: Seed, number: int, folder: Path) -> Mutant:
    """Write copy `number` with what users do to recordings of any format."""
    generator = np.random.default_rng([number, *seed.kind.encode()])
    copy = seed.copy_to(folder)
    kind = USERS[int(generator.integers(len(USERS)))]
    kind(copy, generator)
    size = sum(path.stat().st_size for path in copy.files if path.exists())
    return Mutant(f"{seed.kind}-{number:04d}-{kind.__name__}({copy.main.suffix})", copy.main, size)


def mutate(seed: Seed, number: int, folder: Path) -> Mutant:
    """Write damaged copy `number` of a recording into `folder`; the same number gives the same bytes."""
    generator = np.random.default_rng([number, *seed.kind.encode()])
    copy = seed.copy_to(folder)
    # Headers are where readers put their trust: half of the damage goes into the main file at least.
    target = copy.main if generator.random() < 0.5 else copy.files[int(generator.integers(len(copy.files)))]
    kinds = GENERAL + BY_SUFFIX.get(target.suffix, ())
    kinds += BY_KIND.get(seed.kind, ()) if target == copy.main else ()
    kind = kinds[int(generator.integers(len(kinds)))]
    data = target.read_bytes()
    target.write_bytes(kind(data, generator))
    if len(copy.files) > 1 and generator.random() < 0.05:
        copy.files[-1].unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in copy.files if path.exists())
    return Mutant(f"{seed.kind}-{number:04d}-{kind.__name__}({target.suffix})", copy.main, size)
