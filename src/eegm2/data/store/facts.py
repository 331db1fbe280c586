"""The facts of a stored recording and of a store, and how they are written as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from dataclasses import dataclass, field
from typing import Any

from eegm2.config import from_dict
from eegm2.data.config import ADDED_LATER
from eegm2.data.labels import LabelSpan
from eegm2.data.storage import Storage
from eegm2.errors import ConfigError, DataError
from eegm2.records import LENGTH, QUALITY, TABLE, TEXTS, WHOLE, Kind, Record, checked, parse_json

FORMAT = 1
DTYPES = ("float32", "float16")
_STORE = Record(
    {
        "ch_names": Kind("a list of names", lambda names: bool(names) and TEXTS.fits(names)),
        "sfreq_hz": LENGTH,
        "preprocessing": TABLE,
        "preprocessing_version": WHOLE,
    }
)


@dataclass(frozen=True)
class RecordingInfo:
    """One recording of a store: whose, how long, which labels, where from, how good.

    `source_stat` is size and time of all files it was read from; `source_files` names those of them that only
    reading found, below the data set's folder.
    """

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
    source_files: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_times / self.sfreq_hz


def file_stem(recording_id: str) -> str:
    """Return a recording's file name without suffix; unusual characters become ``%XX`` (UTF-8)."""
    safe = re.sub(
        r"[^A-Za-z0-9_.=+-]", lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode()), recording_id
    )
    if not safe or safe.startswith(".") or len(safe) > 180:
        safe = f"id-{safe.strip('.')[:120]}-{hashlib.sha256(recording_id.encode()).hexdigest()[:12]}"
    return safe


def read_facts(storage: Storage) -> dict[str, Any]:
    """Return store.json, checked."""
    try:
        facts = parse_json(storage.read("store.json"))
        number, needed = facts["format"], {"dtype", *_STORE.fields}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{storage.url}: not a recording store (no store.json); make one with eegm2 prepare"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{storage.url}/store.json: damaged ({error}); prepare into a new store") from error
    if number != FORMAT or not needed <= facts.keys() or facts["dtype"] not in DTYPES:
        raise DataError(
            f"{storage.url}/store.json: format {number!r}, this version reads {FORMAT}; "
            "prepare into a new store"
        )
    return checked(facts, _STORE, f"{storage.url}/store.json", DataError, "prepare into a new store")


def _is_number(value: Any) -> bool:
    """Return whether a value from JSON is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**53


def parse_recording(
    data: bytes, ch_names: tuple[str, ...], sfreq_hz: float
) -> tuple[RecordingInfo, dict[str, Any]]:
    """Return a recording's facts and its array's, from its JSON.

    Raises
    ------
    ValueError, KeyError, TypeError
        If something is missing, of the wrong type or no finite number.
    """
    facts = parse_json(data)
    if not isinstance(facts, dict):
        raise ValueError(f"holds {facts!r:.40}, expected a table")
    array = facts.pop("array")
    facts.pop("preprocessing_sha256", None)
    labels = []
    for onset, duration, label in facts.pop("labels"):
        if not (_is_number(onset) and _is_number(duration) and isinstance(label, str)):
            raise ValueError(
                f"a label is {[onset, duration, label]!r:.80}, expected onset, duration and text"
            )
        labels.append(LabelSpan(float(onset), float(duration), label))
    stat = tuple((int(size), int(time)) for size, time in facts.pop("source_stat", ()))
    if facts["sfreq_hz"] != sfreq_hz:
        raise ValueError(f"sampling rate {facts['sfreq_hz']!r:.40} Hz, the store's is {sfreq_hz} Hz")
    given = {key: value for key, value in facts.items() if key not in ("ch_names", "array_sha256")}
    info = from_dict(RecordingInfo, {**given, "ch_names": ch_names}, where="its facts")
    if info.n_times < 1 or info.split not in (None, "train", "val", "test"):
        raise ValueError(f"n_times is {info.n_times!r:.40} and split {info.split!r:.40}")
    checked(info.quality, Record(QUALITY.fields), "quality", DataError, "prepare the recording again")
    if not all(isinstance(value, str) for value in info.attributes.values()):
        raise ValueError("attributes hold something else than text")
    if not _is_number(array["bytes"]) or not isinstance(array["file"], str):
        raise ValueError(f"array is {array!r:.80}")
    info = dataclasses.replace(
        info, labels=tuple(labels), source_stat=stat, array_sha256=str(array["sha256"])
    )
    return info, array


def refuse_difference(url: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ConfigError naming the first difference between an existing store and the one asked for."""
    for key in ("preprocessing_version", "dtype"):
        if found[key] != wanted[key]:
            raise ConfigError(
                f"{url}: the store has {key} {found[key]!r}, asked for {wanted[key]!r}; use another --out"
            )
    for key, value in wanted["preprocessing"].items():
        there = found["preprocessing"].get(key, ADDED_LATER.get(key))
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
