"""The windows the paper's authors publish: ``.npy`` files, each a pickled dict of arrays of three splits."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegm2.data.recipes.arrays import EPOC14, TCP16, boundaries, joined_windows, window_spans
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne
    import numpy as np

SFREQ_HZ = 128.0
KEY = re.compile(r"^(?P<split>train|val|valid|validation|test)_?(?P<what>data|x|labels?|y)$", re.IGNORECASE)
CHANNELS = {len(EPOC14): EPOC14, len(TCP16): TCP16}


def discover(root: Path) -> list[SourceRecording]:
    """List one pseudo-recording per file and split; arrays are mapped, not read.

    Parameters
    ----------
    root : Path
        A folder with ``.npy`` files, or one of them.

    Raises
    ------
    DataError
        If there is no ``.npy`` file. A file that is refused or does not fit is returned with its `problem`.
    """
    files = [root] if root.is_file() else sorted(root.glob("*.npy"))
    if not files:
        raise DataError(f"{root}: no .npy file; see eegm2 datasets authors_npy")
    found = []
    for path in files:
        try:
            found += [
                _recording(path, split, windows, labels)
                for split, (windows, labels) in read_splits(path).items()
            ]
        except DataError as error:
            found.append(SourceRecording(path.stem, path.stem, path, problem=str(error)))
    return sorted(found, key=lambda recording: recording.recording_id)


def read_splits(path: Path) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    """Return the windows and labels of each split, without running code from the file (see `safe_npy`).

    Returns
    -------
    dict
        ``{"train" | "val" | "test": (array (n_windows, n_chans, n_times), labels)}``. Keys such as
        ``All_train_data``
        (train and val together) are left out: they repeat windows.

    Raises
    ------
    DataError
        If the file is refused, no split has data and labels, or an array does not fit.
    """
    import numpy as np

    from eegm2.data.files.safe_npy import read_pickled_dict

    parts: dict[str, dict[str, Any]] = {}
    content = read_pickled_dict(path)
    for key, value in content.items():
        match = KEY.match(key)
        if match:
            split = {"valid": "val", "validation": "val"}.get(match["split"].lower(), match["split"].lower())
            what = "data" if match["what"].lower() in ("data", "x") else "labels"
            parts.setdefault(split, {})[what] = np.asarray(value)
    if not any(set(part) == {"data", "labels"} for part in parts.values()):
        raise DataError(
            f"{path}: keys {', '.join(list(content)[:12]) or 'none'}; expected train_data and "
            "train_label, likewise val, test"
        )
    splits = {}
    for split, part in parts.items():
        if set(part) != {"data", "labels"}:
            raise DataError(
                f"{path}: split {split} has only {', '.join(part)}; expected {split}_data and {split}_label"
            )
        windows, labels = part["data"], part["labels"].ravel()
        if windows.ndim != 3 or windows.dtype.kind not in "fiu" or len(windows) != len(labels):
            raise DataError(
                f"{path}: {split}_data has shape {windows.shape}, {split}_label {len(labels)} labels; "
                "expected (windows, channels, times) and one label per window"
            )
        if len(windows):
            splits[split] = (windows, tuple(_text(label) for label in labels.tolist()))
    return splits


def read_split(path: Path, split: str) -> mne.io.BaseRaw:
    """Read one split as one recording of windows laid end to end, with boundary marks."""
    windows, _ = read_splits(path)[split]
    return joined_windows(windows, _names(windows.shape[1]), SFREQ_HZ, f"{path}: {split}")


def _recording(path: Path, split: str, windows: np.ndarray, labels: tuple[str, ...]) -> SourceRecording:
    n_times = windows.shape[2]
    spans = window_spans(labels, n_times, SFREQ_HZ)
    return SourceRecording(
        recording_id=f"{path.stem}_{split}",
        subject=f"{path.stem}_{split}",
        path=path,
        labels=tuple(sorted((*spans, *boundaries(len(labels), n_times, SFREQ_HZ)))),
        attributes={"window_s": f"{n_times / SFREQ_HZ:g}", "subjects": "unknown"},
        split=split,
        reader=functools.partial(read_split, path, split),
    )


def _names(n_chans: int) -> tuple[str, ...]:
    return CHANNELS.get(n_chans, tuple(f"CH{index:02d}" for index in range(1, n_chans + 1)))


def _text(label: Any) -> str:
    """Return a class number as text without a decimal point (the files store some labels as floats)."""
    return f"{label:g}" if isinstance(label, float) else str(label)


RECIPES = (
    Recipe(
        name="authors_npy",
        description="Windows published by the paper's authors: .npy files of pickled dicts (Crowdsourced, "
        "STEW, ...)",
        tree="""\
Crowdsourced.npy  STEW.npy  ...     each a dict: train_data, train_label, val_..., test_...
                                    data (windows, channels, times), 128 Hz; one class number per window""",
        licence="of the data set inside",
        url="https://arxiv.org/abs/2502.17873",
        discover=discover,
        preprocessing={
            "l_freq_hz": 0.0,
            "h_freq_hz": 0.0,
            "offset": "keep",
            "sfreq_hz": 128.0,
            "amplitude": "any",
            "flat": "keep",
        },
        subjects="not in the files",
        labels="the file's class numbers as text, one span per window",
        citation="Hong, Mackellar & Ghane, EEGM2, arXiv 2502.17873; and the data set's own",
        notes="The files are read without running code from them. Subjects are not in the files, so each "
        "split is one pseudo-subject and the authors' split is kept (do not use --no-official). The windows "
        "of a split lie end to end with a boundary mark between them, which no window crosses: use "
        "--window-s 2 (the files' own length) or a divisor of it. They are already filtered, so preparing "
        "leaves the filter out. 14 channels are taken to be the EPOC's in its usual order, 16 the paper's "
        "bipolar pairs; the unit is taken to be microvolts.",
    ),
)
