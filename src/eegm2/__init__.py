"""EEGM2: self-supervised Mamba-2 models for long EEG.

Names are imported when first used, so that ``import eegm2`` is light.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0.dev0"

_EXPORTS = {
    "EEGM2": "eegm2.model.network",
    "EEGM2Config": "eegm2.model.config",
    "build_model": "eegm2.model.network",
    "time_statistics": "eegm2.model.statistics",
    "log_covariance": "eegm2.model.statistics",
    "StreamingEEGM2": "eegm2.deploy.stream.streaming",
    "reconstruct_long": "eegm2.deploy.long",
    "encode_long": "eegm2.deploy.long",
    "EEGM2Encoder": "eegm2.evaluation.estimators.sklearn",
    "EEGM2Classifier": "eegm2.evaluation.estimators.sklearn",
    "EEGM2Regressor": "eegm2.evaluation.estimators.sklearn",
    "EEGM2ForClassification": "eegm2.evaluation.estimators.braindecode",
    "adapt_channels": "eegm2.evaluation.features.transfer",
    "for_electrodes": "eegm2.data.electrodes",
    "load_authors_checkpoint": "eegm2.model.authors",
    "save_authors_checkpoint": "eegm2.model.authors",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'eegm2' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
