"""EEGM2: self-supervised Mamba-2 models for long EEG.

Everything that the documentation uses is here. Names are imported when first used: ``import eegm2`` is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from eegm2.model.pretrained import shared_by

__version__ = "0.1.0"

_PLACES = {
    # Networks
    "eegm2.model.network": "EEGM2 build_model",
    "eegm2.model.config": "EEGM2Config",
    "eegm2.model.mixer": "Mixer",
    "eegm2.model.statistics": "time_statistics log_covariance",
    "eegm2.model.authors": "load_authors_checkpoint save_authors_checkpoint",
    # Data
    "eegm2.data.config": "PrepareConfig PreprocessingConfig SplitConfig WindowConfig",
    "eegm2.data.preparing.prepare": "prepare",
    "eegm2.data.files.readers": "read_raw",
    "eegm2.data.electrodes": "for_electrodes",
    "eegm2.data.store.recording_store": "RecordingStore",
    "eegm2.data.windows.dataset": "WindowDataset collate_windows",
    "eegm2.data.windows.scaling": "scale_window",
    "eegm2.data.windows.splits": "SplitManifest split_subjects subject_folds",
    # Training
    "eegm2.training.config": "PretrainConfig",
    "eegm2.training.pretrain": "pretrain",
    "eegm2.training.objectives.base": "Objective",
    "eegm2.training.checkpoint": "load_checkpoint save_checkpoint",
    # Evaluation
    "eegm2.evaluation.config": "ProbeConfig EmbedConfig",
    "eegm2.evaluation.probing.run": "probe",
    "eegm2.evaluation.features.representation": "extract_features",
    "eegm2.evaluation.features.transfer": "adapt_channels",
    "eegm2.evaluation.windows.from_store": "labelled_windows",
    "eegm2.evaluation.baselines.registry": "baseline_runner",
    "eegm2.evaluation.baselines.declaration": "Baseline",
    "eegm2.evaluation.baselines.windows": "BaselineRunner",
    "eegm2.evaluation.protocols.frozen": "linear_probe",
    "eegm2.evaluation.scores.crossval": "subject_splits cross_validate",
    "eegm2.evaluation.scores.resampling": "compare",
    "eegm2.evaluation.estimators.sklearn": "EEGM2Encoder EEGM2Classifier EEGM2Regressor",
    "eegm2.evaluation.estimators.braindecode": "EEGM2ForClassification",
    "eegm2.evaluation.features.embedding": "embed",
    "eegm2.evaluation.finetuning.config": "FinetuneConfig",
    "eegm2.evaluation.finetuning.run": "finetune",
    "eegm2.evaluation.baselines.class_power": "band_power_by_class",
    # Models at work
    "eegm2.deploy.stream.streaming": "StreamingEEGM2",
    "eegm2.deploy.long": "reconstruct_long encode_long",
    "eegm2.deploy.export.runtime": "OnnxModel OnnxStream",
    "eegm2.deploy.predict.config": "PredictConfig",
    "eegm2.deploy.predict.run": "predict",
    "eegm2.data.signal.overview": "envelope spectrogram",
    # Sharing
    "eegm2.hub": "from_pretrained save_pretrained share_run push_to_hub model_card",
    "eegm2.report.html": "write_report",
    # Parts of one's own
    "eegm2.config": "option",
    "eegm2.plugins": "trusting",
    "eegm2.contracts": "check_baseline check_dataset check_mixer check_objective",
    # Figures
    "eegm2.report.figures": "band_power_maps calibration_curves evaluation_scores learning_curves "
    "loss_curves person_scores probability_over_time topographic_maps",
    "eegm2.report.shown": "training_figure prediction_figure",
    "eegm2.report.predictions": "write_prediction_page",
    # Errors
    "eegm2.errors": "EEGM2Error ConfigError DataError CheckpointError",
}
_EXPORTS = {name: module for module, names in _PLACES.items() for name in names.split()}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:  # the same for type checkers and editors
    from eegm2.config import option as option
    from eegm2.contracts import check_baseline as check_baseline
    from eegm2.contracts import check_dataset as check_dataset
    from eegm2.contracts import check_mixer as check_mixer
    from eegm2.contracts import check_objective as check_objective
    from eegm2.data.config import PrepareConfig as PrepareConfig
    from eegm2.data.config import PreprocessingConfig as PreprocessingConfig
    from eegm2.data.config import SplitConfig as SplitConfig
    from eegm2.data.config import WindowConfig as WindowConfig
    from eegm2.data.electrodes import for_electrodes as for_electrodes
    from eegm2.data.files.readers import read_raw as read_raw
    from eegm2.data.preparing.prepare import prepare as prepare
    from eegm2.data.signal.overview import envelope as envelope
    from eegm2.data.signal.overview import spectrogram as spectrogram
    from eegm2.data.store.recording_store import RecordingStore as RecordingStore
    from eegm2.data.windows.dataset import WindowDataset as WindowDataset
    from eegm2.data.windows.dataset import collate_windows as collate_windows
    from eegm2.data.windows.scaling import scale_window as scale_window
    from eegm2.data.windows.splits import SplitManifest as SplitManifest
    from eegm2.data.windows.splits import split_subjects as split_subjects
    from eegm2.data.windows.splits import subject_folds as subject_folds
    from eegm2.deploy.export.runtime import OnnxModel as OnnxModel
    from eegm2.deploy.export.runtime import OnnxStream as OnnxStream
    from eegm2.deploy.long import encode_long as encode_long
    from eegm2.deploy.long import reconstruct_long as reconstruct_long
    from eegm2.deploy.predict.config import PredictConfig as PredictConfig
    from eegm2.deploy.predict.run import predict as predict
    from eegm2.deploy.stream.streaming import StreamingEEGM2 as StreamingEEGM2
    from eegm2.errors import CheckpointError as CheckpointError
    from eegm2.errors import ConfigError as ConfigError
    from eegm2.errors import DataError as DataError
    from eegm2.errors import EEGM2Error as EEGM2Error
    from eegm2.evaluation.baselines.class_power import band_power_by_class as band_power_by_class
    from eegm2.evaluation.baselines.declaration import Baseline as Baseline
    from eegm2.evaluation.baselines.registry import baseline_runner as baseline_runner
    from eegm2.evaluation.baselines.windows import BaselineRunner as BaselineRunner
    from eegm2.evaluation.config import EmbedConfig as EmbedConfig
    from eegm2.evaluation.config import ProbeConfig as ProbeConfig
    from eegm2.evaluation.estimators.braindecode import EEGM2ForClassification as EEGM2ForClassification
    from eegm2.evaluation.estimators.sklearn import EEGM2Classifier as EEGM2Classifier
    from eegm2.evaluation.estimators.sklearn import EEGM2Encoder as EEGM2Encoder
    from eegm2.evaluation.estimators.sklearn import EEGM2Regressor as EEGM2Regressor
    from eegm2.evaluation.features.embedding import embed as embed
    from eegm2.evaluation.features.representation import extract_features as extract_features
    from eegm2.evaluation.features.transfer import adapt_channels as adapt_channels
    from eegm2.evaluation.finetuning.config import FinetuneConfig as FinetuneConfig
    from eegm2.evaluation.finetuning.run import finetune as finetune
    from eegm2.evaluation.probing.run import probe as probe
    from eegm2.evaluation.protocols.frozen import linear_probe as linear_probe
    from eegm2.evaluation.scores.crossval import cross_validate as cross_validate
    from eegm2.evaluation.scores.crossval import subject_splits as subject_splits
    from eegm2.evaluation.scores.resampling import compare as compare
    from eegm2.evaluation.windows.from_store import labelled_windows as labelled_windows
    from eegm2.hub import from_pretrained as from_pretrained
    from eegm2.hub import model_card as model_card
    from eegm2.hub import push_to_hub as push_to_hub
    from eegm2.hub import save_pretrained as save_pretrained
    from eegm2.hub import share_run as share_run
    from eegm2.model.authors import load_authors_checkpoint as load_authors_checkpoint
    from eegm2.model.authors import save_authors_checkpoint as save_authors_checkpoint
    from eegm2.model.config import EEGM2Config as EEGM2Config
    from eegm2.model.mixer import Mixer as Mixer
    from eegm2.model.network import EEGM2 as EEGM2
    from eegm2.model.network import build_model as build_model
    from eegm2.model.statistics import log_covariance as log_covariance
    from eegm2.model.statistics import time_statistics as time_statistics
    from eegm2.plugins import trusting as trusting
    from eegm2.report.figures import band_power_maps as band_power_maps
    from eegm2.report.figures import calibration_curves as calibration_curves
    from eegm2.report.figures import evaluation_scores as evaluation_scores
    from eegm2.report.figures import learning_curves as learning_curves
    from eegm2.report.figures import loss_curves as loss_curves
    from eegm2.report.figures import person_scores as person_scores
    from eegm2.report.figures import probability_over_time as probability_over_time
    from eegm2.report.figures import topographic_maps as topographic_maps
    from eegm2.report.html import write_report as write_report
    from eegm2.report.predictions import write_prediction_page as write_prediction_page
    from eegm2.report.shown import prediction_figure as prediction_figure
    from eegm2.report.shown import training_figure as training_figure
    from eegm2.training.checkpoint import load_checkpoint as load_checkpoint
    from eegm2.training.checkpoint import save_checkpoint as save_checkpoint
    from eegm2.training.config import PretrainConfig as PretrainConfig
    from eegm2.training.objectives.base import Objective as Objective
    from eegm2.training.pretrain import pretrain as pretrain


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'eegm2' has no attribute '{name}'")


shared_by(lambda: importlib.import_module("eegm2.hub"))


def __dir__() -> list[str]:
    return sorted(__all__)
