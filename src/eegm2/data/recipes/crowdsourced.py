"""Crowdsourced: eyes open and eyes closed at home, recorded with Emotiv EPOC headsets through EmotivLABS.

The layout inside the OSF project is not described by its authors; this recipe reads what EmotivPRO
exports: one EDF or one CSV per recording, and the marks as ``..._intervalMarker.csv``, as annotations of
the EDF, or in the file's name.
"""

from __future__ import annotations

import csv
import functools
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from eegm2.data.files.tree import files_below
from eegm2.data.labels import LabelSpan
from eegm2.data.recipes.arrays import EPOC14, raw_from_array, require_folder
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

PHASE_S = 120.0
EYES = re.compile(r"eyes?[ _-]*(open|close)", re.IGNORECASE)
EXPORT = re.compile(r"^(?P<stem>.+?)(?P<parts>(\.(md|mc|pm|fe|bp))*)\.(?P<kind>edf|csv)$", re.IGNORECASE)
SUBJECT = re.compile(r"_(EPOC|FLEX)[A-Z0-9+]*_(?P<subject>[^_]+)_\d{4}[.-]", re.IGNORECASE)
MARK_COLUMNS = ("latency", "duration", "type")


def discover(root: Path) -> list[SourceRecording]:
    """Find EmotivPRO exports below `root`; only marker files and the first line of CSV exports are read.

    Raises
    ------
    DataError
        If there is none.
    """
    require_folder(root, "the unpacked OSF project with EmotivPRO exports (*.edf or *.csv)")
    forms: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
    for path in files_below(root):
        name = EXPORT.match(path.name)
        if name is None or path.stem.endswith("_intervalMarker"):
            continue
        if name["kind"].lower() == "csv" and not _is_export(path):
            continue
        worse = (name["kind"].lower() == "csv") + 2 * bool(name["parts"] and name["kind"].lower() == "edf")
        forms.setdefault((path.parent, name["stem"]), []).append((worse, path))
    if not forms:
        raise DataError(
            f"{root}: no EmotivPRO export (*.edf, or *.csv starting with 'title:'); see eegm2 datasets "
            "crowdsourced"
        )
    return sorted(
        (_recording(root, stem, [path for _, path in sorted(same)]) for (_, stem), same in forms.items()),
        key=lambda r: r.recording_id,
    )


def eyes_spans(marks: Iterable[tuple[float, float, str]]) -> tuple[LabelSpan, ...]:
    """Return the spans of eyes open and eyes closed among marks.

    Parameters
    ----------
    marks : iterable of (onset_s, duration_s, text)
        A mark without duration lasts until the next such mark, at most two minutes (the published phase).
    """
    found = []
    for onset_s, duration_s, text in sorted(marks):
        match = EYES.search(text)
        if match:
            found.append((onset_s, duration_s, "eyes_open" if match[1].lower() == "open" else "eyes_closed"))
    ends = [onset_s for onset_s, _, _ in found[1:]] + [math.inf]
    return tuple(
        LabelSpan(onset_s, duration_s or min(PHASE_S, end_s - onset_s), label)
        for (onset_s, duration_s, label), end_s in zip(found, ends, strict=False)
    )


def read_marks(path: Path) -> tuple[LabelSpan, ...]:
    """Read an ``_intervalMarker.csv`` with at least the columns latency, duration and type (seconds).

    Raises
    ------
    DataError
        If a column is missing or a number malformed.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        return eyes_spans((float(row["latency"]), float(row["duration"]), row["type"]) for row in rows)
    except (KeyError, TypeError, ValueError, OSError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot read the marks ({error}); expected columns {', '.join(MARK_COLUMNS)}"
        ) from error


def read_csv_export(path: Path) -> mne.io.BaseRaw:
    """Read an EmotivPRO CSV: a line of ``key:value``, a line of column names, then one line per sample."""
    import numpy as np

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader([file.readline()]))
            columns = [name.strip() for name in next(csv.reader([file.readline()]))]
            rate = next(
                (m for m in (re.search(r"sampl\w*( rate)?:\s*(eeg_)?(\d+)", text) for text in header) if m),
                None,
            )
            wanted = [columns.index(f"EEG.{name}" if f"EEG.{name}" in columns else name) for name in EPOC14]
            values = np.loadtxt(file, delimiter=",", usecols=wanted, ndmin=2)
    except (OSError, StopIteration, ValueError) as error:
        raise DataError(
            f"{path}: not an EmotivPRO export ({error}); expected a line of column names with EEG.AF3 "
            "... EEG.AF4"
        ) from error
    if rate is None:
        raise DataError(
            f"{path}: the first line names no sampling rate, expected 'sampling rate:eeg_128' or "
            "'sampling:128'"
        )
    digits = rate[3] if len(rate[3]) < 10 else "inf"
    return raw_from_array(values.T, EPOC14, float(digits), path)


def read_edf_export(path: Path) -> mne.io.BaseRaw:
    """Read an EmotivPRO EDF; its eyes open and eyes closed annotations become spans, others are dropped."""
    import mne

    from eegm2.data.files.readers import read_raw

    raw = read_raw(path)
    notes = raw.annotations
    spans = eyes_spans(
        zip(notes.onset.tolist(), notes.duration.tolist(), notes.description.tolist(), strict=True)
    )
    texts = [(span.onset_s, span.duration_s, span.label) for span in spans]
    onset, duration, label = zip(*texts, strict=True) if texts else ((), (), ())
    raw.set_annotations(mne.Annotations(onset, duration, label, orig_time=notes.orig_time), verbose="error")
    return raw


def _is_export(path: Path) -> bool:
    """Tell whether a CSV starts as EmotivPRO's do, or cannot be read: then loading it names it."""
    try:
        with path.open("rb") as file:
            return file.read(9).removeprefix(b"\xef\xbb\xbf").lower().startswith(b"title:")
    except OSError:
        return True


def _recording(root: Path, stem: str, forms: list[Path]) -> SourceRecording:
    """Return a recording from the best of its exports."""
    path, *others = forms
    below = path.relative_to(root).parts
    name = SUBJECT.search(stem)
    subject = below[0] if len(below) > 1 else name["subject"] if name else stem
    marks = next(
        (file for file in sorted(path.parent.glob("*_intervalMarker.csv")) if file.name.startswith(stem)),
        None,
    )
    labels, problem = None, None
    if marks is not None:
        try:
            labels = read_marks(marks)
        except DataError as error:
            problem = str(error)
    elif EYES.search(stem):
        labels = tuple(LabelSpan(0.0, math.inf, span.label) for span in eyes_spans([(0.0, math.inf, stem)]))
    reader = read_csv_export if path.suffix.lower() == ".csv" else read_edf_export
    if labels is None and reader is read_csv_export and problem is None:
        labels = ()
    return SourceRecording(
        recording_id="_".join((*below[:-1], stem)),
        subject=subject,
        path=path,
        labels=labels,
        files=(marks,) if marks is not None else (),
        claims=tuple(others),
        reader=functools.partial(reader, path),
        problem=problem,
    )


RECIPES = (
    Recipe(
        name="crowdsourced",
        description="Crowdsourced eyes open / closed: Emotiv EPOC recordings made at home through EmotivLABS",
        tree="""\
any folders with EmotivPRO exports, for instance
<participant>/<title>_EPOCX_<id>_2021.07.10T21.48.59+11.00.edf           14 channels, 128 Hz
<participant>/<title>_EPOCX_<id>_2021.07.10T21.48.59+11.00_intervalMarker.csv
                                   columns latency,duration,type,...: type like Eyes_Open, Eyes_Closed
or <...>.csv exports (first line title:..., second line column names EEG.AF3 ...) in place of the EDF""",
        licence="see the OSF project's page",
        url="https://osf.io/9bvgh/",
        discover=discover,
        preprocessing={"montage": "epoc14", "l_freq_hz": 0.5, "h_freq_hz": 40.0},
        subjects="13 (of 60 recorded)",
        labels="eyes_open, eyes_closed",
        citation="Williams, King, Mackellar, Randeniya, McCormick & Badcock (2022), bioRxiv "
        "2022.02.09.479644",
        notes="ASSUMED, as the project describes no layout: files are EmotivPRO exports; the subject is the "
        "first folder below the one given, or else the field after the headset in the file name; marks "
        "without a duration last until the next one, at most 120 s; a file without marks whose name says "
        "'eyes open' or 'eyes closed' is labelled as a whole. If your copy differs, use the folder_csv "
        "recipe. For the windows prepared by the paper's authors use authors_npy.",
    ),
)
