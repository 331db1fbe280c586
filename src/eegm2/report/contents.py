"""What a report shows, as plain data: rendering knows nothing of folders, stores or models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Recording:
    """One recording of the store.

    Attributes
    ----------
    id, subject, session : str
    duration_s, sfreq_hz : float
    labels : tuple of (onset_s, duration_s, label)
    quality : dict
        As the store holds it (see `eegm2.report.quality`).
    split : str
        "train", "val", "test" or "" where no split names the subject.
    """

    id: str
    subject: str
    session: str
    duration_s: float
    sfreq_hz: float
    labels: tuple[tuple[float, float, str], ...] = ()
    quality: dict[str, Any] = field(default_factory=dict)
    split: str = ""


@dataclass(frozen=True)
class Rejected:
    """A file that preparation left out, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class TrainingLog:
    """The metrics of a run, one value per epoch (NaN where nothing was logged).

    Attributes
    ----------
    epoch : ndarray, shape (n_epochs,)
        Counted from 1.
    curves : dict of str to ndarray, shape (n_epochs,)
    """

    epoch: np.ndarray
    curves: dict[str, np.ndarray]


@dataclass(frozen=True)
class Reconstruction:
    """Windows of subjects held out from training, and what the model makes of them.

    Attributes
    ----------
    original, reconstruction : ndarray, shape (n_windows, n_chans, n_times)
        Scaled as in training; `unit` names the unit.
    subjects, recordings : tuple of str, length n_windows
    start_s : ndarray, shape (n_windows,)
    split : str
        Whose subjects these are: "val", "test", "train" (nobody was held out).
    n_available : int
        Windows from which these were drawn.
    """

    original: np.ndarray
    reconstruction: np.ndarray
    subjects: tuple[str, ...]
    recordings: tuple[str, ...]
    start_s: np.ndarray
    unit: str = "scaled units"
    split: str = "val"
    n_available: int = 0


@dataclass(frozen=True)
class ClassPower:
    """Power of rhythms at every electrode, by class.

    Attributes
    ----------
    power_db : ndarray, shape (n_classes, n_bands, n_chans)
        In dB re 1 µV².
    bands, classes, ch_names : tuple of str
    n_windows, n_subjects : int
        From which it was measured.
    """

    power_db: np.ndarray
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    ch_names: tuple[str, ...]
    n_windows: int
    n_subjects: int


@dataclass(frozen=True)
class Probe:
    """One downstream result.

    Attributes
    ----------
    name : str
        The folder.
    task : dict
        classes, target, n_windows, n_subjects …
    protocols : list of dict
        protocol, seed, metrics.
    provenance : dict
    scores : dict of protocol to list of ndarray, shape (n_windows, n_classes)
        One array per seed, for the test windows.
    thresholds : dict of protocol to list of float or None
        With two classes: the second one is predicted from this score on; None: the higher score decides.
    y_true : ndarray of int, shape (n_windows,)
    subject : ndarray of str, shape (n_windows,)
    features : ndarray, shape (n_windows, n_features), optional
    features_y, features_subject : ndarray, shape (n_windows,)
    problems : tuple of str
        What could not be read, said to the reader.
    """

    name: str
    task: dict[str, Any] = field(default_factory=dict)
    protocols: list[dict[str, Any]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, list[np.ndarray]] = field(default_factory=dict)
    thresholds: dict[str, list[float | None]] = field(default_factory=dict)
    y_true: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    subject: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype="U1"))
    features: np.ndarray | None = None
    features_y: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    features_subject: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype="U1"))
    problems: tuple[str, ...] = ()

    @property
    def frozen(self) -> bool:
        """Whether nothing but heads on a frozen network was fitted."""
        return not {str(row.get("protocol")) for row in self.protocols} & {"fine", "scratch"}

    def predicted(self, protocol: str) -> list[np.ndarray]:
        """Return the predicted class of every test window, one array per seed."""
        limits = self.thresholds.get(protocol) or [None] * len(self.scores[protocol])
        return [
            scores.argmax(axis=1) if limit is None else (scores[:, 1] >= limit).astype(int)
            for scores, limit in zip(self.scores[protocol], limits)
        ]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the scores' columns."""
        return [str(name) for name in self.task.get("classes", ())]


@dataclass(frozen=True)
class Evaluation:
    """The rows of an ``eegm2 evaluate`` result (model, metric, mean, std, ci_low, ci_high, n_subjects).

    Attributes
    ----------
    comparisons : list of dict
        a, b, metric, difference, ci_low, ci_high, p (or problem), from details.json.
    notes : list of str
        What pretraining saw, and what has failed or is missing.
    """

    name: str
    rows: list[dict[str, Any]]
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class ReportData:
    """Everything a report may show; what is missing is None or empty and explained in `missing`.

    Attributes
    ----------
    run : str
        Name of the run folder.
    header : dict
        The checkpoint's header (model, preprocessing, windows, ch_names, sfreq_hz, data, pretrain, …).
    splits : dict of str to tuple of str
        Subjects of "train", "val" and "test" (recordings where `split_by` is "recording").
    electrode_weights : dict of str to ndarray, shape (n_chans,)
        As `eegm2.model.electrode_weights` returns them, for `ch_names`.
    tuned : bool
        A run of ``eegm2 finetune``, whose log is of that.
    missing : dict of str to str
        Section (log, store, reconstruction, probes …) → one sentence that says what is missing and why.
    """

    run: str
    header: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    split_seed: int | None = None
    split_by: str = "subject"
    n_parameters: int | None = None
    tuned: bool = False
    log: TrainingLog | None = None
    recordings: list[Recording] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    ch_names: tuple[str, ...] = ()
    positions: dict[str, tuple[float, float]] = field(default_factory=dict)
    sfreq_hz: float | None = None
    reconstruction: Reconstruction | None = None
    class_power: ClassPower | None = None
    electrode_weights: dict[str, np.ndarray] = field(default_factory=dict)
    probes: list[Probe] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    command: str = ""
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
