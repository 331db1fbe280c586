"""The former place of `eegm2.evaluation.estimators.sklearn`, kept for scripts that import it from here."""

from eegm2.evaluation.estimators.sklearn import EEGM2Classifier, EEGM2Encoder, EEGM2Regressor

__all__ = ["EEGM2Classifier", "EEGM2Encoder", "EEGM2Regressor"]
