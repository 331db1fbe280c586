"""Labelled windows as the protocols see them: arrays or a torch data set, and who each window is from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eegm2.data.windows.dataset import WindowDataset
from eegm2.errors import DataError


@dataclass(frozen=True)
class LabelledWindows:
    """Windows with their targets and origins.

    Attributes
    ----------
    x : array of shape (n, n_chans, n_times), or map-style data set
        Scaled EEG; a data set's items are mappings with the window under ``"x"``.
    y : array, shape (n,)
        Class indices (int), or values (float) where `classes` is empty.
    subject, recording : array of str, shape (n,)
        Origin of every window; subjects are never divided between splits.
    start_s : array, shape (n,)
        Start of every window in its recording, in seconds.
    classes : tuple of str
        Class names in the order of `y`; empty for regression.
    window_s : float
        Length of a window in seconds; 0 where nobody knows it, and windows do not overlap.
    """

    x: Any
    y: NDArray
    subject: NDArray[np.str_]
    recording: NDArray[np.str_]
    start_s: NDArray[np.float64]
    classes: tuple[str, ...] = ()
    window_s: float = 0.0

    def __post_init__(self) -> None:
        n = len(self.x)
        for name in ("y", "subject", "recording", "start_s"):
            if len(getattr(self, name)) != n:
                raise DataError(
                    f"labelled windows: got {len(getattr(self, name))} values of {name} for {n} windows"
                )

    @classmethod
    def from_arrays(
        cls, x: Any, y: Any, subject: Any = None, recording: Any = None, classes: Sequence[str] | None = None
    ) -> LabelledWindows:
        """Wrap arrays; without `subject` every window counts as a subject of its own.

        Parameters
        ----------
        x : array, shape (n, n_chans, n_times)
            Scaled EEG.
        y : array, shape (n,)
            Integers are class indices, floats a regression target, strings class names.
        subject, recording : array, shape (n,), optional
            Origins; recordings default to the subjects.
        classes : sequence of str, optional
            Class names; "0", "1", … by default for integer labels, sorted names for strings.
        """
        y = np.asarray(y)
        if y.dtype.kind in "US":
            names = sorted(set(y.tolist())) if classes is None else list(classes)
            y, classes = np.array([names.index(label) for label in y.tolist()]), names
        elif y.dtype.kind in "iub" and classes is None:
            classes = [str(i) for i in range(int(y.max()) + 1)]
        subject = np.arange(len(y)).astype(str) if subject is None else np.asarray(subject).astype(str)
        recording = subject if recording is None else np.asarray(recording).astype(str)
        return cls(
            np.asarray(x, dtype=np.float32), y, subject, recording, np.zeros(len(y)), tuple(classes or ())
        )

    @classmethod
    def from_dataset(
        cls, dataset: WindowDataset, y: NDArray | None = None, classes: tuple[str, ...] | None = None
    ) -> LabelledWindows:
        """Take all windows of a store with their labels, or with other targets and classes in their place."""
        return cls(
            dataset,
            dataset.labels.astype(np.int64) if y is None else y,
            dataset.subjects,
            dataset.recording_ids,
            dataset.start_s,
            dataset.classes if classes is None else classes,
            dataset.window_s,
        )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def is_regression(self) -> bool:
        """True where the target is a value, not a class."""
        return not self.classes

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        """Return windows as one float32 tensor (len(indices), n_chans, n_times)."""
        if isinstance(self.x, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(self.x[indices], dtype=np.float32))
        return torch.stack([torch.as_tensor(self.x[int(i)]["x"], dtype=torch.float32) for i in indices])

    def in_memory(self, limit_bytes: float = 2e9) -> LabelledWindows:
        """Return the same windows read once into one array, or as they are where that exceeds the limit."""
        if isinstance(self.x, np.ndarray) or not len(self):
            return self
        if self.batch(np.array([0])).numel() * 4 * len(self) > limit_bytes:
            return self
        return replace(self, x=self.batch(np.arange(len(self))).numpy())

    def take(self, indices: NDArray[np.int64]) -> LabelledWindows:
        """Return some of the windows."""
        kept = {name: getattr(self, name)[indices] for name in ("y", "subject", "recording", "start_s")}
        x = (
            self.x[indices]
            if isinstance(self.x, np.ndarray)
            else torch.utils.data.Subset(self.x, indices.tolist())
        )
        return replace(self, x=x, **kept)

    def where_subject(self, subjects: Sequence[str]) -> NDArray[np.int64]:
        """Return the indices of all windows of these subjects."""
        return np.flatnonzero(np.isin(self.subject, list(subjects)))


@dataclass(frozen=True)
class Split:
    """Window indices of the three parts; the test part never informs a choice.

    Attributes
    ----------
    train, val, test : array of int
        Indices into the windows.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]

    def check(self, data: LabelledWindows, *, unit: str = "subject") -> None:
        """Refuse a split that cannot be learnt from or evaluated.

        Parameters
        ----------
        data : LabelledWindows
            What the indices point into.
        unit : {"subject", "recording"}
            What must not be divided between the parts.

        Raises
        ------
        DataError
            If a part is empty, a subject (recording) is in two parts, the training part lacks a class or
            has one label only; the message names them.
        """
        origin = data.subject if unit == "subject" else data.recording
        parts = {"train": self.train, "val": self.val, "test": self.test}
        for name, indices in parts.items():
            if not len(indices):
                raise DataError(
                    f"split: the {name} part has no labelled window ({len(data)} windows of "
                    f"{len(set(origin))} {unit}s "
                    "in all); use more recordings or another seed"
                )
        for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
            both = np.intersect1d(origin[parts[a]], origin[parts[b]])
            if len(both):
                raise DataError(
                    f"split: {unit} {both[0]} is in both {a} and {b} ({len(both)} such); split by {unit}"
                )
        check_targets(data, self.train, "train")


def check_targets(data: LabelledWindows, indices: NDArray[np.int64], part: str) -> None:
    """Refuse a part to learn from whose target is missing, constant, or lacks a class.

    Raises
    ------
    DataError
        Naming the part and the absent classes or the constant value.
    """
    y = data.y[indices]
    if data.is_regression:
        if not np.isfinite(y).all():
            raise DataError(
                f"split {part}: {int((~np.isfinite(y)).sum())} windows have no finite target; drop them"
            )
        if np.ptp(y) == 0:
            raise DataError(
                f"split {part}: the target is {y[0]:g} in all {len(y)} windows; nothing can be learnt"
            )
        return
    if len(data.classes) < 2:
        only = ", ".join(data.classes) or "none"
        raise DataError(f"labels: got one class ({only}) in {len(data)} windows; a probe needs at least two")
    absent = [name for i, name in enumerate(data.classes) if not (y == i).any()]
    if absent:
        raise DataError(
            f"split {part}: no window of class {', '.join(absent)} among {len(y)}; use more "
            "subjects, another split seed, "
            "or leave the class out with --classes"
        )


def subject_labels_of(data: LabelledWindows, by: str = "subject") -> dict[str, str]:
    """Return the labels of every subject (recording), joined by ``+``, to stratify by; none for values."""
    if data.is_regression:
        return {}
    origin = data.subject if by == "subject" else data.recording
    return {
        str(unit): "+".join(data.classes[i] for i in np.unique(data.y[origin == unit]))
        for unit in np.unique(origin)
    }
