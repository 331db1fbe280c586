"""The recording store: whole recordings in microvolts, written once, read at any window length.

One folder (or fsspec URL) per store::

    store.json                    format, channels, sampling rate, preprocessing
    recordings/<id>.json          one recording's facts and the checksum of its array
    recordings/<id>-<hash>.raw    its samples, little-endian, time-major: (n_times, n_chans)

Time-major means that a window of all channels is one contiguous stretch: one page run when memory-mapped,
one range request when remote. The name of an array holds its checksum, so writers can never overwrite each
other's samples with different ones; the JSON is written last and makes the recording part of the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.config import from_dict, to_dict
from eegm2.data.config import PREPROCESSING_VERSION, PreprocessingConfig, sha256_json
from eegm2.data.recipes.base import LabelSpan
from eegm2.data.storage import LocalStorage, Storage, open_storage
from eegm2.errors import ConfigError, DataError

FORMAT = 1
DTYPES = ("float32", "float16")
_BLOCK_TIMES = 1 << 15
_OPEN_ARRAYS = 256


@dataclass(frozen=True)
class RecordingInfo:
    """One recording of a store: whose, how long, which labels, where from, how good."""

    id: str
    subject: str
    session: str
    n_times: int
    sfreq_hz: float
    ch_names: tuple[str, ...]
    labels: tuple[LabelSpan, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    source: str = ""
    source_sha256: str = ""
    quality: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    array_sha256: str = ""
    source_stat: tuple[tuple[int, int], ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_times / self.sfreq_hz


def file_stem(recording_id: str) -> str:
    """Return the recording's file name without suffix; unusual characters become ``%XX`` (UTF-8)."""
    safe = re.sub(
        r"[^A-Za-z0-9_.=+-]", lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode()), recording_id
    )
    if not safe or safe.startswith(".") or len(safe) > 180:
        safe = f"id-{safe.strip('.')[:120]}-{hashlib.sha256(recording_id.encode()).hexdigest()[:12]}"
    return safe


class StoreWriter:
    """Writes recordings into a new or existing store, each one atomically.

    Parameters
    ----------
    path_or_url : str or Path
        Folder or fsspec URL.
    preprocessing : PreprocessingConfig
        How the arrays were made; a store holds one preprocessing only.
    ch_names : sequence of str
        Channels of every array, in order.
    dtype : str
        ``float32``, or ``float16`` (half the size; 11 significant bits, at most 65,504 µV).

    Raises
    ------
    ConfigError
        If the store exists with another preprocessing, channels or type; the first difference is named.
    """

    def __init__(
        self,
        path_or_url: str | Path,
        preprocessing: PreprocessingConfig,
        ch_names: Iterable[str],
        *,
        dtype: str = "float32",
    ) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"dtype: got {dtype!r}, expected one of {', '.join(DTYPES)}")
        self.storage = open_storage(path_or_url)
        self.ch_names = tuple(ch_names)
        self.preprocessing = preprocessing
        self.dtype = dtype
        facts = {
            "format": FORMAT,
            "kind": "eegm2 recording store",
            "layout": ["time", "channel"],
            "unit": "uV",
            "dtype": dtype,
            "sfreq_hz": preprocessing.sfreq_hz,
            "ch_names": list(self.ch_names),
            "preprocessing": to_dict(preprocessing),
            "preprocessing_version": PREPROCESSING_VERSION,
        }
        if not self.storage.create("store.json", json.dumps(facts, indent=1).encode()):
            _refuse_difference(self.storage.url, _read_facts(self.storage), facts)

    def write(self, info: RecordingInfo, array: np.ndarray) -> RecordingInfo:
        """Write one recording and return its facts with the checksum filled in.

        Parameters
        ----------
        info : RecordingInfo
            `n_times`, `sfreq_hz`, `ch_names` and `array_sha256` are taken from the array and the store.
        array : ndarray, shape (n_chans, n_times)
            Microvolts.

        Raises
        ------
        DataError
            If the number of channels is not the store's, or a value is not finite (or too large for float16).
        """
        if array.ndim != 2 or array.shape[0] != len(self.ch_names) or array.shape[1] == 0:
            raise DataError(
                f"{info.id}: got an array of shape {array.shape}, "
                f"expected ({len(self.ch_names)} channels, n_times)"
            )
        digest = hashlib.sha256()
        for block in self._blocks(array):
            if not np.isfinite(block).all():
                raise DataError(
                    f"{info.id}: the array holds values that are not finite as {self.dtype}; check its unit"
                )
            digest.update(block.data.cast("B"))
        checksum = digest.hexdigest()
        name = f"{file_stem(info.id)}-{checksum[:16]}.raw"
        self.storage.write(f"recordings/{name}", (block.data.cast("B") for block in self._blocks(array)))
        info = _replace(
            info,
            n_times=int(array.shape[1]),
            sfreq_hz=self.preprocessing.sfreq_hz,
            ch_names=self.ch_names,
            array_sha256=checksum,
        )
        self._commit(info, name)
        return info

    def update(self, info: RecordingInfo) -> None:
        """Replace the facts (labels, attributes …) of a recording whose array stays."""
        self._commit(info, f"{file_stem(info.id)}-{info.array_sha256[:16]}.raw")

    def remove(self, recording_id: str) -> None:
        """Take a recording out of the store."""
        stem = file_stem(recording_id)
        self.storage.remove(f"recordings/{stem}.json")
        for name in self.storage.sizes("recordings"):
            if re.fullmatch(re.escape(stem) + r"-[0-9a-f]{16}\.raw", name):
                self.storage.remove(f"recordings/{name}")

    def _blocks(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the array time-major, a stretch at a time, so that no second copy of it is held."""
        with np.errstate(over="ignore"):
            for start in range(0, array.shape[1], _BLOCK_TIMES):
                yield np.ascontiguousarray(
                    array[:, start : start + _BLOCK_TIMES].T, dtype=np.dtype(self.dtype)
                )

    def _commit(self, info: RecordingInfo, array_name: str) -> None:
        name = f"recordings/{file_stem(info.id)}.json"
        before = self.storage.read_many([name]).get(name)
        facts = to_dict(info)
        facts.pop("ch_names")
        facts["labels"] = [[span.onset_s, span.duration_s, span.label] for span in info.labels]
        facts["array"] = {
            "file": array_name,
            "bytes": info.n_times * len(self.ch_names) * np.dtype(self.dtype).itemsize,
            "sha256": facts.pop("array_sha256"),
        }
        facts["preprocessing_sha256"] = self.preprocessing.sha256()
        self.storage.write(name, [json.dumps(facts, indent=1, allow_nan=False).encode()])
        try:
            old = json.loads(before)["array"]["file"] if before else array_name
        except (ValueError, KeyError, TypeError):
            old = array_name
        if old != array_name and re.fullmatch(
            re.escape(file_stem(info.id)) + r"-[0-9a-f]{16}\.raw", str(old)
        ):
            self.storage.remove(f"recordings/{old}")


class RecordingStore:
    """Reads a store; arrays are memory-mapped where the store is local and read by byte range elsewhere.

    May be handed to worker processes (fork or spawn): files are opened in each process when first needed.

    Parameters
    ----------
    path_or_url : str or Path
        Folder or fsspec URL written by `StoreWriter` (``eegm2 prepare``).

    Attributes
    ----------
    recordings : list of RecordingInfo
        Sorted by id; those that can be used.
    damaged : dict
        Id (or file name) → why a recording cannot be used.

    Raises
    ------
    DataError
        If there is no store, it is of another format, or none of its recordings can be used.
    """

    def __init__(self, path_or_url: str | Path, *, allow_empty: bool = False) -> None:
        self.storage = open_storage(path_or_url)
        facts = _read_facts(self.storage)
        self.url = self.storage.url
        self.dtype = np.dtype(str(facts["dtype"]))
        self.sfreq_hz = float(facts["sfreq_hz"])
        self.ch_names: tuple[str, ...] = tuple(facts["ch_names"])
        where = f"{self.url}/store.json: preprocessing"
        self.preprocessing: PreprocessingConfig = from_dict(
            PreprocessingConfig, facts["preprocessing"], where=where
        )
        self.preprocessing_version = int(facts["preprocessing_version"])
        self.damaged: dict[str, str] = {}
        self._array_names: dict[str, str] = {}
        self._open: OrderedDict[str, np.memmap] = OrderedDict()
        self._process = os.getpid()
        self.recordings = self._scan()
        self._by_id = {info.id: info for info in self.recordings}
        if not self.recordings and not allow_empty:
            first = next(iter(self.damaged.items()), None)
            why = f"; first damaged: {first[0]} ({first[1]})" if first else "; run eegm2 prepare"
            raise DataError(f"{self.url}: the store has no usable recording{why}")

    def __len__(self) -> int:
        return len(self.recordings)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __getitem__(self, recording_id: str) -> RecordingInfo:
        if recording_id not in self._by_id:
            why = self.damaged.get(recording_id, "no such recording")
            raise DataError(f"{self.url}: recording '{recording_id}' cannot be read: {why}")
        return self._by_id[recording_id]

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects, sorted."""
        return tuple(sorted({info.subject for info in self.recordings}))

    @property
    def manifest_sha256(self) -> str:
        """Hash of what the store holds (samples, labels, subjects, preprocessing), however written."""
        return sha256_json(
            {
                "format": FORMAT,
                "dtype": self.dtype.name,
                "ch_names": self.ch_names,
                "preprocessing": self.preprocessing.sha256(),
                "recordings": [
                    {
                        "id": [info.id, info.subject, info.session, info.split],
                        "array": [info.n_times, info.array_sha256],
                        "labels": [[span.onset_s, span.duration_s, span.label] for span in info.labels],
                        "attributes": info.attributes,
                    }
                    for info in self.recordings
                ],
            }
        )

    def read(self, recording_id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return samples [start, stop) of a recording as a new array.

        Returns
        -------
        ndarray of float32, shape (n_chans, stop - start)
            Microvolts.
        """
        return np.array(self.view(recording_id, start, stop).T, dtype=np.float32, order="C")

    def view(self, recording_id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return samples [start, stop) as stored, time-major (n, n_chans); where local, a read-only view.

        Raises
        ------
        DataError
            If the stretch is not inside the recording; the message gives its length.
        """
        info = self[recording_id]
        stop = info.n_times if stop is None else stop
        if not 0 <= start <= stop <= info.n_times:
            raise DataError(
                f"{recording_id}: samples {start}:{stop} are not inside the recording "
                f"of {info.n_times} samples"
            )
        if isinstance(self.storage, LocalStorage):
            return self._mapped(info)[start:stop]
        step = len(self.ch_names) * self.dtype.itemsize
        data = self.storage.read(f"recordings/{self._array_names[info.id]}", start * step, stop * step)
        return np.frombuffer(data, self.dtype).reshape(stop - start, len(self.ch_names))

    def verify(self, recording_ids: Iterable[str] | None = None) -> dict[str, str]:
        """Read arrays whole and compare their checksums; return id → problem for the damaged ones.

        Damaged recordings are taken out of `recordings` of this object; the rest stays usable.
        """
        ids = [info.id for info in self.recordings] if recording_ids is None else list(recording_ids)
        problems = dict(self.damaged) if recording_ids is None else {}
        for recording_id in ids:
            info = self[recording_id]
            digest = hashlib.sha256()
            for start in range(0, info.n_times, 1 << 18):
                block = self.view(recording_id, start, min(start + (1 << 18), info.n_times))
                digest.update(np.ascontiguousarray(block).data.cast("B"))
            if digest.hexdigest() != info.array_sha256:
                found, expected = digest.hexdigest()[:16], info.array_sha256[:16]
                problems[recording_id] = (
                    f"checksum of the samples is {found}…, expected {expected}…; prepare it again"
                )
        self.damaged.update(problems)
        self.recordings = [info for info in self.recordings if info.id not in problems]
        self._by_id = {info.id: info for info in self.recordings}
        return problems

    def _mapped(self, info: RecordingInfo) -> np.ndarray:
        if self._process != os.getpid():  # a forked worker opens its own
            self._open, self._process = OrderedDict(), os.getpid()
        array = self._open.get(info.id)
        if array is None:
            assert isinstance(self.storage, LocalStorage)
            path = self.storage.path / "recordings" / self._array_names[info.id]
            try:
                array = np.memmap(path, self.dtype, "r", shape=(info.n_times, len(self.ch_names)))
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{path}: cannot open the samples ({error}); prepare the recording again"
                ) from error
            self._open[info.id] = array
            if len(self._open) > _OPEN_ARRAYS:
                self._open.popitem(last=False)
        return array

    def _scan(self) -> list[RecordingInfo]:
        sizes = self.storage.sizes("recordings")
        names = [f"recordings/{name}" for name in sorted(sizes) if name.endswith(".json")]
        contents = self.storage.read_many(names)
        found = []
        for name in names:
            stem = name[len("recordings/") : -len(".json")]
            try:
                info, array = _parse(contents[name], self.ch_names, self.sfreq_hz)
                expected = int(array["bytes"])
                if expected != info.n_times * len(self.ch_names) * self.dtype.itemsize:
                    raise ValueError(f"{expected} bytes do not fit {info.n_times} samples")
                size = sizes.get(str(array["file"]))
                if size != expected:
                    state = "is missing" if size is None else f"has {size} bytes, expected {expected}"
                    raise ValueError(f"{array['file']} {state}")
            except (KeyError, TypeError, ValueError) as error:
                self.damaged[stem] = f"{error}; prepare the recording again"
                continue
            self._array_names[info.id] = str(array["file"])
            found.append(info)
        return sorted(found, key=lambda info: info.id)


def _read_facts(storage: Storage) -> dict[str, Any]:
    """Return store.json, checked."""
    try:
        facts = json.loads(storage.read("store.json"))
        number, needed = (
            facts["format"],
            {"dtype", "sfreq_hz", "ch_names", "preprocessing", "preprocessing_version"},
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{storage.url}: not a recording store (no store.json); make one with eegm2 prepare"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{storage.url}/store.json: damaged ({error}); prepare into a new store") from error
    if number != FORMAT or facts["dtype"] not in DTYPES or not needed <= facts.keys():
        raise DataError(
            f"{storage.url}/store.json: format {number!r}, this version reads {FORMAT}; "
            "prepare into a new store"
        )
    return dict(facts)


def _parse(data: bytes, ch_names: tuple[str, ...], sfreq_hz: float) -> tuple[RecordingInfo, dict[str, Any]]:
    """Return a recording's facts and its array's, from its JSON."""
    facts = json.loads(data)
    array = facts.pop("array")
    facts.pop("preprocessing_sha256", None)
    labels = tuple(
        LabelSpan(float(onset), float(duration), str(label)) for onset, duration, label in facts.pop("labels")
    )
    stat = tuple((int(size), int(time)) for size, time in facts.pop("source_stat", ()))
    if float(facts["sfreq_hz"]) != sfreq_hz:
        raise ValueError(f"sampling rate {facts['sfreq_hz']} Hz, the store's is {sfreq_hz} Hz")
    info = RecordingInfo(
        **facts, ch_names=ch_names, labels=labels, source_stat=stat, array_sha256=str(array["sha256"])
    )
    return info, array


def _replace(info: RecordingInfo, **changes: Any) -> RecordingInfo:
    import dataclasses

    return dataclasses.replace(info, **changes)


def _refuse_difference(url: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ConfigError naming the first difference between an existing store and the one asked for."""
    for key in ("preprocessing_version", "dtype"):
        if found[key] != wanted[key]:
            raise ConfigError(
                f"{url}: the store has {key} {found[key]!r}, asked for {wanted[key]!r}; use another --out"
            )
    for key, value in wanted["preprocessing"].items():
        there = found["preprocessing"].get(key)
        if there != value:
            raise ConfigError(
                f"{url}: the store was prepared with {key} = {there!r}, asked for {value!r}; "
                "use the same options or another --out"
            )
    if list(found["ch_names"]) != list(wanted["ch_names"]):
        raise ConfigError(
            f"{url}: the store has channels {' '.join(found['ch_names'])}, "
            f"asked for {' '.join(wanted['ch_names'])}; use another --out"
        )
