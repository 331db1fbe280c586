"""Laws of exports: what a file says of itself is so, in its units, and the device does what it was told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.windows.scaling import scale_window
from eegm2.deploy.config import ExportConfig, StreamConfig
from eegm2.deploy.export import run
from eegm2.deploy.export.bundle import bundle_facts
from eegm2.deploy.export.decoder import Decoder
from eegm2.deploy.export.packing import unpacked
from eegm2.deploy.export.parts import build_part
from eegm2.deploy.export.run import _facts
from eegm2.deploy.export.runtime import StepStream
from eegm2.deploy.heads.windowed import WindowedHead
from eegm2.deploy.live.pipeline import Pipeline
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.deploy.trained_model import SCALINGS, TrainedModel, load_trained
from eegm2.errors import ConfigError
from eegm2.training.checkpoint import save_checkpoint
from tests.deploy.helpers import network
from tests.laws.test_predictions import FACTS, NAMES, head_of, trained


def by_hand(x: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """Return, by the name of a scaling, what a file says of it and what that makes of one window."""
    low, high = np.quantile(x, [0.25, 0.75], axis=1)[:, :, None]
    middle = np.median(x, axis=1, keepdims=True)
    return {
        "quantile95": (
            "each channel divided by the 0.95 quantile of its absolute values (+ 1e-8)",
            x / np.quantile(np.abs(x), 0.95, axis=1, keepdims=True),
        ),
        "robust": (
            "each channel minus its median, divided by its interquartile range / 1.349",
            (x - middle) / ((high - low) / 1.349),
        ),
        "zscore": (
            "each channel minus its mean, divided by its standard deviation",
            (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True),
        ),
        "none": ("microvolts, not scaled", x),
    }


@pytest.mark.parametrize("scaling", ["quantile95", "robust", "zscore", "none"])
def test_what_a_file_says_of_its_units_is_what_was_done(scaling: Any) -> None:
    x = np.random.default_rng(0).gamma(2.0, 9.0, (3, 500)) - 4
    said, expected = by_hand(x)[scaling]
    assert SCALINGS[scaling] == said
    np.testing.assert_allclose(scale_window(x, scaling), expected, rtol=1e-4, atol=1e-6)
    assert trained().facts()["units"] == by_hand(x)["quantile95"][0]


@pytest.mark.parametrize("which", ["best", "last"])
def test_the_weights_that_are_asked_for_are_taken(which: str, tmp_path: Path) -> None:
    header = {
        "preprocessing": to_dict(PreprocessingConfig(channels=NAMES)),
        "windows": to_dict(WindowConfig(window_s=2.0)),
        "ch_names": list(NAMES),
        "sfreq_hz": 128.0,
    }
    for seed, name in enumerate(("best", "last")):
        path = tmp_path / "checkpoints" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, network("light", seed=seed), header)
    found = load_trained(tmp_path, which)
    assert found.source == f"{which}.safetensors"
    expected = network("light", seed=("best", "last").index(which))
    for one, other in zip(found.model.parameters(), expected.parameters()):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rate_hz", [100.0, 250.0])
@pytest.mark.parametrize("preset", ["light", "eegm2"])
@pytest.mark.parametrize("hop", [8, 32])
def test_a_step_states_how_long_a_sample_waits_at_most(preset: str, hop: int, rate_hz: float) -> None:
    """By pushing one sample after another: for the last output that a sample is for, to come out."""
    model = network(preset)
    part = build_part("step", model, ExportConfig(hop=hop))
    facts = _facts(part, TrainedModel(model, NAMES, rate_hz, "none", 2.0, PreprocessingConfig(), "m", "0"))
    assert facts["hop"] == hop
    step: Any = part.module
    # a step takes `hop` samples; what it gives lies `delay` behind the first of them
    waits = []
    for sample in range(5 * hop):
        for delay, each in (
            (step.delay_steps, 8),
            *([(step.delay_samples, 1)] if preset == "eegm2" else []),
        ):
            output = sample // each  # of the sample itself, or of the step that it is in
            pushed = next(
                n for n in range(hop, 100 * hop, hop) if (n - hop) // each - delay + hop // each > output
            )
            waits.append(pushed - 1 - sample)
    assert facts["latency_samples"] >= max(waits)
    assert facts["latency_samples"] - max(waits) < 8
    assert facts["latency_s"] == pytest.approx(facts["latency_samples"] / rate_hz)
    whole = build_part("encoder", model, ExportConfig())
    expected = StreamingEEGM2(model, output="representation").latency_samples
    assert whole.facts["latency_samples"] == expected
    assert (facts["part"], whole.facts["outputs"]) == ("step", ["representation"])


@pytest.mark.parametrize("rate_hz", [128.0, 512.0])
def test_the_delays_of_a_bundle_add_up_in_milliseconds(
    rate_hz: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was said of the head when it was judged."""
    pytest.importorskip("onnx")
    from eegm2.deploy.export import bundle

    kept: dict[str, Any] = {}
    import json

    import onnx

    monkeypatch.setattr(run, "onnx_model", lambda part: None)
    monkeypatch.setattr(
        onnx.helper, "set_model_props", lambda _, props: kept.update(json.loads(props["eegm2"]))
    )
    monkeypatch.setattr(onnx, "save", lambda _, path: Path(path).write_bytes(b"12345"))
    monkeypatch.setattr(bundle, "check_bundle", lambda *_: 1e-6)
    head = head_of(validation={"metrics": {"auroc": 0.7}, "n_windows": 5})
    config = ExportConfig(hop=32, source_hz=rate_hz)
    made = run._export_bundle(trained(), head, tmp_path, config)
    delays = kept["bundle"]["latency_ms"]
    assert delays["network"] == pytest.approx(1e3 * kept["latency_samples"] / 128.0, abs=0.06)
    assert delays["total"] == pytest.approx(
        delays["filter"] + delays["resampling"] + delays["network"], abs=0.1
    )
    assert min(delays["network"], delays["filter"]) > 5
    assert kept["bundle"]["validation"] == head.facts["validation"]
    assert made["bundle.onnx"]["bytes"] == 5
    assert made["bundle.onnx"]["difference"] == 1e-6
    assert made["bundle.onnx"]["source"] == {
        "ch_names": list(NAMES),
        "sfreq_hz": rate_hz,
        "unit": "microvolts",
    }


def test_weights_of_8_bits_are_off_by_half_a_127th_at_most() -> None:
    """Of the largest weight of their own output channel; the small ones stay as they are."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    from eegm2.deploy.export.quantise import weights_to_int8

    rng = np.random.default_rng(0)
    weights = {
        "conv": (rng.standard_normal((16, 8, 9)) * np.logspace(-3, 3, 16)[:, None, None], 0),
        "product": (rng.standard_normal((40, 32)) * np.logspace(-3, 3, 32), 1),
        "gemm": (rng.standard_normal((32, 40)) * np.logspace(-3, 3, 32)[:, None], 0),
        "small": (rng.standard_normal((4, 8, 3)), 0),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"]),
        helper.make_node("MatMul", ["b", "product"], ["c"]),
        helper.make_node("Gemm", ["d", "gemm"], ["e"], transB=1),
        helper.make_node("Conv", ["f", "small"], ["g"]),
    ]
    initial = [numpy_helper.from_array(w.astype(np.float32), name) for name, (w, _) in weights.items()]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 99])
    graph = helper.make_graph(nodes, "g", [value], [], initial)
    small, count = weights_to_int8(onnx.helper.make_model(graph))
    assert count == 3
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
    for node in small.graph.node[:3]:
        axis = next(a.i for a in node.attribute if a.name == "axis")
        whole, channels = weights[node.output[0]]
        assert axis == channels
        codes, scale, zero = (stored[name] for name in node.input)
        assert (codes.dtype, zero.any()) == (np.int8, False)
        shape = [-1 if i == axis else 1 for i in range(whole.ndim)]
        largest = np.abs(whole).max(axis=tuple(i for i in range(whole.ndim) if i != axis), keepdims=True)
        off = np.abs(codes * scale.reshape(shape) - whole)
        assert (off <= largest / 127 * 0.501).all()
        assert off.max() > 0
    np.testing.assert_allclose(stored["small"], weights["small"][0], rtol=1e-6)


class Network:
    """As much of a step as a decoder needs to be made."""

    step, position = 8, 0
    waiting = np.zeros((1, 3, 0))

    def __init__(self, **more: Any) -> None:
        self.facts = {"bundle": {**bundle_facts(trained(), head_of(), ExportConfig()), **more}}

    def reset(self) -> None: ...


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({}, (0.25, 0.7, 0.55, 0.4)),
        ({"smooth": 0.5}, (0.5, 0.7, 0.55, 0.4)),
        ({"enter": 0.9}, (0.25, 0.9, 0.55, None)),
        ({"leave": 0.6}, (0.25, 0.7, 0.6, None)),
        ({"smooth": 0.1, "enter": 0.8, "leave": 0.3}, (0.1, 0.8, 0.3, None)),
    ],
    ids=["nothing", "smooth", "enter", "leave", "all"],
)
def test_a_device_decides_as_it_is_asked_to_else_as_its_bundle_says(
    given: dict[str, float], rule: tuple[float, ...]
) -> None:
    own = {"smooth": 0.25, "enter": 0.7, "leave": 0.55, "threshold": 0.4}
    decoder = Decoder("b", network=Network(rule=own), **given)  # type: ignore[arg-type]
    found = decoder.decider.rule
    assert (found.smooth, found.enter, found.leave, found.threshold) == rule
    assert decoder.decider.classes == ("a", "b")
    centring = decoder.decider.centring
    assert centring is not None
    assert (centring.window_steps, centring.mean.warm_up) == (48, FACTS["warm_up"])
    assert (decoder.windows.window_steps, decoder.windows.hop_steps) == (48, 16)
    scale = decoder.scale
    assert (scale.method, scale.window, scale.baseline) == ("zscore", 3 * 128, 21 * 128)
    assert scale.rate == pytest.approx(1 - np.exp(-3 / 33))
    assert decoder.max_gap_s == StreamConfig().max_gap_s
    assert decoder._flags.length == 3 * 128


@pytest.mark.parametrize("centre", ["none", "running"])
@pytest.mark.parametrize("features", [True, False])
def test_a_bundle_of_a_kept_model_is_of_its_windows(centre: Any, features: bool) -> None:
    """In samples, not in steps; a fine-tuned network gives scores, which become probabilities alone."""
    own: dict[str, Any] = {
        "n_times": 256,
        "window_s": 2.0,
        "hop_s": 0.25,
        "scaling": "zscore",
        "centre": centre,
    }
    model = trained()
    head = WindowedHead(model.model, ("a", "b"), own, head_of() if features else None)
    made = bundle_facts(model, head, ExportConfig())
    assert (made["window_steps"], made["hop_steps"], made["window_s"], made["centre"]) == (
        256,
        32,
        2.0,
        centre,
    )
    kind = "statistics" if features else "scores" if centre == "none" else "pooled"
    assert made["features"] == head.kind == kind
    assert made["head"]["link"] == "softmax"
    assert len(made["head"]["layers"]) == features
    if not features:
        assert unpacked(made["head"]["scale"]).tolist() == [1.0, 1.0]
        assert unpacked(made["head"]["mean"]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("flat", ["flag", "refuse", "interpolate"])
def test_a_bundle_says_what_is_done_with_flat_channels(flat: Any) -> None:
    assert bundle_facts(trained(), head_of(), ExportConfig())["flat"] == "flag"
    decoder = Decoder("b", network=Network(flat=flat, electrodes={"kernel": None}))  # type: ignore[arg-type]
    assert (decoder.flat, decoder._flags.word) == (flat, "filled" if flat == "interpolate" else "flat")
    assert Decoder("b", network=Network(flat=flat), flat="refuse").flat == "refuse"  # type: ignore[arg-type]


def test_a_calibration_on_a_device_is_of_its_person_and_device() -> None:
    decoder = Decoder("b", network=Network(), person="ann", device="cap 7")  # type: ignore[arg-type]
    assert (decoder._whose()["person"], decoder._whose()["device"]) == ("ann", "cap 7")
    assert SimpleNamespace(**decoder._whose()).method == "zscore"


class Zeros(StepStream):
    """A step of 8 samples that sees nothing."""

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"representation": np.zeros((1, 32, 1), np.float32)}


def decoder_of_zeros() -> Decoder:
    """Return a decoder of windows of 3 s, every second, in steps of 8 samples."""
    whole = {**bundle_facts(trained(), head_of(), ExportConfig()), "scaling": "none", "centre": "none"}
    facts = {
        "states": {}, "n_chans": 3, "hop": 8, "outputs": ["representation"], "delay_steps": 0,
        "delay_samples": 0, "representation_channels": 32, "width": 8, "step_samples": 8, "bundle": whole,
    }  # fmt: skip
    return Decoder("b", network=Zeros(facts))


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("missing", [0, 9, 25, 300])
@pytest.mark.parametrize("size", [100, 250])
def test_a_decision_of_a_device_has_the_time_at_which_its_window_ends(
    size: int, missing: int, stamped: bool
) -> None:
    """By the stamp of the last sample that was given, the filled ones before it; without, counted from 0."""
    decoder = decoder_of_zeros()
    x = 20 * np.random.default_rng(0).standard_normal((3, 1200))
    lost_at, begin_s = 500, 50.0 if stamped else 0.0  # a window ends among the filled samples
    times_s = begin_s + (np.arange(1200) + missing * (np.arange(1200) >= lost_at)) / 128
    found = []
    for begin in range(0, 1200, size):
        last = min(begin + size, 1200) - 1
        found += decoder.push(
            x[:, begin : last + 1],
            last_s=times_s[last] if stamped else None,
            missing=missing if begin == lost_at else 0,
        )
    filled = missing / 128 <= StreamConfig().max_gap_s
    ends = list(range(384, 1201 + missing, 128)) if filled else list(range(384, lost_at + 1, 128))
    first_s = [begin_s + end / 128 for end in ends if end <= 1200 + missing]
    if not filled:
        begun = lost_at + missing
        first_s += [begin_s + (begun + end) / 128 for end in range(384, 1200 - lost_at + 1, 128)]
    assert [one["time_s"] for one in found] == pytest.approx(first_s, abs=1e-6)
    assert decoder.counts["decisions"] == len(found)
    assert decoder.counts["missing"] == missing
    assert decoder.counts["restarts"] == (not filled)


@pytest.mark.parametrize("jump_s", [-0.9, -0.6, 0.0, 5.0])
def test_a_device_begins_anew_where_its_clock_was_set_back(jump_s: float) -> None:
    """By three quarters of a second and more, from the last sample of one chunk to the first of the next."""
    decoder = decoder_of_zeros()
    decoder.push(np.zeros((3, 64)), last_s=10.0)
    decoder.push(np.zeros((3, 256)), last_s=10.0 + 256 / 128 + jump_s)
    assert decoder.counts["clock_jumps"] == (jump_s < -0.75)


@pytest.mark.parametrize(("share", "refused"), [(0.5, False), (1.0, False), (1.01, True), (np.nan, True)])
def test_a_file_that_is_farther_off_than_it_may_be_is_refused(
    share: float, refused: bool, tmp_path: Path
) -> None:
    (tmp_path / "x.onnx").write_bytes(b"123")
    config = ExportConfig(tolerance=2e-3)
    if not refused:
        made = run._measured(tmp_path / "x.onnx", share * 2e-3, config, more=1)
        assert made == {"x.onnx": {"bytes": 3, "difference": share * 2e-3, "more": 1}}
        return
    with pytest.raises(ConfigError, match=r"x\.onnx differs from torch by .* more than 0\.002"):
        run._measured(tmp_path / "x.onnx", share * 2e-3, config)


@pytest.mark.parametrize("rate_hz", [128.0, 250.0])
@pytest.mark.parametrize(
    "options", [{}, {"reference": "average"}, {"scale": 1e-3, "l_freq_hz": 0.0}], ids=str
)
def test_a_device_prepares_samples_as_a_stream_does(rate_hz: float, options: dict[str, Any]) -> None:
    """In microvolts; and its calibration is of the same preprocessing, so that either takes the other's."""
    model = trained(**options)
    names = ("Pz", "Oz", "Fz", "Cz")
    config = ExportConfig(source_hz=rate_hz, channels=names)
    whole = bundle_facts(model, head_of(), config)
    facts = {"states": {}, "n_chans": 3, "hop": 8, "outputs": ["representation"], "width": 8, "bundle": whole}
    decoder = Decoder("b", network=Zeros(facts), person="ann", device="cap")
    x = 500 + 20 * np.random.default_rng(0).standard_normal((4, 700))
    causal = CausalPreprocessor(list(names), rate_hz, model.preprocessing, NAMES)
    for part in np.split(x, [13, 300], axis=1):
        np.testing.assert_allclose(decoder._prepare(part), causal.push(part), rtol=1e-5, atol=1e-6)
    stream = Pipeline(model, StreamConfig(person="ann"), head_of())
    stream.device = "cap"
    own = decoder._whose()
    assert {**own, "ch_names": tuple(own["ch_names"])} == stream._whose()
