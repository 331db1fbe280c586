"""Any BIDS data set: labels from events.tsv, attributes from participants.tsv, channels from channels.tsv."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eegm2.data.channels import canonical
from eegm2.data.files.tables import Row, read_rows, seconds
from eegm2.data.labels import LabelSpan
from eegm2.data.names import composed, shown
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError
from eegm2.records import parse_json

_LABEL_COLUMNS = ("trial_type", "value")
_NOTHING = ("", "n/a", "N/A", "nan", "NaN")
_TYPES = {
    "EEG": "eeg", "EOG": "eog", "VEOG": "eog", "HEOG": "eog", "ECG": "ecg", "EMG": "emg", "TRIG": "stim",
    "SEEG": "seeg", "ECOG": "ecog", "DBS": "dbs", "BIO": "bio", "RESP": "resp", "GSR": "gsr",
    "TEMP": "temperature", "EYEGAZE": "eyegaze", "PUPIL": "pupil",
}  # fmt: skip
"""BIDS' types of channels → MNE's; all others are ``misc``."""
_KEPT_APART = {
    "derivatives": "processed data",
    "sourcedata": "data before conversion",
    "code": "programs",
    "stimuli": "stimuli",
}
_MODALITIES = ("meg", "ieeg", "nirs", "motion", "physio", "emg")


def read_tsv(path: Path) -> list[Row]:
    """Return the rows of a tab-separated file with their lines; empty if it is not there or has no rows.

    Raises
    ------
    DataError
        If it is not text, or a row has more cells than the header.
    """
    if not path.is_file() or not path.read_bytes().strip():
        return []
    return read_rows(path, "\t")[1]


def applying(path: Path, root: Path, suffix: str) -> Path | None:
    """Return the side file that applies to a recording, by BIDS' rule of inheritance.

    It lies beside the recording or in a folder above, up to the data set's; every entity of its name is one
    of the recording's. The nearest folder wins, in it the name with the most entities.

    Parameters
    ----------
    path : Path
        A recording.
    root : Path
        The data set.
    suffix : str
        Ending of the side file's name, such as ``events.tsv``.
    """
    own = set(_entities(path.name))
    folder = path.parent
    while True:
        fits = []
        for candidate in folder.glob(f"*{suffix}"):
            parts = candidate.name[: -len(suffix)].split("_")[:-1]
            entities = _entities("_".join(parts))
            whole = candidate.name == suffix or candidate.name.endswith(f"_{suffix}")
            if whole and len(entities) == len(parts) and set(entities) <= own and candidate.is_file():
                fits.append((len(entities), candidate.name, candidate))
        if fits:
            return max(fits)[2]
        if folder == root or root not in folder.parents:
            return None
        folder = folder.parent


def _entities(name: str) -> list[tuple[str, str]]:
    """Return the entities of a file name, such as ``("task", "rest")``."""
    return [(key, value) for part in name.split("_") if "-" in part for key, value in [part.split("-", 1)]]


def read_events(path: Path, column: str = "") -> tuple[tuple[LabelSpan, ...], tuple[str, ...]]:
    """Return the events of an events.tsv, and notes on what was left out or may be meant otherwise.

    Parameters
    ----------
    path : Path
    column : str
        Where the labels are; empty: ``trial_type``, or ``value`` where that says nothing.

    Raises
    ------
    DataError
        If there is no such column, or a time is not a number.
    """
    rows = read_tsv(path)
    if not rows:
        return (), ()
    chosen = _label_column(path, rows, column)
    spans, lost = [], 0
    for number, row in rows:
        label, onset = row[chosen], row["onset"]
        if label in _NOTHING or onset in _NOTHING:
            lost += 1
            continue
        spans.append(_event(label, onset, row.get("duration", ""), f"{path}: line {number}"))
    notes = (
        [f"{lost} of {len(rows)} events of {path.name} have no onset or no {chosen} and are left out"]
        if lost
        else []
    )
    notes += _other_codes(path, rows, chosen) if not column else []
    return tuple(sorted(spans)), tuple(notes)


def _event(label: str, onset: str, duration: str, where: str) -> LabelSpan:
    span = LabelSpan(
        seconds(onset, where), seconds(duration, where) if duration not in _NOTHING else 0.0, label
    )
    if not math.isfinite(span.onset_s) or not span.duration_s >= 0:
        raise DataError(f"{where}: onset {onset}, duration {duration}; expected seconds, not negative")
    return span


def _label_column(path: Path, rows: Sequence[Row], wanted: str) -> str:
    """Return the column with the labels: the one asked for, or the first usual one that says something."""
    columns = list(rows[0][1])
    there = [name for name in ((wanted,) if wanted else _LABEL_COLUMNS) if name in columns]
    if "onset" not in columns or not there:
        expected = wanted or f"one of {', '.join(_LABEL_COLUMNS)}"
        raise DataError(
            f"{path}: has columns {', '.join(columns)}, expected onset, duration and {expected}; "
            "choose the column of the labels with --label-column"
        )
    return next((name for name in there if any(row[name] not in _NOTHING for _, row in rows)), there[0])


def _other_codes(path: Path, rows: Sequence[Row], chosen: str) -> list[str]:
    """Return a note where another column tells events of one label apart."""
    if chosen != "trial_type" or "value" not in rows[0][1]:
        return []
    codes: dict[str, set[str]] = {}
    for _, row in rows:
        if row["trial_type"] not in _NOTHING and row["value"] not in _NOTHING:
            codes.setdefault(row["trial_type"], set()).add(row["value"])
    for label, values in sorted(codes.items()):
        if len(values) > 1:
            some = " ".join(sorted(values)[:6])
            return [
                f"{path.name}: trial_type '{label}' stands for {len(values)} codes in the column value "
                f"({some}); --label-column value takes those"
            ]
    return []


def read_with_types(path: Path, channels_tsv: Path) -> Any:
    """Open a recording with the channel types and the bad channels that its channels.tsv states."""
    from eegm2.data.files.readers import read_raw
    from eegm2.data.files.said import ReadingWarning

    raw = read_raw(path)
    rows = {row.get("name", ""): row for _, row in read_tsv(channels_tsv)}
    theirs = _by_name(raw.ch_names)
    stated = {theirs[key]: row for name, row in rows.items() if (key := _key(name, theirs)) is not None}
    types = {name: row.get("type", "").upper() for name, row in stated.items()}
    types = {name: _TYPES.get(kind, "misc") for name, kind in types.items() if kind not in ("", "N/A")}
    if types:
        raw.set_channel_types(types, on_unit_change="ignore", verbose="error")
    bad = [name for name, row in stated.items() if row.get("status", "").lower() == "bad"]
    raw.info["bads"] = list(dict.fromkeys([*raw.info["bads"], *bad]))
    strange = [name for name in rows if name and _key(name, theirs) is None]
    if strange:
        warnings.warn(
            f"{channels_tsv.name} names channels that the recording lacks: {' '.join(strange)}",
            ReadingWarning,
            stacklevel=2,
        )
    return raw


def _by_name(ch_names: Sequence[str]) -> dict[str, str]:
    """Return a recording's channels by their names, and by their canonical names where these differ."""
    ours = [canonical(name) for name in ch_names]
    found = {key: name for key, name in zip(ours, ch_names) if ours.count(key) == 1}
    return found | {composed(name): name for name in ch_names}


def _key(name: str, theirs: Mapping[str, str]) -> str | None:
    """Return the key by which a channel of channels.tsv is known; data sets write ``AF3`` for ``EEG AF3``."""
    return next((key for key in (composed(name), canonical(name)) if key in theirs), None)


def discover(root: Path, label_column: str = "") -> list[SourceRecording]:
    """Find the EEG recordings of a BIDS folder.

    Parameters
    ----------
    root : Path
    label_column : str
        Column of events.tsv with the labels; empty: ``trial_type``, else ``value``.
    """
    from eegm2.data.files.formats import stem
    from eegm2.data.files.parts import recordings_among
    from eegm2.data.files.tree import files_below

    people = {row.get("participant_id", ""): row for _, row in read_tsv(root / "participants.tsv")}
    ours = [
        path
        for path in files_below(root)
        if path.relative_to(root).parts[0].startswith("sub-") and stem(path).endswith("_eeg")
    ]
    found = []
    for part in recordings_among(ours):
        name = stem(part.path).removesuffix("_eeg")
        entities = dict(_entities(name))
        label = entities.get("sub", part.path.relative_to(root).parts[0].removeprefix("sub-"))
        subject = composed(shown(f"sub-{label}"))
        events = applying(part.path, root, "events.tsv")
        channels = applying(part.path, root, "channels.tsv")
        problem, labels = part.problem, None
        notes: tuple[str, ...] = ()
        try:
            if events is not None:
                labels, notes = read_events(events, label_column)
        except DataError as error:
            problem = problem or str(error)
        about = people.get(subject) or people.get(label) or {}
        facts = {key: value for key, value in about.items() if key != "participant_id"}
        facts |= {key: entities[key] for key in ("task", "run", "acq") if key in entities}
        if label_column and events is None:
            notes = (f"no events.tsv, so no labels from its column {label_column}",)
        found.append(
            SourceRecording(
                recording_id=shown(
                    "_".join(p for p in name.split("_") if not (part.files and p.startswith("split-")))
                ),
                subject=subject,
                session=entities.get("ses", ""),
                path=part.path,
                labels=labels,
                attributes={key: value for key, value in facts.items() if value not in _NOTHING},
                files=tuple(p for p in (events, channels) if p is not None) + part.files,
                reader=functools.partial(read_with_types, part.path, channels) if channels else None,
                notes=notes,
                problem=problem,
            )
        )
    if not found:
        raise DataError(
            f"{root}: a BIDS folder without sub-*/…/*_eeg files that can be read; check the folder, "
            "or read it as plain files with --recipe folder"
        )
    return _with_absent(found, people)


def _with_absent(found: list[SourceRecording], people: Iterable[str]) -> list[SourceRecording]:
    """Return the recordings, the first with a note where participants.tsv names people who have none."""
    have = {source.subject for source in found} | {source.subject.removeprefix("sub-") for source in found}
    absent = sorted(name for name in people if name and name not in have)
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        note = f"participants.tsv names people without a recording: {', '.join(absent[:5])}{more}"
        found[0] = dataclasses.replace(found[0], notes=(*found[0].notes, note))
    return found


def outside(relative: Path) -> str:
    """Return why a file that could be read is no recording of the data set; empty for the usual reason."""
    first = relative.parts[0]
    if first in _KEPT_APART:
        return (
            f"below {first}/, where BIDS keeps {_KEPT_APART[first]}; prepare that folder by itself to use it"
        )
    for kind in _MODALITIES:
        if relative.name.rpartition(".")[0].endswith(f"_{kind}"):
            return f"a recording of another modality (_{kind})"
    return "outside sub-*/…/*_eeg.*, where BIDS has EEG; rename it, or --recipe folder takes all"


def _licence(root: Path) -> str:
    """Return the License of dataset_description.json, "" where it has none that can be read."""
    try:
        described = parse_json((root / "dataset_description.json").read_bytes())
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
            "sub-01/[ses-1/]eeg/sub-01_[ses-1_]task-rest_events.tsv, _channels.tsv, or in a folder above"
        ),
        licence="the data set's own (dataset_description.json)",
        url="https://bids.neuroimaging.io",
        discover=discover,
        subjects="as the data set",
        labels="column trial_type of events.tsv, or value where that says nothing; or --label-column",
        matches=lambda root: (root / "dataset_description.json").is_file(),
        declared=True,
        options=("label_column",),
        outside=outside,
        licence_of=_licence,
    ),
)
