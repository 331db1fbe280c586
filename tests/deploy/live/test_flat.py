"""Channels that go flat and clocks that are set back, on the stream and in the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.data.positions import template_directions
from eegm2.deploy.config import ExportConfig
from eegm2.deploy.device.flat import FlatWatch, filled, interpolation_kernel
from eegm2.deploy.export.run import export_model
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.live.pipeline import Pipeline
from eegm2.deploy.live.runner import run_stream
from eegm2.deploy.live.source import Chunk
from eegm2.deploy.trained_model import TrainedModel, load_trained
from eegm2.errors import ConfigError, DataError
from tests.data.samples import eeg
from tests.deploy.helpers import checkpoint
from tests.deploy.live.test_live import RATE, Collect, Fake

Decoder: Any = pytest.importorskip("eegm2.deploy.export.decoder", exc_type=ImportError).Decoder

NAMES = ("Fz", "Cz", "Pz", "Oz", "C3", "C4")
TEN_TWENTY = (
    "Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2",
    "F7", "F8", "T7", "T8", "P7", "P8", "Fz", "Cz", "Pz",
)  # fmt: skip


def signal(n: int = 1280, flat: tuple[int, int] = (512, 900)) -> np.ndarray:
    x = eeg(6, n, seed=4)
    x[1, flat[0] : flat[1]] = x[1, flat[0]]
    return x


@pytest.mark.parametrize("sizes", [1, 50, 400])
def test_it_is_flat_after_a_second_however_the_stream_is_cut(sizes: int) -> None:
    x = signal()
    x[2, :600] = 0.0
    watch, found = FlatWatch(np.array([True, True, False, True, True, True]), RATE), []
    for first in range(0, x.shape[1], sizes):
        found += [
            (first + i, np.flatnonzero(flat).tolist()) for i, flat in watch.push(x[:, first : first + sizes])
        ]
    assert found == [(512 + 128, [1]), (900, [])], "the third channel is not used"


def test_splines_find_a_smooth_field_again() -> None:
    directions = np.stack([template_directions()[name] for name in TEN_TWENTY])
    field = directions @ np.array([1.0, -2.0, 0.5]) + 0.3 * directions[:, 0] * directions[:, 1]
    flat = np.zeros(19, bool)
    flat[[17, 4]] = True
    mixing = filled(np.eye(19), flat, interpolation_kernel(directions), np.arange(19))
    seen = np.where(flat, 99.0, field)
    np.testing.assert_allclose(mixing @ seen, field, atol=0.05)
    assert np.abs(mixing[:, flat]).max() == 0
    with pytest.raises(DataError, match="flat: 16 channels are flat, 3 others have a known electrode"):
        filled(np.eye(19), np.arange(19) >= 3, interpolation_kernel(directions), np.arange(19))


def test_splines_are_those_of_mne() -> None:
    import mne

    directions = np.stack([template_directions()[name] for name in TEN_TWENTY])
    x = np.random.default_rng(0).standard_normal((19, 5))
    info = mne.create_info(list(TEN_TWENTY), 100.0, "eeg", verbose="error")
    info.set_montage(
        mne.channels.make_dig_montage(dict(zip(TEN_TWENTY, 0.095 * directions))), verbose="error"
    )
    raw = mne.io.RawArray(x, info, verbose="error")
    raw.info["bads"] = ["Cz"]
    raw.interpolate_bads(origin=(0.0, 0.0, 0.0), verbose="error")
    flat = np.arange(19) == TEN_TWENTY.index("Cz")
    ours = filled(np.eye(19), flat, interpolation_kernel(directions), np.arange(19)) @ x
    np.testing.assert_allclose(ours[flat], raw.get_data()[flat], rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, DenseHead, Path]:
    """A model, a head on it, and their bundle."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("flat")
    trained = load_trained(checkpoint(folder / "m.safetensors", "light", ch_names=NAMES))
    layers = [(np.random.default_rng(0).standard_normal((2, 288)) / 20, np.zeros(2))]
    facts = {"window_s": 1.0, "hop_s": 0.25, "calibration_s": 2.0, "scaling": "quantile95"}
    head = DenseHead(np.zeros(288), np.ones(288), layers, ("a", "b"), facts=facts)
    export_model(trained, folder / "device", ExportConfig(hop=8), head)
    return trained, head, folder / "device" / "bundle.onnx"


def chunks(x: np.ndarray, size: int, start_s: float = 0.0) -> list[Chunk]:
    times = start_s + np.arange(x.shape[1]) / RATE
    return [Chunk(x[:, i : i + size], times[i : i + size]) for i in range(0, x.shape[1], size)]


def stream(place: Any, parts: list[Chunk], **changes: Any) -> tuple[Collect, list[dict]]:
    from eegm2.deploy.config import StreamConfig

    trained, head, _ = place
    config, sink = StreamConfig(hop_s=0.25, **changes), Collect()
    source = Fake(parts, names=[list(NAMES)])
    run_stream(source, Pipeline(trained, config, head), [sink], config)
    return sink, [decision for o in sink.outputs for decision in o.decisions]


def alike(ours: list[dict], theirs: list[dict]) -> None:
    assert len(ours) == len(theirs) > 10
    for one, other in zip(ours, theirs):
        assert {k: one[k] for k in ("time_s", "sample", "decided", "quality")} == {
            k: other[k] for k in ("time_s", "sample", "decided", "quality")
        }
        np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-4)


@pytest.mark.parametrize("choice", ["flag", "interpolate"])
def test_stream_and_bundle_say_and_do_the_same(place: Any, choice: str) -> None:
    x = signal()
    sink, streamed = stream(place, chunks(x, 60), flat=choice)
    decoder = Decoder(place[2], flat=choice)
    decided = [d for first in range(0, 1280, 45) for d in decoder.push(x[:, first : first + 45])]
    decided += decoder.flush()
    alike(decided, streamed)
    assert sink.statistics["flat"] == decoder.counts["flat"] == 1
    flagged = [d["time_s"] for d in streamed if d["quality"]]
    began_s = 640 / RATE + (0 if choice == "flag" else 1)  # others begin anew, so that no window holds both
    assert min(flagged) == pytest.approx(began_s, abs=0.26)
    assert max(flagged) == pytest.approx(900 / RATE + 1, abs=0.26) if choice == "flag" else True
    events = [e for e in sink.events() if e["event"] in ("flat", "restart")]
    if choice == "flag":
        assert [e["channels"] for e in events] == [["Cz"], []]
        assert sink.statistics["restarts"] == decoder.counts["restarts"] == 0
        return
    assert [e.get("why") for e in events if e["event"] == "restart"] == [
        "Cz flat, taken from the others",
        "no channel is flat any more",
    ]
    assert sink.statistics["restarts"] == decoder.counts["restarts"] == 2
    assert {flag for d in streamed for flag in d["quality"]} == {"filled:Cz"}


def test_a_flat_channel_ends_the_run_where_that_is_chosen(place: Any) -> None:
    with pytest.raises(DataError, match=r"headset: Cz has been flat for a second; .*--flat interpolate"):
        stream(place, chunks(signal(), 60), flat="refuse")
    with pytest.raises(DataError, match=r"push: Cz has been flat for a second; check its electrode"):
        Decoder(place[2], flat="refuse").push(signal())
    with pytest.raises(ConfigError, match="flat: got 'no', expected flag, refuse or interpolate"):
        Decoder(place[2], flat="no")


def test_what_cannot_be_interpolated_is_said_at_the_start() -> None:
    from eegm2.data.config import PreprocessingConfig
    from eegm2.deploy.stream.causal import CausalPreprocessor

    def matched(*names: str) -> CausalPreprocessor:
        return CausalPreprocessor(list(names), RATE, PreprocessingConfig(), names, where="headset")

    with pytest.raises(
        ConfigError, match="headset cannot be interpolated: no known position for somewhere; use"
    ):
        matched("Fz", "Cz", "Pz", "Oz", "C3", "somewhere").refuse_unknown_electrodes()
    with pytest.raises(ConfigError, match="headset cannot be interpolated: only 3 channels; use --flat flag"):
        matched("Fz", "Cz", "Pz").refuse_unknown_electrodes()


@pytest.mark.parametrize("size", [40, 640])
def test_a_clock_that_jumps_back_begins_anew(place: Any, size: int) -> None:
    x = signal(flat=(0, 0))
    times = 1000 + np.arange(1280) / RATE
    times[700:] -= 30.0
    parts = [Chunk(x[:, i : i + size], times[i : i + size]) for i in range(0, 1280, size)]
    sink, decisions = stream(place, parts)
    assert sink.statistics["clock_jumps"] == sink.statistics["restarts"] == 1
    (restart,) = [e for e in sink.events() if e["event"] == "restart"]
    assert restart["why"] == "the clock of the source jumped back by 30 s"
    told = np.array([d["time_s"] for d in decisions])
    assert (np.diff(told) < 0).sum() == 1
    after = told[told < 990]
    assert after.min() == pytest.approx(1000 + 700 / RATE - 30 + 1, abs=1e-6), "no window holds both"
    decoder = Decoder(place[2])
    decided = decoder.push(x[:, :700], last_s=times[699]) + decoder.push(x[:, 700:], last_s=times[-1])
    decided += decoder.flush()
    assert decoder.counts["clock_jumps"] == decoder.counts["restarts"] == 1
    alike(decided, decisions)


def test_the_channels_of_a_device_are_compared(place: Any) -> None:
    assert Decoder(place[2], ch_names=NAMES).ch_names == list(NAMES)
    with pytest.raises(
        ConfigError, match="channels: the device has Cz Fz Pz Oz C3 C4, the bundle takes Fz Cz"
    ):
        Decoder(place[2], ch_names=("Cz", "Fz", *NAMES[2:]))
