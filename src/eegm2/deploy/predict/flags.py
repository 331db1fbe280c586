"""What speaks against a prediction: quality of windows, and recordings unlike those that were learnt from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eegm2.data.store.recording_store import RecordingInfo
from eegm2.deploy.predict.classifier import Classifier

FLAT_UV = 0.05
"""Standard deviation below which a channel of a window says nothing."""
LARGE_TIMES = 15.0
"""So many typical amplitudes of its recording, and a window holds an artefact."""
FACTOR = 3.0
"""So many times beyond the amplitudes learnt from counts as another range."""
DISTANCE_TIMES = 1.5
"""Beyond the distance that 99 of 100 learnt windows keep to."""


def window_flags(
    windows_uv: NDArray[np.float32],
    typical_uv: float,
    features: NDArray[np.floating] | None,
    classifier: Classifier,
    ch_names: tuple[str, ...],
) -> list[list[str]]:
    """Return, for every window, ``flat:NAMES``, ``artefact:NAMES`` and ``unusual`` where they hold.

    Parameters
    ----------
    windows_uv : array, shape (n, n_chans, n_times)
        Microvolts, not scaled.
    typical_uv : float
        Of the recording.
    features : array, shape (n, n_features), optional
        As the head takes them.
    classifier : Classifier
    ch_names : tuple of str
    """
    flat = windows_uv.std(2) < FLAT_UV
    middle = np.median(windows_uv, axis=2, keepdims=True)
    large = np.abs(windows_uv - middle).max(2) > LARGE_TIMES * max(typical_uv, FLAT_UV)
    far = _far(features, classifier)
    flags = []
    for i in range(len(windows_uv)):
        found = [
            f"{word}:{'+'.join(name for name, hit in zip(ch_names, hits[i]) if hit)}"
            for word, hits in (("flat", flat), ("artefact", large))
            if hits[i].any()
        ]
        flags.append(found + (["unusual"] if far[i : i + 1].any() else []))
    return flags


def _far(features: NDArray[np.floating] | None, classifier: Classifier) -> NDArray[np.bool_]:
    """Return which windows' features lie farther from the learnt ones than almost any of those."""
    usual = classifier.facts.get("range", {}).get("unusual")
    if features is None or not usual:
        return np.zeros(0, bool)
    centre, spread = np.array(usual["centre"]), np.array(usual["spread"])
    moves = spread > 0
    if len(centre) != features.shape[1] or not moves.any():
        return np.zeros(0, bool)
    # features that never moved while learning are left out, as many as were counted then
    squares = ((features[:, moves] - centre[moves]) / spread[moves]) ** 2
    distance = np.sqrt(squares.sum(1) / len(centre))
    far: NDArray[np.bool_] = distance > DISTANCE_TIMES * usual["limit"]
    return far


def recording_warnings(
    info: RecordingInfo, typical_uv: float, common: float, classifier: Classifier, notes: tuple[str, ...]
) -> list[str]:
    """Return what is out of the range of the data the head was learnt on, each with its numbers."""
    learnt, facts = classifier.facts.get("range", {}), classifier.facts
    found = [f"prepared otherwise than the model's data: {note}" for note in notes]
    low, high = learnt.get("typical_uv", (0.0, np.inf))
    if not low / FACTOR <= typical_uv <= high * FACTOR:
        found.append(
            f"amplitude: typically {typical_uv:.3g} µV, learnt from {low:.3g} to {high:.3g} µV; check unit "
            "and device"
        )
    rate = info.quality.get("source_sfreq_hz")
    if rate and rate < 0.99 * info.sfreq_hz:
        found.append(f"rate: recorded at {rate:g} Hz, below the model's {info.sfreq_hz:g} Hz")
    elif rate and abs(rate - info.sfreq_hz) > 0.01 * info.sfreq_hz:
        found.append(f"rate: resampled from {rate:g} to {info.sfreq_hz:g} Hz")
    before = learnt.get("common_share")
    if before is not None and (common < 0.02) != (before < 0.02):
        here, there = (_reference(value) for value in (common, before))
        found.append(f"reference: {here} here, {there} in the data learnt from")
    if list(info.ch_names) != list(facts.get("ch_names", info.ch_names)):
        found.append(f"electrodes: {len(info.ch_names)} others than the {len(facts['ch_names'])} learnt from")
    if info.subject in facts.get("people", {}).get("train", ()) and facts.get("store_sha256"):
        found.append(f"subject: somebody named {info.subject} was among those the head was learnt from")
    return found


def _reference(common: float) -> str:
    return "the average of the channels" if common < 0.02 else "a single reference"
