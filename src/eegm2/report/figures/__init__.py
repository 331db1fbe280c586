"""The report's figures: each a pure function from arrays to a matplotlib Figure.

None touches pyplot or its global state; every axis carries its unit.
"""

from eegm2.report.figures.confusion import confusion_matrices, roc_curves, roc_points
from eegm2.report.figures.evaluation import evaluation_scores, learning_curves
from eegm2.report.figures.people import calibration_curves, person_scores
from eegm2.report.figures.predictions import band_reactions, probability_over_time
from eegm2.report.figures.recordings import channel_positions, label_timeline, quality_overview
from eegm2.report.figures.representation import embedding_map, project, subject_maps
from eegm2.report.figures.scores import METRIC_NAMES, no_skill, probe_scores, subject_scores
from eegm2.report.figures.spectra import channel_spectra, power_spectra, welch_db
from eegm2.report.figures.topography import band_power_maps, topographic_maps
from eegm2.report.figures.traces import channel_correlation, channel_error, reconstruction_traces
from eegm2.report.figures.training import loss_curves

__all__ = [
    "METRIC_NAMES",
    "band_power_maps",
    "band_reactions",
    "calibration_curves",
    "channel_correlation",
    "channel_error",
    "channel_positions",
    "channel_spectra",
    "confusion_matrices",
    "embedding_map",
    "evaluation_scores",
    "label_timeline",
    "learning_curves",
    "loss_curves",
    "no_skill",
    "person_scores",
    "power_spectra",
    "probability_over_time",
    "probe_scores",
    "project",
    "quality_overview",
    "reconstruction_traces",
    "roc_curves",
    "roc_points",
    "subject_maps",
    "subject_scores",
    "topographic_maps",
    "welch_db",
]
