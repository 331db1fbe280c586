"""TUEV, the TUH EEG Events Corpus: six kinds of events, marked per channel."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

from eegm2.data.files.formats import file_suffix
from eegm2.data.files.tree import files_below
from eegm2.data.labels import LabelSpan
from eegm2.data.recipes.arrays import require_folder
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError

SPLITS = {"train": "train", "eval": "test"}
EVENTS = {1: "spsw", 2: "gped", 3: "pled", 4: "eyem", 5: "artf", 6: "bckg"}
TRAIN_NAME = re.compile(r"^(?P<subject>[A-Za-z]+)_(?P<number>\d+)$")


def discover(root: Path) -> list[SourceRecording]:
    """Find the recordings of a TUEV tree; only the small ``.rec`` files are read.

    Parameters
    ----------
    root : Path
        The folder that holds ``edf/``, or ``edf/`` itself.

    Raises
    ------
    DataError
        If no recording of the layout is there. A recording whose ``.rec`` is missing or malformed is returned
        with its `problem`, which names the file and the line.
    """
    require_folder(root, "the TUEV folder that holds edf/train and edf/eval")
    edf = root / "edf" if (root / "edf").is_dir() else root
    found = [
        _recording(path, split)
        for folder, split in SPLITS.items()
        for path in files_below(edf / folder)
        if file_suffix(path) == ".edf"
    ]
    if not found:
        raise DataError(f"{root}: no recording in edf/{{train,eval}}/<subject>/; see eegm2 datasets tuev")
    return sorted(found, key=lambda recording: recording.recording_id)


def matches(root: Path) -> bool:
    """Tell whether the first subject folder of `root` has ``.rec`` event files."""
    edf = root / "edf" if (root / "edf").is_dir() else root
    for folder in SPLITS:
        first = min((path for path in (edf / folder).glob("*") if path.is_dir()), default=None)
        if first is not None and any(first.glob("*.rec")):
            return True
    return False


def _recording(path: Path, split: str) -> SourceRecording:
    """Return one recording; the subject is its folder, as the corpus arranges both splits."""
    events = path.with_suffix(".rec")
    name = TRAIN_NAME.match(path.stem)
    labels, problem = None, None
    try:
        labels = read_rec(events)
    except DataError as error:
        problem = str(error)
    return SourceRecording(
        recording_id=f"{path.parent.name}_{path.stem}" if name is None else path.stem,
        subject=path.parent.name,
        session=name["number"] if name else "",
        path=path,
        labels=labels,
        split=split,
        files=(events,) if problem is None else (),
        problem=problem,
    )


def read_rec(path: Path) -> tuple[LabelSpan, ...]:
    """Read a ``.rec`` file: lines of ``channel,start,end,label``, seconds, labels 1 to 6.

    The corpus marks each of the 22 channels of its own montage; the same stretch marked on several channels
    becomes one span. Stretches that differ between channels stay separate spans and may overlap.

    Raises
    ------
    DataError
        If the file is missing or a line is malformed.
    """
    spans = set()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if row:
                    spans.add(_event(row, f"{path}: line {number}"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise DataError(f"{path}: cannot read the events ({reason}); each EDF needs its .rec") from error
    return tuple(sorted(spans))


def _event(row: list[str], where: str) -> LabelSpan:
    try:
        _, start_s, end_s, code = int(row[0]), float(row[1]), float(row[2]), int(row[3])
    except (ValueError, IndexError) as error:
        raise DataError(f"{where}: got '{','.join(row)}', expected channel,start,end,label") from error
    if len(row) != 4 or code not in EVENTS or not 0 <= start_s < end_s < math.inf:
        raise DataError(f"{where}: got '{','.join(row)}', expected 0 <= start < end and a label from 1 to 6")
    return LabelSpan(start_s, round(end_s - start_s, 6), EVENTS[code])


RECIPES = (
    Recipe(
        name="tuev",
        description="TUH EEG Events Corpus v2: spikes, periodic discharges, eye movement, artefact, "
        "background",
        tree="""\
edf/
  train/                       -> split train
    aaaaaaar/aaaaaaar_00000001.edf
    aaaaaaar/aaaaaaar_00000001.rec       channel,start,end,label
  eval/                        -> split test
    000/bckg_000_a_.edf
    000/bckg_000_a_.rec
the .lab and .htk files beside them are not used; channels: EEG FP1-REF and extras""",
        licence="TUH data use agreement",
        url="https://isip.piconepress.com/projects/nedc/html/tuh_eeg/",
        discover=discover,
        matches=matches,
        preprocessing={"montage": "tcp16"},
        subjects="370",
        labels="1 spsw, 2 gped, 3 pled, 4 eyem, 5 artf, 6 bckg: one span per marked stretch",
        citation="Harati et al. (2015), IEEE SPMB; Obeid & Picone (2016), Front. Neurosci. 10:196",
        notes="Free after registration, not to be passed on. The same stretch marked on several channels is "
        "one span; different labels at once on different channels stay as overlapping spans, which the label "
        "rules whole and majority leave out: use --label-rule centre for one window around each event. The "
        "subject is the folder; evaluation folders are numbers of their own.",
    ),
)
