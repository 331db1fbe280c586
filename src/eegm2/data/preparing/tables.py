"""A user's own table of subjects, labels and facts, joined to the recordings that were found."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from eegm2.data.recipes.base import LabelSpan, SourceRecording
from eegm2.errors import DataError

RESERVED = ("recording", "subject", "session", "split", "onset_s", "duration_s", "label")


def apply_table(
    sources: Sequence[SourceRecording], path: str | Path, root: Path
) -> tuple[list[SourceRecording], list[str]]:
    """Return the recordings with what a CSV says of them, and messages about what did not fit.

    The column ``recording`` names a recording by its id, its path below `root`, its file name or that without
    suffix. ``subject``, ``session`` and ``split`` replace what was found; ``label`` with ``onset_s`` and
    ``duration_s`` (without them: the whole recording) replaces the labels, also in several rows;
    all other columns become attributes.

    Raises
    ------
    DataError
        If the file cannot be read, lacks the column ``recording``, a time is not a number, or two rows say
        different things of one recording's subject, session or split.
    """
    rows = _read(Path(path))
    names: dict[str, set[int]] = {}
    for place, source in enumerate(sources):
        relative = (
            source.path.relative_to(root).as_posix() if source.path.is_relative_to(root) else source.path.name
        )
        for name in (source.recording_id, relative, source.path.name, source.path.name.split(".")[0]):
            names.setdefault(name, set()).add(place)
    changed = list(sources)
    spans: dict[int, list[LabelSpan]] = {}
    told: dict[int, tuple[int, dict[str, str]]] = {}
    messages, seen = [], set()
    for number, row in enumerate(rows, start=2):
        places = names.get(row["recording"], set())
        if len(places) != 1:
            what = (
                "fits no recording"
                if not places
                else f"fits {len(places)} recordings; give the path below the folder"
            )
            messages.append(f"{path}: line {number}: '{row['recording']}' {what}")
            continue
        (place,) = places
        seen.add(place)
        facts = {key: value for key, value in row.items() if key not in RESERVED and value not in ("", "n/a")}
        given = {key: row[key] for key in ("subject", "session", "split") if row.get(key)}
        if given.get("split", "train") not in ("train", "val", "test"):
            raise DataError(
                f"{path}: line {number}: split: got '{given['split']}', expected train, val or test"
            )
        earlier = told.setdefault(place, (number, given))
        for key in given.keys() & earlier[1].keys():
            if given[key] != earlier[1][key]:
                raise DataError(
                    f"{path}: line {number}: {key} of '{row['recording']}' is '{given[key]}', "
                    f"line {earlier[0]} says '{earlier[1][key]}'; correct one of them"
                )
        attributes = {**changed[place].attributes, **facts}
        changed[place] = dataclasses.replace(changed[place], attributes=attributes, **given)  # type: ignore[arg-type]
        if row.get("label", "") not in ("", "n/a"):
            spans.setdefault(place, []).append(_span(row, f"{path}: line {number}"))
    for place, of_recording in spans.items():
        changed[place] = dataclasses.replace(changed[place], labels=tuple(sorted(of_recording)))
    divided = _in_several_splits(changed)
    if divided:
        messages.append(
            f"{path}: subjects in more than one split: {', '.join(divided)}; "
            "keep each in one, or training will refuse the split (--no-official draws another)"
        )
    without = [source.recording_id for place, source in enumerate(sources) if place not in seen]
    if without:
        messages.append(f"{path}: no row for {len(without)} recordings: {', '.join(without)}")
    return changed, messages


def _in_several_splits(sources: list[SourceRecording]) -> list[str]:
    """Return the subjects whose recordings are in more than one split, and in which."""
    splits: dict[str, set[str]] = {}
    for source in sources:
        if source.split:
            splits.setdefault(source.subject, set()).add(source.split)
    return [
        f"{name} ({', '.join(sorted(parts))})" for name, parts in sorted(splits.items()) if len(parts) > 1
    ]


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}); save it as UTF-8 CSV") from error
    if not rows or "recording" not in rows[0]:
        found = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise DataError(f"{path}: has {found}; expected a header with the column recording, and rows")
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise DataError(f"{path}: line {number} has more cells than the header; correct it")
    return [{key.strip(): (value or "").strip() for key, value in row.items()} for row in rows]


def _span(row: dict[str, str], where: str) -> LabelSpan:
    try:
        span = LabelSpan(
            float(row.get("onset_s") or 0), float(row.get("duration_s") or math.inf), row["label"]
        )
    except ValueError as error:
        raise DataError(f"{where}: {error}; times are seconds") from error
    if not math.isfinite(span.onset_s) or not span.duration_s >= 0:
        raise DataError(
            f"{where}: onset_s {span.onset_s}, duration_s {span.duration_s}; expected seconds, not negative"
        )
    return span
