"""Windows of a recording as its stream gives them, sorted into the blocks that a person was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.deploy.config import StreamConfig
from eegm2.deploy.device.decisions import Decider, DecisionRule
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.live.pipeline import Pipeline
from eegm2.deploy.live.plan import Step
from eegm2.deploy.live.source import RecordingSource, Source
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import DataError


@dataclass(frozen=True)
class BlockWindows:
    """The windows of labelled blocks, in order.

    Attributes
    ----------
    features : array, shape (n, n_features)
    y : array of int, shape (n,)
        Class numbers.
    block : array of int, shape (n,)
        Which block each is of.
    number : array of int, shape (n,)
        The how-manieth of its class that block is.
    apart : array of bool, shape (n,)
        Windows that do not overlap: those to learn from.
    """

    features: NDArray[np.float64]
    y: NDArray[np.int64]
    block: NDArray[np.int64]
    number: NDArray[np.int64]
    apart: NDArray[np.bool_]


class _Keep(Decider):
    """Keeps the features of windows instead of deciding on them."""

    def __init__(self) -> None:
        super().__init__(lambda features: features, (), DecisionRule())

    def push(self, features: np.ndarray, end: int) -> dict[str, Any] | None:
        return {"features": features[0]}


def streamed_features(
    recording: Path,
    source: Source,
    trained: TrainedModel,
    config: StreamConfig,
    facts: dict[str, Any],
    *,
    begin_s: float,
) -> list[dict[str, Any]]:
    """Return the windows of a stream of a recording from a time on: ``time_s``, ``features``, ``quality``.

    The pipeline is that of `eegm2 stream`; it begins with a baseline, whose scale is kept where `config`
    says.

    Parameters
    ----------
    recording : Path
        As `record` wrote it.
    source : Source
        Of which it is: its channels, rate and device count.
    trained : TrainedModel
    config : StreamConfig
    facts : dict
        Of the head that is to be fitted.
    begin_s : float
        Where the baseline begins.
    """
    blank = DenseHead(np.zeros(1), np.ones(1), [(np.zeros((2, 1)), np.zeros(2))], ("", " "), facts=facts)
    pipeline = Pipeline(trained, config, blank, _Keep())
    pipeline.connect(source)
    played = RecordingSource(recording, speed=0.0)
    played.open()
    windows: list[dict[str, Any]] = []
    try:
        while (chunk := played.read(max(1, round(played.sfreq_hz)), 0.0)) is not None:
            skip = int(np.searchsorted(chunk.times_s, begin_s - 0.5 / played.sfreq_hz))
            if skip < len(chunk.times_s):
                windows += pipeline.push(
                    replace(chunk, x_uv=chunk.x_uv[:, skip:], times_s=chunk.times_s[skip:])
                ).decisions
        windows += pipeline.finish().decisions
    finally:
        played.close()
    if not pipeline.scale.calibrated:
        there_s, needed_s = pipeline.scale.baseline_s
        raise DataError(f"{recording}: has {there_s:.1f} of the {needed_s:.1f} s that the baseline needs")
    return windows


def block_windows(
    windows: Sequence[dict[str, Any]],
    blocks: Sequence[Step],
    classes: Sequence[str],
    *,
    window_s: float,
    settle_s: float,
    sfreq_hz: float,
) -> BlockWindows:
    """Sort windows into blocks; what a block does not cover whole, or has a flat channel, is left out.

    Parameters
    ----------
    windows : sequence of dict
        From :func:`streamed_features`.
    blocks : sequence of Step
        In seconds of the recording.
    classes : sequence of str
        In the order of their numbers.
    window_s, settle_s : float
        Length of a window; seconds at the start of a block that do not count.
    sfreq_hz : float
        Of the network; times are told to half a sample.
    """
    exact_s, numbers = 0.5 / sfreq_hz, dict.fromkeys(classes, 0)
    rows: list[tuple[np.ndarray, int, int, int, bool]] = []
    for place, block in enumerate(blocks):
        free_s = block.begin_s + settle_s - exact_s
        inside = [
            window
            for window in windows
            if window["time_s"] - window_s >= free_s
            and window["time_s"] <= block.end_s + exact_s
            and not any(flag.startswith("flat:") for flag in window["quality"])
        ]
        for window in inside:
            apart = window["time_s"] - window_s >= free_s
            free_s = window["time_s"] - exact_s if apart else free_s
            number, label = numbers[block.label], classes.index(block.label)
            rows.append((window["features"], label, place, number, apart))
        numbers[block.label] += bool(inside)
    columns = [np.array(column) for column in zip(*rows)] or [np.zeros((0, 0)), *[np.zeros(0, int)] * 4]
    return BlockWindows(columns[0].astype(float), columns[1], columns[2], columns[3], columns[4].astype(bool))
