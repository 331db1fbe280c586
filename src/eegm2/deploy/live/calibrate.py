"""Guided calibration: a person goes through blocks, and a head that is ready to stream comes out."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.config import split_commas
from eegm2.data.channels import canonical
from eegm2.data.config import PreprocessingConfig
from eegm2.data.electrodes import read_positions
from eegm2.data.positions import template_directions
from eegm2.deploy.config import StreamConfig
from eegm2.deploy.device.calibration import Calibration
from eegm2.deploy.heads.as_streamed import StreamedAs
from eegm2.deploy.heads.decisions import steps_of
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.fit import fit_dense
from eegm2.deploy.live.blocks import BlockWindows, block_windows, streamed_features
from eegm2.deploy.live.config import LEAST_BLOCKS, CalibrateConfig
from eegm2.deploy.live.judged import Judged, Threshold, by_block, choose_threshold, judge
from eegm2.deploy.live.plan import Step, rounds_of
from eegm2.deploy.live.record import run_recorder
from eegm2.deploy.live.recorder import Contact, Recorder, Say, Show
from eegm2.deploy.live.source import Source
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import ConfigError, DataError
from eegm2.model.features import feature_views, refuse_kind, usual_kind
from eegm2.model.network import EEGM2
from eegm2.training.checkpoint import write_json
from eegm2.words import count

RECORDING, HEAD, SCALE, REPORT = "recording.edf", "head.safetensors", "calibration.json", "report.json"


@dataclass(frozen=True)
class Calibrated:
    """What a calibration came to.

    Attributes
    ----------
    head : DenseHead
    judged : Judged
    threshold : Threshold
    report : dict
        The content of ``report.json``.
    """

    head: DenseHead
    judged: Judged
    threshold: Threshold
    report: dict[str, Any]


def calibrate(
    source: Source,
    trained: TrainedModel,
    folder: Path,
    config: CalibrateConfig,
    *,
    say: Say,
    show: Show | None = None,
    stop: threading.Event | None = None,
) -> Calibrated | None:
    """Guide a person through a session and fit a head on it, through what a stream does with the signal.

    The recording is kept whatever happens, from the moment on at which the contact was good.

    Parameters
    ----------
    source : Source
        Not opened yet.
    trained : TrainedModel
    folder : Path
        Gets ``recording.edf``, ``head.safetensors``, ``calibration.json`` (the scale) and ``report.json``.
    config : CalibrateConfig
    say, show : callable
        Take cues for a terminal, and states for a page.
    stop : threading.Event, optional
        Ends the session; nothing is fitted then.

    Returns
    -------
    Calibrated, or None if `stop` was set.

    Raises
    ------
    ConfigError
        If the folder is there already, or the model cannot be streamed.
    DataError
        If channels are missing, the contact is bad, or too little of a class came.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: is there already; name a new folder")
    stop = stop or threading.Event()
    source.open()
    try:
        trained = _on_this_device(trained, source, config)
        needed = _needed(trained, source, config)
        how = _how(trained, config)
        refuse_kind(how.features, trained.config)
    except BaseException:
        source.close()
        raise
    steps = rounds_of(
        config.cues(), config.rounds, config.pause_s, baseline_s=how.calibration_s + 1.0, there_and_back=True
    )

    taken = Recorder(
        folder / RECORDING,
        list(source.ch_names),
        source.sfreq_hz,
        max_gap_s=config.max_gap_s,
        steps=steps,
        contact=Contact(needed, config.contact_s, config.contact == "refuse"),
        say=say,
        show=show,
    )
    try:
        counts = run_recorder(source, taken, config, stop)
    except DataError:
        if taken.began_s is None:  # nothing has been asked of anybody
            (folder / RECORDING).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    if stop.is_set():
        return None
    return fit_session(folder, source, trained, taken, config, how, counts)


def fit_session(
    folder: Path,
    source: Source,
    trained: TrainedModel,
    taken: Recorder,
    config: CalibrateConfig,
    how: StreamedAs,
    counts: dict[str, Any],
) -> Calibrated:
    """Fit, judge and keep a head on the blocks of a session that was recorded into a folder."""
    recording, classes = folder / RECORDING, tuple(label for label, _ in config.cues())
    kept = f"; the recording is kept in {recording}"
    if taken.began_s is None:
        raise DataError(f"{source.name}: ended before the contact was good{kept}")
    facts = _facts(trained, how, config)
    scale = folder / SCALE
    streaming = StreamConfig(
        calibration=str(scale), person=config.person, hop_s=how.hop_s, aliases=config.aliases
    )
    windows = block_windows(
        streamed_features(recording, source, trained, streaming, facts, begin_s=taken.began_s),
        taken.given,
        classes,
        window_s=how.window_s,
        settle_s=config.settle_s,
        sfreq_hz=trained.sfreq_hz,
    )
    try:
        _refuse_bad_channels(taken, _needed(trained, source, config), config)
        _refuse_few_blocks(windows, taken.given, classes)
    except DataError as error:
        scale.unlink()
        raise DataError(f"{error}{kept}") from error

    kind = how.features
    assert isinstance(trained.model, EEGM2)
    views = feature_views(kind, trained.model.config)

    def fitted(some: np.ndarray) -> DenseHead:
        rows = some & windows.apart
        groups, features = windows.number[rows].astype(str), windows.features[rows]
        return fit_dense(features, windows.y[rows], groups, classes, "linear", kind, views, config.seed)

    judged = judge(windows, classes, fitted, config.seed)
    threshold = choose_threshold(windows, judged.probabilities, config.wrong)
    head = fitted(np.ones(len(windows.y), bool))
    report = _report(folder, source, taken, counts, windows, judged, threshold, classes)
    head.facts |= {**facts, "enter": threshold.enter, "leave": threshold.leave, "n_subjects": 1}
    head.facts["validation"] = report["validation"]
    head.save(folder / HEAD)
    write_json(folder / REPORT, report)
    return Calibrated(head, judged, threshold, report)


def _on_this_device(trained: TrainedModel, source: Source, config: CalibrateConfig) -> TrainedModel:
    """Return the model for the device's electrodes, where it takes any."""
    if not trained.config.any_electrodes:
        return trained
    placed = {*template_directions(), *(read_positions(config.positions) if config.positions else {})}
    there = [name for name in source.ch_names if canonical(name) in placed]
    return trained.on_montage(split_commas(config.channels) or there, config.positions)


def _needed(trained: TrainedModel, source: Source, config: CalibrateConfig) -> list[str]:
    """Return the channels of the source that the model needs."""
    declared = trained.preprocessing
    declared = PreprocessingConfig(
        sfreq_hz=declared.sfreq_hz, missing=declared.missing, aliases=(*declared.aliases, *config.aliases)
    )
    matched = CausalPreprocessor(
        source.ch_names, source.sfreq_hz, declared, trained.ch_names, where=source.name
    )
    return [name for name, used in zip(source.ch_names, matched.used) if used]


def _how(trained: TrainedModel, config: CalibrateConfig) -> StreamedAs:
    """Return how the stream makes features."""
    window_s = config.window_s or trained.window_s or 4.0
    step = trained.config.step_samples
    for name, seconds in (("window_s", window_s), ("hop_s", config.hop_s)):
        steps_of(name, seconds, trained.sfreq_hz, step)
    shortest = min(length_s for _, length_s in config.cues()) - config.settle_s
    if shortest < window_s:
        raise ConfigError(
            f"cue: blocks of {shortest + config.settle_s:g} s hold no window of {window_s:g} s after the "
            f"first {config.settle_s:g} s; make them longer, or --window-s shorter"
        )
    kind = usual_kind(trained.config) if config.features == "auto" else config.features
    scaling = config.scaling or trained.scaling
    return StreamedAs(kind, scaling, window_s, config.hop_s, config.baseline_s)


def _facts(trained: TrainedModel, how: StreamedAs, config: CalibrateConfig) -> dict[str, Any]:
    return {
        **asdict(how),
        "target": "blocks",
        "protocol": "linear",
        "person": config.person,
        "ch_names": list(trained.ch_names),
        "model_sha256": trained.weights_sha256,
    }


def _refuse_bad_channels(taken: Recorder, needed: list[str], config: CalibrateConfig) -> None:
    """Refuse a session in which a channel that is needed was bad for more than half of the time."""
    assert taken.began_s is not None
    lasted_s = taken.now_s - taken.began_s
    bad = [name for name in needed if taken.bad_s.get(name, 0.0) > 0.5 * lasted_s]
    if bad and config.contact == "refuse":
        raise DataError(
            f"contact: {', '.join(bad)} bad for more than half of the session; mend the electrodes and begin "
            "again, or go on with --contact warn"
        )


def _refuse_few_blocks(windows: BlockWindows, given: list[Step], classes: tuple[str, ...]) -> None:
    """Refuse a session that ended too early, or in which too few blocks have a whole window."""
    for label, name in enumerate(classes):
        usable = len(np.unique(windows.block[windows.y == label])) if len(windows.y) else 0
        if usable < LEAST_BLOCKS:
            raise DataError(
                f"blocks: {count(usable, 'usable block')} of {name} ({count(len(given), 'block')} were "
                f"complete); a head needs {LEAST_BLOCKS} of each class"
            )


def _report(
    folder: Path,
    source: Source,
    taken: Recorder,
    counts: dict[str, Any],
    windows: BlockWindows,
    judged: Judged,
    threshold: Threshold,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    ends = {
        "metrics": judged.metrics,
        "balanced_accuracy_ci95": [round(value, 4) for value in judged.ci],
        "chance": judged.chance,
        "by": "one block of every class left out at a time, blocks resampled for the interval",
        "n_windows": len(windows.y),
        "n_blocks": len(np.unique(windows.block)),
        "blocks": by_block(windows, judged.probabilities, classes),
    }
    known = Calibration.load(folder / SCALE)
    return {
        "format": 1,
        "classes": list(classes),
        "person": known.person,
        "device": known.device or source.name,
        "calibration": known.id,
        "validation": ends,
        "threshold": asdict(threshold),
        "given": [asdict(step) for step in taken.given],
        "recorded": counts,
        "bad_s": {name: round(value, 1) for name, value in taken.bad_s.items()},
        "channels": [canonical(name) for name in source.ch_names],
    }
