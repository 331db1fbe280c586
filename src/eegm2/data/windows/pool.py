"""Several stores as one body of data: who is who, and what may be mixed.

One store is a pool of one and keeps its own names. In a pool of several, subjects and recordings are named
``store/subject`` and ``store/recording``, so that equal names in two stores are two people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig, SplitConfig, sha256_json, signal_differences
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import PARTS, SplitManifest, split_subjects, units
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

    def label(self, store_number: int, name: str) -> str:
        """Return a subject's or recording's name in the pool."""
        return name if len(self.stores) == 1 else f"{self.names[store_number]}/{name}"

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
                for other in same[1:]:  # who seemed to be two until now
                    same[0][1].update(other[1])
                    same[0][2].extend(other[2])
                    people.remove(other)
                if same:
                    same[0][1].update(found)
                    same[0][2].append(self.label(number, subject))
                else:
                    people.append((subject, found, [self.label(number, subject)]))
        return [names for _, _, names in people]

    def split(self, config: SplitConfig, before: Sequence[SplitManifest] = ()) -> SplitManifest:
        """Draw train, validation and test people of every store by itself; nobody is on two sides.

        A store divides as it would alone. One that has too few people for all parts is trained on whole, as
        long as another one has somebody to validate.

        Parameters
        ----------
        config : SplitConfig
            Seed, shares and unit.
        before : sequence of SplitManifest
            Of earlier training of the same weights: a store that was in one keeps its parts.

        Raises
        ------
        DataError
            As :func:`split_subjects`, if that holds of every store.
        """
        if len(self.stores) == 1:
            return self._of_store(self.stores[0], config, before)
        parts: dict[str, set[str]] = {part: set() for part in PARTS}
        refused: list[DataError] = []
        for number, store in enumerate(self.stores):
            try:
                own = self._of_store(store, config, before)
            except DataError as error:
                official = config.official and any(info.split is not None for info in store.recordings)
                if official or len(units(store, config.by)) > (config.val > 0) + (config.test > 0):
                    raise
                refused.append(error)
                parts["train"] |= {self.label(number, name) for name in units(store, config.by)}
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

    @staticmethod
    def _of_store(
        store: RecordingStore, config: SplitConfig, before: Sequence[SplitManifest]
    ) -> SplitManifest:
        """Return a store's split: one of before, or a new one."""
        known = (manifest.of_store(store.manifest_sha256) for manifest in before)
        same = [manifest for manifest in known if manifest is not None and manifest.by == config.by]
        return same[0] if same else split_subjects(store, config)

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
            for name in units(store, manifest.by)
        }
        manifest.refuse_unknown(known, where, example="" if len(self.stores) == 1 else min(known))


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


def _refuse_unlike(first: RecordingStore, other: RecordingStore) -> None:
    """Raise a ConfigError that names every difference which forbids to train on both."""
    a, b = to_dict(first.preprocessing), to_dict(other.preprocessing)
    found = signal_differences(a, b)
    if first.preprocessing.amplitude != other.preprocessing.amplitude:
        found.append(("amplitude", first.preprocessing.amplitude, other.preprocessing.amplitude))
    differing = [f"{name} is {one} and {two}" for name, one, two in found]
    if first.preprocessing_version != other.preprocessing_version:
        differing.append(
            f"version of the preprocessing is {first.preprocessing_version} and {other.preprocessing_version}"
        )
    if differing:
        raise ConfigError(
            f"{first.url} and {other.url}: prepared differently: {'; '.join(differing)}; "
            "prepare both with the same options to train on them together"
        )
