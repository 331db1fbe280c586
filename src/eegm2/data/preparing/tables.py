"""A user's own table of subjects, labels and facts, joined to the recordings that were found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from eegm2.data.files.tables import RESERVED, Row, read_rows, span_of, with_our_times
from eegm2.data.labels import LabelSpan
from eegm2.data.names import composed, shown
from eegm2.data.recipes.base import SourceRecording
from eegm2.errors import DataError


def apply_table(
    sources: Sequence[SourceRecording], path: str | Path, root: Path
) -> tuple[list[SourceRecording], list[str], set[str]]:
    """Return the recordings with what a table says of them, messages, and the ids whose subject it names.

    The column ``recording`` (or ``file``) names a recording by its id, its path below `root`, its file name
    or that without suffix. ``subject``, ``session`` and ``split`` replace what was found; ``label`` with
    ``onset_s`` and ``duration_s`` (without them: the whole recording) replaces the labels, also in several
    rows; all other columns become attributes.

    Raises
    ------
    DataError
        If the file cannot be read, lacks the column ``recording``, a time is not a number, or two rows say
        different things of one recording's subject, session or split.
    """
    path = Path(path)
    rows = _own_rows(path)
    names = _names(sources, root)
    changed = list(sources)
    spans: dict[int, list[LabelSpan]] = {}
    told: dict[int, tuple[int, dict[str, str]]] = {}
    messages, seen = [], set()
    for number, row in rows:
        places = names.get(composed(row["recording"]), set())
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
        changed[place] = _with_facts(changed[place], row, told, place, f"{path}: line {number}")
        if row.get("label", "") not in ("", "n/a"):
            spans.setdefault(place, []).append(span_of(row, f"{path}: line {number}"))
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
    named = {sources[place].recording_id for place, (_, given) in told.items() if "subject" in given}
    return changed, messages, named


def _with_facts(
    source: SourceRecording,
    row: dict[str, str],
    told: dict[int, tuple[int, dict[str, str]]],
    place: int,
    where: str,
) -> SourceRecording:
    """Return a recording with a row's subject, session, split and attributes; refuse contradictions."""
    facts = {
        key.removeprefix("attribute:"): value
        for key, value in row.items()
        if key not in RESERVED and value not in ("", "n/a")
    }
    given = {key: row[key] for key in ("subject", "session", "split") if row.get(key)}
    if given.get("split", "train") not in ("train", "val", "test"):
        raise DataError(f"{where}: split: got '{given['split']}', expected train, val or test")
    number = int(where.rpartition(" ")[2])
    earlier = told.setdefault(place, (number, given))
    for key in given.keys() & earlier[1].keys():
        if given[key] != earlier[1][key]:
            raise DataError(
                f"{where}: {key} of '{row['recording']}' is '{given[key]}', "
                f"line {earlier[0]} says '{earlier[1][key]}'; correct one of them"
            )
    return dataclasses.replace(source, attributes={**source.attributes, **facts}, **given)  # type: ignore[arg-type]


def _names(sources: Sequence[SourceRecording], root: Path) -> dict[str, set[int]]:
    """Return every name by which a table may mean a recording, and which recordings that are."""
    names: dict[str, set[int]] = {}
    for place, source in enumerate(sources):
        file = source.path
        relative = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
        for name in (source.recording_id, relative, file.name, file.name.split(".")[0]):
            names.setdefault(composed(shown(name)), set()).add(place)
    return names


def _in_several_splits(sources: list[SourceRecording]) -> list[str]:
    """Return the subjects whose recordings are in more than one split, and in which."""
    splits: dict[str, set[str]] = {}
    for source in sources:
        if source.split:
            splits.setdefault(source.subject, set()).add(source.split)
    return [
        f"{name} ({', '.join(sorted(parts))})" for name, parts in sorted(splits.items()) if len(parts) > 1
    ]


def _own_rows(path: Path) -> list[Row]:
    """Return the rows of a table for ``--table``, its columns under our names."""
    header, rows = read_rows(path)
    ours = {name: name.lower() if name.lower() in RESERVED else name for name in header}
    if "recording" not in ours.values():
        ours |= {name: "recording" for name in header if name.lower() in ("file", "filename")}
    rows = [(number, {ours[name]: cell for name, cell in row.items()}) for number, row in rows]
    header = [ours[name] for name in header]
    names, rows = with_our_times(path, header, rows)
    if "recording" not in names or not rows:
        found = ", ".join(header) if rows else "no rows"
        raise DataError(f"{path}: has {found}; expected a header with the column recording, and rows")
    if "onset_s" in names and "label" not in names:
        raise DataError(
            f"{path}: has times but no column label (found {', '.join(header)}); add or rename it"
        )
    return rows
