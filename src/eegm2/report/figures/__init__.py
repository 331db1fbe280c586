"""The report's figures: each a pure function from arrays to a matplotlib Figure.

None touches pyplot or its global state; every axis carries its unit.
"""

# ruff: noqa: F401 (what is imported here is what this package gives)

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
