"""MOABB: trials of any MOABB data set, in the arrays its paradigms give (X, y, metadata)."""

from __future__ import annotations

import csv
import functools
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegm2.atomic import whole_file, write_atomic
from eegm2.config import read_toml
from eegm2.data.recipes.arrays import boundaries, joined_windows, require_folder, window_spans
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import ConfigError, DataError
from eegm2.records import LENGTH, NAMES, TEXT, Record, checked

if TYPE_CHECKING:
    import mne

FILES = ("X.npy", "y.npy", "metadata.csv", "recording.toml")
COLUMNS = ("subject", "session", "run")


def save_moabb(dataset: Any, paradigm: Any, folder: str | Path, subjects: list[int] | None = None) -> Path:
    """Write what ``paradigm.get_data(dataset)`` gives into a folder that this recipe reads.

    Downloads whatever MOABB has to download; nothing else in eegm2 does.

    Parameters
    ----------
    dataset : moabb.datasets.base.BaseDataset
        For instance ``BNCI2014_001()``.
    paradigm : moabb.paradigms.base.BaseParadigm
        For instance ``LeftRightImagery(resample=128)``; its filter has been applied to the trials.
    folder : path
        Created where it does not exist.
    subjects : list of int, optional
        All of the data set's by default.

    Returns
    -------
    Path
        `folder`.
    """
    import numpy as np

    folder = Path(folder)
    epochs, y, metadata = paradigm.get_data(dataset, subjects=subjects, return_epochs=True)
    x_uv = epochs.get_data(copy=False).astype(np.float32) * 1e6
    channels = ", ".join(f'"{name}"' for name in epochs.ch_names)
    toml = f'dataset = "{dataset.code}"\nsfreq_hz = {epochs.info["sfreq"]}\nch_names = [{channels}]\n'
    rows = "\n".join(
        [",".join(COLUMNS), *(",".join(str(row[name]) for name in COLUMNS) for _, row in metadata.iterrows())]
    )
    for name, values in (("X.npy", x_uv), ("y.npy", np.asarray(y).astype(str))):
        with whole_file(folder / name, ending=".npy") as temporary:
            np.save(temporary, values, allow_pickle=False)
    write_atomic(folder / "metadata.csv", [f"{rows}\n".encode()])
    write_atomic(folder / "recording.toml", [toml.encode()])
    return folder


def discover(root: Path) -> list[SourceRecording]:
    """List one recording per subject, session and run; the trials are mapped, not read.

    Raises
    ------
    DataError
        If a file is missing or the files disagree about the number of trials or channels.
    """
    require_folder(root, f"a folder with {', '.join(FILES)}")
    missing = [name for name in FILES if not (root / name).is_file()]
    if missing:
        raise DataError(
            f"{root}: {', '.join(missing)} not found; write the folder with "
            "eegm2.data.recipes.moabb.save_moabb"
        )
    x, y, rows, facts = _open(root)
    trials: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        trials[row].append(index)
    found = []
    for (subject, session, run), indices in sorted(trials.items()):
        spans = window_spans([y[index] for index in indices], x.shape[2], facts["sfreq_hz"])
        found.append(
            SourceRecording(
                recording_id=f"sub-{subject}_ses-{session}_run-{run}",
                subject=subject,
                session=session,
                path=root / "X.npy",
                labels=tuple(sorted((*spans, *boundaries(len(indices), x.shape[2], facts["sfreq_hz"])))),
                attributes={"run": run, "dataset": facts["dataset"]},
                files=tuple(root / name for name in FILES[1:]),
                reader=functools.partial(read_trials, root, tuple(indices)),
            )
        )
    return found


def matches(root: Path) -> bool:
    """Tell whether `root` holds the four files."""
    return all((root / name).is_file() for name in FILES)


def read_trials(root: Path, indices: tuple[int, ...]) -> mne.io.BaseRaw:
    """Read the trials `indices`, laid end to end with boundary marks."""
    x, _, _, facts = _open(root)
    return joined_windows(x[list(indices)], facts["ch_names"], facts["sfreq_hz"], root / "X.npy")


def _open(root: Path) -> tuple[Any, Any, list[tuple[str, ...]], dict[str, Any]]:
    """Return the mapped trials (n, n_chans, n_times), labels, (subject, session, run) rows and facts."""
    from eegm2.data.files.arrays import load_npy

    try:
        x, y = load_npy(root / "X.npy", mapped=True), load_npy(root / "y.npy")
        facts = _facts(root / "recording.toml")
        with (root / "metadata.csv").open(encoding="utf-8", newline="") as table:
            rows = [tuple(row[name] for name in COLUMNS) for row in csv.DictReader(table)]
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(
            f"{root}: cannot read {', '.join(FILES)} ({error}); write them again with save_moabb"
        ) from error
    if x.ndim != 3 or y.ndim != 1 or x.dtype.kind not in "fiu" or 0 in x.shape:
        raise DataError(
            f"{root}: X.npy is {x.dtype} of shape {x.shape}, expected numbers (trials, channels, times), and "
            f"y.npy {y.shape}, expected one label per trial; write them again with save_moabb"
        )
    short = next(
        (number for number, row in enumerate(rows, start=2) if not all(row[:1]) or None in row), None
    )
    if short is not None:
        raise DataError(
            f"{root / 'metadata.csv'}: line {short} lacks a value; write it again with save_moabb"
        )
    if not len(x) == len(y) == len(rows) or x.shape[1] != len(facts["ch_names"]):
        raise DataError(
            f"{root}: X.npy has shape {x.shape}, y.npy {len(y)} labels, metadata.csv {len(rows)} rows, "
            f"recording.toml {len(facts['ch_names'])} channels; they must agree"
        )
    return x, y, rows, facts


def _facts(path: Path) -> dict[str, Any]:
    """Return name, rate and channels of the data set, as `save_moabb` writes them."""
    try:
        values = read_toml(path)
    except ConfigError as error:
        raise DataError(str(error)) from error
    fields = Record({"dataset": TEXT, "sfreq_hz": LENGTH, "ch_names": NAMES}, ("sfreq_hz", "ch_names"))
    facts = checked(values, fields, path, DataError, "write it again with save_moabb")
    return {"dataset": "", **facts, "sfreq_hz": float(facts["sfreq_hz"])}


RECIPES = (
    Recipe(
        name="moabb",
        description="Trials of any MOABB data set, in the arrays a MOABB paradigm gives",
        tree="""\
X.npy            (trials, channels, times) in microvolts
y.npy            one label per trial (text)
metadata.csv     columns subject,session,run: one row per trial
recording.toml   dataset = "...", sfreq_hz = 128.0, ch_names = ["C3", ...]""",
        licence="of the data set chosen",
        url="https://moabb.neurotechx.com/docs/dataset_summary.html",
        discover=discover,
        matches=matches,
        declared=True,
        preprocessing={"l_freq_hz": 0.0, "h_freq_hz": 0.0, "offset": "keep"},
        subjects="as the data set",
        labels="the paradigm's classes, one span per trial",
        citation="Aristimunha et al., Mother of all BCI Benchmarks, doi:10.5281/zenodo.10034223; and the "
        "data set's own",
        notes="Write the folder with eegm2.data.recipes.moabb.save_moabb(dataset, paradigm, folder), which "
        "needs the extra eegm2[moabb] and downloads what MOABB downloads. Give the paradigm resample=128, "
        "as trials cannot be resampled without edge effects once laid end to end. Trials are already "
        "filtered by the paradigm, so preparing leaves the filter out; no window crosses from one trial to "
        "the next: choose --window-s no longer than a trial.",
    ),
)
