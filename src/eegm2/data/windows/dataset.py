"""Windows of any length and stride, cut from whole recordings at reading time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from eegm2.data.config import DATASETS, WindowConfig
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore
from eegm2.data.windows.labelling import label_spans, recording_windows
from eegm2.data.windows.scaling import scale_stored
from eegm2.errors import ConfigError, DataError
from eegm2.model.config import MIN_TIMES
from eegm2.plugins import read_options

INDEX_DTYPE = np.dtype([("recording", np.int32), ("start", np.int64), ("label", np.int32)])


class WindowBatch(list[dict[str, Any]]):
    """Windows read at once into one tensor: a list of items whose ``x`` are its parts.

    Any `collate_fn` takes it as the list that it is, by copying; `collate_windows` takes what lies behind it.

    Attributes
    ----------
    batch : dict
        ``{"x": float32 Tensor (batch, n_chans, n_times), "y": int64 Tensor (batch,), "index": the same}``.
    """

    def __init__(self, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor) -> None:
        parts = zip(x, y.tolist(), index.tolist())
        super().__init__({"x": window, "y": label, "index": place} for window, label, place in parts)
        self.batch = {"x": x, "y": y, "index": index}


def collate_windows(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return the batch of several windows; no copy where they were read together."""
    if isinstance(items, WindowBatch):
        return items.batch
    batch: dict[str, torch.Tensor] = default_collate(items)
    return batch


def _empty(shape: tuple[int, ...]) -> torch.Tensor:
    """Return room for float32; in a loader's worker in memory that the main process sees too."""
    if get_worker_info() is None:
        return torch.empty(shape)
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape))
    return torch.empty(0).set_(storage).view(shape)


class WindowDataset(Dataset[dict[str, Any]]):
    """A map-style dataset of scaled windows of a store.

    One's own is a subclass that overrides `read`, or takes rows out of `index` after ``__init__``; see
    `window_dataset`.

    Parameters
    ----------
    store : RecordingStore
        Where the recordings are.
    config : WindowConfig
        Length, stride, scaling, labels and exclusions.
    recordings, subjects : iterable of str, optional
        Use only these; both given: those that satisfy both.
    classes : sequence of str, optional
        Labels wanted, in the order of their numbers; default all labels of the selected recordings, sorted.
    labelled : bool
        Keep only windows that have a label. By default all windows are kept, and those without a label have
        the number -1: pretraining wants them, a classifier does not.

    Attributes
    ----------
    index : structured array (recording, start, label)
        One row per window: row of `recordings`, first sample, class number (-1 without a label).
    classes : tuple of str
        Class names.
    recordings : list of RecordingInfo
        The recordings selected.
    unlabelled : tuple of str
        Selected recordings without any label of `classes`.
    options : dataclass or None
        What a data set of one's own was told: `config.dataset_options` as its class `Options` has them.

    Raises
    ------
    DataError
        If a selected recording or subject is not in the store, if no recording is as long as a window (the
        longest is named), or if no window (with a label, where asked) is left.
    ConfigError
        If a window has fewer than one sample.
    """

    Options: ClassVar[type[Any] | None] = None

    def __init__(
        self,
        store: RecordingStore,
        config: WindowConfig,
        *,
        recordings: Iterable[str] | None = None,
        subjects: Iterable[str] | None = None,
        classes: Sequence[str] | None = None,
        labelled: bool = False,
    ) -> None:
        self.store = store
        self.config = config
        where = f"dataset {config.dataset or type(self).__name__}"
        self.options = read_options(type(self), config.dataset_options, where)
        self.n_times = round(config.window_s * store.sfreq_hz)
        self.stride = round(
            (config.stride_s if config.stride_s is not None else config.window_s) * store.sfreq_hz
        )
        if self.n_times < MIN_TIMES or self.stride < 1:
            raise ConfigError(
                f"window_s, stride_s: got {config.window_s}, {config.stride_s}; a window has at least "
                f"{MIN_TIMES} samples and a step one, at {store.sfreq_hz:g} Hz; make them longer"
            )
        self.recordings = _select(store, recordings, subjects)
        longest = max(self.recordings, key=lambda info: info.n_times)
        if longest.n_times < self.n_times:
            raise DataError(
                f"window_s: got {config.window_s:g} s, longer than every recording "
                f"(the longest, {longest.id}, has {longest.duration_s:.2f} s); choose a shorter window"
            )
        spans = [label_spans(info, config) for info in self.recordings]
        if classes is None:
            classes = sorted({span.label for of_recording in spans for span in of_recording})
        self.classes = tuple(classes)
        parts, unlabelled = [], []
        for row, (info, of_recording) in enumerate(zip(self.recordings, spans)):
            starts, labels = recording_windows(
                info, of_recording, config, self.classes, self.n_times, self.stride
            )
            if config.reject_uv:
                quiet = self._quiet(info, starts)
                starts, labels = starts[quiet], labels[quiet]
            keep = labels >= 0 if labelled else slice(None)
            part = np.zeros(len(starts[keep]), INDEX_DTYPE)
            part["recording"], part["start"], part["label"] = row, starts[keep], labels[keep]
            parts.append(part)
            if not any(span.label in self.classes for span in of_recording):
                unlabelled.append(info.id)
        self.index = np.concatenate(parts)
        self.unlabelled = tuple(unlabelled)
        if len(self.index) == 0:
            raise DataError(_why_empty(self, labelled))

    def _quiet(self, info: RecordingInfo, starts: np.ndarray) -> np.ndarray:
        """Return which windows stay within `reject_uv`; the recording is read once, a stretch at a time."""
        over = np.zeros(info.n_times + 1, np.int64)
        for start in range(0, info.n_times, 1 << 18):
            block = self.store.view(info.id, start, min(start + (1 << 18), info.n_times))
            over[start + 1 : start + 1 + len(block)] = (np.abs(block) > self.config.reject_uv).any(1)
        before = np.cumsum(over)
        quiet: np.ndarray = before[starts + self.n_times] == before[starts]
        return quiet

    @property
    def window_s(self) -> float:
        """Length of a window as it is cut, in whole samples; in seconds."""
        return self.n_times / self.store.sfreq_hz

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        found = np.bincount(self.index["label"] + 1, minlength=len(self.classes) + 1)
        labels = [f"{count} {name}" for name, count in zip(self.classes, found[1:])]
        if found[0]:
            labels.append(f"{found[0]} unlabelled")
        chans, people = len(self.store.ch_names), len({info.subject for info in self.recordings})
        return (
            f"WindowDataset({len(self)} windows of {self.config.window_s:g} s, {chans} channels × "
            f"{self.n_times} samples, scaling {self.config.scaling}; {len(self.recordings)} recordings of "
            f"{people} subjects; {', '.join(labels)})"
        )

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Return ``{"x": float32 Tensor (n_chans, n_times), "y": int, "index": int}``."""
        row, start, label = self.index[item]
        return {
            "x": torch.from_numpy(self.window(int(row), int(start))),
            "y": int(label),
            "index": int(item),
        }

    def __getitems__(self, items: Sequence[int]) -> WindowBatch:
        """Return several windows at once, as a DataLoader asks for a batch: see `WindowBatch`."""
        places = np.asarray(items, np.int64)
        rows = self.index[places]
        x = _empty((len(places), len(self.store.ch_names), self.n_times))
        out = x.numpy()
        for i in np.lexsort((rows["start"], rows["recording"])):  # in the order in which they lie in files
            self.read(int(rows["recording"][i]), int(rows["start"][i]), out[i])
        return WindowBatch(x, torch.from_numpy(rows["label"].astype(np.int64)), torch.from_numpy(places))

    def window(self, row: int, start: int) -> np.ndarray:
        """Return the scaled window of ``recordings[row]`` that starts at sample `start`."""
        out = np.empty((len(self.store.ch_names), self.n_times), np.float32)
        self.read(row, start, out)
        return out

    def read(self, row: int, start: int, out: np.ndarray) -> None:
        """Fill `out`, float32 (n_chans, n_times), with a scaled window.

        A data set of one's own overrides this. The same window is always the same numbers: what is random
        belongs into augmentation, which follows from the run's seed.

        Parameters
        ----------
        row, start : int
            As for `window`.
        """
        name, scaling = self.recordings[row].id, self.config.scaling
        stored = self.store.view(name, start, start + self.n_times)
        amplitude_uv = self.store.typical_uv(name) if scaling == "recording" else None
        scale_stored(stored, scaling, out, amplitude_uv)

    @property
    def subjects(self) -> np.ndarray:
        """Subject of each window (array of str)."""
        return np.array([info.subject for info in self.recordings])[self.index["recording"]]

    @property
    def recording_ids(self) -> np.ndarray:
        """Recording id of each window (array of str)."""
        return np.array([info.id for info in self.recordings])[self.index["recording"]]

    @property
    def start_s(self) -> np.ndarray:
        """Start of each window in seconds of its recording."""
        return self.index["start"] / self.store.sfreq_hz

    @property
    def labels(self) -> np.ndarray:
        """Class number of each window, -1 without a label."""
        return self.index["label"]


def window_dataset(store: RecordingStore, config: WindowConfig, **chosen: Any) -> WindowDataset:
    """Return the windows of a store, cut and read by the data set that `config` names.

    Parameters
    ----------
    store, config, **chosen
        As for `WindowDataset`.

    Raises
    ------
    ConfigError, CheckpointError
        If it names one that cannot be used, see `eegm2.plugins.Registry.find`; else as `WindowDataset`.
    """
    made: WindowDataset = DATASETS.find(config.dataset or "windows")(store, config, **chosen)
    return made


def _select(
    store: RecordingStore, recordings: Iterable[str] | None, subjects: Iterable[str] | None
) -> list[RecordingInfo]:
    """Return the recordings asked for, refusing names the store does not have."""
    ids = None if recordings is None else set(recordings)
    people = None if subjects is None else set(subjects)
    for what, asked, known in (
        ("recordings", ids, {info.id for info in store.recordings}),
        ("subjects", people, set(store.subjects)),
    ):
        unknown = sorted(asked - known) if asked is not None else []
        if unknown:
            raise DataError(
                f"{store.url}: {what} not in the store: {', '.join(unknown)}; prepare them or leave them out"
            )
    selected = [
        info
        for info in store.recordings
        if (ids is None or info.id in ids) and (people is None or info.subject in people)
    ]
    if not selected:
        raise DataError(
            f"{store.url}: no recording is left by the choice of recordings and subjects; widen it"
        )
    return selected


def _why_empty(dataset: WindowDataset, labelled: bool) -> str:
    config, url = dataset.config, dataset.store.url
    if labelled and len(dataset.unlabelled) == len(dataset.recordings):
        known = sorted({key for info in dataset.recordings for key in info.attributes})
        return (
            f"{url}: no recording has a label for target '{config.target}' "
            f"(attributes there: {', '.join(known) or 'none'}); choose another target"
        )
    return (
        f"{url}: no window of {config.window_s:g} s is left by label_rule '{config.label_rule}', exclude_s "
        f"{list(config.exclude_s)}, exclude_labels {list(config.exclude_labels)} and reject_uv "
        f"{config.reject_uv:g}; loosen one of them"
    )
