"""From a pretrained checkpoint and a store of recordings to labelled windows and a split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.config import to_dict
from eegm2.data.channels import unnamed
from eegm2.data.config import SplitConfig, WindowConfig, signal_differences
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import window_dataset
from eegm2.data.windows.splits import PARTS, SplitManifest, split_subjects, splits_of
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import ProbeConfig
from eegm2.evaluation.windows.labelled import LabelledWindows, Split, subject_labels_of
from eegm2.training.checkpoint import Checkpoint
from eegm2.zoo.find import model_folder


def preprocessing_differences(header: dict[str, Any], store: RecordingStore) -> list[str]:
    """Return one phrase for every way in which a store's signal differs from the checkpoint's data.

    Parameters
    ----------
    header : dict
        Of the checkpoint: ch_names, sfreq_hz, preprocessing.
    store : RecordingStore
        What is to be evaluated.
    """
    found = []
    trained, here = list(header["ch_names"]), list(store.ch_names)
    if unnamed(trained) and len(trained) == len(here):
        trained = here
    if trained != here:
        missing = [name for name in trained if name not in here]
        extra = [name for name in here if name not in trained]
        detail = "the same channels in another order" if not missing and not extra else ""
        detail = detail or f"missing {', '.join(missing) or 'none'}, extra {', '.join(extra) or 'none'}"
        found.append(f"channels: {len(trained)} in the checkpoint, {len(here)} in the store ({detail})")
    differing = signal_differences(header["preprocessing"], to_dict(store.preprocessing))
    return found + [f"{name}: {a} in the checkpoint, {b} in the store" for name, a, b in differing]


def refuse_mismatch(
    header: dict[str, Any], store: RecordingStore, where: str, *, allow: bool = False
) -> list[str]:
    """Refuse a store prepared otherwise than the checkpoint's data, or return the differences if allowed.

    Raises
    ------
    ConfigError
        Listing every difference; always for another number of channels, unless `allow` otherwise.
    """
    differences = preprocessing_differences(header, store)
    if len(header["ch_names"]) != len(store.ch_names):
        raise ConfigError(
            f"{store.url}: does not fit {where}: {'; '.join(differences)}; prepare the recordings "
            "with the checkpoint's "
            "channels (for transfer to another channel count see eegm2.adapt_channels)"
        )
    if differences and not allow:
        raise ConfigError(
            f"{store.url}: prepared otherwise than the data of {where}: {'; '.join(differences)}; "
            "prepare it alike, "
            "or pass --allow-mismatch"
        )
    return differences


def probe_windows(pretrained: WindowConfig, config: ProbeConfig) -> WindowConfig:
    """Return how windows are cut for a probe: as in pretraining, where nothing else is asked for."""
    return replace(
        pretrained,
        window_s=pretrained.window_s if config.window_s is None else config.window_s,
        stride_s=config.stride_s,
        scaling=config.scaling or pretrained.scaling,
        target=config.target or pretrained.target,
        label_rule=config.label_rule,
        exclude_s=config.exclude_s or pretrained.exclude_s,
        reject_uv=config.reject_uv or pretrained.reject_uv,
    )


def labelled_windows(
    store: RecordingStore, windows: WindowConfig, classes: tuple[str, ...] = (), *, regression: bool = False
) -> LabelledWindows:
    """Return the labelled windows of a store.

    Parameters
    ----------
    store : RecordingStore
        Recordings with annotations or attributes.
    windows : WindowConfig
        Length, stride, scaling, target and exclusions.
    classes : tuple of str
        Labels to keep, in this order; all found if empty.
    regression : bool
        Read the labels as numbers.

    Raises
    ------
    DataError
        If a class asked for has no window (the labels there are listed), or a label is no number.
    """
    dataset = window_dataset(store, windows, classes=classes or None, labelled=True)
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    absent = [name for name, count in zip(dataset.classes, counts) if not count]
    if classes and absent:
        there = window_dataset(store, windows).classes
        raise DataError(
            f"{store.url}: no window of {windows.window_s:g} s is labelled {', '.join(absent)}; "
            f"labels there for target '{windows.target}': {', '.join(there) or 'none'}"
        )
    y: Any = dataset.labels.astype(np.int64)
    names = dataset.classes
    if regression:
        try:
            y = np.array([float(name) for name in names])[y]
        except ValueError as error:
            raise DataError(
                f"{store.url}: target '{windows.target}' is no number ({error}); leave out --regression"
            ) from error
        names = ()
    elif absent:
        kept = [i for i, count in enumerate(counts) if count]
        y, names = np.searchsorted(kept, y), tuple(names[i] for i in kept)
    return LabelledWindows.from_dataset(dataset, y, names)


@dataclass(frozen=True)
class ChosenSplit:
    """A split, where it comes from, and what pretraining saw of its test part.

    Attributes
    ----------
    manifest : SplitManifest
        Subjects (recordings) of each part.
    indices : Split
        Windows of each part.
    source : {"run", "new"}
        The run's own split, or drawn here.
    statement : str
        One sentence on whether pretraining saw the test part.
    notes : tuple of str
        What a reader of the results must know.
    """

    manifest: SplitManifest
    indices: Split
    source: str
    statement: str
    notes: tuple[str, ...]


def choose_split(
    data: LabelledWindows, store: RecordingStore, run_split: SplitManifest | None, config: ProbeConfig
) -> ChosenSplit:
    """Return the run's split where it belongs to this store, a new seeded one by subject otherwise.

    Raises
    ------
    DataError
        If there are fewer than three labelled subjects (recordings), or a part cannot be used.
    """
    same = run_split is not None and run_split.manifest_sha256 == store.manifest_sha256
    origin = data.subject if config.by == "subject" else data.recording
    units = sorted(set(origin.tolist()))
    if len(units) < 3:
        people = len(set(data.subject.tolist()))
        remedy, have = "add recordings", " has" if len(units) == 1 else "s have"
        if config.by == "subject":
            remedy = (
                "add people, or divide by recording with --by recording (shows the pipeline, not a finding)"
            )
        raise DataError(
            f"{store.url}: {len(units)} {config.by}{have} labelled windows ({people} people in all); "
            f"train, validation and test need three; {remedy}"
        )
    manifest, source = run_split, "run"
    if run_split is None or not same or run_split.by != config.by or not run_split.test or not run_split.val:
        manifest, source = _new_split(data, store, config), "new"
    assert manifest is not None
    parts = {
        part: np.flatnonzero(np.isin(origin, getattr(manifest, part))) for part in ("train", "val", "test")
    }
    indices = Split(**parts)
    indices.check(data, unit=config.by)
    notes = []
    if config.by == "recording":
        people = len(set(data.subject.tolist()))
        notes.append(
            "within one subject: shows the pipeline, not a finding"
            if people == 1
            else f"split by recording, so the same people may be in several parts ({people} people): not "
            "a finding"
        )
    return ChosenSplit(manifest, indices, source, pretraining_saw(manifest, run_split, same), tuple(notes))


@dataclass(frozen=True)
class LabelledTask:
    """What a model is asked of a store: which windows, and which people are learnt from and judged on.

    Attributes
    ----------
    windows : WindowConfig
        How they are cut and scaled.
    data : LabelledWindows
    split : ChosenSplit
    notes : list of str
        What a reader of the results must know.
    """

    windows: WindowConfig
    data: LabelledWindows
    split: ChosenSplit
    notes: list[str]

    @classmethod
    def of(
        cls, model: str | Path, checkpoint: Checkpoint, store: RecordingStore, config: ProbeConfig
    ) -> LabelledTask:
        """Return the task of a model, opened as `checkpoint`; `model` is its name.

        Raises
        ------
        ConfigError
            If the store does not fit, see :func:`refuse_mismatch`.
        DataError
            If labels or people do not suffice, see :func:`choose_split`.
        """
        differences = refuse_mismatch(checkpoint.header, store, str(model), allow=config.allow_mismatch)
        windows = probe_windows(checkpoint.windows, config)
        data = labelled_windows(store, windows, config.classes, regression=config.regression)
        split = choose_split(data, store, read_run_split(Path(model), store), config)
        notes = [*split.notes, *(f"store differs from the checkpoint's data: {d}" for d in differences)]
        return cls(windows, data, split, notes)


def read_run_split(run: Path, store: RecordingStore) -> SplitManifest | None:
    """Return the split beside the weights of a model (any name of it), if there is one.

    Of a run on several stores, or one that began with another's weights, it is this store's where it was one
    of theirs, else the names of all of them.
    """
    folder = model_folder(run)
    found = [SplitManifest.from_json(path) for path in splits_of(folder)] if folder is not None else []
    own = (manifest.of_store(store.manifest_sha256) for manifest in found)
    return next((split for split in own if split is not None), _names_of_all(found) if found else None)


def _names_of_all(splits: list[SplitManifest]) -> SplitManifest:
    """Return the newest split with the names of the earlier ones too; one of several parts was trained on."""
    newest, *earlier = (split.all_names() for split in splits)
    taken: set[str] = set()
    parts: dict[str, Any] = {}
    for part in PARTS:
        alike = [newest, *(split for split in earlier if split.by == newest.by)]
        names = {name for split in alike for name in getattr(split, part)} - taken
        parts[part], taken = tuple(sorted(names)), taken | names
    return replace(newest, **parts)


def _new_split(data: LabelledWindows, store: RecordingStore, config: ProbeConfig) -> SplitManifest:
    """Draw a split, stratified by label where every subject (recording) has one label only."""
    choice = SplitConfig(seed=config.split_seed, val=config.val, test=config.test, by=config.by)
    return split_subjects(store, choice, subject_labels_of(data, config.by))


def pretraining_saw(manifest: SplitManifest, run_split: SplitManifest | None, same: bool) -> str:
    """Say what pretraining saw of the test part."""
    if run_split is None:
        return "the checkpoint has no split beside it: whether pretraining saw the test part is unknown"
    seen = sorted(set(manifest.test) & (set(run_split.train) | set(run_split.val)))
    what = f"{len(manifest.test)} test {manifest.by}s"
    if same and run_split.by == manifest.by:
        return f"pretraining saw {len(seen)} of the {what}" + (f" ({', '.join(seen[:5])} …)" if seen else "")
    if same:
        return f"pretraining was split by {run_split.by}, so it may have seen data of the {what}"
    if seen:
        return f"pretraining used another store, in which {len(seen)} of the {what} have namesakes"
    return f"pretraining used another store, with none of the {what}"


def refuse_other_channels(header: dict[str, Any], ch_names: tuple[str, ...], where: str) -> None:
    """Refuse a recording whose prepared channels are not those of the checkpoint."""
    expected = tuple(header["ch_names"])
    if unnamed(expected) and len(expected) == len(ch_names):
        return
    if tuple(ch_names) != expected:
        raise DataError(
            f"{where}: gives channels {' '.join(ch_names)}, the checkpoint was trained on "
            f"{' '.join(expected)}; "
            "use a recording with these channels"
        )
