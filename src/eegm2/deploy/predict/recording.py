"""One recording predicted: probabilities of its windows, flags, and what its page shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.data.signal.overview import envelope, spectrogram
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import window_dataset
from eegm2.data.windows.scaling import scale_window
from eegm2.deploy.predict.classifier import Classifier
from eegm2.deploy.predict.config import PredictConfig
from eegm2.deploy.predict.flags import recording_warnings, window_flags
from eegm2.errors import DataError
from eegm2.evaluation.baselines.band_power import log_band_power
from eegm2.evaluation.baselines.class_power import BANDS
from eegm2.evaluation.baselines.options import band_edges
from eegm2.evaluation.probing.keep import common_share
from eegm2.plugins import is_plugin

SHOWN_CHANNELS, SHOWN_POINTS, SOME_WINDOWS = 6, 1200, 8


@dataclass(frozen=True)
class Predicted:
    """What is written of one recording.

    Attributes
    ----------
    facts : dict
        Recording, windows and warnings, as JSON takes them.
    arrays : dict of str to array
        What the page draws: signal (channels, 2, points) as lowest and highest values, change_db
        (frequencies, columns) over time, band_power (n, n_chans, n_bands), and some windows in microvolts to
        ask for reactions.
    """

    facts: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def predict_recording(
    classifier: Classifier,
    store: RecordingStore,
    recording: str,
    config: PredictConfig,
    notes: tuple[str, ...] = (),
) -> Predicted:
    """Predict every window of a recording that no excluded annotation touches.

    Raises
    ------
    DataError
        If the recording is shorter than a window, or its channels do not fit.
    """
    info = store[recording]
    windows = replace(classifier.windows, stride_s=config.stride_s)
    if info.duration_s < windows.window_s:
        raise DataError(
            f"{recording}: {info.duration_s:.2f} s long, a window has {windows.window_s:g} s; leave it out, "
            "or take a model with shorter windows"
        )
    try:
        dataset = window_dataset(store, windows, recordings=[recording])
    except DataError as error:
        raise DataError(
            f"{recording}: no stretch of {windows.window_s:g} s is free of joins and of marks such as BAD; "
            "leave it out, or take a model with shorter windows"
        ) from error
    n_times, starts = dataset.n_times, (dataset.start_s * store.sfreq_hz).round().astype(int)
    array = np.ascontiguousarray(store.read(recording))
    typical_uv = store.typical_uv(recording)
    view = np.lib.stride_tricks.sliding_window_view(array, n_times, axis=1)
    raw = np.ascontiguousarray(view[:, starts].transpose(1, 0, 2)).astype(np.float32)
    if is_plugin(windows.dataset):
        x = np.stack([dataset[i]["x"].numpy() for i in range(len(dataset))])
    else:
        x = scale_window(raw, windows.scaling, typical_uv if windows.scaling == "recording" else None)
    own = classifier.on_montage(store.ch_names, config.positions)
    features = own.features(x, config.batch_size, config.device)
    taken: NDArray[Any] | None = None
    if features is not None:
        taken = own.centred(features, dataset.start_s, dataset.window_s)
    probabilities = own.probabilities(x, taken, config.batch_size, config.device)
    flags = window_flags(raw, typical_uv, taken, own, store.ch_names)
    names = [*dataset.classes, ""]
    labels = [names[i] for i in dataset.labels]
    each, whole = _answers(own, probabilities, config.threshold)
    rows = [
        {
            "start_s": round(float(start), 6),
            "stop_s": round(float(start) + windows.window_s, 6),
            **answer,
            "label": label,
            "flags": found,
        }
        for start, answer, label, found in zip(dataset.start_s, each, labels, flags, strict=True)
    ]
    facts = {
        "recording": recording,
        "subject": info.subject,
        "session": info.session,
        "source": info.source,
        "duration_s": round(info.duration_s, 3),
        **whole,
        "n_windows": len(rows),
        "n_flagged": sum(bool(found) for found in flags),
        "warnings": [
            *recording_warnings(info, typical_uv, common_share(store, recording), own, notes),
            *_beyond_what_was_learnt(own, whole),
        ],
        "quality": info.quality,
        "windows": rows,
    }
    return Predicted(facts, _drawn(array, raw, store, features))


def _answers(
    own: Classifier, made: NDArray[np.float64], threshold: float | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return what is said of every window, and of the recording as a whole: decisions, or values."""
    if not own.classes:
        whole = {"value": round(float(made.mean()), 6), "value_sd": round(float(made.std()), 6)}
        return [{"value": round(float(value), 6)} for value in made[:, 0]], whole
    decided, mean = own.decide(made, threshold), made.mean(0)
    each = [
        {"probabilities": [round(float(p), 6) for p in row], "decision": own.classes[choice]}
        for row, choice in zip(made, decided, strict=True)
    ]
    return each, {
        "probabilities": [round(float(p), 6) for p in mean],
        "decision": own.classes[int(own.decide(mean[None], threshold)[0])],
        "shares": {name: float(np.mean(decided == i)) for i, name in enumerate(own.classes)},
    }


def _beyond_what_was_learnt(own: Classifier, whole: dict[str, Any]) -> list[str]:
    """Say where a value is none that the head has seen: there it goes on in a straight line, or guesses."""
    low, high = own.facts.get("range", {}).get("target") or (-np.inf, np.inf)
    if "value" not in whole or low <= whole["value"] <= high:
        return []
    return [f"value: {whole['value']:.4g}, the head was learnt on {low:.4g} to {high:.4g}"]


def _drawn(
    array: NDArray, raw: NDArray[np.float32], store: RecordingStore, features: NDArray | None
) -> dict[str, NDArray[Any]]:
    """Return what the page draws, small."""
    bands = band_edges(BANDS)
    usable = {name: edges for name, edges in bands.items() if edges[0] < store.sfreq_hz / 2}
    power = log_band_power(raw, store.sfreq_hz, usable, 2.0).reshape(len(raw), len(store.ch_names), -1)
    rows = np.unique(np.linspace(0, len(array) - 1, min(SHOWN_CHANNELS, len(array))).round().astype(int))
    frequency_hz, change_db = spectrogram(array, store.sfreq_hz)
    some = np.unique(np.linspace(0, len(raw) - 1, min(SOME_WINDOWS, len(raw))).round().astype(int))
    drawn = {
        "signal": envelope(array[rows], SHOWN_POINTS).astype(np.float16),
        "frequency_hz": frequency_hz,
        "change_db": change_db.astype(np.float16),
        "shown": np.array(store.ch_names)[rows],
        "ch_names": np.array(store.ch_names),
        "bands": np.array(list(usable)),
        "band_power": power.astype(np.float32),
        "some_uv": raw[some],
    }
    if features is not None:
        drawn["mean_features"] = features.mean(0)
    return drawn
