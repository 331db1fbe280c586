"""Which windows of a recording there are, and which label each one has."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import numpy as np

from eegm2.data.config import WindowConfig
from eegm2.data.joins import is_join, is_skip
from eegm2.data.labels import LabelSpan
from eegm2.data.store.facts import RecordingInfo


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
    allowed = _allowed(info, config, starts, n_times)
    return starts[allowed], labels[allowed]


def labels_at(
    info: RecordingInfo,
    spans: Sequence[LabelSpan],
    config: WindowConfig,
    classes: Sequence[str],
    starts: np.ndarray,
    n_times: int,
) -> np.ndarray:
    """Return the class numbers (-1: none, or not to be used) of windows that begin at given samples.

    Parameters
    ----------
    info, spans, config, classes, n_times
        As for `recording_windows`. Under the label rule ``centre`` a span labels the window that lies nearest
        to its middle, at most half a window away.
    starts : array of int
        First sample of every window.
    """
    starts_s, length_s = starts / info.sfreq_hz, n_times / info.sfreq_hz
    if config.label_rule == "centre":
        labels = np.full(len(starts), -1, dtype=np.int32)
        for span in (span for span in spans if span.label in classes and len(starts)):
            away = np.abs(starts_s + length_s / 2 - (span.onset_s + span.duration_s / 2))
            if away.min() <= length_s / 2:
                labels[away.argmin()] = classes.index(span.label)
    else:
        labels = _grid_labels(starts_s, length_s, spans, classes, config.label_rule)
    labels[~_allowed(info, config, starts, n_times)] = -1
    return labels


def _allowed(info: RecordingInfo, config: WindowConfig, starts: np.ndarray, n_times: int) -> np.ndarray:
    """Return which windows touch nothing that is excluded and cross no join."""
    starts_s, length_s = starts / info.sfreq_hz, n_times / info.sfreq_hz
    excluded = [LabelSpan(start, stop - start, "") for start, stop in config.excluded_spans()]
    banned = [span for span in info.labels if is_excluded_label(span.label, config)]
    excluded += [span for span in banned if not is_join(span.label)]
    joins = np.array(sorted(span.onset_s for span in banned if is_join(span.label)))
    allowed = np.ones(len(starts), bool)
    if len(joins):
        allowed &= ~_crosses(joins, starts_s, length_s, 0.25 / info.sfreq_hz)
    if excluded:
        allowed &= ~(_covered(excluded, starts_s, length_s, instants=True) > 0)
    return allowed


def _crosses(joins_s: np.ndarray, starts_s: np.ndarray, length_s: float, tolerance_s: float) -> np.ndarray:
    """Return which windows hold samples of both sides of one of `joins_s` (sorted)."""
    after_start = np.searchsorted(joins_s, starts_s + tolerance_s, side="right")
    before_end = np.searchsorted(joins_s, starts_s + length_s - tolerance_s, side="left")
    crossing: np.ndarray = before_end > after_start
    return crossing


def is_excluded_label(label: str, config: WindowConfig) -> bool:
    """Return whether no window may touch a span of this label; discontinuities are always such."""
    if is_join(label) or is_skip(label):
        return True
    return any(fnmatch.fnmatchcase(label.lower(), pattern.lower()) for pattern in config.exclude_labels)


def label_spans(info: RecordingInfo, config: WindowConfig) -> list[LabelSpan]:
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
    best = covered.argmax(0)
    if rule == "whole":
        decided = (covered.max(0) >= length_s - tolerance) & ((covered > tolerance).sum(0) == 1)
    else:
        decided = (covered > length_s / 2 + tolerance).sum(0) == 1
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
