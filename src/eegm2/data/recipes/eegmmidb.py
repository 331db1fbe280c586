"""PhysioNet EEG Motor Movement/Imagery: eyes open, eyes closed, real and imagined movements."""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from eegm2.data.files.formats import file_suffix
from eegm2.data.files.tree import files_below
from eegm2.data.labels import LabelSpan
from eegm2.data.recipes.arrays import require_folder
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

FILE_NAME = re.compile(r"^S(?P<subject>\d{3})R(?P<run>\d{2})$")
WHOLE = {1: "eyes_open", 2: "eyes_closed"}
TASKS = {
    **dict.fromkeys((3, 7, 11), ("move", "left_fist", "right_fist")),
    **dict.fromkeys((4, 8, 12), ("imagine", "left_fist", "right_fist")),
    **dict.fromkeys((5, 9, 13), ("move", "both_fists", "both_feet")),
    **dict.fromkeys((6, 10, 14), ("imagine", "both_fists", "both_feet")),
}
"""What T1 and T2 mean in a run; T0 is rest in all of them."""


def discover(root: Path) -> list[SourceRecording]:
    """Find ``SnnnRnn.edf`` below `root` from the names alone.

    Raises
    ------
    DataError
        If there is none. A run number outside 1 to 14 gives a recording with a `problem`.
    """
    require_folder(root, "the folder with S001/S001R01.edf (or S001R01.edf)")
    named = (path for path in files_below(root) if FILE_NAME.match(path.stem))
    files = sorted((path for path in named if file_suffix(path) == ".edf"), key=lambda path: path.stem)
    if not files:
        raise DataError(f"{root}: no S<nnn>R<nn>.edf; see eegm2 datasets eegmmidb")
    return [_recording(path) for path in files]


def matches(root: Path) -> bool:
    """Tell whether `root`, or its folder ``S001`` or the like, holds files of these names."""
    near = [*root.glob("S???R??.edf"), *root.glob("S???/S???R??.edf")]
    return any(FILE_NAME.match(path.stem) for path in near)


def read_run(path: Path, run: int) -> mne.io.BaseRaw:
    """Read one run; T0, T1 and T2 become what they mean in it."""
    from eegm2.data.files.readers import read_raw

    raw = read_raw(path)
    task, first, second = TASKS[run]
    meaning = {"T0": "rest", "T1": f"{task}_{first}", "T2": f"{task}_{second}"}
    present = set(raw.annotations.description)
    raw.annotations.rename({mark: name for mark, name in meaning.items() if mark in present})
    return raw


def _recording(path: Path) -> SourceRecording:
    name = FILE_NAME.match(path.stem)
    assert name is not None
    run = int(name["run"])
    make = functools.partial(SourceRecording, path.stem, f"S{name['subject']}", path)
    if run in WHOLE:
        return make(
            labels=(LabelSpan(0.0, math.inf, WHOLE[run]),), attributes={"run": str(run), "task": "baseline"}
        )
    if run in TASKS:
        return make(
            attributes={"run": str(run), "task": TASKS[run][0]}, reader=functools.partial(read_run, path, run)
        )
    return make(problem=f"{path}: run {run} is unknown, expected 1 to 14; its labels have no meaning")


RECIPES = (
    Recipe(
        name="eegmmidb",
        description="PhysioNet EEG Motor Movement/Imagery: 64 channels, 160 Hz, eyes and movement tasks",
        tree="""\
S001/S001R01.edf ... S001R14.edf      (or all files in one folder)
...
S109/S109R01.edf ...
channels: Fc5. Fc3. ... Iz..; R01 eyes open, R02 eyes closed, R03-R14 tasks with annotations T0 T1 T2""",
        licence="ODC-By 1.0",
        url="https://physionet.org/content/eegmmidb/1.0.0/",
        discover=discover,
        matches=matches,
        subjects="109",
        labels="eyes_open (R01), eyes_closed (R02); in tasks rest (T0) and, by run: move_left_fist, "
        "move_right_fist (3 7 11), imagine_left_fist, imagine_right_fist (4 8 12), move_both_fists, "
        "move_both_feet (5 9 13), imagine_both_fists, imagine_both_feet (6 10 14)",
        citation="Schalk et al. (2004), IEEE Trans. Biomed. Eng. 51:1034-1043; Goldberger et al. (2000), "
        "Circulation 101:e215-e220",
        notes="Some published runs (subjects S088, S092, S100) are at 128 Hz; each file is read at its own "
        "rate.",
    ),
)
