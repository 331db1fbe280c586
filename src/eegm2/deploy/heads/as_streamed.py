"""Features of stored recordings as a live stream would give them: filter, scale, network, windows, centre."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eegm2.config import AT_LEAST_1, NOT_NEGATIVE, SECONDS, expect, one_of
from eegm2.data.config import Scaling, WindowConfig
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore
from eegm2.data.windows.labelling import label_spans, labels_at
from eegm2.deploy.device.decisions import StreamCentring
from eegm2.deploy.device.scale import RunningScale
from eegm2.deploy.heads.decisions import SlidingFeatures, steps_of
from eegm2.deploy.long import encode_long
from eegm2.deploy.stream.causal_copy import restored_parts, streamed_parts
from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.evaluation.config import Centre
from eegm2.evaluation.features.centring import WARM_UP_WINDOWS
from eegm2.model.network import EEGM2

#: Longest baseline where none is asked for, and its share of a usual recording.
BASELINE_S, _BASELINE_SHARE = 60.0, 0.2


@dataclass(frozen=True)
class StreamedAs:
    """How a stream makes features; kept in a head, so that `eegm2 stream` does the same.

    Attributes
    ----------
    features : str
        A kind of :func:`eegm2.model.features.window_features`.
    scaling : str
        See :func:`eegm2.deploy.device.scale.window_scale`.
    window_s, hop_s : float
        Length of a window and time between two of them.
    calibration_s, adapt_s : float
        Baseline, and time constant of the scale after it (0: fixed).
    centre : {"none", "recording", "running"}
        What is taken off the features; a stream takes its running mean for either.
    warm_up : int
        Windows, side by side, before that mean is known.
    """

    features: str
    scaling: Scaling
    window_s: float
    hop_s: float
    calibration_s: float
    adapt_s: float = 0.0
    centre: Centre = "none"
    warm_up: int = WARM_UP_WINDOWS

    def __post_init__(self) -> None:
        expect(self, one_of("none", "recording", "running"), "centre")
        expect(self, NOT_NEGATIVE, "adapt_s")
        expect(self, AT_LEAST_1, "warm_up")
        expect(self, SECONDS, "calibration_s", "hop_s")


@dataclass(frozen=True)
class StreamedWindows:
    """Windows of several recordings, in the order in which streams would decide on them.

    Attributes
    ----------
    features : array, shape (n, n_features)
    y : array of int, shape (n,)
        Class numbers.
    subjects : array of str, shape (n,)
    apart : array of bool, shape (n,)
        Windows that do not overlap: those to learn from.
    decided : array of bool, shape (n,)
        Windows on which a stream decides; not those before a running mean is known, from which a head learns
        with the mean at the end of the warm-up.
    """

    features: NDArray[np.float32]
    y: NDArray[np.int64]
    subjects: NDArray[np.str_]
    apart: NDArray[np.bool_]
    decided: NDArray[np.bool_]


def usual_baseline(recordings: list[RecordingInfo], window_s: float) -> float:
    """Return a minute, or a fifth of a usual recording where that is less: whole windows, at least one."""
    usual_s = float(np.median([info.duration_s for info in recordings]))
    return window_s * max(1, int(min(BASELINE_S, _BASELINE_SHARE * usual_s) / window_s))


def streamed_windows(
    model: EEGM2,
    store: RecordingStore,
    recordings: list[RecordingInfo],
    windows: WindowConfig,
    classes: tuple[str, ...],
    how: StreamedAs,
    raw: Path | None = None,
) -> StreamedWindows:
    """Return the labelled windows of recordings as streams of them would have given.

    A label counts for the windows that it covers on the stream's clock, as someone who marks events while
    streaming would see them: the delay of the filter is not taken off.

    Parameters
    ----------
    model : EEGM2
    store : RecordingStore
    recordings : list of RecordingInfo
        Of that store. What the baseline takes of each is not used.
    windows : WindowConfig
        Labels and exclusions.
    classes : tuple of str
        In the order of their numbers.
    how : StreamedAs
        The stream's settings.
    raw : Path, optional
        Folder of the recordings that the store was made from. With it they are streamed as they are; without,
        the signal of a stream is restored from the store, see :func:`causal_copy`.
    """
    rate_hz, step = store.sfreq_hz, model.config.step_samples
    hop = steps_of("hop_s", how.hop_s, rate_hz, step)
    length = steps_of("window_s", how.window_s, rate_hz, step)
    parts: list[tuple[Any, ...]] = []
    for info in recordings:
        starts, features, known = _one_stream(model, store, info, how, length, hop, raw)
        labels = labels_at(info, label_spans(info, windows), windows, classes, starts, length * step)
        there = labels >= 0
        apart = np.arange(len(starts)) % -(-length // hop) == 0
        names = np.full(there.sum(), info.subject)
        parts.append((features[there], labels[there], names, apart[there], known[there]))
    columns = [np.concatenate(column) for column in zip(*(part for part in parts if len(part[1])))] or [
        *(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), np.zeros(0, np.str_)),
        *(np.zeros(0, bool), np.zeros(0, bool)),
    ]
    return StreamedWindows(columns[0], columns[1].astype(np.int64), *columns[2:])


def _one_stream(
    model: EEGM2,
    store: RecordingStore,
    info: RecordingInfo,
    how: StreamedAs,
    length: int,
    hop: int,
    recordings: Path | None,
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.bool_]]:
    """Return first sample and features of a stream's windows, and on which of them it decides."""
    step = model.config.step_samples
    late = StreamingEEGM2(model, output="representation").latency_samples
    scale = RunningScale(
        how.scaling,
        store.sfreq_hz,
        window_s=how.window_s,
        calibration_s=how.calibration_s,
        adapt_s=how.adapt_s,
    )
    centring = StreamCentring(length, how.warm_up) if how.centre != "none" else None
    starts: list[float] = []
    made: list[tuple[NDArray[np.float32], NDArray[np.float64] | None]] = []
    pieces = restored_parts(store, info) if recordings is None else streamed_parts(store, info, recordings)
    for number, (first, x_uv) in enumerate(pieces, start=1):
        x = scale.push(x_uv)
        begun = first + x_uv.shape[1] - x.shape[1]
        if centring is not None:
            centring.restart()
        if x.shape[1] < length * step:
            continue
        with torch.inference_mode():
            representation = torch.from_numpy(encode_long(model, x))[None]
            if number < len(pieces):  # what a join cuts short never comes out
                representation = representation[..., : max(0, (x.shape[1] - late) // step)]
            sliding = SlidingFeatures(length, hop, how.features, model.config)
            for end, features in sliding.push(representation):
                row = features[0].numpy()
                starts.append(begun + (end - length) * step)
                made.append((row, None if centring is None else _first(centring.take(row[None], end))))
    if not made:
        return np.zeros(0), np.zeros((0, 0), np.float32), np.zeros(0, bool)
    return np.array(starts), *_centred(made, centring)


def _first(rows: np.ndarray | None) -> NDArray[np.float64] | None:
    return None if rows is None else rows[0]


def _centred(
    made: list[tuple[NDArray[np.float32], NDArray[np.float64] | None]], centring: StreamCentring | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the features of windows (as they are, centred) as a stream centres them, and where it can."""
    features = np.stack([row for row, _ in made])
    if centring is None:
        return features, np.ones(len(made), bool)
    known = np.array([row is not None for _, row in made])
    first = int(known.argmax()) if known.any() else len(made) - 1
    at_first = made[first][1]
    mean = centring.mean.mean if at_first is None else features[first] - at_first
    assert mean is not None
    return np.stack([row - mean if new is None else new for row, new in made]).astype(np.float32), known
