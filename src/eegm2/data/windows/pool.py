"""Several stores as one body of data: who is who, what may be mixed, and windows of all of them.

One store is a pool of one and keeps its own names. In a pool of several, subjects and recordings are named
``store/subject`` and ``store/recording``, so that equal names in two stores are two people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from eegm2.config import to_dict
from eegm2.data.config import SIGNAL_CHOICES, PreprocessingConfig, SplitConfig, WindowConfig, sha256_json
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowBatch, WindowDataset
from eegm2.data.windows.splits import PARTS, SplitManifest, split_subjects
from eegm2.errors import ConfigError, DataError

Stores = str | Path | RecordingStore | Sequence[str | Path | RecordingStore]


class StorePool:
    """Stores that are trained on together.

    Parameters
    ----------
    stores : RecordingStore, path or URL, or a sequence of them
        Their electrodes may differ.

    Attributes
    ----------
    stores : tuple of RecordingStore
    names : tuple of str
        Last part of each store's path; a number follows where two are the same.

    Raises
    ------
    ConfigError
        If two differ in rate, unit or another choice of preprocessing that changes the signal (all are named
        with both values), or are the same store.
    DataError
        If one cannot be read.
    """

    def __init__(self, stores: Stores) -> None:
        if isinstance(stores, str | Path | RecordingStore):
            stores = [stores]
        if not stores:
            raise ConfigError("stores: got none, expected at least one; eegm2 prepare makes them")
        self.stores = tuple(
            store if isinstance(store, RecordingStore) else RecordingStore(store) for store in stores
        )
        self.names = _names([Path(store.url).name for store in self.stores])
        for number, store in enumerate(self.stores[1:], start=1):
            _refuse_unlike(self.stores[0], store)
            for other in self.stores[:number]:
                if store.manifest_sha256 == other.manifest_sha256:
                    raise ConfigError(
                        f"{store.url}: the same recordings as {other.url}; give a store once, "
                        "--share says how much of the training is its"
                    )

    def __len__(self) -> int:
        return len(self.stores)

    @property
    def sfreq_hz(self) -> float:
        """Sampling rate of all of them in Hz."""
        return self.stores[0].sfreq_hz

    @property
    def montages(self) -> tuple[tuple[str, ...], ...]:
        """Channel names of each store."""
        return tuple(store.ch_names for store in self.stores)

    @property
    def preprocessing(self) -> PreprocessingConfig:
        """How the recordings were prepared; without the electrodes where the stores differ in them."""
        found = self.stores[0].preprocessing
        if len(set(self.montages)) == 1:
            return found
        return replace(found, montage="", channels=(), aliases=())

    @property
    def manifest_sha256(self) -> str:
        """Hash of what the stores hold; of one store its own."""
        hashes = [store.manifest_sha256 for store in self.stores]
        return hashes[0] if len(hashes) == 1 else sha256_json(hashes)

    @property
    def url(self) -> str:
        """Where they are, for messages."""
        return ", ".join(store.url for store in self.stores)

    def label(self, store: int, name: str) -> str:
        """Return a subject's or recording's name in the pool."""
        return name if len(self.stores) == 1 else f"{self.names[store]}/{name}"

    def people(self) -> list[list[str]]:
        """Return the subjects' names, those of one person together.

        Two stores' subjects are one person only where they have the same name and a recording from the same
        source file: a data set that was prepared twice, for two montages say.
        """
        people: list[tuple[str, set[str], list[str]]] = []
        for number, store in enumerate(self.stores):
            sources: dict[str, set[str]] = {name: set() for name in store.subjects}
            for info in store.recordings:
                sources[info.subject] |= {info.source_sha256} - {""}
            earlier = list(people)
            for subject, found in sources.items():
                same = [person for person in earlier if person[0] == subject and person[1] & found]
                if same:
                    same[0][1].update(found)
                    same[0][2].append(self.label(number, subject))
                else:
                    people.append((subject, found, [self.label(number, subject)]))
        return [names for _, _, names in people]

    def split(self, config: SplitConfig) -> SplitManifest:
        """Draw train, validation and test people of every store by itself; nobody is on two sides.

        A store divides as it would alone. One that has too few people for all parts is trained on whole, as
        long as another one has somebody to validate.

        Raises
        ------
        DataError
            As :func:`split_subjects`, if that holds of every store.
        """
        if len(self.stores) == 1:
            return split_subjects(self.stores[0], config)
        parts: dict[str, set[str]] = {part: set() for part in PARTS}
        refused: list[DataError] = []
        for number, store in enumerate(self.stores):
            try:
                own = split_subjects(store, config)
            except DataError as error:
                official = config.official and any(info.split is not None for info in store.recordings)
                if official or len(_units(store, config.by)) > (config.val > 0) + (config.test > 0):
                    raise
                refused.append(error)
                parts["train"] |= {self.label(number, name) for name in _units(store, config.by)}
                continue
            for part in PARTS:
                parts[part] |= {self.label(number, name) for name in getattr(own, part)}
        if len(refused) == len(self.stores):
            raise refused[0]
        return SplitManifest(
            **{part: tuple(sorted(names)) for part, names in self._undivided(parts, config.by).items()},
            seed=config.seed,
            by=config.by,
            manifest_sha256=self.manifest_sha256,
            stores=self.hashes(),
        )

    def hashes(self) -> dict[str, str]:
        """Return the manifest's hash of each store by its name; nothing for a single one."""
        if len(self.stores) == 1:
            return {}
        return {name: store.manifest_sha256 for name, store in zip(self.names, self.stores)}

    def _undivided(self, parts: dict[str, set[str]], by: str) -> dict[str, set[str]]:
        """Return the parts with every person on one side: the test's, else the validation's."""
        if by != "subject":
            return parts
        for names in self.people():
            here = [part for part in ("test", "val", "train") if parts[part] & set(names)]
            for part in here[1:]:
                parts[part] -= set(names)
            parts[here[0]] |= set(names)
        return parts

    def refuse_unknown(self, manifest: SplitManifest, where: str) -> None:
        """Raise a DataError if a split names somebody whom the stores do not have."""
        known = {
            self.label(number, name)
            for number, store in enumerate(self.stores)
            for name in _units(store, manifest.by)
        }
        manifest.refuse_unknown(known, where, example="" if len(self.stores) == 1 else min(known))

    def windows(self, config: WindowConfig, manifest: SplitManifest, part: str) -> PoolWindows | None:
        """Return the windows of one part of a split, or None if nobody is in it."""
        datasets: dict[int, WindowDataset] = {}
        for number, store in enumerate(self.stores):
            own = manifest.part_of(self.names[number]) if len(self.stores) > 1 else manifest
            if getattr(own, part):
                chosen: dict[str, Any] = dict(own.selection(part))
                datasets[number] = WindowDataset(store, config, **chosen)
        return PoolWindows(self, datasets) if datasets else None


class PoolWindows(Dataset[dict[str, Any]]):
    """Windows of several stores under one numbering, in which every store's windows are one stretch.

    A batch is of one store: windows of different electrodes do not fit into one array.

    Parameters
    ----------
    pool : StorePool
    datasets : mapping of int to WindowDataset
        Number of a store in the pool → its windows.

    Attributes
    ----------
    starts : ndarray of int, shape (n_datasets + 1,)
        First window of each, and how many there are in all.
    """

    def __init__(self, pool: StorePool, datasets: Mapping[int, WindowDataset]) -> None:
        self.pool = pool
        self.numbers = tuple(datasets)
        self.datasets = tuple(datasets.values())
        self.starts = np.cumsum([0, *map(len, self.datasets)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Windows of each dataset."""
        return tuple(map(len, self.datasets))

    @property
    def n_times(self) -> int:
        """Samples of a window."""
        return self.datasets[0].n_times

    def _place(self, window: int) -> tuple[int, int]:
        """Return in which dataset a window is, and as which of its windows."""
        which = int(np.searchsorted(self.starts, window, side="right")) - 1
        return which, int(window - self.starts[which])

    def of_store(self, number: int) -> WindowDataset | None:
        """Return the windows of one store of the pool, None if there are none."""
        return self.datasets[self.numbers.index(number)] if number in self.numbers else None

    def store_of(self, window: int) -> int:
        """Return the number of a window's store in the pool."""
        return self.numbers[self._place(window)[0]]

    def recordings_of(self, windows: Iterable[int]) -> list[int]:
        """Return a number for each window's recording, the same for windows of one recording of a store."""
        return [
            int(d.index["recording"][w]) for d, w in ((self.datasets[i], w) for i, w in self._all(windows))
        ]

    def _all(self, windows: Iterable[int]) -> list[tuple[int, int]]:
        return [self._place(window) for window in windows]

    def __getitem__(self, window: int) -> dict[str, Any]:
        """Return ``{"x": float32 Tensor (n_chans, n_times), "y": int, "index": int}``."""
        which, own = self._place(window)
        return {**self.datasets[which][own], "index": int(window)}

    def __getitems__(self, windows: Sequence[int]) -> WindowBatch:
        """Return several windows of one store at once."""
        places = self._all(windows)
        which = places[0][0]
        items = self.datasets[which].__getitems__([own for _, own in places])
        if which:
            items.batch["index"] += int(self.starts[which])
        return items

    def describe(self, window: int) -> str:
        """Return a window's recording and start, for messages."""
        which, own = self._place(window)
        data, row = self.datasets[which], self.datasets[which].index[own]
        name = self.pool.label(self.numbers[which], data.recordings[row["recording"]].id)
        return f"{name} at {row['start'] / data.store.sfreq_hz:g} s"


def shares(pool: StorePool, sizes: Sequence[int], given: Sequence[str]) -> tuple[float, ...]:
    """Return the share of the training that each store gets; they add up to 1.

    Parameters
    ----------
    pool : StorePool
    sizes : sequence of int
        Training windows of each store.
    given : sequence of str
        Nothing: in proportion to the windows. ``equal``: the same for all. ``name=0.5`` of some: the others
        divide the rest in proportion to their windows.

    Raises
    ------
    ConfigError
        If an entry cannot be read, names no store, or the shares do not add up to 1.
    """
    if tuple(given) == ("equal",):
        return tuple(1 / len(pool) for _ in sizes)
    asked: dict[str, float] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if name not in pool.names or name in asked or not 0 < share <= 1:
            raise ConfigError(
                f"share: got {text!r}, expected equal, or a store and its share of the training such as "
                f"{pool.names[0]}=0.5, each store once; the stores are {', '.join(pool.names)}"
            )
        asked[name] = share
    rest, others = 1 - sum(asked.values()), sum(n for n, name in zip(sizes, pool.names) if name not in asked)
    if rest < -1e-9 or (others == 0 and rest > 1e-9) or (others > 0 and rest < 1e-9):
        left = "leaves nothing to the others" if others and rest > -1e-9 else "is not 1"
        raise ConfigError(
            f"share: {', '.join(given)} add up to {1 - rest:g}, which {left}; change one of them"
        )
    return tuple(asked.get(name, rest * n / max(others, 1)) for n, name in zip(sizes, pool.names))


def _names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names with a number after those that were there before."""
    found: list[str] = []
    for name in names:
        number, made = 1, name
        while made in found:
            number += 1
            made = f"{name}-{number}"
        found.append(made)
    return tuple(found)


def _units(store: RecordingStore, by: str) -> list[str]:
    return list(store.subjects) if by == "subject" else [info.id for info in store.recordings]


def _refuse_unlike(first: RecordingStore, other: RecordingStore) -> None:
    """Raise a ConfigError that names every difference which forbids to train on both."""
    a, b = to_dict(first.preprocessing), to_dict(other.preprocessing)
    differing = [
        f"{name} is {a[name]} and {b[name]}" for name in (*SIGNAL_CHOICES, "amplitude") if a[name] != b[name]
    ]
    if first.preprocessing_version != other.preprocessing_version:
        differing.append(
            f"version of the preprocessing is {first.preprocessing_version} and {other.preprocessing_version}"
        )
    if differing:
        raise ConfigError(
            f"{first.url} and {other.url}: prepared differently: {'; '.join(differing)}; "
            "prepare both with the same options to train on them together"
        )
