"""The report's sections, in the order of the page; each is a function of what was gathered."""

# ruff: noqa: F401 (what is imported here is what this package gives)

from eegm2.report.sections.downstream import confusion_section, downstream_section
from eegm2.report.sections.evaluation import evaluation_section
from eegm2.report.sections.reconstruction import reconstruction_section, spectra_section
from eegm2.report.sections.recordings import data_section, power_section, quality_section, weights_section
from eegm2.report.sections.representation import representation_section
from eegm2.report.sections.summary import summary
from eegm2.report.sections.training import provenance_section, training_section
