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
import os
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.config import from_dict
from eegm2.data.config import PreprocessingConfig, sha256_json
from eegm2.data.labels import LabelSpan
from eegm2.data.signal.quality import typical_amplitude
from eegm2.data.storage import LocalStorage, open_storage
from eegm2.data.store.facts import FORMAT, RecordingInfo, file_stem, parse_recording, read_facts
from eegm2.data.store.writer import StoreWriter
from eegm2.errors import DataError
from eegm2.records import parse_json

__all__ = ["LabelSpan", "RecordingInfo", "RecordingStore", "StoreWriter"]

_OPEN_ARRAYS = 256


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
        facts = read_facts(self.storage)
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
        self._typical_uv: dict[str, float] = {}
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
    def licence(self) -> str:
        """Terms of the recordings as their source stated them when they were prepared; "" if unknown."""
        try:
            report = parse_json(self.storage.read("prepare_report.json"))
        except (OSError, ValueError):
            return ""
        stated = report.get("licence") if isinstance(report, dict) else None
        return stated if isinstance(stated, str) else ""

    @property
    def manifest_sha256(self) -> str:
        """Hash of what the store holds (samples, labels, subjects, preprocessing), however written."""
        return sha256_json(
            {
                "format": FORMAT,
                "dtype": self.dtype.name,
                "ch_names": self.ch_names,
                "preprocessing": self.preprocessing.sha256(self.preprocessing_version),
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

    def typical_uv(self, recording_id: str) -> float:
        """Return a recording's typical amplitude in µV, as measured while it was prepared, or measured now.

        The median over channels of 1.4826 times the median absolute deviation.
        """
        known = self[recording_id].quality.get("typical_uv")
        if isinstance(known, int | float) and known > 0:
            return float(known)
        if recording_id not in self._typical_uv:
            self._typical_uv[recording_id] = typical_amplitude(self.read(recording_id))
        return self._typical_uv[recording_id]

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
                info, array = parse_recording(contents[name], self.ch_names, self.sfreq_hz)
                if file_stem(info.id) != stem:
                    raise ValueError(f"it claims to be recording '{info.id:.80}'")
                expected = int(array["bytes"])
                if expected != info.n_times * len(self.ch_names) * self.dtype.itemsize:
                    raise ValueError(f"{expected} bytes do not fit {info.n_times} samples")
                size = sizes.get(str(array["file"]))
                if size != expected:
                    state = "is missing" if size is None else f"has {size} bytes, expected {expected}"
                    raise ValueError(f"{array['file']} {state}")
            except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
                self.damaged[stem] = f"{error}; prepare the recording again"
                continue
            self._array_names[info.id] = str(array["file"])
            found.append(info)
        return sorted(found, key=lambda info: info.id)
