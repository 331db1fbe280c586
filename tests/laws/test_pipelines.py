"""Laws of the pipeline: every option arrives where it acts, and what is kept of a baseline is of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.data.config import PreprocessingConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.signal.preprocessing import AMPLITUDE_LIMITS_UV
from eegm2.deploy.config import StreamConfig
from eegm2.deploy.device.calibration import Calibration
from eegm2.deploy.device.flags import WindowFlags
from eegm2.deploy.device.scale import RunningScale
from eegm2.deploy.heads.as_streamed import StreamedAs, _one_stream
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.windowed import WindowedHead
from eegm2.deploy.live.calibrate import _on_this_device
from eegm2.deploy.live.config import CalibrateConfig
from eegm2.deploy.live.outputs import Outputs
from eegm2.deploy.live.pipeline import Pipeline
from eegm2.deploy.live.source import Chunk
from eegm2.deploy.live.web import WebPage
from eegm2.deploy.stream.causal_copy import causal_copy, streamed_parts
from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import DataError
from eegm2.model.config import EEGM2Config
from eegm2.model.features import window_features
from eegm2.model.network import EEGM2
from tests.data.samples import eeg, write_edf, write_store
from tests.deploy.helpers import network

NAMES, RATE_HZ = ("Fz", "Cz", "Pz"), 128.0
FACTS: dict[str, Any] = {
    "scaling": "zscore", "window_s": 3.0, "hop_s": 1.0, "calibration_s": 21.0, "adapt_s": 33.0,
    "features": "statistics", "centre": "running", "warm_up": 7,
}  # fmt: skip


def trained(**preprocessing: Any) -> TrainedModel:
    config = PreprocessingConfig(channels=NAMES, **preprocessing)
    return TrainedModel(network("light"), NAMES, RATE_HZ, "quantile95", 2.0, config, "m", "0")


def head_of(**facts: Any) -> DenseHead:
    layers = [(np.ones((2, 288)), np.zeros(2))]
    return DenseHead(np.zeros(288), np.ones(288), layers, ("a", "b"), facts={**FACTS, **facts})


def source(sfreq_hz: float = RATE_HZ, **more: Any) -> Any:
    return SimpleNamespace(ch_names=list(NAMES), sfreq_hz=sfreq_hz, name="cap", **more)


GIVEN: dict[str, Any] = {"calibration_s": 9.0, "adapt_s": 5.0, "warm_up": 3}


@pytest.mark.parametrize("given", [(), ("calibration_s",), ("adapt_s",), ("warm_up",), tuple(GIVEN)])
def test_a_stream_takes_an_option_where_it_is_given_else_the_heads_own(given: tuple[str, ...]) -> None:
    asked = {name: GIVEN[name] for name in given}
    made = Pipeline(trained(), StreamConfig(hop_s=0.25, smooth=0.3, max_gap_s=0.75, **asked), head_of())
    want = {**FACTS, **asked}
    scale = made.scale
    assert (scale.method, scale.window, scale.baseline) == ("zscore", 3 * 128, want["calibration_s"] * 128)
    assert scale.rate == pytest.approx(1 - np.exp(-3.0 / want["adapt_s"]))
    assert made.features is not None
    assert (made.features.windows.window_steps, made.features.windows.hop_steps) == (48, 4)
    assert made.decider is not None
    assert made.decider.centring is not None
    assert (made.decider.centring.window_steps, made.decider.centring.mean.warm_up) == (48, want["warm_up"])
    assert (made.decider.rule.smooth, made.max_gap_s, made._flags.length) == (0.3, 0.75, 384)
    made.connect(source(device="cap 7"))
    whose = made._whose()
    assert (whose["device"], whose["method"], whose["ch_names"]) == ("cap 7", "zscore", NAMES)


def test_without_a_head_a_stream_is_scaled_as_the_model_was_trained() -> None:
    made = Pipeline(trained(), StreamConfig())
    assert (made.scale.method, made.scale.window, made.scale.baseline) == ("quantile95", 256, 60 * 128)
    assert (made.scale.rate, made.features, made.decider) == (0.0, None, None)
    fixed = Pipeline(trained(), StreamConfig(scale_uv=25.0, calibration_s=0.0))
    assert fixed.scale.calibrated
    assert fixed.scale.scale is not None
    assert fixed.scale.scale.item() == 25.0


@pytest.mark.parametrize(("centre", "asked", "taken"), [
    ("running", "as fitted", True), ("recording", "as fitted", True), ("none", "as fitted", False),
    ("running", "none", False), ("none", "running", True),
])  # fmt: skip
def test_what_is_taken_off_is_as_fitted_unless_it_is_asked_for(centre: str, asked: Any, taken: bool) -> None:
    made = Pipeline(trained(), StreamConfig(centre=asked), head_of(centre=centre))
    assert made.decider is not None
    assert (made.decider.centring is not None) == taken


def kept_model(**options: Any) -> Pipeline:
    """Return a stream of a kept model of half a second, whose signal comes as it is prepared."""

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :2, 0]

    head = WindowedHead(Network(), ("a", "b"), {"n_times": 64, "window_s": 0.5, "scaling": "none"})
    made = Pipeline(trained(), StreamConfig(causal=False, hop_s=0.125, **options), head)
    made.connect(source())
    return made


def test_windows_of_a_kept_model_are_shown_in_fifties_of_microvolts() -> None:
    made = kept_model()
    x = 100 * np.random.default_rng(0).standard_normal((3, 160))
    total = made.push(Chunk(x, np.arange(160) / RATE_HZ))
    np.testing.assert_allclose(total.x, x / 50, rtol=1e-5)
    assert [one["sample"] for one in total.decisions] == list(range(64, 161, 16))
    assert [one["time_s"] for one in total.decisions] == [end / 128 for end in range(64, 161, 16)]


@pytest.mark.parametrize("missing", [5, 20, 32])
@pytest.mark.parametrize("jitter_s", [0.0, 0.5])
def test_windows_that_end_among_filled_samples_end_when_those_would_have_been_taken(
    missing: int, jitter_s: float
) -> None:
    """Just before the sample after the gap, by its stamp."""
    made = kept_model(max_gap_s=0.25)
    number = np.delete(np.arange(200), np.s_[75 : 75 + missing])
    times_s = 7 + number / RATE_HZ + jitter_s * (number > 75)
    x = 20 * np.random.default_rng(0).standard_normal((3, len(number)))
    found = made.push(Chunk(x, times_s, ((75, missing),))).decisions
    assert [one["sample"] for one in found] == list(range(64, 200, 16))
    for one in found:
        last = one["sample"] - 1
        assert one["time_s"] == pytest.approx(7 + one["sample"] / RATE_HZ + jitter_s * (last >= 75), abs=1e-6)
    assert (made.counts["gaps"], made.counts["interpolated"], made.counts["missing"]) == (1, missing, missing)
    assert made.counts["samples"] == 200
    assert made.counts["decisions"] == len(found)


def test_a_channel_that_goes_flat_is_counted_once_each_time() -> None:
    """Two that go flat one after the other, and the first of them again: three; each with its event."""
    x = 20 * np.random.default_rng(0).standard_normal((3, 128 * 9))
    x[0, 128 * 1 : 128 * 4] = 5.0
    x[1, 128 * 2 : 128 * 4] = 5.0
    x[0, 128 * 6 : 128 * 8] = 5.0
    made = kept_model()
    events, flags = [], {}
    for begin in range(0, x.shape[1], 48):
        total = made.push(Chunk(x[:, begin : begin + 48], np.arange(begin, begin + 48) / RATE_HZ))
        events += total.events
        flags |= {one["sample"]: one["quality"] for one in total.decisions}
    assert made.counts["flat"] == 3
    assert [event["channels"] for event in events] == [["Fz"], ["Fz", "Cz"], [], ["Fz"], []]
    for (
        end,
        quality,
    ) in flags.items():  # a second after it stopped to move, until half a second after it moves
        flat = [name for name, spans in (("Fz", ((2, 4), (7, 8))), ("Cz", ((3, 4),))) for a, b in spans
                if a * 128 < end and end - 64 < b * 128]  # fmt: skip
        assert quality == [f"flat:{name}" for name in flat], end


@pytest.mark.parametrize("seconds", [4.0, 6.5])
def test_a_calibration_is_of_the_seconds_that_were_measured(seconds: float, tmp_path: Path) -> None:
    """Written once, with whose it is; an artefact in fewer than half of the chunks is no other unit."""
    path = tmp_path / "c.json"
    config = StreamConfig(calibration_s=seconds, calibration=str(path), person="ann", causal=False)
    model = trained(amplitude="microvolts")
    made = Pipeline(model, config)
    made.connect(source(device="cap 7"))
    x = eeg(3, 1280)
    x[:, 64:192] *= 1e6
    events = []
    for begin in range(0, 1280, 32):
        times_s = np.arange(begin, begin + 32) / RATE_HZ
        events += made.push(Chunk(x[:, begin : begin + 32], times_s)).events
    known = Calibration.load(path)
    assert (known.baseline_s, known.person, known.device, known.ch_names) == (seconds, "ann", "cap 7", NAMES)
    scale = RunningScale("quantile95", RATE_HZ, window_s=2.0, calibration_s=seconds)
    scale.push(x.astype(np.float32))
    np.testing.assert_allclose(known.scale_uv, scale.scale[:, 0], rtol=1e-5)  # type: ignore[index]
    (told,) = events
    assert (told["event"], told["calibration"]) == ("calibrated", known.id)
    np.testing.assert_allclose(told["scale_uv"], known.scale_uv, atol=5e-4)


@pytest.mark.parametrize("side", ["low", "high"])
def test_a_baseline_that_cannot_be_microvolts_is_refused_at_its_limits(side: str) -> None:
    """By the typical amplitude, the median of what the samples are: just within passes, just beyond not."""
    limit, out = AMPLITUDE_LIMITS_UV[side == "high"], 1.05 if side == "high" else 0.95
    for factor, fits in ((1 / out, True), (out, False)):
        model = trained(amplitude="microvolts")
        made = Pipeline(model, StreamConfig(calibration_s=2.0, causal=False))
        made.connect(source())
        x = np.random.default_rng(0).standard_normal((3, 320))
        x *= factor * limit / np.median(np.abs(x))
        chunk = Chunk(x, np.arange(320) / RATE_HZ)
        if fits:
            assert made.push(chunk).events
            continue
        with pytest.raises(DataError, match=r"typical amplitude of the baseline is .* µV"):
            made.push(chunk)


FIELDS: dict[str, tuple[Any, Any]] = {
    "person": ("ann", "bob"), "device": ("cap 1", "cap 2"), "method": ("zscore", "robust"),
    "ch_names": (("Fz", "Cz"), ("Cz", "Fz")), "preprocessing": ({"l_freq_hz": 0.5}, {"l_freq_hz": 1.0}),
    "baseline_s": (60.0, 30.0), "offset_uv": ((0.0, 1.0), (0.0, 2.0)), "scale_uv": ((9.0, 8.0), (9.0, 7.0)),
}  # fmt: skip


def test_calibrations_that_differ_in_anything_have_other_ids(tmp_path: Path) -> None:
    """Twelve digits, the same again, and after a file."""
    plain = {name: values[0] for name, values in FIELDS.items()}
    made = [Calibration(**plain)]
    made += [Calibration(**{**plain, name: values[1]}) for name, values in FIELDS.items()]
    assert len({one.id for one in made}) == len(FIELDS) + 1
    for number, one in enumerate(made):
        one.save(tmp_path / "new" / str(number) / "c.json")
        back = Calibration.load(tmp_path / "new" / str(number) / "c.json")
        assert (back, back.id) == (one, one.id)
        assert len(one.id) == 12
        assert set(one.id) <= set("0123456789abcdef")
        offset, scale = one.arrays()
        assert (offset[:, 0].tolist(), scale[:, 0].tolist()) == (list(one.offset_uv), list(one.scale_uv))


@pytest.mark.parametrize("what", ["person", "device", "method", "ch_names", "preprocessing"])
def test_a_calibration_of_something_else_is_refused_by_name(what: str) -> None:
    """What is not known of one side is no difference; a person or a device that is."""
    mine = Calibration(**{name: values[0] for name, values in FIELDS.items()})
    asked = {name: FIELDS[name][0] for name in ("person", "device", "method", "ch_names", "preprocessing")}
    mine.refuse_other("c.json", **asked)
    word = {"method": "scaling", "ch_names": "channels", "preprocessing": "l_freq_hz"}.get(what, what)
    with pytest.raises(DataError, match=rf"c\.json: .*{word}"):
        mine.refuse_other("c.json", **{**asked, what: FIELDS[what][1]})
    if what in ("person", "device"):
        mine.refuse_other("c.json", **{**asked, what: ""})
        Calibration(**{**{name: v[0] for name, v in FIELDS.items()}, what: ""}).refuse_other("c", **asked)


@pytest.mark.parametrize("length", [1, 4, 7])
def test_a_flag_is_of_each_window_that_has_one_of_its_samples(length: int) -> None:
    """Flat up to a sample, filled from one to another: by counting the samples of every window."""
    rng = np.random.default_rng(length)
    for word in ("flat", "filled"):
        flags, flat, filled = WindowFlags(length, word), np.zeros((2, 200), bool), np.zeros(200, bool)
        end = 0
        while end < 150:
            size, kind = int(rng.integers(1, 9)), rng.integers(4)
            begin, end = end, end + size
            if kind == 0:
                flags.filling(begin)
                filled[begin:end] = True
            now = [name for i, name in enumerate(("Cz", "Pz")) if kind in (2, 3) and (i == 0 or kind == 3)]
            if now:
                flags.flat(now, end)
                flat[: len(now), begin:end] = True
            last = np.arange(begin + 1, end + 1)
            for stop in last[-1:]:
                window = slice(max(0, stop - length), stop)
                expected = ["interpolated"] * bool(filled[window].any())
                expected += [f"{word}:{name}" for name, row in zip(("Cz", "Pz"), flat) if row[window].any()]
                assert sorted(flags.of(int(stop))) == sorted(expected), (stop, kind)
            for again in range(1 + (kind == 0)):
                if again:
                    flags.fill(end)
                for stop in range(max(1, end - 20), end + 1):  # a decision may come out late
                    held = bool(filled[max(0, stop - length) : stop].any())
                    assert ("interpolated" in flags.of(stop)) == held


@pytest.mark.parametrize("adapt_s", [0.0, 4.0])
@pytest.mark.parametrize("join_s", [None, 962.4 / 128])
def test_what_a_head_learns_from_is_the_stream_step_by_step(
    adapt_s: float, join_s: float | None, tmp_path: Path
) -> None:
    """One scale for all parts, the network anew after a join, whose last steps never come out."""
    labels = () if join_s is None else (LabelSpan(join_s, 0.0, "BAD boundary"),)
    store = write_store(tmp_path / "s", 1, n_times=128 * 15, ch_names=NAMES, labels=labels)
    model, how = network("light"), StreamedAs("statistics", "zscore", 1.0, 0.5, 3.0, adapt_s)
    starts, features, known = _one_stream(model, store, store["r0"], how, 16, 8, None)
    x = store.read("r0")
    cut = len(x.T) if join_s is None else int(np.ceil(join_s * 128))
    scale = RunningScale("zscore", RATE_HZ, window_s=1.0, calibration_s=3.0, adapt_s=adapt_s)
    found: list[tuple[float, np.ndarray]] = []
    parts = [slice(0, cut)] + ([] if join_s is None else [slice(cut, len(x.T))])
    for part in parts:
        stream = StreamingEEGM2(model)
        scaled = scale.push(causal_copy(x[:, part], RATE_HZ, store.preprocessing))
        made = [stream.push(scaled[None])]
        if part is parts[-1]:
            made.append(stream.flush())
        steps = torch.cat(made, dim=2)
        begun = part.stop - scaled.shape[1]
        for first in range(0, steps.shape[2] - 15, 8):
            row = window_features(steps[:, :, first : first + 16], "statistics", model.config)
            found.append((begun + 8 * first, row[0].numpy()))
    np.testing.assert_array_equal(starts, [start for start, _ in found])
    np.testing.assert_allclose(features, [row for _, row in found], rtol=2e-3, atol=2e-3)
    assert known.all()


def test_parts_of_a_file_begin_at_their_sample_of_the_store(tmp_path: Path) -> None:
    """At half the file's rate, half as late; each filtered anew, and the whole file within them."""
    x = eeg(3, 256 * 10, 256.0)
    file = write_edf(tmp_path / "a.edf", x, NAMES, 256.0, annotations=[(4.0, 0.0, "BAD boundary")])
    store = write_store(tmp_path / "s", 1, n_times=1280, ch_names=NAMES)
    info = SimpleNamespace(source="a.edf", source_stat=((file.stat().st_size, 0),), n_times=1280)
    made = streamed_parts(store, info, tmp_path)  # type: ignore[arg-type]
    assert [first for first, _ in made] == [0.0, 512.0]
    assert abs(sum(part.shape[1] for _, part in made) - 1280) < 16
    alone = write_edf(tmp_path / "b" / "a.edf", x[:, 1024:], NAMES, 256.0)
    info = SimpleNamespace(source="a.edf", source_stat=((alone.stat().st_size, 0),), n_times=768)
    ((first, part),) = streamed_parts(store, info, alone.parent)  # type: ignore[arg-type]
    assert first == 0.0
    np.testing.assert_allclose(made[1][1], part, atol=0.05)


def test_a_page_gets_input_and_reconstruction_as_they_are_called() -> None:
    sent: list[dict[str, Any]] = []
    page = object.__new__(WebPage)
    page._audience, page.send = [object()], sent.append  # type: ignore[list-item, method-assign]
    x, y, z = (np.full((1, 2), value) for value in (1.23456, 2.0, 3.0))
    page.push(Outputs(9.0, x, y, z, [{"decided": "a"}], [{"event": "gap"}]), {"gaps": 4})
    page._audience = []
    page.push(Outputs(9.0, x, y, z), {})
    assert sent == [
        {
            "x": [[1.2346, 1.2346]], "y": [[2.0, 2.0]], "decisions": [{"decided": "a"}],
            "events": [{"event": "gap"}], "statistics": {"gaps": 4},
        }
    ]  # fmt: skip


def test_another_device_is_centred_anew() -> None:
    """Scale and running mean are the person's on one device: both are forgotten, the options stay."""
    made = Pipeline(trained(), StreamConfig(calibration_s=3.0), head_of())
    made.connect(source(device="one"))
    x = eeg(3, 128 * 30)
    made.push(Chunk(x, np.arange(x.shape[1]) / RATE_HZ))
    assert made.decider is not None
    assert made.decider.centring is not None
    assert made.calibration is not None
    assert made.decider.centring.mean.known
    made.connect(source(device="one"))
    assert made.calibration is not None
    made.connect(source(device="two"))
    assert made.calibration is None
    assert not made.scale.calibrated
    assert not made.decider.centring.mean.known
    assert (made.decider.centring.window_steps, made.decider.centring.mean.warm_up) == (48, 7)


@pytest.mark.parametrize(
    ("channels", "positions", "expected"),
    [
        ((), "", ("Fz", "Oz", "Cz", "Pz", "T7")), (("Pz,Cz", "Fz", "Oz"), "", ("Pz", "Cz", "Fz", "Oz")),
        ((), "p.csv", ("Fz", "Oz", "Cz", "Pz", "T7", "X1")),
    ],
)  # fmt: skip
def test_a_network_of_any_electrodes_takes_those_of_the_device_that_have_a_place(
    channels: tuple[str, ...], positions: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    """In its order, else as they are asked for; a table of positions adds its own."""
    names = ("Fz", "Cz", "Pz", "C3", "C4")
    config = EEGM2Config.preset("covariance", n_chans=5, width=4)
    model = EEGM2(config)
    own = TrainedModel(model, names, RATE_HZ, "zscore", 2.0, PreprocessingConfig(channels=names), "m", "0")
    device: Any = SimpleNamespace(ch_names=["Fz", "Oz", "trigger", "Cz", "Pz", "T7", "X1"], name="cap")
    path = ""
    if positions:
        path = str(tmp_path / positions)
        Path(path).write_text("name,x,y,z\nX1,0.0,0.05,0.08\n")
    asked = CalibrateConfig(channels=channels, positions=path)
    assert _on_this_device(own, device, asked).ch_names == expected
