"""DREAMER: emotion by film clips on an Emotiv EPOC, all in one MATLAB file."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegm2.data.labels import LabelSpan
from eegm2.data.recipes.arrays import raw_from_array
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

FILE_NAME = "DREAMER.mat"
SCORES = {"valence": "ScoreValence", "arousal": "ScoreArousal", "dominance": "ScoreDominance"}
SEGMENTS = {"baseline": "baseline", "stimuli": "film"}


def discover(root: Path) -> list[SourceRecording]:
    """List the baseline and the film of every clip and subject.

    The file is one compressed MATLAB variable, so it has to be read whole to know what it holds; it is
    read once per process and only the EEG is kept (about 0.8 GB for the published file, 2 GB while reading).

    Raises
    ------
    DataError
        If the file is missing or not structured as published.
    """
    path = root if root.is_file() else root / FILE_NAME
    data = _open(path)
    found = []
    for number, subject in enumerate(data["subjects"], start=1):
        for segment, label in SEGMENTS.items():
            for clip in range(len(subject[segment])):
                found.append(_recording(path, subject, number, segment, label, clip))
    return sorted(found, key=lambda recording: recording.recording_id)


def matches(root: Path) -> bool:
    """Tell whether `root` is or holds ``DREAMER.mat``."""
    return root.name == FILE_NAME or (root / FILE_NAME).is_file()


def read_segment(path: Path, subject: int, segment: str, clip: int) -> mne.io.BaseRaw:
    """Read one segment (``baseline`` or ``stimuli``) of one clip; `subject` and `clip` count from 0."""
    data = _open(path)
    where = f"{path}: subject {subject + 1}, {segment}, clip {clip + 1}"
    return raw_from_array(
        data["subjects"][subject][segment][clip].T, data["ch_names"], data["sfreq_hz"], where
    )


def _recording(
    path: Path, subject: dict[str, Any], number: int, segment: str, label: str, clip: int
) -> SourceRecording:
    attributes = {"clip": str(clip + 1), "age": subject["age"], "sex": subject["sex"]}
    for name in SCORES:
        score = subject[name][clip]
        attributes |= {name: f"{score:g}", f"{name}_class": "high" if score > 3 else "low"}
    return SourceRecording(
        recording_id=f"S{number:02d}_clip{clip + 1:02d}_{label}",
        subject=f"S{number:02d}",
        path=path,
        labels=(LabelSpan(0.0, math.inf, label),),
        attributes=attributes,
        reader=functools.partial(read_segment, path, number - 1, segment, clip),
    )


def _open(path: Path) -> dict[str, Any]:
    """Return the file's EEG and scores; remembered as long as the file stays as it is."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: cannot read it ({error.strerror}); expected the folder with {FILE_NAME}"
        ) from error
    return _read(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _read(path: Path, size: int, mtime_ns: int) -> dict[str, Any]:
    from scipy.io import loadmat

    from eegm2.data.files.mat import check_matfile

    check_matfile(path)
    try:
        content = loadmat(path, simplify_cells=True, variable_names=["DREAMER"])
    except NotImplementedError as error:
        raise DataError(f"{path}: a MATLAB 7.3 file, expected the published one; save it with -v7") from error
    except Exception as error:  # scipy raises many kinds for damaged files
        raise DataError(f"{path}: not a readable MATLAB file ({error}); download it again") from error
    try:
        top = content["DREAMER"]
        return {
            "ch_names": [str(name) for name in _cells(top["EEG_Electrodes"])],
            "sfreq_hz": float(top["EEG_SamplingRate"]),
            "subjects": [_subject(entry) for entry in _cells(top["Data"])],
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path}: not structured as DREAMER ({error!r}); see eegm2 datasets dreamer"
        ) from error


def _subject(entry: dict[str, Any]) -> dict[str, Any]:
    """Return one subject's EEG as float32 (n_times, n_chans) per clip, scores, age and sex."""
    import numpy as np

    subject: dict[str, Any] = {"age": str(entry["Age"]), "sex": str(entry["Gender"])}
    for segment in SEGMENTS:
        subject[segment] = [np.asarray(clip, dtype=np.float32) for clip in _cells(entry["EEG"][segment])]
    for name, field in SCORES.items():
        subject[name] = [float(score) for score in np.atleast_1d(entry[field])]
        if len(subject[name]) != len(subject["stimuli"]) or len(subject["baseline"]) != len(
            subject["stimuli"]
        ):
            raise ValueError(f"{field}: {len(subject[name])} scores for {len(subject['stimuli'])} films")
    return subject


def _cells(value: Any) -> list[Any]:
    """Return a MATLAB cell array as a list; a cell of one element arrives as the element itself."""
    import numpy as np

    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype == object):
        return list(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "US" and value.ndim == 1:
        return value.tolist()
    return [value]


RECIPES = (
    Recipe(
        name="dreamer",
        description="DREAMER: 18 film clips with self-rated emotion, Emotiv EPOC, 14 channels at 128 Hz",
        tree="""\
DREAMER.mat      struct DREAMER: Data {1 x 23} of Age, Gender, EEG.baseline {18}, EEG.stimuli {18} (n x 14),
                 ScoreValence, ScoreArousal, ScoreDominance (18); EEG_SamplingRate, EEG_Electrodes""",
        licence="see the Zenodo record",
        url="https://zenodo.org/records/546113",
        discover=discover,
        matches=matches,
        declared=True,
        preprocessing={"montage": "epoc14", "l_freq_hz": 0.5, "h_freq_hz": 40.0},
        subjects="23",
        labels="spans: baseline, film. Attributes: valence, arousal, dominance (1-5) and <name>_class (high "
        "above 3, otherwise low), clip, age, sex",
        citation="Katsigiannis & Ramzan (2018), IEEE J. Biomed. Health Inform. 22:98-107",
        notes="Every clip's baseline and film are recordings of their own: the file does not say how much "
        "time lies between them. Reading needs about 2 GB of memory per worker. For emotion classes use "
        "--target valence_class (then also --exclude-labels baseline).",
    ),
)
