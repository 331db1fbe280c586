"""Writing recordings into a store, each one atomically (`recording_store` has the layout)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from eegm2.config import to_dict
from eegm2.data.config import PREPROCESSING_VERSION, PreprocessingConfig
from eegm2.data.storage import open_storage
from eegm2.data.store.facts import DTYPES, FORMAT, RecordingInfo, file_stem, read_facts, refuse_difference
from eegm2.errors import ConfigError, DataError

_BLOCK_TIMES = 1 << 15


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
            refuse_difference(self.storage.url, read_facts(self.storage), facts)

    def write(self, info: RecordingInfo, array: np.ndarray) -> RecordingInfo:
        """Write one recording and return its facts with the checksum filled in.

        Three syncs: of the samples, of the facts, and of the folder that has both names. Samples are synced
        before the facts that name them exist, so facts never vouch for samples that are not all on the disk.
        Killed in between, the recording is not in the store, or its old version is. After a power cut the
        folder may remember the facts but not the samples; a store then calls the recording damaged, as it
        compares names and sizes when it is opened, and ``eegm2 prepare`` prepares it again.

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
        content = (block.data.cast("B") for block in self._blocks(array))
        self.storage.write(f"recordings/{name}", content, durable=False)
        info = dataclasses.replace(
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
