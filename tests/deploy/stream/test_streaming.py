"""Streaming equals the offline network, however the input is cut; states, resets, latency, bad input."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import eegm2
from eegm2 import EEGM2Config, StreamingEEGM2, build_model, time_statistics
from eegm2.data.config import PreprocessingConfig
from eegm2.data.windows.scaling import scale_window
from eegm2.deploy.heads.decisions import SlidingFeatures, steps_of
from eegm2.errors import ConfigError, DataError
from eegm2.model.config import MIXERS
from eegm2.model.config import PRESETS as ALL_PAPERS
from eegm2.model.statistics import FEATURES
from tests.deploy.helpers import cuts, network, recording, signal

#: Every one of the paper's that can be streamed, a new one too.
PRESETS = [
    name
    for name, changes in ALL_PAPERS.items()
    if changes.get("architecture") != "unet" and MIXERS.find(changes.get("mixer", "mamba2")).causal
]
CUTS = [1, 7, 64, 1000, None]


def streamed(stream: StreamingEEGM2, x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    parts = [stream.push(part) for part in x.split(lengths, dim=2)]
    return torch.cat([*parts, stream.flush()], dim=2)


@pytest.fixture(scope="module")
def real() -> torch.Tensor:
    return recording()[..., :1200]


@torch.no_grad()
@pytest.mark.parametrize("preset", PRESETS)
def test_any_cut_of_a_real_recording_equals_the_offline_network(preset: str, real: torch.Tensor) -> None:
    model = network(preset, n_chans=real.shape[1], width=4 if preset in ("s3", "s4") else 8)
    for size in CUTS:
        x = real[..., : 96 if size == 1 else 1200 if size == 1000 else 600]
        y = streamed(StreamingEEGM2(model), x, cuts(x.shape[2], size))
        torch.testing.assert_close(y, model(x), rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("number", [0, 1, 2])
def test_encoder_reconstruction_and_head_agree_on_every_bundled_recording(number: int) -> None:
    x = recording(number)[..., :900]
    model = network(n_chans=x.shape[1])
    expected = model.encode(x)
    for size in (7, 64, 1000, None):
        lengths = cuts(900, size, seed=number)
        f = streamed(StreamingEEGM2(model, output="representation"), x, lengths)
        torch.testing.assert_close(f, expected, rtol=0, atol=1e-4)
        both = StreamingEEGM2(model)
        parts = [both.advance(part) for part in x.split(lengths, dim=2)] + [both.finish()]
        torch.testing.assert_close(torch.cat([p[0] for p in parts], dim=2), expected, rtol=0, atol=1e-4)
        sliding = SlidingFeatures(32, 8)
        seen = [found for part in parts for found in sliding.push(part[0])]
        assert [end for end, _ in seen] == list(range(32, 113, 8))
        for end, features in seen:
            torch.testing.assert_close(
                features, time_statistics(expected[..., end - 32 : end]), rtol=0, atol=1e-4
            )


@torch.no_grad()
@pytest.mark.skipif("EEGM2_TEST_DATA" not in os.environ, reason="EEGM2_TEST_DATA names no folder")
@pytest.mark.parametrize("preset", PRESETS)
def test_any_cut_of_somebody_elses_recordings_equals_the_offline_network(preset: str) -> None:
    from eegm2.data.files.readers import read_raw
    from eegm2.data.signal.preprocessing import preprocess

    root = Path(os.environ["EEGM2_TEST_DATA"])
    files = sorted(root.rglob("*.edf"))
    assert files, f"{root}: holds no .edf file"
    for seed, file in enumerate(files[:: max(1, len(files) // 4)][:4]):
        prepared = preprocess(read_raw(str(file)), PreprocessingConfig(), where=file.name).array
        x = torch.from_numpy(scale_window(prepared[:, : 20 * 128], "quantile95"))[None]
        x = x[..., : x.shape[2] // 8 * 8]
        model = network(preset, n_chans=x.shape[1], width=4 if preset in ("s3", "s4") else 8)
        for size in (1, 7, 64, 1000, None):
            part = x[..., :160] if size == 1 else x
            y = streamed(StreamingEEGM2(model), part, cuts(part.shape[2], size, seed))
            torch.testing.assert_close(y, model(part), rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_comparison_sees_one_percent(real: torch.Tensor) -> None:
    model = network(n_chans=real.shape[1])
    y = streamed(StreamingEEGM2(model), real, [1200])
    for name in ("encoder.embedding.branches.1.bias", "mediator.linear_out.weight", "decoder.conv1.weight"):
        changed = network(n_chans=real.shape[1])
        dict(changed.named_parameters())[name].mul_(1.01)
        with pytest.raises(AssertionError, match="not close"):
            torch.testing.assert_close(y, changed(real), rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    ("preset", "n_times"), [*(("eegm2", n) for n in (8, 9, 15, 101, 250, 1003)), ("s1", 15), ("s4", 101)]
)
def test_a_known_total_is_exact_at_any_length(preset: str, n_times: int) -> None:
    model, x = network(preset), signal(n_times)
    for size in (7, 1000):
        y = streamed(StreamingEEGM2(model, n_times=n_times), x, cuts(n_times, size))
        torch.testing.assert_close(y, model(x), rtol=0, atol=1e-4)


@torch.no_grad()
def test_an_open_end_inside_a_step_gives_every_sample_and_deviates_where_documented() -> None:
    model, x = network(), signal(1003)
    stream = StreamingEEGM2(model)
    y = streamed(stream, x, cuts(1003, 64))
    assert y.shape == x.shape
    whole = streamed(StreamingEEGM2(model), x[..., :1000], cuts(1000, 64))
    difference = (y - model(x)).abs().mean() / model(x).abs().mean()
    # the offline interpolation at 1003 stretches by 250 / (2 * 125), a shift growing to half a step
    assert 1e-4 < difference < 0.5
    torch.testing.assert_close(y[..., :960], whole[..., :960], rtol=0, atol=1e-5)
    representation = streamed(StreamingEEGM2(model, output="representation"), x, cuts(1003, 64))
    torch.testing.assert_close(representation, model.encode(x), rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("n_times", [*range(1001, 1008), 9, 15])
def test_an_open_end_is_the_network_whose_interpolation_always_doubles(
    n_times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        up = torch.nn.functional.interpolate(x, scale_factor=2, mode="linear", align_corners=False)
        missing = skip.shape[-1] - up.shape[-1]
        assert missing in (0, 1)
        return torch.cat([skip, torch.cat([up, up[..., -1:].expand(-1, -1, missing)], dim=2)], dim=1)

    model, x = network(), signal(n_times)
    y = streamed(StreamingEEGM2(model), x, cuts(n_times, 64))
    monkeypatch.setattr("eegm2.model.fused.join", doubled)
    torch.testing.assert_close(y, model(x), rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_total_moves_every_sample_of_the_offline_network_so_no_flush_can_make_up_for_it() -> None:
    model, x = network().double(), signal(1003).double()
    early = slice(300, 400)  # hundreds of samples before the end, long given out by a stream
    whole, longer = model(x[..., :1000])[..., early], model(x)[..., early]
    assert (whole - longer).abs().max() > 1e-3
    assert (whole - model(x[..., :992])[..., early]).abs().max() < 1e-9


@torch.no_grad()
@pytest.mark.parametrize("preset", PRESETS)
def test_outputs_come_as_early_as_the_future_cannot_change_them(preset: str) -> None:
    model, n = network(preset), 136
    x = signal(n, batch=1)
    stream, latest = StreamingEEGM2(model), 0
    for k in range(n):
        stream.push(x[..., k : k + 1])
        if preset == "light":
            assert stream.emitted == max(0, (k + 1 - stream.latency_samples) // 8)
        else:
            latest = max(latest, k + 1 - stream.emitted)
    if preset != "light":
        assert latest == stream.latency_samples == (28 if preset in ("s1", "s4") else 30)
    # the next output does depend on the next sample: it could not have come earlier
    model, x = model.double(), x.double()
    for k in range(64, 72):
        stream = StreamingEEGM2(model)
        stream.push(x[..., :k])
        ready, changed = stream.emitted, x.clone()
        changed[..., k:] += 3 * torch.randn_like(changed[..., k:])
        a, b = model(x), model(changed)
        torch.testing.assert_close(a[..., :ready], b[..., :ready], rtol=0, atol=1e-12)
        assert (a[..., ready] - b[..., ready]).abs().max() > 1e-9


@torch.no_grad()
def test_a_prefix_fixes_its_outputs() -> None:
    model, x = network(), signal(300)
    first = StreamingEEGM2(model)
    head = first.push(x[..., :200])
    second = StreamingEEGM2(model)
    other = torch.cat([x[..., :200], signal(100, seed=9)], dim=2)
    torch.testing.assert_close(second.push(other)[..., : head.shape[2]], head, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("preset", "at"), [("eegm2", 77), ("eegm2", 3), ("light", 130), ("s3", 77)])
def test_save_restore_continue_equals_uninterrupted(preset: str, at: int, tmp_path) -> None:
    model, x = network(preset), signal(264)
    lengths = [at, 0, 50, 1, 264 - at - 51]
    whole = StreamingEEGM2(model)
    expected = [whole.push(part) for part in x.split(lengths, dim=2)] + [whole.flush()]
    stream, results = StreamingEEGM2(model), []
    for i, part in enumerate(x.split(lengths, dim=2)):
        results.append(stream.push(part))
        save_file(stream.state_dict(), tmp_path / f"{i}.safetensors")
        stream = StreamingEEGM2(network(preset))
        stream.load_state_dict(load_file(tmp_path / f"{i}.safetensors"))
    results.append(stream.flush())
    for got, want in zip(results, expected):
        assert torch.equal(got, want)
    save_file(stream.state_dict(), tmp_path / "end.safetensors")
    ended = StreamingEEGM2(model)
    ended.load_state_dict(load_file(tmp_path / "end.safetensors"))
    with pytest.raises(DataError, match="has been flushed"):
        ended.push(x)


def test_memory_is_constant_in_time() -> None:
    def held(stream: StreamingEEGM2) -> int:
        layers = list(stream._state.layers.values())
        tensors = [t for layer in layers for t in vars(layer).values() if isinstance(t, torch.Tensor)]
        tensors += [t for layer in layers if hasattr(layer, "mamba") for t in layer.mamba.tensors()]
        return sum(t.untyped_storage().nbytes() for t in tensors)

    stream = StreamingEEGM2(network())
    for _ in range(4):
        stream.push(signal(64))
    early = held(stream)
    for size in (2000, 64):
        stream.push(signal(size))
        assert held(stream) == early


@torch.no_grad()
@pytest.mark.parametrize(("at", "size"), [(8, 7), (64, 1), (200, 64)])
def test_a_reset_item_equals_a_fresh_stream_and_the_others_go_on(at: int, size: int) -> None:
    model, x = network(), signal(328, batch=3)
    stream = StreamingEEGM2(model)
    parts = [stream.push(x[..., :at])]
    stream.reset([1])
    parts += [stream.push(part) for part in x[..., at:].split(size, dim=2)]
    y = torch.cat([*parts, stream.flush()], dim=2)
    assert y.shape == x.shape
    torch.testing.assert_close(y[[0, 2]], model(x)[[0, 2]], rtol=0, atol=1e-4)
    torch.testing.assert_close(y[1:2, :, at:], model(x[1:2, :, at:]), rtol=0, atol=1e-4)
    given = parts[0].shape[2]
    assert torch.isnan(y[1, :, given:at]).all()
    assert torch.isfinite(y[1, :, :given]).all()


@torch.no_grad()
def test_resets_of_several_items_and_of_everything() -> None:
    model, x = network("light"), signal(160, batch=3)
    stream = StreamingEEGM2(model)
    stream.push(x[..., :40])
    stream.reset([0])
    stream.push(x[..., 40:48])
    stream.reset([2, 0])
    stream.push(x[..., 48:56])
    stream.reset([1])
    stream.push(x[..., 56:])
    stream.reset()
    assert stream.position == 0
    assert torch.allclose(streamed(stream, x, [160]), model(x), atol=1e-4)
    stream.reset()
    first = stream.push(x[..., :40])
    stream.reset([0])
    middle = stream.push(x[..., 40:48])
    stream.reset([2])
    rest = torch.cat([first, middle, stream.push(x[..., 48:]), stream.flush()], dim=2)
    for item, start in ((0, 40), (1, 0), (2, 48)):
        expected = model(x[item : item + 1, :, start:])
        torch.testing.assert_close(rest[item : item + 1, :, start // 8 :], expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_batch_items_do_not_see_each_other_and_arrays_are_taken() -> None:
    model, x = network(), signal(200, batch=4)
    together = streamed(StreamingEEGM2(model), x, cuts(200, 33))
    for i in range(4):
        alone = streamed(StreamingEEGM2(model), x[i : i + 1], cuts(200, 33))
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-5)
    array = StreamingEEGM2(model).push(x.numpy().astype(np.float64))
    assert array.dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize(("kind", "n_features"), [("statistics", 9 * 32), ("covariance", 32 * 33 // 2)])
def test_the_head_sees_the_features_of_the_streamed_representation(kind: str, n_features: int) -> None:
    model, x = network("light"), signal(1000)
    whole = model.encode(x)
    for size in (7, 64, 1000):
        stream, sliding = StreamingEEGM2(model), SlidingFeatures(32, 8, kind, model.config)
        parts = [stream.advance(part)[0] for part in x.split(size, dim=2)] + [stream.finish()[0]]
        seen = [found for part in parts for found in sliding.push(part)]
        assert [end for end, _ in seen] == list(range(32, 126, 8))
        for end, features in seen:
            assert features.shape == (len(x), n_features)
            close = 1e-4 if kind == "statistics" else 1e-3  # logarithms of small eigenvalues
            torch.testing.assert_close(
                features, FEATURES[kind](whole[..., end - 32 : end]), rtol=0, atol=close
            )


@pytest.mark.parametrize(("preset", "reason"), [("s5", "attention"), ("unet", "UNet")])
def test_what_cannot_be_streamed_is_refused_with_the_reason(preset: str, reason: str) -> None:
    model = build_model(EEGM2Config.preset(preset, n_chans=3, width=4))
    with pytest.raises(ConfigError, match=reason):
        StreamingEEGM2(model)


def test_bad_input_is_refused_and_changes_nothing() -> None:
    model, x = network(), signal(64)
    stream = StreamingEEGM2(model)
    stream.push(x)
    before = stream.state_dict()
    spoilt = x.clone()
    spoilt[1, 2, 5] = torch.inf
    for bad, message in (
        (x[:, :2], r"got shape \(2, 2, 64\), expected \(batch, n_chans=3, k\)"),
        (x[0], r"got shape \(3, 64\)"),
        (x[:1], "got a batch of 1, but the stream began with 2"),
        (x.int(), "got dtype torch.int32"),
        (spoilt, "channel 2 of item 1 is not finite at sample 69"),
    ):
        with pytest.raises(DataError, match=message):
            stream.push(bad)
    after = stream.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    stream.push(x[..., :1])
    with pytest.raises(ConfigError, match="stream is at sample 65, expected a multiple of 8; push 7 more"):
        stream.reset([0])
    with pytest.raises(ConfigError, match="got item 2, expected 0 to 1"):
        stream.reset([2])
    short = StreamingEEGM2(model)
    short.push(x[..., :5])
    with pytest.raises(DataError, match="holds 5 samples, expected none or at least 8"):
        short.flush()
    fixed = StreamingEEGM2(model, n_times=32)
    with pytest.raises(DataError, match="got 64 samples, more than the stated n_times=32"):
        fixed.push(x)
    with pytest.raises(DataError, match="got 0 of the stated n_times=32 samples"):
        fixed.flush()
    fixed.push(x[..., :8])
    with pytest.raises(ConfigError, match="whose n_times is fixed"):
        fixed.reset([0])


def test_foreign_states_and_options_are_refused() -> None:
    stream = StreamingEEGM2(network())
    stream.push(signal(64))
    state = stream.state_dict()
    with pytest.raises(ConfigError, match=r"unknown entry 'mediator\.index'"):
        StreamingEEGM2(network(), output="representation").load_state_dict(state)
    with pytest.raises(ConfigError, match=r"'embedding\.tail' has shape"):
        StreamingEEGM2(network(n_chans=4)).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"'block1\.ssm' has shape|'pool1\.tail' has shape|'block1.conv'"):
        StreamingEEGM2(network(width=4)).load_state_dict(state)
    with pytest.raises(ConfigError, match="n_times is None, expected 64"):
        StreamingEEGM2(network(), n_times=64).load_state_dict(state)
    with pytest.raises(ConfigError, match="'emitted' is missing"):
        stream.load_state_dict({})
    with pytest.raises(ConfigError, match="output: got 'both'"):
        StreamingEEGM2(network(), output="both")
    with pytest.raises(ConfigError, match="this model has no decoder"):
        StreamingEEGM2(network("light"), output="reconstruction")
    with pytest.raises(ConfigError, match=r"hop_s: got 0\.1 s"):
        steps_of("hop_s", 0.1, 128.0, 8)
    with pytest.raises(ConfigError, match="sfreq_hz: got 0"):
        stream.latency_s(0)
    assert stream.latency_s(128) == pytest.approx(0.234, abs=1e-3)


def test_nothing_pushed_gives_nothing() -> None:
    stream = StreamingEEGM2(network())
    assert stream.push(signal(0)).shape == (2, 3, 0)
    assert stream.flush().shape == (2, 3, 0)
    assert "StreamingEEGM2" in dir(eegm2)
