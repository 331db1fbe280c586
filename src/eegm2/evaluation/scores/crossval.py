"""Cross-validation by subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.data.windows.splits import SplitManifest, subject_folds
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import CLASSIFICATION, REGRESSION
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.scores.resampling import interval
from eegm2.evaluation.scores.weighted_metrics import TestPart, fold_values
from eegm2.evaluation.windows.labelled import LabelledWindows, Split, subject_labels_of

#: Anything that learns on a split's train and val parts and scores its test part, with a seed.
Runner = Callable[[LabelledWindows, Split, int], Outcome]


def subject_splits(data: LabelledWindows, n_folds: int, *, val: float = 0.2, seed: int = 0) -> list[Split]:
    """Return grouped k-fold splits: every subject is tested once, and validates or trains otherwise.

    Parameters
    ----------
    data : LabelledWindows
        Whose subjects are divided.
    n_folds : int
        Test parts.
    val : float
        Share of the remaining subjects for validation, at least one.
    seed : int
        The same seed gives the same folds, whatever the hash seed.

    Raises
    ------
    DataError
        If there are fewer subjects than folds (plus two to train and validate), or a fold cannot be used.
    """
    subjects = sorted(set(data.subject.tolist()))
    if n_folds < 2 or len(subjects) < max(n_folds, 3):
        raise DataError(f"n_folds: got {n_folds} for {len(subjects)} subjects; expected 2 to {len(subjects)}")
    labels = subject_labels_of(data)
    splits = []
    for number, (rest, test) in enumerate(subject_folds(subjects, n_folds, seed=seed, labels=labels)):
        if len(rest) < 2:
            raise DataError(
                f"n_folds: got {n_folds} for {len(subjects)} subjects, which leaves one of them to train and "
                "validate; use more folds"
            )
        count = min(max(1, round(val * len(rest))), len(rest) - 1)
        folds = subject_folds(rest, max(2, round(len(rest) / count)), seed=seed + number, labels=labels)
        train, validation = folds[0]
        parts = Split(*(data.where_subject(names) for names in (train, validation, test)))
        parts.check(data)
        splits.append(parts)
    return splits


def manifest_split(data: LabelledWindows, manifest: SplitManifest) -> Split:
    """Return the windows of a fixed manifest's parts."""
    origin = data.subject if manifest.by == "subject" else data.recording
    parts = (np.flatnonzero(np.isin(origin, getattr(manifest, part))) for part in ("train", "val", "test"))
    split = Split(*parts)
    split.check(data, unit=manifest.by)
    return split


@dataclass(frozen=True)
class CrossValidated:
    """Predictions of every fold with every seed.

    Attributes
    ----------
    parts : tuple of tuple of TestPart
        ``parts[seed][fold]``.
    seeds : tuple of int
        The seeds; one where the runner says it is deterministic.
    outcomes : tuple of tuple of Outcome
        As the runner returned them.
    """

    parts: tuple[tuple[TestPart, ...], ...]
    seeds: tuple[int, ...]
    outcomes: tuple[tuple[Outcome, ...], ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that suit the predictions."""
        return CLASSIFICATION if self.parts[0][0].score.ndim == 2 else REGRESSION

    @property
    def n_subjects(self) -> int:
        """Subjects tested."""
        return len({name for part in self.parts[0] for name in part.subject.tolist()})

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return the metric of every seed and fold, (n_seeds, n_folds)."""
        return fold_values(self.parts, metric)

    def rows(self, model: str, *, n_bootstrap: int = 1000, level: float = 0.95) -> list[dict[str, Any]]:
        """Return one row per metric: mean over folds, std over seeds, interval over subjects.

        Returns
        -------
        list of dict
            model, metric, mean, std, ci_low, ci_high, n_subjects, seeds.
        """
        rows = []
        for metric in self.metrics:
            by_seed = self.values(metric).mean(1)
            low, high = interval(self.parts, metric, n_bootstrap=n_bootstrap, level=level)
            figures = {"mean": by_seed.mean(), "std": by_seed.std(), "ci_low": low, "ci_high": high}
            plain = {name: float(v) if np.isfinite(v) else None for name, v in figures.items()}
            about = {"n_subjects": self.n_subjects, "seeds": list(self.seeds)}
            rows.append({"model": model, "metric": metric, **plain, **about})
        return rows


def cross_validate(
    runner: Runner, data: LabelledWindows, splits: Sequence[Split], seeds: Iterable[int] = (0,)
) -> CrossValidated:
    """Run every split with every seed.

    Parameters
    ----------
    runner : callable
        ``runner(data, split, seed) -> Outcome``, for instance a partial of :func:`run_protocol`.
    data : LabelledWindows
        The windows.
    splits : sequence of Split
        From :func:`subject_splits` or :func:`manifest_split`.
    seeds : iterable of int
        A runner whose first outcome says ``deterministic`` is run once.
    """
    parts, outcomes, used = [], [], []
    for seed in seeds:
        made = tuple(runner(data, split, seed) for split in splits)
        outcomes.append(made)
        parts.append(
            tuple(tested_part(data, split, outcome, "subject") for outcome, split in zip(made, splits))
        )
        used.append(seed)
        if made[0].facts.get("deterministic"):
            break
    if not used or not splits:
        raise ConfigError(
            f"cross_validate: got {len(splits)} splits and {len(used)} seeds, expected at least one each"
        )
    return CrossValidated(tuple(parts), tuple(used), tuple(outcomes))


def tested_part(data: LabelledWindows, split: Split, outcome: Outcome, by: str) -> TestPart:
    """Return an outcome's predictions with the truth; `by` is what is resampled later."""
    origin = data.subject if by == "subject" else data.recording
    return TestPart(data.y[split.test], np.asarray(outcome.score), origin[split.test], outcome.threshold)
