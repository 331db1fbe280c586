"""Windows of any length and stride, cut from whole recordings at reading time."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from eegm2.data.config import WindowConfig
from eegm2.data.recipes.base import LabelSpan
from eegm2.data.scaling import scale_window
from eegm2.data.store import RecordingInfo, RecordingStore
from eegm2.errors import ConfigError, DataError

INDEX_DTYPE = np.dtype([("recording", np.int32), ("start", np.int64), ("label", np.int32)])


class WindowDataset(Dataset[dict[str, Any]]):
    """A map-style dataset of scaled windows of a store.

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
        Keep only windows that have a label.

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

    Raises
    ------
    DataError
        If a selected recording or subject is not in the store, if no recording is as long as a window (the
        longest is named), or if no window (with a label, where asked) is left.
    ConfigError
        If a window has fewer than one sample.
    """

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
        self.n_times = round(config.window_s * store.sfreq_hz)
        self.stride = round(
            (config.stride_s if config.stride_s is not None else config.window_s) * store.sfreq_hz
        )
        if self.n_times < 1 or self.stride < 1:
            raise ConfigError(
                f"window_s, stride_s: got {config.window_s}, {config.stride_s}; "
                f"below one sample at {store.sfreq_hz:g} Hz, make them longer"
            )
        self.recordings = _select(store, recordings, subjects)
        longest = max(self.recordings, key=lambda info: info.n_times)
        if longest.n_times < self.n_times:
            raise DataError(
                f"window_s: got {config.window_s:g} s, longer than every recording "
                f"(the longest, {longest.id}, has {longest.duration_s:.2f} s); choose a shorter window"
            )
        spans = [_label_spans(info, config) for info in self.recordings]
        if classes is None:
            classes = sorted({span.label for of_recording in spans for span in of_recording})
        self.classes = tuple(classes)
        parts, unlabelled = [], []
        for row, (info, of_recording) in enumerate(zip(self.recordings, spans)):
            starts, labels = recording_windows(
                info, of_recording, config, self.classes, self.n_times, self.stride
            )
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

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Return ``{"x": float32 Tensor (n_chans, n_times), "y": int, "index": int}``."""
        recording, start, label = self.index[item]
        return {
            "x": torch.from_numpy(self.window(int(recording), int(start))),
            "y": int(label),
            "index": int(item),
        }

    def window(self, recording: int, start: int) -> np.ndarray:
        """Return the scaled window of row `recording` of `recordings` that starts at sample `start`."""
        stored = self.store.view(self.recordings[recording].id, start, start + self.n_times)
        return scale_window(np.ascontiguousarray(stored.T, dtype=np.float32), self.config.scaling)

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


def recording_windows(
    info: RecordingInfo,
    spans: Sequence[LabelSpan],
    config: WindowConfig,
    classes: Sequence[str],
    n_times: int,
    stride: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts (samples) and class numbers (-1: none) of one recording's windows.

    Parameters
    ----------
    info : RecordingInfo
        Its length, sampling rate and all its annotations.
    spans : sequence of LabelSpan
        The spans that are labels under `config`.
    config : WindowConfig
        Label rule and exclusions.
    classes : sequence of str
        Label of each class number.
    n_times, stride : int
        Samples.
    """
    if config.label_rule == "centre":
        wanted = [span for span in spans if span.label in classes]
        middles = np.array([span.onset_s + span.duration_s / 2 for span in wanted])
        starts = np.round(middles * info.sfreq_hz - n_times / 2).astype(np.int64)
        labels = np.array([classes.index(span.label) for span in wanted], dtype=np.int32)
        inside = (starts >= 0) & (starts + n_times <= info.n_times)
        starts, labels = starts[inside], labels[inside]
    else:
        starts = np.arange(0, info.n_times - n_times + 1, stride, dtype=np.int64)
        labels = _grid_labels(
            starts / info.sfreq_hz, n_times / info.sfreq_hz, spans, classes, config.label_rule
        )
    excluded = [LabelSpan(start, stop - start, "") for start, stop in config.excluded_spans()]
    excluded += [span for span in info.labels if is_excluded_label(span.label, config)]
    if excluded:
        bad = _covered(excluded, starts / info.sfreq_hz, n_times / info.sfreq_hz, instants=True) > 0
        starts, labels = starts[~bad], labels[~bad]
    return starts, labels


def is_excluded_label(label: str, config: WindowConfig) -> bool:
    """Return whether no window may touch a span of this label."""
    return any(fnmatch.fnmatchcase(label.lower(), pattern.lower()) for pattern in config.exclude_labels)


def _label_spans(info: RecordingInfo, config: WindowConfig) -> list[LabelSpan]:
    """Return the spans that carry the target: annotations, or the whole recording with its attribute."""
    if config.target == "annotations":
        return [span for span in info.labels if not is_excluded_label(span.label, config)]
    value = info.attributes.get(config.target, "")
    return [LabelSpan(0.0, info.duration_s, value)] if value not in ("", "n/a") else []


def _grid_labels(
    starts_s: np.ndarray, length_s: float, spans: Sequence[LabelSpan], classes: Sequence[str], rule: str
) -> np.ndarray:
    """Return the class number of each window under the rule ``whole`` or ``majority``."""
    labels = np.full(len(starts_s), -1, dtype=np.int32)
    present = sorted({span.label for span in spans})
    if not present or not len(starts_s):
        return labels
    covered = np.stack(
        [_covered([s for s in spans if s.label == name], starts_s, length_s) for name in present]
    )
    tolerance = 1e-6
    if rule == "whole":
        best = covered.argmax(0)
        decided = (covered.max(0) >= length_s - tolerance) & ((covered > tolerance).sum(0) == 1)
    else:
        best = covered.argmax(0)
        decided = (covered.max(0) > length_s / 2 + tolerance) & (
            (covered > length_s / 2 + tolerance).sum(0) == 1
        )
    number = {name: classes.index(name) if name in classes else -1 for name in present}
    numbers = np.array([number[name] for name in present], dtype=np.int32)
    labels[decided] = numbers[best[decided]]
    return labels


def _covered(
    spans: Sequence[LabelSpan], starts_s: np.ndarray, length_s: float, *, instants: bool = False
) -> np.ndarray:
    """Return how many seconds of each window the union of `spans` covers; instants count if asked."""
    merged: list[list[float]] = []
    for span in sorted(spans):
        onset, duration = span.onset_s, max(span.duration_s, 1e-6 if instants else 0.0)
        if merged and onset <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], onset + duration)
        else:
            merged.append([onset, onset + duration])
    edges = np.minimum(np.array(merged).ravel(), 1e12)
    lengths = np.diff(edges.reshape(-1, 2), axis=1).ravel()
    total = np.repeat(np.cumsum(lengths), 2)
    total[0::2] -= lengths  # covered seconds before each edge
    before, after = np.interp(starts_s, edges, total), np.interp(starts_s + length_s, edges, total)
    return np.where(after - before > 1e-9, after - before, 0.0)


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
        f"{url}: no window of {config.window_s:g} s is left by label_rule '{config.label_rule}', "
        f"exclude_s {list(config.exclude_s)} and exclude_labels {list(config.exclude_labels)}; "
        "loosen one of them"
    )
