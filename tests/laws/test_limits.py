"""Edges: up to where a number can be used, and to which side what lies between two samples goes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal

from eegm2.data.config import PreprocessingConfig, SplitConfig, WindowConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.signal.filters import band_filter
from eegm2.data.store.facts import RecordingInfo
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.labelling import label_spans, recording_windows
from eegm2.errors import ConfigError, DataError
from eegm2.training.config import PretrainConfig
from eegm2.training.objectives.augment import Augment
from eegm2.training.objectives.hiding import near_electrodes
from eegm2.training.objectives.options import AugmentOptions, ObjectiveOptions
from eegm2.training.objectives.reconstruction import Reconstruction, add_noise
from eegm2.training.runfolder import Table
from tests.training.stores import tiny_store

Edges = tuple[list[float], list[float]]
WHOLE_ABOVE_0: Edges = ([1], [0, -1])
COUNT: Edges = ([0], [-1])
NOT_NEGATIVE: Edges = ([0.0, 1e-9, 100.0], [-1e-9])
ABOVE_0: Edges = ([1e-9], [0.0, -1.0])
SHARE: Edges = ([0.0, 1.0], [-1e-9, 1.0 + 1e-9])
DECAY: Edges = ([0.0, 0.999999], [-1e-9, 1.0])
OF_PEOPLE: Edges = ([0.0, 0.849], [-1e-9, 0.85, 1.0])  # the other part has 0.15


def of(names: str, edges: Edges) -> dict[str, Edges]:
    return dict.fromkeys(names.split(), edges)


#: What every number of a pretraining may be, and what it may not.
PRETRAINING: dict[str, Edges] = {
    **of("width epochs batch_size accumulate log_every_steps num_nodes hide_chunks", WHOLE_ABOVE_0),
    **of("seed split_seed patience workers checkpoint_every_steps overfit_batches", COUNT),
    **of("checkpoint_windows windows_per_recording", COUNT),
    **of("alpha beta weight_decay gradient_clip gradient_ema_gain noise hide_radius reject_uv", NOT_NEGATIVE),
    **of("band_power tangent latent pooled variance covariance contrast neighbours", NOT_NEGATIVE),
    **of("gain_db aperiodic_noise", NOT_NEGATIVE),
    **of("max_lr div_factor final_div_factor mask_patch_s patch_s", ABOVE_0),
    **of("contrast_temperature window_s stride_s", ABOVE_0),
    **of("pct_start mask_time mask_channels pops hide_time channel_subsets", SHARE),
    **of("channel_dropout sign rereference", SHARE),
    **of("ema_decay gradient_ema teacher_decay teacher_decay_end", DECAY),
    **of("val test", OF_PEOPLE),
}
#: Those that count together with others, and those of a mixer, which the network's shape refuses.
ELSEWHERE = {"neighbours_s", "d_state", "expand", "headdim"}


@pytest.mark.parametrize("name", PRETRAINING)
def test_a_number_of_a_pretraining_may_be_what_its_help_says(name: str) -> None:
    allowed, refused = PRETRAINING[name]
    for value in allowed:
        assert getattr(PretrainConfig(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(ConfigError, match=name):
            PretrainConfig(**{name: value})


def test_every_number_of_a_pretraining_has_its_limits() -> None:
    numbers = {
        field.name
        for field in dataclasses.fields(PretrainConfig)
        if isinstance(field.default, int | float) and not isinstance(field.default, bool)
    }
    assert numbers | {"stride_s"} == {*PRETRAINING, *ELSEWHERE}


PAIRS: list[tuple[type, dict[str, Any], bool]] = [
    (SplitConfig, {"val": 0.5, "test": 0.499}, True),
    (SplitConfig, {"val": 0.5, "test": 0.5}, False),
    (SplitConfig, {"val": 0.0, "test": 0.0}, True),
    (PreprocessingConfig, {"h_freq_hz": 64.0}, True),
    (PreprocessingConfig, {"h_freq_hz": 64.001}, False),
    (PreprocessingConfig, {"h_freq_hz": 40.0, "sfreq_hz": 80.0}, True),
    (PreprocessingConfig, {"h_freq_hz": 0.0, "sfreq_hz": 2.0}, True),
    (PreprocessingConfig, {"l_freq_hz": 40.0}, False),
    (PreprocessingConfig, {"l_freq_hz": 39.9}, True),
    (PreprocessingConfig, {"l_freq_hz": 50.0, "h_freq_hz": 0.0}, True),
    (PreprocessingConfig, {"gpass_db": 40.0}, False),
    (PreprocessingConfig, {"gpass_db": 39.9}, True),
    (PreprocessingConfig, {"gpass_db": 0.0}, False),
    (PreprocessingConfig, {"notch_hz": -1.0}, False),
    (PreprocessingConfig, {"scale": 0.0}, False),
    (PreprocessingConfig, {"scale": -1.0}, True),
    (PreprocessingConfig, {"sfreq_hz": 0.0, "h_freq_hz": 0.0}, False),
    (PreprocessingConfig, {"montage": "tcp16", "channels": ("Cz",)}, False),
    (WindowConfig, {"window_s": 0.0}, False),
    (WindowConfig, {"stride_s": 0.0}, False),
    (WindowConfig, {"reject_uv": -1.0}, False),
    (WindowConfig, {"exclude_s": ("5:5",)}, False),
    (WindowConfig, {"exclude_s": (":0",)}, False),
    (WindowConfig, {"exclude_s": (":0.1", "3:")}, True),
    (PretrainConfig, {"neighbours": 1.0, "neighbours_s": 4.0}, True),
    (PretrainConfig, {"neighbours": 1.0, "neighbours_s": 3.99}, False),
    (PretrainConfig, {"neighbours_s": 0.1}, True),
    (PretrainConfig, {"patience": 1, "val": 0.0}, False),
    (PretrainConfig, {"patience": 1, "val": 0.0, "splits": "own.json"}, True),
    (PretrainConfig, {"ema_decay": 0.5, "strategy": "fsdp"}, False),
    (PretrainConfig, {"gradient_ema": 0.5, "strategy": "fsdp"}, False),
    (PretrainConfig, {"strategy": "fsdp"}, True),
    (PretrainConfig, {"checkpoint_windows": 4}, False),
    (PretrainConfig, {"checkpoint_windows": 4, "checkpoint_blocks": True}, True),
    (PretrainConfig, {"checkpoint_blocks": True, "preset": "unet"}, False),
    (PretrainConfig, {"mask_time": 0.0, "objective": "masked"}, False),
    (PretrainConfig, {"objective": "masked", "mask_time": 0.0, "mask_channels": 0.1}, True),
    (PretrainConfig, {"mask_time": 0.0}, True),
    (PretrainConfig, {"windows_per_recording": 3}, False),
    (PretrainConfig, {"windows_per_recording": 3, "batch_size": 6}, True),
]


@pytest.mark.parametrize(("kind", "values", "good"), PAIRS)
def test_numbers_that_go_together_do_up_to_the_edge(kind: Any, values: dict[str, Any], good: bool) -> None:
    if good:
        kind(**values)
        return
    with pytest.raises(ConfigError, match=next(iter(values))):
        kind(**values)


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        ({}, 8),
        ({"batch_size": 12}, 6),
        ({"batch_size": 7}, 7),
        ({"batch_size": 10}, 5),
        ({"centre_targets": "window"}, 1),
        ({"centre_targets": "none"}, 1),
        ({"centre_targets": "window", "contrast": 1.0}, 8),
        ({"tangent": 0.0}, 1),
        ({"tangent": 0.0, "contrast": 0.1}, 8),
        ({"windows_per_recording": 4}, 4),
        ({"windows_per_recording": 2, "centre_targets": "none"}, 2),
        ({"objective": "reconstruction"}, 1),
        ({"objective": "reconstruction", "contrast": 1.0}, 1),
        ({"objective": "masked", "windows_per_recording": 16}, 16),
    ],
)
def test_windows_of_a_recording_come_together_where_they_are_compared(
    changes: dict[str, Any], together: int
) -> None:
    """By contrast, or for the mean of a recording: eight at most, as many as divide the batch."""
    config = PretrainConfig(**{"objective": "oscillatory", "preset": "covariance", **changes})
    assert config.together == together


@pytest.mark.parametrize("changes", [{"windows_per_recording": 1}, {"batch_size": 1}])
def test_one_window_of_a_recording_is_compared_with_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="windows_per_recording: got 1"):
        PretrainConfig(objective="oscillatory", preset="covariance", **changes)


def test_electrodes_at_the_radius_itself_stay() -> None:
    places = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    kept = torch.ones(40, 6, dtype=torch.bool)
    apart = float((places[0] - places[1]).norm())  # of four neighbours each; the sixth is twice as far
    for radius, hidden in ((apart, 1), (apart * 1.0001, 5), (2.0, 5), (2.0001, 6), (1e-6, 1)):
        for fewest in (0, 1, 4):
            found = near_electrodes(range(40), places, kept, radius=radius, fewest=fewest)
            assert set((~found).sum(1).tolist()) == {min(hidden, 6 - fewest)}
    assert near_electrodes(range(40), places, kept, radius=0.0, fewest=0) is kept


@pytest.mark.parametrize(
    ("seconds", "rate_hz", "samples"),
    [
        (0.25, 128.0, 32),
        (0.31, 128.0, 40),
        (0.3, 128.0, 38),
        (0.07, 50.0, 4),
        (0.001, 100.0, 1),
        (1.0, 99.6, 100),
    ],
)
def test_a_masked_patch_is_the_nearest_number_of_samples(
    seconds: float, rate_hz: float, samples: int
) -> None:
    options = ObjectiveOptions(objective="masked", mask_patch_s=seconds)
    assert Reconstruction(options, rate_hz).patch == samples


@pytest.mark.parametrize("rate_hz", [8.0, 100.0, 256.0])
@pytest.mark.parametrize("n_times", [7, 16, 33])
def test_a_window_around_an_event_lies_nearest_to_its_middle(rate_hz: float, n_times: int) -> None:
    """Wherever between two samples that is: half a sample off at most, to either side."""
    rng = np.random.default_rng(n_times)
    middles = np.sort(rng.uniform(40, 400, 60)) / rate_hz
    lengths = rng.uniform(0.0, 30.0, 60) / rate_hz
    spans = [LabelSpan(m - d / 2, d, "a") for m, d in zip(middles.tolist(), lengths.tolist())]
    info = RecordingInfo("r", "s", "", 500, rate_hz, ("Cz",), tuple(spans))
    config = WindowConfig(window_s=n_times / rate_hz, label_rule="centre")
    starts, labels = recording_windows(info, spans, config, ("a",), n_times, 1)
    off = starts + n_times / 2 - middles * rate_hz
    assert len(starts) == 60
    assert np.abs(off).max() <= 0.5 + 1e-9
    assert off.min() < -0.3
    assert off.max() > 0.3
    assert (labels == 0).all()


@pytest.mark.parametrize("rule", ["whole", "majority"])
def test_marks_without_length_cover_nothing_however_many(rule: Any) -> None:
    spans = [LabelSpan(0.0, 100.0, "a")]
    spans += [LabelSpan(at, 0.0, "b") for at in np.random.default_rng(0).uniform(20, 60, 4000).tolist()]
    info = RecordingInfo("r", "s", "", 800, 8.0, ("Cz",), tuple(sorted(spans)))
    config = WindowConfig(window_s=2.0, label_rule=rule)
    _, labels = recording_windows(info, label_spans(info, config), config, ("a", "b"), 16, 5)
    assert (labels == 0).all()


@pytest.mark.parametrize(("stride_s", "good"), [(1 / 32, True), (0.6 / 32, True), (0.4 / 32, False)])
def test_windows_may_begin_at_every_sample(stride_s: float, good: bool, tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "s", subjects=1, seconds=2)
    config = WindowConfig(window_s=1.0, stride_s=stride_s)
    if good:
        assert WindowDataset(store, config).index["start"].tolist() == list(range(33))
        return
    with pytest.raises(ConfigError, match=r"window_s, stride_s: got 1\.0, 0\.0125; a window has at least"):
        WindowDataset(store, config)


def test_why_no_window_is_left_is_the_reason(tmp_path: Path) -> None:
    """Labels are missed only where they were wanted."""
    store = tiny_store(tmp_path / "s", subjects=2, seconds=2)
    out = WindowConfig(window_s=1.0, exclude_s=("0:",))
    for config, labelled, why in (
        (out, False, r"no window of 1 s is left by label_rule 'whole', exclude_s \['0:'\]"),
        (WindowConfig(window_s=1.0, target="group"), True, "no recording has a label for target 'group'"),
        (WindowConfig(window_s=1.0, reject_uv=1e-3), False, "and reject_uv 0.001; loosen"),
    ):
        with pytest.raises(DataError, match=why):
            WindowDataset(store, config, labelled=labelled)


def test_deviations_of_a_short_window_are_of_its_samples_themselves() -> None:
    """Not of what they may be drawn from, which of four samples is a seventh more."""
    x = torch.randn(2000, 2, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [50.0]])
    spread = x.double().std(-1, keepdim=True, correction=0)
    white = (add_noise(x, range(2000), noise=0.5, pops=0.0) - x).double() / spread
    assert float(white.square().mean()) == pytest.approx(0.25, rel=0.05)
    pink = (Augment(AugmentOptions(aperiodic_noise=0.5), 64.0).covered(x, range(2000)) - x).double() / spread
    amounts = pink.std(-1, correction=0)
    assert float(amounts.max()) < 0.5001
    assert float(amounts.max()) > 0.499
    peaks = (add_noise(x, range(2000), noise=0.0, pops=1.0) - x).double() / spread
    assert float(peaks.abs().amax(-1).max()) == pytest.approx(20, rel=0.01)
    assert float(peaks.abs().amax(-1).min()) == pytest.approx(5, rel=0.01)


@pytest.mark.parametrize("rate_hz", [128.0, 250.0, 512.0])
@pytest.mark.parametrize(("low", "high"), [(0.5, 40.0), (1.0, 30.0), (0.0, 40.0), (0.5, 0.0), (4.0, 8.0)])
def test_a_band_stops_at_two_fifths_of_its_lower_and_six_fifths_of_its_upper_edge(
    low: float, high: float, rate_hz: float
) -> None:
    """The smallest Chebyshev filter of type II that does: 0.2 and 48 Hz about the paper's 0.5 and 40 Hz."""
    config = PreprocessingConfig(l_freq_hz=low, h_freq_hz=high, gpass_db=1.5, gstop_db=45.0)
    kind = {(True, True): "bandpass", (True, False): "highpass", (False, True): "lowpass"}[low > 0, high > 0]
    passes = [edge for edge in (low, high) if edge]
    stops = [edge for edge in (low / 5 * 2, high / 5 * 6) if edge]
    order, edges = signal.cheb2ord(
        *(e if len(e) > 1 else e[0] for e in (passes, stops)), 1.5, 45.0, fs=rate_hz
    )
    expected = signal.cheby2(order, 45.0, edges, kind, output="sos", fs=rate_hz)
    found, note = band_filter(config, rate_hz)
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert note == ""
    _, response = signal.sosfreqz(found, np.array([*passes, *stops]), fs=rate_hz)
    loss = -20 * np.log10(np.abs(response))
    assert (loss[: len(passes)] <= 1.5 + 1e-6).all()
    assert (loss[len(passes) :] >= 45 - 1e-6).all()


def test_a_high_edge_that_a_rate_cannot_stop_is_left_out_and_said() -> None:
    """Its stop band must begin below half the rate: 48 Hz needs more than 96 samples a second."""
    config = PreprocessingConfig(h_freq_hz=40.0)
    for rate_hz, noted in ((96.0, True), (96.01, False), (80.0, True), (100.0, False)):
        assert bool(band_filter(config, rate_hz)[1]) == noted


@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (1, 20), (1, 15), (2, 20), (9, 99), (1, 99)])
def test_a_table_is_kept_up_to_the_epoch_and_step_where_a_run_goes_on(
    epoch: int, step: int, tmp_path: Path
) -> None:
    table = Table(tmp_path / "t.csv", ("epoch", "step", "loss"))
    rows = [(e, 10 * e + k, f"{e}.{k}") for e in range(4) for k in (1, 5, 10)]
    for e, s, loss in rows:
        table.append({"epoch": e, "step": s, "loss": loss})
    table.truncate(epoch=epoch, step=step)
    kept = [(e, s, loss) for e, s, loss in rows if e <= epoch and s <= step]
    assert [(int(r["epoch"]), int(r["step"]), r["loss"]) for r in table.rows()] == kept
    table.append({"epoch": 7, "step": 70})
    assert table.rows()[-1] == {"epoch": "7", "step": "70", "loss": ""}
    with table.path.open("a") as file:
        file.write("8,80,1.")  # torn by a kill
    assert len(table.rows()) == len(kept) + 1
