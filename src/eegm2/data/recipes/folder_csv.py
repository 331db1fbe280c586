"""Any folder of EEG files with one CSV table that says who was recorded and what happened."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from eegm2.data.files.naming import impossible_name
from eegm2.data.files.parts import Found
from eegm2.data.files.tables import Row, read_rows, span_of, with_our_times
from eegm2.data.files.tree import files_below
from eegm2.data.labels import LabelSpan
from eegm2.data.names import composed
from eegm2.data.recipes.arrays import require_folder
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError

TABLE = "labels.csv"
REQUIRED = ("file", "subject")
OPTIONAL = ("session", "label", "onset_s", "duration_s", "split")
SPLITS = ("train", "val", "test")


def discover(root: Path) -> list[SourceRecording]:
    """List the files of the table, then the EEG files the table does not name.

    Parameters
    ----------
    root : Path
        The folder with ``labels.csv``, or the table itself.

    Returns
    -------
    list of SourceRecording
        Sorted. Files that are missing, rows that contradict each other and files not in the table come with a
        `problem` each; the rest is usable.

    Raises
    ------
    DataError
        If there is no table or its header is wrong; a close name is suggested.
    """
    table = root if root.is_file() else root / TABLE
    if not root.is_file():
        require_folder(root, f"a folder with EEG files and {TABLE}")
    from eegm2.data.files.parts import recordings_among

    extra, rows = read_table(table)
    there = {composed(part.path.relative_to(table.parent).as_posix()): part for part in _below(table.parent)}
    found = []
    for name, group in rows.items():
        if impossible_name(name):
            found.append(_recording(table, name, Found(table.parent / "impossible name"), group, extra))
            continue
        wanted = composed(Path(name).as_posix())
        part = there.get(wanted) or next(
            iter(recordings_among([table.parent / name])), Found(table.parent / name)
        )
        found.append(_recording(table, name, part, group, extra))
    listed = {recording.path.resolve() for recording in found}
    for name, part in there.items():
        if part.path.resolve() not in listed:
            problem = f"{part.path}: not named in {table.name}; add a row for it or remove it"
            about = (_identity(name), _identity(name), part.path)
            found.append(SourceRecording(*about, problem=part.problem or problem, claims=part.files))
    return sorted(found, key=lambda recording: recording.recording_id)


def matches(root: Path) -> bool:
    """Tell whether `root` holds ``labels.csv`` with files in it; a table for ``--table`` is none."""
    if not (root / TABLE).is_file():
        return False
    try:
        header, _ = read_rows(root / TABLE)
    except DataError:
        return False
    return bool(set(REQUIRED) & set(header)) and "recording" not in header


def read_table(table: Path) -> tuple[list[str], dict[str, list[Row]]]:
    """Read the table.

    Returns
    -------
    extra : list of str
        Columns that become attributes: those written ``attribute:<name>``.
    rows : dict
        File name to its (line number, values), in the table's order.
    """
    header, lines = with_our_times(table, *read_rows(table))
    extra = _check_header(table, header)
    read_rows(table, ragged=False)
    rows: dict[str, list[Row]] = {}
    for number, row in lines:
        if not row["file"]:
            raise DataError(f"{table}: line {number}: column file is empty")
        rows.setdefault(row["file"], []).append((number, row))
    if not rows:
        raise DataError(f"{table}: no rows below the header")
    return extra, rows


def _check_header(table: Path, header: list[str]) -> list[str]:
    known = (*REQUIRED, *OPTIONAL)
    extra = [name for name in header if name.startswith("attribute:") and name != "attribute:"]
    missing = [name for name in REQUIRED if name not in header]
    for name in header:
        if name in known or name in extra:
            continue
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}, attribute:<name>"
        raise DataError(f"{table}: unknown column '{name}'; {hint}")
    if missing:
        raise DataError(
            f"{table}: column {', '.join(missing)} missing; the header is {','.join(header) or 'empty'}"
        )
    return extra


def _recording(table: Path, name: str, part: Found, rows: list[Row], extra: list[str]) -> SourceRecording:
    path = part.path
    first = rows[0][1]
    recording_id, subject = _identity(name), first["subject"]
    try:
        if problem := impossible_name(name):
            raise DataError(f"{table}: line {rows[0][0]}: file '{name:.80}' {problem}; correct it")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(
                f"{table}: line {rows[0][0]}: file '{name:.80}' leads out of the table's folder; put it there"
            )
        if not path.is_file():
            raise DataError(
                f"{path}: no such file, named in {table.name} line {rows[0][0]}; correct the name or add "
                "the file"
            )
        if not subject:
            raise DataError(f"{table}: line {rows[0][0]}: column subject is empty for {name}")
        for key in ("subject", "session", "split", *extra):
            for number, row in rows[1:]:
                if row.get(key) != first.get(key):
                    raise DataError(
                        f"{table}: line {number}: {key} '{row[key]}' of {name}, but '{first[key]}' in "
                        f"line {rows[0][0]}"
                    )
        if first.get("split", "") not in ("", *SPLITS):
            raise DataError(
                f"{table}: line {rows[0][0]}: split '{first['split']}', expected {', '.join(SPLITS)} or "
                "nothing"
            )
        labels = _labels(table, rows) if "label" in first else None
    except DataError as error:
        return SourceRecording(recording_id, subject or recording_id, path, problem=str(error))
    attributes = {key.removeprefix("attribute:"): first[key] for key in extra if first[key]}
    return SourceRecording(
        recording_id=recording_id,
        subject=subject,
        session=first.get("session", ""),
        path=path,
        labels=labels,
        attributes=attributes,
        split=first.get("split") or None,
        files=part.files,
        problem=part.problem,
    )


def _labels(table: Path, rows: list[Row]) -> tuple[LabelSpan, ...]:
    spans = []
    for number, row in rows:
        if not row["label"]:
            continue
        span = span_of(row, f"{table}: line {number}")
        if span.onset_s < 0:
            raise DataError(f"{table}: line {number}: onset_s '{span.onset_s:g}', expected 0 or more")
        spans.append(span)
    return tuple(sorted(spans))


def _below(folder: Path) -> list[Found]:
    from eegm2.data.files.parts import recordings_among

    return recordings_among(files_below(folder))


def _identity(name: str) -> str:
    """Return a file's identity: its path below the folder without suffix, safe as a file name."""
    if impossible_name(name):
        name = name[:60]
    stem = name[: -len(Path(name).suffix)] if Path(name).suffix else name
    return re.sub(r"[^\w.+-]+", "_", stem, flags=re.UNICODE).strip("._") or "recording"


RECIPES = (
    Recipe(
        name="folder_csv",
        description="Any folder of EEG files with a table labels.csv of subjects and labels",
        tree="""\
labels.csv       file,subject[,session][,label][,onset_s,duration_s][,split][,attribute:<name>...]
any/folders/recording.edf  (.bdf .set .vhdr .fif ...)
several rows of one file are several label spans; without onset_s a label holds for the whole recording""",
        licence="yours",
        url="",
        discover=discover,
        matches=matches,
        declared=True,
        subjects="as the table",
        labels="column label; without that column, the annotations inside the files",
        notes="Columns are checked strictly; attribute:age and the like become attributes (usable as "
        "--target age). An empty duration_s lasts to the end. Files missing or not in the table are "
        "reported and left out.",
    ),
)
