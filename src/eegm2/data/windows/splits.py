"""Splits by subject: seeded, written to a manifest, and never with one subject on two sides."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eegm2.atomic import write_atomic
from eegm2.data.config import SplitConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import DataError
from eegm2.records import parse_json
from eegm2.words import count

PARTS = ("train", "val", "test")
#: In a run that began with another's weights: that one's split, and so on.
EARLIER = tuple(f"splits-before-{number}.json" for number in range(1, 10))


@dataclass(frozen=True)
class SplitManifest:
    """Who is in which part.

    Parameters
    ----------
    train, val, test : tuple of str
        Subjects (or recording ids where `by` is ``recording``), sorted.
    seed : int
        Seed the split was drawn with.
    by : str
        ``subject`` or ``recording``.
    manifest_sha256 : str
        Hash of the store (or of several together) the split was drawn from.
    stores : mapping of str to str
        Where it was drawn from several: each one's name and hash; subjects are then ``name/subject``.

    Raises
    ------
    DataError
        If somebody is in two parts; all such names are given.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    seed: int = 0
    by: Literal["subject", "recording"] = "subject"
    manifest_sha256: str = ""
    stores: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = Counter(name for part in PARTS for name in set(getattr(self, part)))
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise DataError(
                f"split: {self.by}s in more than one part: {', '.join(twice)}; keep each in one part only"
            )

    def selection(self, part: str) -> dict[str, tuple[str, ...]]:
        """Return the keyword argument of `WindowDataset` that selects a part (``train`` …)."""
        return {"subjects" if self.by == "subject" else "recordings": getattr(self, part)}

    def to_json(self, path: str | Path) -> None:
        """Write the manifest, whole or not at all."""
        values = {"format": 1, **asdict(self)}
        if not self.stores:
            del values["stores"]
        write_atomic(Path(path), [json.dumps(values, indent=1).encode()])

    def part_of(self, store: str) -> SplitManifest:
        """Return the split of one of several stores, under its own names of subjects."""
        start = f"{store}/"
        parts: dict[str, Any] = {
            part: tuple(name.removeprefix(start) for name in getattr(self, part) if name.startswith(start))
            for part in PARTS
        }
        return replace(self, **parts, manifest_sha256=self.stores.get(store, ""), stores={})

    def of_store(self, manifest_sha256: str) -> SplitManifest | None:
        """Return the split of a store by its hash, under its own names; None if it was drawn from others."""
        if not self.stores:
            return self if self.manifest_sha256 == manifest_sha256 else None
        names = [name for name, sha256 in self.stores.items() if sha256 == manifest_sha256]
        return self.part_of(names[0]) if names else None

    def all_names(self) -> SplitManifest:
        """Return the split with names as the stores have them, whosever they are.

        A name that stands in several parts, for it is of several people, counts as trained on.
        """
        if not self.stores:
            return self
        own = [self.part_of(name) for name in self.stores]
        taken: set[str] = set()
        parts: dict[str, Any] = {}
        for part in PARTS:
            names = {name for split in own for name in getattr(split, part)} - taken
            parts[part], taken = tuple(sorted(names)), taken | names
        return replace(self, **parts, stores={})

    def refuse_unknown(self, known: Set[str], where: str | Path, *, example: str = "") -> None:
        """Raise a DataError if somebody is not among the names known."""
        unknown = sorted({name for part in PARTS for name in getattr(self, part)} - known)
        if unknown:
            form = f", such as {example}" if example else ""
            raise DataError(
                f"{where}: {self.by}s not in the store: {', '.join(unknown)}; use the store's names{form}"
            )

    @classmethod
    def from_json(cls, path: str | Path, store: RecordingStore | None = None) -> SplitManifest:
        """Read a manifest, ours or a user's own (at least ``train``, ``val``, ``test`` lists).

        Raises
        ------
        DataError
            If it is not such a file, somebody is in two parts, or (store given) somebody is not in the store.
        """
        try:
            values: dict[str, Any] = parse_json(Path(path).read_bytes())
            if isinstance(number := values.get("format", 1), int) and number > 1:
                raise DataError(f"format {number}, this eegm2 reads up to 1; upgrade eegm2")
            parts = {part: tuple(str(name) for name in values[part]) for part in PARTS}
            if any(isinstance(values[part], str) for part in PARTS) or values.get("by", "subject") not in (
                "subject",
                "recording",
            ):
                raise ValueError("train, val, test must be lists and by 'subject' or 'recording'")
            manifest = cls(
                **parts,
                seed=int(values.get("seed", 0)),
                by=values.get("by", "subject"),
                manifest_sha256=str(values.get("manifest_sha256", "")),
                stores={str(name): str(sha256) for name, sha256 in dict(values.get("stores", {})).items()},
            )
        except OSError as error:
            raise DataError(f"{path}: cannot read the split ({error.strerror})") from error
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError(
                f"{path}: not a split manifest with lists train, val, test ({error!r})"
            ) from error
        if store is not None:
            known = (
                set(store.subjects) if manifest.by == "subject" else {info.id for info in store.recordings}
            )
            manifest.refuse_unknown(known, path)
        return manifest


def splits_of(run: Path) -> list[Path]:
    """Return a run's own split file and those of the runs whose weights it began with, the newest first."""
    return [run / name for name in ("splits.json", *EARLIER) if (run / name).is_file()]


def split_subjects(
    store: RecordingStore, config: SplitConfig, labels: Mapping[str, str] | None = None
) -> SplitManifest:
    """Draw train, validation and test subjects.

    Parameters
    ----------
    store : RecordingStore
        Where the subjects are; its recordings' own ``test`` and ``val`` parts are kept if `config.official`.
    config : SplitConfig
        Seed, shares and unit.
    labels : mapping of str to str, optional
        Label of each subject (or recording id); the shares then hold within each label as nearly as whole
        subjects allow. Subjects without an entry form a stratum of their own.

    Raises
    ------
    DataError
        If there are too few subjects for the parts asked for, or the data set's own split divides a subject.
    """
    official = _official_parts(store, config.by) if config.official else {}
    names = units(store, config.by)
    parts: dict[str, list[str]] = {
        part: [n for n in names if official.get(n) == part] for part in ("test", "val")
    }
    rest = [name for name in names if official.get(name, "train") == "train"]
    shares = {"test": 0.0 if parts["test"] else config.test, "val": 0.0 if parts["val"] else config.val}
    needed = 1 + sum(share > 0 for share in shares.values())
    if len(rest) < needed:
        found = f"{count(len(rest), config.by)} ({', '.join(rest) or 'none'})"
        other = "; --by recording divides one person's recordings" if config.by == "subject" else ""
        raise DataError(
            f"{store.url}: {found} cannot be divided into {needed} parts; set val or test to 0{other}"
        )
    order = stratified_order(rest, labels or {}, config.seed)
    sizes = {part: max(1, round(share * len(rest))) if share > 0 else 0 for part, share in shares.items()}
    while sum(sizes.values()) >= len(rest):
        sizes[max(sizes, key=lambda part: sizes[part])] -= 1
    for part in ("test", "val"):
        taken = _drawn(order, sizes[part], labels or {})
        parts[part] += taken
        order = [name for name in order if name not in set(taken)]
    return SplitManifest(
        train=tuple(sorted(order)),
        val=tuple(sorted(parts["val"])),
        test=tuple(sorted(parts["test"])),
        seed=config.seed,
        by=config.by,
        manifest_sha256=store.manifest_sha256,
    )


def subject_folds(
    subjects: Iterable[str], n_folds: int, *, seed: int = 0, labels: Mapping[str, str] | None = None
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return (train subjects, test subjects) of each fold; every subject is tested exactly once.

    Raises
    ------
    DataError
        If there are fewer subjects than folds.
    """
    names = sorted(set(subjects))
    if not 2 <= n_folds <= len(names):
        raise DataError(f"n_folds: got {n_folds}, expected 2 to {len(names)} (the number of subjects)")
    labels = labels or {}
    order = stratified_order(names, labels, seed)
    folds = [order[fold::n_folds] for fold in range(n_folds)]
    if not all(_proportional(fold, order, labels) for fold in folds):
        order = _by_label(order, labels)
        folds = [order[fold::n_folds] for fold in range(n_folds)]
    return [(tuple(name for name in names if name not in set(test)), tuple(sorted(test))) for test in folds]


def subject_labels(store: RecordingStore, target: str) -> dict[str, str]:
    """Return the value of an attribute per subject, for stratifying; several are joined by ``+``."""
    found: dict[str, set[str]] = {}
    for info in store.recordings:
        value = info.attributes.get(target, "")
        if value not in ("", "n/a"):
            found.setdefault(info.subject, set()).add(value)
    return {subject: "+".join(sorted(values)) for subject, values in sorted(found.items())}


def units(store: RecordingStore, by: str) -> list[str]:
    """Return the names of what a split by `by` divides: subjects or recordings."""
    return list(store.subjects) if by == "subject" else [info.id for info in store.recordings]


def _official_parts(store: RecordingStore, by: str) -> dict[str, str]:
    parts: dict[str, set[str]] = {}
    for info in store.recordings:
        if info.split is not None:
            parts.setdefault(info.subject if by == "subject" else info.id, set()).add(info.split)
    divided = sorted(name for name, found in parts.items() if len(found) > 1)
    if divided:
        raise DataError(
            f"{store.url}: the data set's own split divides these {by}s: {', '.join(divided)}; "
            "use --no-official to draw one"
        )
    return {name: next(iter(found)) for name, found in parts.items()}


def stratified_order(names: Sequence[str], labels: Mapping[str, str], seed: int) -> list[str]:
    """Return the names shuffled within each label, the labels evenly interleaved."""
    generator = np.random.default_rng([seed, len(names)])
    strata: dict[str, list[str]] = {}
    for name in sorted(names):
        strata.setdefault(labels.get(name, ""), []).append(name)
    placed: list[tuple[float, float, str]] = []
    for label in sorted(strata):
        members = [strata[label][i] for i in generator.permutation(len(strata[label]))]
        offset = float(generator.random())
        placed += [((place + offset) / len(members), offset, name) for place, name in enumerate(members)]
    return [name for _, _, name in sorted(placed)]


def _drawn(order: list[str], size: int, labels: Mapping[str, str]) -> list[str]:
    """Return `size` names evenly spread over an order, of every label as nearly its share as names allow."""
    drawn = [order[place] for place in _spread(len(order), size)]
    if _proportional(drawn, order, labels):
        return drawn
    grouped = _by_label(order, labels)
    return [grouped[place] for place in _spread(len(order), size)]


def _by_label(order: Sequence[str], labels: Mapping[str, str]) -> list[str]:
    """Return the names label after label: where they alternate, an even step can miss one."""
    return sorted(order, key=lambda name: labels.get(name, ""))


def _proportional(some: Sequence[str], whole: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Return whether `some` names have each label in its share of `whole`, to less than one."""
    there, found = (Counter(labels.get(name, "") for name in names) for names in (whole, some))
    return all(abs(found[label] - n * len(some) / len(whole)) < 1 for label, n in there.items())


def _spread(length: int, count: int) -> list[int]:
    """Return `count` places evenly spread over ``range(length)``."""
    return [int((place + 0.5) * length / count) for place in range(count)]
