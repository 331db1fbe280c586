"""Any folder of EEG files with one CSV table that says who was recorded and what happened."""

from __future__ import annotations

import csv
import difflib
import math
import re
from pathlib import Path

from eegm2.data.recipes.arrays import require_folder
from eegm2.data.recipes.base import LabelSpan, Recipe, SourceRecording
from eegm2.errors import DataError

TABLE = "labels.csv"
REQUIRED = ("file", "subject")
OPTIONAL = ("session", "label", "onset_s", "duration_s", "split")
SPLITS = ("train", "val", "test")
Row = tuple[int, dict[str, str]]


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
    extra, rows = read_table(table)
    found = [_recording(table, name, group, extra) for name, group in rows.items()]
    listed = {recording.path.resolve() for recording in found}
    for path in _eeg_files(table.parent):
        if path.resolve() not in listed:
            name = path.relative_to(table.parent).as_posix()
            problem = f"{path}: not named in {table.name}; add a row for it or remove it"
            found.append(SourceRecording(_identity(name), _identity(name), path, problem=problem))
    return sorted(found, key=lambda recording: recording.recording_id)


def matches(root: Path) -> bool:
    """Tell whether `root` holds ``labels.csv``."""
    return (root / TABLE).is_file()


def read_table(table: Path) -> tuple[list[str], dict[str, list[Row]]]:
    """Read the table.

    Returns
    -------
    extra : list of str
        Columns that become attributes: those written ``attribute:<name>``.
    rows : dict
        File name to its (line number, values), in the table's order.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or []]
            extra = _check_header(table, header)
            reader.fieldnames = header
            rows: dict[str, list[Row]] = {}
            for values in reader:
                row = {key: (value or "").strip() for key, value in values.items() if key is not None}
                if None in values or any(value is None for value in values.values()):
                    raise DataError(
                        f"{table}: line {reader.line_num}: not {len(header)} values as in the header"
                    )
                if not row["file"]:
                    raise DataError(f"{table}: line {reader.line_num}: column file is empty")
                rows.setdefault(row["file"], []).append((reader.line_num, row))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{table}: cannot read the table ({reason}); expected CSV in UTF-8") from error
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
    if len(set(header)) != len(header):
        raise DataError(f"{table}: a column is there twice in {','.join(header)}; keep one")
    if "duration_s" in header and "onset_s" not in header:
        raise DataError(
            f"{table}: column duration_s without onset_s; add onset_s (seconds from the first sample)"
        )
    return extra


def _recording(table: Path, name: str, rows: list[Row], extra: list[str]) -> SourceRecording:
    from eegm2.data.files.readers import companion_files

    path = table.parent / name
    first = rows[0][1]
    recording_id, subject = _identity(name), first["subject"]
    try:
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
        files=companion_files(path),
    )


def _labels(table: Path, rows: list[Row]) -> tuple[LabelSpan, ...]:
    spans = []
    for number, row in rows:
        if not row["label"]:
            continue
        onset, duration = row.get("onset_s", ""), row.get("duration_s", "")
        try:
            span = LabelSpan(float(onset or 0), float(duration) if duration else math.inf, row["label"])
        except ValueError as error:
            raise DataError(
                f"{table}: line {number}: onset_s '{onset}', duration_s '{duration}', expected seconds"
            ) from error
        if not (0 <= span.onset_s < math.inf and span.duration_s >= 0):
            raise DataError(
                f"{table}: line {number}: onset_s '{onset}', duration_s '{duration}', expected 0 or more"
            )
        spans.append(span)
    return tuple(sorted(spans))


def _eeg_files(folder: Path) -> list[Path]:
    from eegm2.data.files.readers import has_reader

    return sorted(path for path in folder.rglob("*") if path.is_file() and has_reader(path))


def _identity(name: str) -> str:
    """Return a file's identity: its path below the folder without suffix, safe as a file name."""
    return (
        re.sub(r"[^\w.+-]+", "_", str(Path(name).with_suffix("")), flags=re.UNICODE).strip("._")
        or "recording"
    )


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
        subjects="as the table",
        labels="column label; without that column, the annotations inside the files",
        notes="Columns are checked strictly; attribute:age and the like become attributes (usable as "
        "--target age). An empty duration_s lasts to the end. Files missing or not in the table are "
        "reported and left out.",
    ),
)
