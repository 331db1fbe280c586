"""The JSON files that eegm2 writes, read back with care: one declaration per file, used by all who read it.

A declaration names the fields and what they hold. `read_record` refuses a file by the name of the first field
that is otherwise; `sound_fields` keeps those that are sound and says what was left out, for reports. Fields
that are not declared are passed on: a newer eegm2 may have written them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eegm2.errors import DataError, EEGM2Error

MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Kind:
    """What a field holds: its name in messages, and the test."""

    name: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Record:
    """A table of fields.

    Parameters
    ----------
    fields : mapping of str to Kind, Record or list
        A list of one element declares a list of such; a field may hold null where it is `maybe`.
    required : tuple of str
        Fields that must be there.
    """

    fields: Mapping[str, Any]
    required: tuple[str, ...] = field(default=())


def _finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**1000


TEXT = Kind("text", lambda value: isinstance(value, str))
WHOLE = Kind("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool) and abs(v) < 2**63)
COUNT = Kind("a count", lambda v: WHOLE.fits(v) and v >= 0)
NUMBER = Kind("a number", _finite)
REAL = Kind("a number", lambda v: isinstance(v, float) or _finite(v))
LENGTH = Kind("a number above 0", lambda v: _finite(v) and 0 < v <= 1e9)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TABLE = Kind("a table", lambda value: isinstance(value, dict))
NAMES = Kind(
    "a list of different names",
    lambda v: (
        isinstance(v, list) and bool(v) and all(isinstance(n, str) and n for n in v) and len(set(v)) == len(v)
    ),
)
TEXTS = Kind("a list of texts", lambda v: isinstance(v, list) and all(isinstance(n, str) for n in v))


def maybe(kind: Kind) -> Kind:
    """Return a kind that also fits null."""
    return Kind(f"{kind.name} or null", lambda value: value is None or kind.fits(value))


def each(kind: Kind) -> Kind:
    """Return the kind of a table all of whose values are of one kind."""
    return Kind(
        f"a table of {kind.name}",
        lambda value: isinstance(value, dict) and all(kind.fits(item) for item in value.values()),
    )


_STORE = {"store": TEXT, "manifest_sha256": TEXT, "n_recordings": COUNT, "n_subjects": COUNT}
STORE = Record({**_STORE, "ch_names": NAMES, "licence": maybe(TEXT)})
DATA = Record({**_STORE, "stores": [STORE]})
"""What a model was trained on; `stores` where they were several."""
HEADER = Record(
    {
        "format": WHOLE,
        "model": TABLE,
        "preprocessing": TABLE,
        "windows": TABLE,
        "ch_names": NAMES,
        "sfreq_hz": LENGTH,
        "data": DATA,
        "pretrain": TABLE,
        "epoch": COUNT,
        "step": COUNT,
        "val_loss": maybe(REAL),
        "versions": each(TEXT),
        "commit": maybe(TEXT),
        "command": maybe(TEXT),
        "init": Record({"model": TEXT, "data": maybe(TABLE), "init": maybe(TABLE)}),
    },
)
"""Header of a checkpoint, and the copy beside it (best.json, last.json)."""

RUN = Record({**HEADER.fields, "run_format": WHOLE, "finished": FLAG})
"""run.json."""

SPLITS = Record(
    {
        "format": WHOLE,
        "train": TEXTS,
        "val": TEXTS,
        "test": TEXTS,
        "seed": WHOLE,
        "by": Kind("subject or recording", lambda value: value in ("subject", "recording")),
        "manifest_sha256": TEXT,
    },
)
"""splits.json, as a report shows it; `SplitManifest.from_json` reads it to be used."""

_QUALITY_LISTS = ("flat_channels", "noisy_channels", "interpolated_channels", "dropped_channels")
_QUALITY_NUMBERS = (
    *("duration_s", "source_sfreq_hz", "low_uv", "high_uv", "typical_uv", "line_noise_ratio", "line_hz"),
    *("clipped_share", "nan_share", "n_chans"),
)
QUALITY = Record(
    {
        **dict.fromkeys(("recording", "subject", "session", "status"), TEXT),
        **dict.fromkeys(("reason", "notes"), maybe(TEXT)),
        **dict.fromkeys(_QUALITY_LISTS, maybe(TEXTS)),
        **dict.fromkeys(_QUALITY_NUMBERS, maybe(NUMBER)),
    },
    ("recording", "status"),
)
"""A row of quality.json; what it holds of a recording is also in the recording's own facts."""

PROTOCOL = Record({"protocol": TEXT, "seed": WHOLE, "metrics": TABLE, "threshold": maybe(NUMBER)})
TASK = Record(
    {
        "kind": TEXT,
        "target": TEXT,
        "classes": TEXTS,
        "n_windows": COUNT,
        "n_subjects": COUNT,
        "parts": TABLE,
        "pretraining_saw": TEXT,
    }
)
SUMMARY = Record(
    {"protocol": TEXT, "metric": TEXT, "mean": maybe(REAL), "std": maybe(REAL), "n_seeds": COUNT}
)
PROBE = Record(
    {"task": TASK, "protocols": [PROTOCOL], "summary": [SUMMARY], "notes": TEXTS, "provenance": TABLE}
)
"""results.json of a probe."""

ROW = Record(
    {
        **dict.fromkeys(("model", "metric", "unit", "split", "kind"), TEXT),
        **dict.fromkeys(("mean", "std", "ci_low", "ci_high"), maybe(REAL)),
        **dict.fromkeys(("n_subjects", "n_recordings", "train_subjects"), maybe(COUNT)),
    }
)
COMPARISON = Record(
    {
        **dict.fromkeys(("a", "b", "metric"), TEXT),
        **dict.fromkeys(("difference", "ci_low", "ci_high", "p"), maybe(REAL)),
        "train_subjects": maybe(COUNT),
        "problem": maybe(TEXT),
    }
)
DETAILS = Record({"comparisons": [COMPARISON], "pretraining_saw": each(TABLE), "failures": each(TEXT)})
"""details.json of an evaluation; results.json of one holds `ROW`."""

CELL = Record(
    {"key": TEXT, "predictions_sha256": TEXT, "result": TABLE, "settings": TABLE}, ("key", "result")
)
"""One cell of an experiment."""

HEAD = Record(
    {
        "format": WHOLE,
        "classes": Kind(NAMES.name, lambda v: v == [] or NAMES.fits(v)),  # none of a value
        "link": Kind("softmax, one-vs-rest or value", lambda v: v in ("softmax", "one-vs-rest", "value")),
        "facts": Record(
            {
                "features": TEXT,
                "window_s": LENGTH,
                "scaling": TEXT,
                "target": TEXT,
                "c": NUMBER,
                "n_windows": COUNT,
                "n_subjects": COUNT,
                **dict.fromkeys(("store_sha256", "model_sha256"), TEXT),
                **dict.fromkeys(("enter", "leave"), NUMBER),
                "validation": TABLE,
            }
        ),
    },
    ("classes", "link", "facts"),
)
"""Header of a classifier head."""

NUMBERS = Kind("a list of numbers", lambda v: isinstance(v, list) and bool(v) and all(map(_finite, v)))
CALIBRATION = Record(
    {
        "format": WHOLE,
        **dict.fromkeys(("person", "device", "method"), TEXT),
        "ch_names": NAMES,
        "preprocessing": TABLE,
        "baseline_s": NUMBER,
        **dict.fromkeys(("offset_uv", "scale_uv"), NUMBERS),
    }
)
"""A person's scale on a device."""


def parse_json(data: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises
    ------
    ValueError
        If it is not JSON, not UTF-8, nested without end, or holds a number of thousands of digits.
    """
    try:
        value = json.loads(data)
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
        if re.search(r"\\ud", text, re.IGNORECASE):
            json.dumps(value, ensure_ascii=False).encode()  # fails for half a character
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def read_json(path: Path) -> Any:
    """Return what a JSON file says; ValueError or OSError where that cannot be known."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    return parse_json(path.read_bytes())


def read_record(
    path: Path, record: Record, error: type[EEGM2Error] = DataError, remedy: str = "take another copy of it"
) -> dict[str, Any]:
    """Return the fields of a file, all of them sound.

    Raises
    ------
    error
        If the file cannot be read, or a field is missing or holds something else; one line that names it.
    """
    try:
        value = read_json(path)
    except OSError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror or reason}); check the file") from reason
    except ValueError as reason:
        raise error(f"{path}: damaged ({reason}); {remedy}") from reason
    return checked(value, record, path, error, remedy)


def checked(
    value: Any,
    record: Record,
    where: object,
    error: type[EEGM2Error],
    remedy: str = "take another copy of it",
) -> dict[str, Any]:
    """Return a table whose declared fields are sound, or raise `error` by the name of one that is not."""
    if problem := _problem(value, record, ""):
        raise error(f"{where}: damaged: {problem}; {remedy}")
    return dict(value)


def sound_fields(value: Any, record: Record) -> tuple[dict[str, Any], list[str]]:
    """Return the fields that are sound, and one phrase for each that was left out.

    Tables inside are treated alike; of a list, elements that are not sound are left out.
    """
    if not isinstance(value, dict):
        return {}, [f"it holds {value!r:.40}, expected a table"] if value is not None else []
    kept, problems = dict(value), []
    for name, kind in record.fields.items():
        if name not in kept:
            continue
        if isinstance(kind, Record):
            kept[name], more = sound_fields(kept[name], kind)
            problems += [f"{name}: {text}" for text in more]
        elif isinstance(kind, list):
            items = kept[name] if isinstance(kept[name], list) else []
            pairs = [sound_fields(item, kind[0]) for item in items if isinstance(item, dict)]
            if len(pairs) != len(items) or items is not kept[name]:
                problems.append(f"{name} is not a list of tables")
            kept[name] = [item for item, _ in pairs]
            problems += [f"{name}: {text}" for _, more in pairs for text in more]
        elif problem := _problem(kept[name], kind, name):
            del kept[name]
            problems.append(problem)
    return kept, problems


def _problem(value: Any, kind: Any, name: str) -> str:
    """Say what is wrong with a value; nothing if it is sound."""
    if isinstance(kind, Kind):
        return "" if kind.fits(value) else f"{name} is {value!r:.60}, expected {kind.name}"
    if isinstance(kind, list):
        if not isinstance(value, list):
            return f"{name} is {value!r:.60}, expected a list"
        return next(
            (text for i, item in enumerate(value) if (text := _problem(item, kind[0], f"{name}[{i}]"))), ""
        )
    if not isinstance(value, dict):
        return f"{name or 'it'} is {value!r:.60}, expected a table"
    prefix = f"{name}." if name else ""
    missing = next((field for field in kind.required if field not in value), None)
    if missing is not None:
        return f"{prefix}{missing} is missing"
    found = (_problem(value[key], inner, prefix + key) for key, inner in kind.fields.items() if key in value)
    return next(filter(None, found), "")
