"""What is published, or stands in the documentation, said again: a default that was mistyped runs as well."""

from __future__ import annotations

from typing import Any

import pytest

from eegm2.deploy.config import ExportConfig, HeadConfig, RecordConfig, StreamConfig
from eegm2.deploy.device import scale as device_scale
from eegm2.deploy.heads.as_streamed import StreamedAs, usual_baseline
from eegm2.deploy.live.config import CalibrateConfig
from eegm2.deploy.predict.config import PredictConfig
from eegm2.evaluation.baselines import BASELINES
from eegm2.evaluation.baselines.band_power import BandPowerOptions
from eegm2.evaluation.baselines.class_power import BANDS
from eegm2.evaluation.baselines.options import band_edges
from eegm2.evaluation.baselines.riemann import FILTER_ORDER, RiemannOptions
from eegm2.evaluation.baselines.slow import SlowOptions
from eegm2.evaluation.config import (
    CLASSIFICATION,
    REGRESSION,
    EmbedConfig,
    FitConfig,
    ProbeConfig,
    ReconstructConfig,
)
from eegm2.evaluation.experiment.choice import ERRORS, best
from eegm2.evaluation.features.centring import WARM_UP_WINDOWS
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.evaluation.protocols.layers import LEVELS, level_of
from eegm2.evaluation.protocols.people import C_GRID, FOLDS, MOST, PULL
from eegm2.report.figures.spectra import BANDS_HZ

DEFAULTS: list[tuple[type, dict[str, Any]]] = [
    (FitConfig, {
        "lr": 1e-4, "weight_decay": 1e-2, "decayed": "matrices", "batch_size": 64, "max_epochs": 30,
        "patience": 5, "clip": 1.0, "class_weights": "balanced", "head": "flatten", "begin": "random",
        "head_dropout": 0.0, "layer_decay": 1.0, "freeze": (), "threshold": "validation",
    }),
    (ProbeConfig, {
        "protocols": ("linear", "light"), "seeds": 3, "label_rule": "whole", "reject_uv": 0.0,
        "by": "subject", "split_seed": 0, "val": 0.15, "test": 0.15, "threshold": "validation",
        "centre": "none", "which": "best", "window_s": None, "stride_s": None,
        "scaling": None, "regression": False, "allow_mismatch": False,
    }),
    (EmbedConfig, {"which": "best", "centre": "none", "window_s": None, "stride_s": None, "kind": "auto"}),
    (ReconstructConfig, {"mode": "windows", "overlap": 0.5, "window_s": None, "which": "best"}),
    (BandPowerOptions, {"scaling": "none", "segment_s": 2.0, "c": 1.0, "threshold": "validation"}),
    (RiemannOptions, {"scaling": "none", "estimator": "lwf", "bands": (), "c": 1.0, "centre": "none"}),
    (StreamConfig, {
        "speed": 1.0, "duration_s": 0.0, "chunk_s": 0.0625, "max_gap_s": 0.25, "buffer_s": 10.0,
        "timeout_s": 10.0, "reconnect_s": 30.0, "lsl": "machine", "host": "127.0.0.1", "port": 0,
        "calibration_s": None, "scale_uv": 0.0, "adapt_s": None, "causal": True, "hop_s": 0.5,
        "centre": "as fitted", "warm_up": None, "flat": "flag", "smooth": 0.0, "enter": None, "leave": None,
    }),
    (RecordConfig, {"cue": (), "rounds": 1, "pause_s": 2.0, "markers": ()}),
    (CalibrateConfig, {
        "cue": ("eyes_open:20", "eyes_closed:20"), "rounds": 4, "pause_s": 3.0, "settle_s": 1.0,
        "baseline_s": 20.0, "contact": "refuse", "contact_s": 30.0, "features": "auto", "scaling": None,
        "window_s": None, "hop_s": 0.5, "wrong": 0.1, "seed": 0,
    }),
    (HeadConfig, {
        "target": "annotations", "val": 0.2, "seed": 0, "features": "auto", "scaling": None, "hop_s": 0.5,
        "protocol": "linear", "calibration_s": None, "adapt_s": 0.0, "centre": "none", "warm_up": 15,
    }),
    (PredictConfig, {"head": "", "stride_s": None, "threshold": None, "reaction": True, "device": "cpu"}),
    (ExportConfig, {
        "hop": 32, "int8": True, "tolerance": 1e-4, "source_hz": 0.0, "flat": "flag", "smooth": 0.0,
        "enter": None, "leave": None, "formats": ("onnx", "torch"), "parts": (),
    }),
    (SlowOptions, {"scaling": "none", "stretches": 8, "c": 1.0, "centre": "none", "threshold": "validation"}),
]  # fmt: skip


@pytest.mark.parametrize(("config", "values"), DEFAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_what_is_done_where_nothing_is_asked(config: type, values: dict[str, Any]) -> None:
    made = config()
    assert {name: getattr(made, name) for name in values} == values


def test_a_stream_of_which_nothing_is_said_is_fixed_and_not_centred() -> None:
    how = StreamedAs("statistics", "zscore", 2.0, 0.5, 60.0)
    assert (how.adapt_s, how.centre, how.warm_up) == (0.0, "none", WARM_UP_WINDOWS)


def test_a_light_perceptron_is_fitted_longer_and_faster() -> None:
    light = ProbeConfig().light()
    assert (light.lr, light.max_epochs, light.patience, light.batch_size) == (1e-3, 100, 10, 64)
    assert ProbeConfig().fine() == FitConfig()
    assert FinetuneConfig().fit().lr == FitConfig().lr
    assert ProbeConfig().penalty() == ProbeConfig(features="statistics").penalty() == 1.0
    assert (
        ProbeConfig(features="tangent").penalty() == ProbeConfig(features="covariance").penalty() == "people"
    )


def test_rhythms_are_where_they_are() -> None:
    edges = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13)}
    beta = {"low_beta": (13, 20), "high_beta": (20, 30), "gamma": (30, 45)}
    assert band_edges(BandPowerOptions().bands) == edges | beta
    assert band_edges(BANDS) == edges | {"beta": (13, 30), "gamma": (30, 40)}
    riemann = band_edges(tuple(BASELINES["riemann_bands"].defaults["bands"]))
    assert riemann == edges | {"beta": (13, 30)}
    assert {name: (low, high) for name, low, high in BANDS_HZ} == {
        "δ": (0.5, 4), "θ": (4, 8), "α": (8, 13), "β": (13, 30), "γ": (30, 45),
    }  # fmt: skip
    assert FILTER_ORDER == 4


def test_people_are_left_out_in_five_parts_and_six_penalties_tried() -> None:
    assert C_GRID == (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    assert (FOLDS, PULL, MOST, WARM_UP_WINDOWS) == (5, 0.1, 20_000, 15)


def test_more_is_better_of_all_but_errors() -> None:
    assert set(ERRORS) == {"loss", "mae"}
    for metric in (*CLASSIFICATION, *REGRESSION, "loss"):
        expected = "low" if metric in ERRORS else "high"
        assert best({"none": None, "low": 0.1, "high": 0.9, "same": 0.9}, metric) == expected


def test_levels_of_a_network_are_counted_from_the_head() -> None:
    """Head, decoder from its output on, mediator, encoder back to its embedding."""
    order = (
        "head.out.weight", "network.decoder.output.bias", "network.decoder.block2.x",
        "network.decoder.block3.x", "network.mediator.y", "network.encoder.conv3.weight",
        "network.encoder.conv2.weight",
        "network.encoder.block1.z", "network.encoder.embedding.weight",
    )  # fmt: skip
    assert [level_of(name) for name in order] == list(range(len(LEVELS)))
    assert level_of("network.something") == len(LEVELS) - 1


def test_a_stream_smooths_nothing_and_a_baseline_is_a_minute_or_a_fifth() -> None:
    assert (StreamConfig().smooth, StreamConfig().adapt_s, StreamConfig().calibration_s) == (0.0, None, None)
    for seconds, window_s, expected in (
        (1000.0, 4.0, 60.0),
        (100.0, 4.0, 20.0),
        (30.0, 4.0, 4.0),
        (9.0, 4.0, 4.0),
    ):
        info: Any = type("Info", (), {"duration_s": seconds})()
        assert usual_baseline([info], window_s) == expected
    assert device_scale._LARGEST_FACTOR == 1.5
    assert pytest.approx(1.3489795, abs=1e-6) == device_scale._QUARTILES_TO_SIGMA
    assert pytest.approx(1.4826, abs=1e-4) == device_scale._MEDIAN_TO_SIGMA
