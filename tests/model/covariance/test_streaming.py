"""Covariance tokens in streams of any cuts, in fixed steps and in ONNX: the offline network's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from eegm2 import EEGM2, EEGM2Config, StreamingEEGM2, encode_long, for_electrodes
from eegm2.data.config import PreprocessingConfig
from eegm2.deploy.config import ExportConfig
from eegm2.deploy.device.decisions import StreamCentring
from eegm2.deploy.export.run import export_model
from eegm2.deploy.heads.decisions import SlidingFeatures, steps_of
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.features.centring import WARM_UP_WINDOWS, centred
from eegm2.model.features import window_features
from eegm2.model.streaming.fixed_step import StreamStep
from tests.deploy.helpers import cuts, signal

VIRTUAL = {"n_chans": 6, "n_virtual": 7}
FIXED = {"n_chans": 5, "n_virtual": 0, "decoder": True, "trunk_blocks": 2}
FASTER = {**FIXED, "token_hz": 16.0}


def network(**changes: object) -> EEGM2:
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset("covariance", **{"width": 4, "covariance_s": 1.0, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return model


def streamed(stream: StreamingEEGM2, x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    return torch.cat([*(stream.push(part) for part in x.split(lengths, dim=2)), stream.flush()], dim=2)


@torch.no_grad()
@pytest.mark.parametrize("shape", [VIRTUAL, FIXED, FASTER], ids=["virtual", "fixed", "16 Hz"])
@pytest.mark.parametrize("size", [1, 7, 64, 1000, None])
def test_any_cut_equals_the_offline_network(shape: dict[str, object], size: int | None) -> None:
    model = network(**shape)
    x = signal(200 if size == 1 else 1203, n_chans=model.config.n_chans)
    lengths, n = cuts(x.shape[2], size), x.shape[2]
    made = streamed(StreamingEEGM2(model, output="representation"), x, lengths)
    torch.testing.assert_close(made, model.encode(x), rtol=0, atol=1e-4)
    if model.config.decoder:
        whole = streamed(StreamingEEGM2(model, n_times=n), x, lengths)
        torch.testing.assert_close(whole, model(x), rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_token_comes_nine_samples_after_its_end() -> None:
    model = network(**VIRTUAL)
    stream = StreamingEEGM2(model)
    assert stream.latency_samples == 9
    x = signal(64, n_chans=6)
    assert [stream.push(x[..., i : i + 1]).shape[2] for i in range(48)].index(1) == 31 + 9


@torch.no_grad()
def test_reset_of_an_item_and_a_saved_state(tmp_path: Path) -> None:
    model = network(**VIRTUAL)
    x, step = signal(20 * 32, n_chans=6), model.config.token_step
    stream = StreamingEEGM2(model)
    first = stream.push(x[..., : 5 * step])
    stream.reset([1])
    save_file(stream.state_dict(), tmp_path / "state.safetensors")
    other = StreamingEEGM2(model)
    other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    made = torch.cat([first, other.push(x[..., 5 * step :]), other.flush()], dim=2)
    torch.testing.assert_close(made[:1], model.encode(x[:1]), rtol=0, atol=1e-4)
    torch.testing.assert_close(made[1:, :, 5:], model.encode(x[1:, :, 5 * step :]), rtol=0, atol=1e-4)
    stream.push(x[..., :8])
    with pytest.raises(ConfigError, match="expected a multiple of 32; push 24 more"):
        stream.reset([0])
    with pytest.raises(ConfigError, match="belongs to another model"):
        StreamingEEGM2(network(n_chans=6, n_virtual=5)).load_state_dict(other.state_dict())


@torch.no_grad()
def test_memory_does_not_grow() -> None:
    stream = StreamingEEGM2(network(**VIRTUAL))
    sizes = []
    for _ in range(12):
        stream.push(signal(100, n_chans=6))
        stream.push(signal(28, n_chans=6))
        sizes.append(sum(t.numel() for t in stream.state_dict().values()))
    assert len(set(sizes[2:])) == 1


@torch.no_grad()
def test_whole_recordings_and_short_ones() -> None:
    model, x = network(**VIRTUAL), signal(5000, n_chans=6)
    torch.testing.assert_close(encode_long(model, x), model.encode(x), rtol=0, atol=1e-4)
    with pytest.raises(DataError, match="got n_times=31, expected at least 32"):
        encode_long(model, x[..., :31])
    stream = StreamingEEGM2(model)
    stream.push(x[..., :31])
    with pytest.raises(DataError, match="holds 31 samples, expected none or at least 32"):
        stream.flush()


@torch.no_grad()
@pytest.mark.parametrize("shape", [VIRTUAL, FIXED], ids=["virtual", "fixed"])
@pytest.mark.parametrize(("hop", "n_times"), [(32, 331), (64, 640)])
def test_fixed_steps_equal_the_offline_network(shape: dict[str, object], hop: int, n_times: int) -> None:
    model = network(**shape)
    x = signal(n_times, n_chans=model.config.n_chans)
    step = StreamStep(model, hop, reconstruct=model.config.decoder)
    assert all(size > 0 for shape in step.state_shapes.values() for size in shape)
    states, position, pieces = step.initial_states(2), torch.tensor(0), []
    padded = torch.nn.functional.pad(x, (0, 10 * hop + 64), value=1e3)
    n = 1 + step.reconstructs
    while position < n_times + 100:
        block = padded[..., position : position + hop]
        *outputs, position = (results := step(block, position, torch.tensor(n_times), *states))[: n + 1]
        states = results[n + 1 :]
        pieces.append(outputs)
    made = torch.cat([p[0] for p in pieces], dim=2)[..., step.delay_steps :]
    expected = model.encode(x)
    torch.testing.assert_close(made[..., : expected.shape[2]], expected, rtol=0, atol=1e-4)
    if step.reconstructs and n_times % 8 == 0:
        y = torch.cat([p[1] for p in pieces], dim=2)[..., step.delay_samples :]
        torch.testing.assert_close(y[..., :n_times], model(x), rtol=0, atol=1e-4)
    with pytest.raises(ConfigError, match="hop: got 8 samples, expected a positive multiple of 32"):
        StreamStep(model, 8, reconstruct=False)


@torch.no_grad()
def test_decisions_see_the_tangent_vectors_of_their_window() -> None:
    model, x = network(**VIRTUAL), signal(1600, n_chans=6)
    stream, sliding = StreamingEEGM2(model), SlidingFeatures(8, 2, "tangent", model.config)
    parts = [stream.advance(part)[0] for part in x.split(cuts(1600, None), dim=2)] + [stream.finish()[0]]
    seen = [found for part in parts for found in sliding.push(part)]
    assert [end for end, _ in seen] == list(range(8, 51, 2))
    representation = model.encode(x)
    for end, features in seen:
        expected = window_features(representation[..., end - 8 : end], "tangent", model.config, first=end - 8)
        torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)
    with pytest.raises(ConfigError, match=r"expected a positive multiple of 0\.25 s"):
        steps_of("window_s", 2.1, 128.0, 32)


@pytest.mark.parametrize(("n_steps", "hop_steps"), [(16, 4), (16, 8), (12, 5), (3, 2), (8, 8), (4, 9)])
def test_windows_that_overlap_are_centred_in_a_stream_as_offline(n_steps: int, hop_steps: int) -> None:
    """Only windows side by side count; after a gap they are counted anew, and the mean stays."""
    rng = np.random.default_rng(0)
    ends = [n_steps + hop_steps * np.arange(60), n_steps + hop_steps * np.arange(45)]
    features = rng.standard_normal((105, 6)) + np.linspace(0, 5, 105)[:, None]
    centring, made = StreamCentring(window_steps=n_steps), []
    for part, rows in zip(ends, (range(60), range(60, 105))):
        centring.restart()
        made += [centring.take(features[row : row + 1], int(end)) for row, end in zip(rows, part)]
    second = ends[0][-1] + 7  # seconds of a step are 0.25 s
    start_s = 0.25 * (np.concatenate([ends[0], second + ends[1]]) - n_steps)
    offline = centred(features, np.array(["a"] * 105), "running", start_s, 0.25 * n_steps)
    known = [row is not None for row in made]
    assert known == sorted(known)
    assert any(known)
    first = known.index(True)
    np.testing.assert_allclose(np.concatenate(made[first:]), offline[first:])
    mean = features[: first + 1] - offline[: first + 1]
    np.testing.assert_allclose(mean, np.broadcast_to(mean[-1], mean.shape))


def test_centring_in_a_stream_is_the_offline_running_mean() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 6)) + 3
    start_s = 4.0 * np.arange(40)
    shuffled = rng.permutation(40)
    names = np.array(["a"] * 40)
    offline = np.empty_like(features)
    offline[shuffled] = centred(features[shuffled], names, "running", start_s[shuffled])
    centring = StreamCentring(window_steps=16)
    made = [centring.take(features[i : i + 1], 16 * (i + 1)) for i in range(40)]
    assert [m is None for m in made] == [True] * (WARM_UP_WINDOWS - 1) + [False] * (41 - WARM_UP_WINDOWS)
    np.testing.assert_allclose(np.concatenate(made[WARM_UP_WINDOWS - 1 :]), offline[WARM_UP_WINDOWS - 1 :])
    np.testing.assert_allclose(
        offline[: WARM_UP_WINDOWS - 1],
        features[: WARM_UP_WINDOWS - 1] - features[:WARM_UP_WINDOWS].mean(0),
    )
    whole = centred(features, names, "recording")
    np.testing.assert_allclose(whole.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(offline[-1], whole[-1])  # by the end the mean so far is the recording's


def trained(model: EEGM2, names: list[str]) -> TrainedModel:
    return TrainedModel(model, tuple(names), 128.0, "recording", 4.0, PreprocessingConfig(), "x", "y")


@torch.no_grad()
def test_an_exported_step_for_another_montage_is_the_stream(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from eegm2.deploy.export.runtime import OnnxStream

    names = ["Fz", "Cz", "Pz", "Oz", "T7-P7"]
    model = network(**VIRTUAL)
    there = trained(model, ["F3", "F4", "C3", "C4", "P3", "P4"]).on_montage(names)
    report = export_model(
        there, tmp_path / "out", ExportConfig(parts=("step",), format=("onnx",), int8=False)
    )
    assert report["files"]["step.onnx"]["difference"] < 1e-4
    import onnx

    kinds = {node.op_type for node in onnx.load(tmp_path / "out" / "step.onnx").graph.node}
    assert not {"Eigh", "Inverse", "If", "Loop"} & kinds
    stream = OnnxStream(tmp_path / "out" / "step.onnx", batch=2)
    assert stream.facts["ch_names"] == names
    x = signal(400, n_chans=5)
    parts = [stream.push(x[..., :100].numpy()), stream.push(x[..., 100:].numpy()), stream.flush()]
    made = np.concatenate([p["representation"] for p in parts], axis=2)
    expected = for_electrodes(model, names).encode(x).numpy()
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@torch.no_grad()
@pytest.mark.parametrize("shape", [VIRTUAL, FIXED], ids=["virtual", "fixed"])
def test_everything_is_exported_and_agrees(tmp_path: Path, shape: dict[str, object]) -> None:
    pytest.importorskip("onnxruntime")
    model = network(**shape)
    names = ["F3", "F4", "C3", "C4", "P3", "P4"][: model.config.n_chans]
    report = export_model(trained(model, names), tmp_path / "out", ExportConfig())
    parts = {"encoder", "step", *(["reconstruction"] if model.config.decoder else [])}
    assert {name.partition(".")[0] for name in report["files"]} == parts
    assert all(facts.get("difference", 0) < 1e-4 for facts in report["files"].values())
