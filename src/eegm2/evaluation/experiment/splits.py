"""The splits of an experiment: folds, manifests or the data set's own, and learning curves within them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eegm2.data.config import SplitConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import SplitManifest, split_subjects, stratified_order
from eegm2.errors import DataError
from eegm2.evaluation.experiment.config import Plan
from eegm2.evaluation.scores.crossval import manifest_split, subject_splits
from eegm2.evaluation.windows.labelled import LabelledWindows, Split, subject_labels_of


@dataclass(frozen=True)
class NamedSplit:
    """One split of the subjects.

    Attributes
    ----------
    name : str
        fold0 …, split0 … or official.
    indices : Split
        Windows of each part.
    manifest : SplitManifest
        Who is in which part; pretraining gets this one, whatever the learning curve leaves out.
    n_labelled : int or None
        On a learning curve: subjects whose labels are used.
    """

    name: str
    indices: Split
    manifest: SplitManifest
    n_labelled: int | None = None

    def units(self, data: LabelledWindows) -> dict[str, list[str]]:
        """Return who is in which part, learning curve considered, sorted."""
        origin = data.subject if self.manifest.by == "subject" else data.recording
        return {
            part: sorted(set(origin[getattr(self.indices, part)].tolist()))
            for part in ("train", "val", "test")
        }


def named_splits(plan: Plan, store: RecordingStore, data: LabelledWindows) -> list[NamedSplit]:
    """Return every split of the plan, those of learning curves included.

    Raises
    ------
    DataError
        If a split cannot be used: see :func:`subject_splits`, :meth:`Split.check`.
    """
    options = plan.splits
    if options.scheme == "folds":
        made = subject_splits(data, options.n_folds, val=options.val, seed=options.seed)
        whole = [
            NamedSplit(f"fold{i}", split, _manifest(data, split, store, options.seed))
            for i, split in enumerate(made)
        ]
    elif options.scheme == "manifest":
        manifests = [SplitManifest.from_json(plan.place(file), store) for file in options.files]
        whole = [NamedSplit(f"split{i}", manifest_split(data, m), m) for i, m in enumerate(manifests)]
        kinds = {split.manifest.by for split in whole}
        if len(kinds) > 1:
            raise DataError(f"{plan.path}: splits: file: some manifests divide subjects, some recordings")
    else:
        whole = [_official(plan, store, data)]
    if not options.train_subjects:
        return whole
    return [_subset(split, data, count, plan) for split in whole for count in sorted(options.train_subjects)]


def _official(plan: Plan, store: RecordingStore, data: LabelledWindows) -> NamedSplit:
    """Return the data set's own test part; validation is drawn from its training part."""
    if not any(info.split == "test" for info in store.recordings):
        raise DataError(f"{store.url}: no recording belongs to an official test part; use scheme 'folds'")
    options = plan.splits
    choice = SplitConfig(seed=options.seed, val=options.val, test=0.0, by=options.by)
    manifest = split_subjects(store, choice, subject_labels_of(data, options.by))
    return NamedSplit("official", manifest_split(data, manifest), manifest)


def _manifest(data: LabelledWindows, split: Split, store: RecordingStore, seed: int) -> SplitManifest:
    train, val, test = (
        tuple(sorted(set(data.subject[part].tolist()))) for part in (split.train, split.val, split.test)
    )
    return SplitManifest(train, val, test, seed, "subject", store.manifest_sha256)


def _subset(split: NamedSplit, data: LabelledWindows, count: int, plan: Plan) -> NamedSplit:
    """Return a split that learns from `count` subjects; those of a smaller count are among them."""
    labels = subject_labels_of(data, split.manifest.by)
    units = split.units(data)
    there = len(units["train"]) + len(units["val"])
    if count > there:
        raise DataError(
            f"{plan.path}: splits: train_subjects: got {count}, but {split.name} has {there} besides the test"
        )
    n_val = min(max(1, round(plan.splits.val * count)), len(units["val"]))
    n_train = min(count - n_val, len(units["train"]))
    kept = {}
    for part, number in (("train", n_train), ("val", count - n_train)):
        kept[part] = stratified_order(units[part], labels, plan.splits.seed)[:number]
    origin = data.subject if split.manifest.by == "subject" else data.recording
    parts = {part: np.flatnonzero(np.isin(origin, names)) for part, names in kept.items()}
    indices = Split(parts["train"], parts["val"], split.indices.test)
    return NamedSplit(f"{split.name}/{count}", indices, split.manifest, count)
