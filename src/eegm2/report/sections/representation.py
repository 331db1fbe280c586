"""Maps of the representation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from eegm2.report import figures
from eegm2.report.contents import Probe, ReportData
from eegm2.report.document import Section
from eegm2.words import count


def representation_section(data: ReportData, method: str = "pca") -> Section:
    """Show two-dimensional maps of the representation of each probe's test windows."""
    section = Section(
        "representation",
        "Representation",
        look="Whether dots part by label more than by subject.",
        then="Where subjects part and labels mix, probe again with --centre recording.",
    )
    probes = [probe for probe in data.probes if probe.features is not None]
    if not probes:
        section.note(
            data.missing.get("representation")
            or "No probe has stored its test windows' features (embedding.npz), so there is no map. "
            "Run: eegm2 probe RUN STORE --out DIR"
        )
        return section
    drawn = "first two principal components" if method == "pca" else "by t-SNE"
    said = ""
    for probe in probes:
        assert probe.features is not None
        if len(probes) > 1:
            section.heading(probe.name)
        if said != (what := _features(probe)):
            section.text(f"Each dot is one test window: {what}, standardised, {drawn}.")
            said = what
        try:
            points, names = figures.project(probe.features, "tsne" if method == "tsne" else "pca")
        except ValueError as error:
            section.note(f"No map for {probe.name}: {error}.")
            continue
        labels = _label_names(probe.features_y, probe.classes)
        subjects = probe.features_subject
        section.figure(
            partial(figures.embedding_map, points, labels, subjects, names),
            caption=f"The same map of {count(len(points), 'window')}, coloured by label and by "
            "subject. Colours that "
            "part on the right and mix on the left mean that people differ more than conditions do.",
            alt="map of the representation by label and by subject",
        )
        n_subjects = len(np.unique(subjects))
        if n_subjects > 1:
            section.figure(
                partial(figures.subject_maps, points, labels, subjects, names),
                caption="Every subject alone, before all windows in grey"
                + (f"; the 12 subjects with most windows of {n_subjects}." if n_subjects > 12 else "."),
                alt="map of the representation, one panel per subject",
            )
    return section


_STATISTICS = "the nine statistics over time of every encoder channel (§3 of the paper)"
_KINDS = {
    "statistics": _STATISTICS,
    "covariance": "the logarithm of the covariance between the encoder's channels",
    "tangent": "the mean tangent vector of the covariances",
    "log_variance": "the logarithm of the variance in every band and channel",
    "state": "the mean state of the trunk",
    "tangent_state": "the mean tangent vector of the covariances and the mean state of the trunk",
    "tangent_spread": "the mean tangent vector of the covariances and its spread over time",
    "tangent_spread_state": "the mean tangent vector of the covariances, its spread over time and the mean "
    "state of the trunk",
}
"""What features of a kind are, in words; a test compares the kinds with those that there are."""


def _features(probe: Probe) -> str:
    """Say what the features of a probe are."""
    config = probe.provenance.get("config")
    kind = config.get("features", "statistics") if isinstance(config, dict) else "statistics"
    return _KINDS.get(kind, f"features {kind}") if isinstance(kind, str) else _STATISTICS


def _label_names(y: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    return np.array([classes[i] if 0 <= i < len(classes) else "unlabelled" for i in np.asarray(y, dtype=int)])
