"""TUAB, the TUH Abnormal EEG Corpus: whole recordings judged normal or abnormal."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import defaultdict
from pathlib import Path

from eegm2.data.files.formats import file_suffix
from eegm2.data.files.tree import files_below
from eegm2.data.labels import LabelSpan
from eegm2.data.recipes.arrays import require_folder
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError

SPLITS = {"train": "train", "eval": "test"}
CLASSES = ("normal", "abnormal")
FILE_NAME = re.compile(r"^(?P<subject>[A-Za-z0-9]+)_s(?P<session>\d+)_t(?P<token>\d+)$")


def discover(root: Path) -> list[SourceRecording]:
    """Find the recordings of a TUAB tree from their paths alone; no file is opened.

    Parameters
    ----------
    root : Path
        The folder that holds ``edf/``, or ``edf/`` itself.

    Returns
    -------
    list of SourceRecording
        Sorted by identity. Every recording is labelled as a whole and carries the corpus's split (``eval``
        is ``test``). A subject found in both labels has ``subject_labels`` set to both. A subject found in
        both splits keeps the evaluation recordings; those in ``train`` are returned with a `problem`, so
        that nobody is trained on and tested on.

    Raises
    ------
    DataError
        If no recording of the layout is there.
    """
    edf = _edf_folder(root)
    found = []
    for folder, split in SPLITS.items():
        for label in CLASSES:
            below = files_below(edf / folder / label)
            found += [_recording(path, split, label) for path in below if file_suffix(path) == ".edf"]
    if not found:
        raise DataError(
            f"{root}: no recording in edf/{{train,eval}}/{{normal,abnormal}}/; see eegm2 datasets tuab"
        )
    return sorted(_with_subject_facts(found), key=lambda recording: recording.recording_id)


def matches(root: Path) -> bool:
    """Tell whether `root` has a folder of one of the four split and label pairs."""
    edf = root / "edf" if (root / "edf").is_dir() else root
    return any((edf / split / label).is_dir() for split in SPLITS for label in CLASSES)


def _edf_folder(root: Path) -> Path:
    require_folder(root, "the TUAB folder that holds edf/train and edf/eval")
    return root / "edf" if (root / "edf").is_dir() else root


def _recording(path: Path, split: str, label: str) -> SourceRecording:
    """Return one recording as its name declares it."""
    name = FILE_NAME.match(path.stem)
    if name is None:
        return SourceRecording(
            recording_id=path.stem,
            subject=path.stem,
            path=path,
            split=split,
            problem=f"{path}: the name is not <subject>_s<session>_t<token>.edf, so its subject is "
            "unknown; rename it",
        )
    return SourceRecording(
        recording_id=path.stem,
        subject=name["subject"],
        session=f"s{name['session']}",
        path=path,
        labels=(LabelSpan(0.0, math.inf, label),),
        attributes={"label": label, "reference": path.parent.name},
        split=split,
    )


def _with_subject_facts(found: list[SourceRecording]) -> list[SourceRecording]:
    """Return the recordings with what is known only from a subject's other recordings."""
    labels, splits = defaultdict(set), defaultdict(set)
    for recording in found:
        if recording.problem is None:
            labels[recording.subject].add(recording.attributes["label"])
            splits[recording.subject].add(recording.split)
    result = []
    for recording in found:
        subject = recording.subject
        if len(labels[subject]) > 1:
            both = {**recording.attributes, "subject_labels": "+".join(sorted(labels[subject]))}
            recording = dataclasses.replace(recording, attributes=both)
        if len(splits[subject]) > 1 and recording.split == "train" and recording.problem is None:
            problem = (
                f"{recording.path}: subject {subject} is in edf/train and edf/eval; left out of training so "
                "that nobody is in two splits (delete the evaluation recordings to use it)"
            )
            recording = dataclasses.replace(recording, problem=problem)
        result.append(recording)
    return result


RECIPES = (
    Recipe(
        name="tuab",
        description="TUH Abnormal EEG Corpus v3: clinical recordings judged normal or abnormal",
        tree="""\
edf/
  train/                       -> split train
    normal/01_tcp_ar/aaaaaaav_s004_t000.edf
    abnormal/01_tcp_ar/aaaaaaaq_s004_t000.edf
  eval/                        -> split test
    normal/01_tcp_ar/...
    abnormal/01_tcp_ar/...
names: <subject>_s<session>_t<token>.edf; channels: EEG FP1-REF (or EEG FP1-LE) and extras (ECG, ...)""",
        licence="TUH data use agreement",
        url="https://isip.piconepress.com/projects/nedc/html/tuh_eeg/",
        discover=discover,
        matches=matches,
        preprocessing={"montage": "tcp16"},
        subjects="2383",
        labels="normal, abnormal: one span over the whole recording (and the attribute 'label')",
        citation="Lopez (2017), Automated Identification of Abnormal EEGs, Temple University; Obeid & "
        "Picone (2016), Front. Neurosci. 10:196",
        notes="Free after registration, not to be passed on. The corpus's own evaluation set is the test "
        "split. A subject with recordings of both labels keeps them all (attribute subject_labels); splits "
        "are by subject.",
    ),
)
