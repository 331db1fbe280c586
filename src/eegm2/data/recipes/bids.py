"""Any BIDS data set: labels from events.tsv, attributes from participants.tsv."""

from __future__ import annotations

import csv
import functools
import json
import math
from pathlib import Path
from typing import Any

from eegm2.data.recipes.base import LabelSpan, Recipe, SourceRecording
from eegm2.errors import DataError

_LABEL_COLUMNS = ("trial_type", "value")
_TYPES = {
    "EEG": "eeg",
    "EOG": "eog",
    "VEOG": "eog",
    "HEOG": "eog",
    "ECG": "ecg",
    "EMG": "emg",
    "TRIG": "stim",
}


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a tab-separated file with a header; empty if it is not there.

    Raises
    ------
    DataError
        If it is not text, or a row has more cells than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a table ({error}); save it as UTF-8 text with tabs"
        ) from error
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise DataError(f"{path}: line {number} has more cells than the header; correct it")
    return [{key.strip(): (value or "").strip() for key, value in row.items()} for row in rows]


def read_events(path: Path) -> tuple[LabelSpan, ...]:
    """Return the events of an events.tsv (column trial_type, else value); incomplete rows are left out.

    Raises
    ------
    DataError
        If there is no such column, or a time is not a number.
    """
    rows = read_tsv(path)
    column = next((name for name in _LABEL_COLUMNS if rows and name in rows[0]), None)
    if rows and (column is None or "onset" not in rows[0]):
        raise DataError(
            f"{path}: has columns {', '.join(rows[0])}, "
            f"expected onset, duration and one of {', '.join(_LABEL_COLUMNS)}"
        )
    spans = []
    for number, row in enumerate(rows, start=2):
        label, onset = row[column or ""], row["onset"]
        if label in ("", "n/a") or onset in ("", "n/a"):
            continue
        duration = row.get("duration", "")
        try:
            span = LabelSpan(float(onset), float(duration) if duration not in ("", "n/a") else 0.0, label)
        except ValueError as error:
            raise DataError(f"{path}: line {number}: {error}; times are seconds") from error
        if not math.isfinite(span.onset_s) or not span.duration_s >= 0:
            raise DataError(
                f"{path}: line {number}: onset {onset}, duration {duration}; expected seconds, not negative"
            )
        spans.append(span)
    return tuple(sorted(spans))


def read_with_types(path: Path, channels_tsv: Path) -> Any:
    """Open a recording and set the channel types that its channels.tsv states."""
    from eegm2.data.files.readers import read_raw

    raw = read_raw(path)
    types = {row.get("name", ""): row.get("type", "").upper() for row in read_tsv(channels_tsv)}
    known = {name: _TYPES.get(types[name], "misc") for name in raw.ch_names if types.get(name)}
    if known:
        raw.set_channel_types(known, on_unit_change="ignore", verbose="error")
    return raw


def discover(root: Path) -> list[SourceRecording]:
    """Find the EEG recordings of a BIDS folder."""
    from eegm2.data.files.readers import READERS, companion_files, file_suffix

    people = {row.get("participant_id", ""): row for row in read_tsv(root / "participants.tsv")}
    found = []
    for path in sorted(root.glob("sub-*/**/*_eeg.*")):
        if file_suffix(path) not in READERS or not path.is_file():
            continue
        stem = path.name[: -len(file_suffix(path))].removesuffix("_eeg")
        entities = dict(part.split("-", 1) for part in stem.split("_") if "-" in part)
        subject = f"sub-{entities.get('sub', path.relative_to(root).parts[0].removeprefix('sub-'))}"
        events, channels = path.with_name(f"{stem}_events.tsv"), path.with_name(f"{stem}_channels.tsv")
        problem, labels = None, None
        try:
            labels = read_events(events) if events.is_file() else None
        except DataError as error:
            problem = str(error)
        facts = {key: value for key, value in people.get(subject, {}).items() if key != "participant_id"}
        facts |= {key: entities[key] for key in ("task", "run", "acq") if key in entities}
        found.append(
            SourceRecording(
                recording_id=stem,
                subject=subject,
                session=entities.get("ses", ""),
                path=path,
                labels=labels,
                attributes={key: value for key, value in facts.items() if value not in ("", "n/a")},
                files=tuple(p for p in (events, channels) if p.is_file()) + companion_files(path),
                reader=functools.partial(read_with_types, path, channels) if channels.is_file() else None,
                problem=problem,
            )
        )
    if not found:
        raise DataError(
            f"{root}: a BIDS folder without sub-*/…/*_eeg files that can be read; check the folder"
        )
    return found


def _licence(root: Path) -> str:
    """Return the License of dataset_description.json, "" where it has none that can be read."""
    try:
        described = json.loads((root / "dataset_description.json").read_bytes())
    except (OSError, ValueError):
        return ""
    stated = described.get("License") if isinstance(described, dict) else None
    return stated.strip() if isinstance(stated, str) else ""


RECIPES = (
    Recipe(
        name="bids",
        description="Any BIDS EEG data set; events.tsv gives the labels, participants.tsv the attributes.",
        tree=(
            "dataset_description.json\n"
            "participants.tsv\n"
            "sub-01/[ses-1/]eeg/sub-01_[ses-1_]task-rest_eeg.edf (or .bdf .vhdr .set .fif)\n"
            "sub-01/[ses-1/]eeg/sub-01_[ses-1_]task-rest_events.tsv"
        ),
        licence="the data set's own (dataset_description.json)",
        url="https://bids.neuroimaging.io",
        discover=discover,
        subjects="as the data set",
        matches=lambda root: (root / "dataset_description.json").is_file(),
        licence_of=_licence,
    ),
)
