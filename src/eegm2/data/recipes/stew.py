"""STEW: rest and a multitasking test on an Emotiv EPOC, with workload ratings."""

from __future__ import annotations

import functools
import math
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from eegm2.data.labels import LabelSpan
from eegm2.data.recipes.arrays import EPOC14, raw_from_array, require_folder
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

SFREQ_HZ = 128.0
FILE_NAME = re.compile(r"^sub(?P<number>\d+)_(?P<condition>lo|hi)$", re.IGNORECASE)
CONDITIONS = {"lo": "rest", "hi": "task"}


def discover(root: Path) -> list[SourceRecording]:
    """Find ``subNN_lo.txt`` and ``subNN_hi.txt`` and the ratings; no signal is read.

    Raises
    ------
    DataError
        If there is no such file, or ``ratings.txt`` is malformed.
    """
    require_folder(root, "the STEW folder with sub01_hi.txt, sub01_lo.txt, ... and ratings.txt")
    files = sorted(path for path in root.glob("*.txt") if FILE_NAME.match(path.stem))
    if not files:
        raise DataError(f"{root}: no sub<NN>_lo.txt or sub<NN>_hi.txt; see eegm2 datasets stew")
    ratings_file = root / "ratings.txt"
    ratings = read_ratings(ratings_file) if ratings_file.is_file() else {}
    return [_recording(path, ratings, ratings_file) for path in files]


def matches(root: Path) -> bool:
    """Tell whether `root` holds STEW's files."""
    return any(root.glob("sub*_lo.txt")) and any(root.glob("sub*_hi.txt"))


def read_ratings(path: Path) -> dict[int, dict[str, int]]:
    """Read ``ratings.txt``: lines of ``subject, rating at rest, rating in the task`` (1 to 9).

    Returns
    -------
    dict
        ``{subject number: {"rest": rating, "task": rating}}``. Three published subjects have no rating.

    Raises
    ------
    DataError
        If a line does not hold three whole numbers or a rating is not between 1 and 9.
    """
    ratings = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        values = re.split(r"[,;\s]+", line.strip(" ,;\t\ufeff"))
        if values == [""]:
            continue
        try:
            subject, rest, task = (int(value) for value in values)
        except ValueError as error:
            raise DataError(
                f"{path}: line {number}: got '{line}', expected subject, rest rating, task rating"
            ) from error
        if not (1 <= rest <= 9 and 1 <= task <= 9):
            raise DataError(f"{path}: line {number}: got '{line}', expected ratings from 1 to 9")
        ratings[subject] = {"rest": rest, "task": task}
    return ratings


def read_signal(path: Path) -> mne.io.BaseRaw:
    """Read one text file: 14 columns of microvolts at 128 Hz, EPOC order.

    Raises
    ------
    DataError
        If the file is not numbers in 14 columns.
    """
    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file is an error below
            values = np.loadtxt(path, dtype=np.float64, ndmin=2, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: cannot read the signal ({reason}); expected 14 columns of numbers"
        ) from error
    return raw_from_array(values.T, EPOC14, SFREQ_HZ, path)


def _recording(path: Path, ratings: dict[int, dict[str, int]], ratings_file: Path) -> SourceRecording:
    name = FILE_NAME.match(path.stem)
    assert name is not None
    number, condition = int(name["number"]), CONDITIONS[name["condition"].lower()]
    attributes = {"condition": condition}
    if number in ratings:
        rating = ratings[number][condition]
        attributes |= {"rating": str(rating), "workload": "high" if rating > 4 else "low"}
    return SourceRecording(
        recording_id=path.stem.lower(),
        subject=f"sub{name['number']}",
        path=path,
        labels=(LabelSpan(0.0, math.inf, condition),),
        attributes=attributes,
        files=(ratings_file,) if ratings_file.is_file() else (),
        reader=functools.partial(read_signal, path),
    )


RECIPES = (
    Recipe(
        name="stew",
        description="STEW: Emotiv EPOC at rest and in the SIMKAP multitasking test, with workload ratings",
        tree="""\
sub01_lo.txt  sub01_hi.txt  ...  sub48_lo.txt  sub48_hi.txt
ratings.txt                   subject, rating at rest, rating in the task (1-9)
signal files: 14 columns in microvolts (AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4), 128 lines a second""",
        licence="CC BY 4.0",
        url="https://ieee-dataport.org/open-access/stew-simultaneous-task-eeg-workload-dataset",
        discover=discover,
        matches=matches,
        preprocessing={"montage": "epoc14", "l_freq_hz": 0.5, "h_freq_hz": 40.0},
        subjects="48",
        labels="spans: rest (lo), task (hi). Attributes: rating (1-9), workload (high above 4, otherwise "
        "low)",
        citation="Lim, Sourina & Wang (2018), IEEE Trans. Neural Syst. Rehabil. Eng. 26:2106-2114",
        notes="For the paper's workload classes use --target workload; subjects without a rating have no "
        "workload attribute. ratings.txt may be absent.",
    ),
)
