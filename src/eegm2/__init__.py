"""EEGM2: self-supervised Mamba-2 models for long EEG.

Everything that the documentation uses is here. Names are imported when first used: ``import eegm2`` is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from eegm2.model.pretrained import shared_by

__version__ = "0.1.0.dev0"

_EXPORTS = {
    # Networks
    "EEGM2": "eegm2.model.network",
    "EEGM2Config": "eegm2.model.config",
    "build_model": "eegm2.model.network",
    "Mixer": "eegm2.model.mixer",
    "time_statistics": "eegm2.model.statistics",
    "log_covariance": "eegm2.model.statistics",
    "load_authors_checkpoint": "eegm2.model.authors",
    "save_authors_checkpoint": "eegm2.model.authors",
    # Data
    "PrepareConfig": "eegm2.data.config",
    "PreprocessingConfig": "eegm2.data.config",
    "SplitConfig": "eegm2.data.config",
    "WindowConfig": "eegm2.data.config",
    "prepare": "eegm2.data.preparing.prepare",
    "read_raw": "eegm2.data.files.readers",
    "for_electrodes": "eegm2.data.electrodes",
    "RecordingStore": "eegm2.data.store.recording_store",
    "WindowDataset": "eegm2.data.windows.dataset",
    "collate_windows": "eegm2.data.windows.dataset",
    "scale_window": "eegm2.data.windows.scaling",
    "SplitManifest": "eegm2.data.windows.splits",
    "split_subjects": "eegm2.data.windows.splits",
    "subject_folds": "eegm2.data.windows.splits",
    # Training
    "PretrainConfig": "eegm2.training.config",
    "pretrain": "eegm2.training.pretrain",
    "Objective": "eegm2.training.objectives.base",
    "load_checkpoint": "eegm2.training.checkpoint",
    "save_checkpoint": "eegm2.training.checkpoint",
    # Evaluation
    "ProbeConfig": "eegm2.evaluation.config",
    "probe": "eegm2.evaluation.probing.run",
    "extract_features": "eegm2.evaluation.features.representation",
    "adapt_channels": "eegm2.evaluation.features.transfer",
    "labelled_windows": "eegm2.evaluation.windows.from_store",
    "baseline_runner": "eegm2.evaluation.baselines.registry",
    "Baseline": "eegm2.evaluation.baselines.declaration",
    "BaselineRunner": "eegm2.evaluation.baselines.windows",
    "linear_probe": "eegm2.evaluation.protocols.frozen",
    "subject_splits": "eegm2.evaluation.scores.crossval",
    "cross_validate": "eegm2.evaluation.scores.crossval",
    "compare": "eegm2.evaluation.scores.resampling",
    "EEGM2Encoder": "eegm2.evaluation.estimators.sklearn",
    "EEGM2Classifier": "eegm2.evaluation.estimators.sklearn",
    "EEGM2Regressor": "eegm2.evaluation.estimators.sklearn",
    "EEGM2ForClassification": "eegm2.evaluation.estimators.braindecode",
    "EmbedConfig": "eegm2.evaluation.config",
    "embed": "eegm2.evaluation.features.embedding",
    "FinetuneConfig": "eegm2.evaluation.finetuning.config",
    "finetune": "eegm2.evaluation.finetuning.run",
    "band_power_by_class": "eegm2.evaluation.baselines.class_power",
    # Models at work
    "StreamingEEGM2": "eegm2.deploy.stream.streaming",
    "reconstruct_long": "eegm2.deploy.long",
    "encode_long": "eegm2.deploy.long",
    "OnnxModel": "eegm2.deploy.export.runtime",
    "OnnxStream": "eegm2.deploy.export.runtime",
    "PredictConfig": "eegm2.deploy.predict.config",
    "predict": "eegm2.deploy.predict.run",
    "envelope": "eegm2.data.signal.overview",
    "spectrogram": "eegm2.data.signal.overview",
    # Sharing
    "from_pretrained": "eegm2.hub",
    "save_pretrained": "eegm2.hub",
    "share_run": "eegm2.hub",
    "push_to_hub": "eegm2.hub",
    "model_card": "eegm2.hub",
    "write_report": "eegm2.report.html",
    # Parts of one's own
    "option": "eegm2.config",
    "trusting": "eegm2.plugins",
    "check_baseline": "eegm2.contracts",
    "check_dataset": "eegm2.contracts",
    "check_mixer": "eegm2.contracts",
    "check_objective": "eegm2.contracts",
    # Figures
    "band_power_maps": "eegm2.report.figures",
    "calibration_curves": "eegm2.report.figures",
    "evaluation_scores": "eegm2.report.figures",
    "learning_curves": "eegm2.report.figures",
    "loss_curves": "eegm2.report.figures",
    "person_scores": "eegm2.report.figures",
    "probability_over_time": "eegm2.report.figures",
    "topographic_maps": "eegm2.report.figures",
    "training_figure": "eegm2.report.shown",
    "prediction_figure": "eegm2.report.shown",
    "write_prediction_page": "eegm2.report.predictions",
    # Errors
    "EEGM2Error": "eegm2.errors",
    "ConfigError": "eegm2.errors",
    "DataError": "eegm2.errors",
    "CheckpointError": "eegm2.errors",
}

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
