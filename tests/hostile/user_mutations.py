"""What users do to good recordings: equal names, marks of breaks, files that stand for others, lost parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.hostile.seeds import Seed

PAIRS = ((b"Fp2", b"Fp1"), (b"C3", b"C4"), (b"O1", b"O2"), (b"Fp1", b"fp1"))
MARKS = {
    b"eyes open": (b"boundary ", b"BAD_ACQ_S", b"BAD gap 1"),
    b"eyes closed": (b"BAD boundary"[:11], b"BAD_ACQ_SKI"),
    b"blink": (b"BAD x", b"EDGE "),
    b"Stimulus,S  1": (b"New Segment,", b"Comment,BAD_ACQ_SKIP"),
    b"EDF+C": (b"EDF+D",),
    b"BDF+C": (b"BDF+D",),
}
POINTERS = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * b"a" + b"\nsize 123456\n",
    b"/annex/objects/MD5E-s123456--" + 32 * b"b" + b".edf\n",
    b"../../.git/annex/objects/aa/bb/SHA256E-s1--" + 64 * b"c" + b"/SHA256E-s1--" + 64 * b"c",
)


def equal_names(seed: Seed, generator: np.random.Generator) -> None:
    """Give a channel the name of another, or one that differs in case alone."""
    old, new = PAIRS[int(generator.integers(len(PAIRS)))]
    data = seed.main.read_bytes()
    seed.main.write_bytes(data.replace(old, new, 1 if generator.random() < 0.7 else -1))


def break_marks(seed: Seed, generator: np.random.Generator) -> None:
    """Turn an annotation into a mark of a break, or say that the recording has breaks."""
    places = [(path, old) for path in seed.files for old in MARKS if old in path.read_bytes()]
    if not places:
        pointer(seed, generator)
        return
    path, old = places[int(generator.integers(len(places)))]
    new = MARKS[old][int(generator.integers(len(MARKS[old])))]
    path.write_bytes(path.read_bytes().replace(old, new))


def pointer(seed: Seed, generator: np.random.Generator) -> None:
    """Leave of a file what Git LFS or git-annex put in its place."""
    path = seed.files[int(generator.integers(len(seed.files)))]
    path.write_bytes(POINTERS[int(generator.integers(len(POINTERS)))])


def lose_part(seed: Seed, generator: np.random.Generator) -> None:
    """Lose or empty a file that the main one needs; one of a single file ends early."""
    if len(seed.files) == 1:
        data = seed.main.read_bytes()
        seed.main.write_bytes(data[: int(generator.integers(len(data) // 2, len(data)))])
        return
    path = seed.files[int(generator.integers(1, len(seed.files)))]
    path.unlink() if generator.random() < 0.7 else path.write_bytes(b"")


USERS: tuple[Callable[[Seed, np.random.Generator], None], ...] = (
    equal_names, break_marks, pointer, lose_part,
)  # fmt: skip
