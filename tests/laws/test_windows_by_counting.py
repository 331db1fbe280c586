"""Windows counted sample by sample: which there are, whose label each has, what a data set gives of them."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.signal.quality import typical_amplitude
from eegm2.data.store.facts import RecordingInfo
from eegm2.data.store.recording_store import RecordingStore, StoreWriter
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.labelling import label_spans, labels_at, recording_windows
from eegm2.data.windows.order import grouped_order
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.pooled import PoolWindows
from eegm2.data.windows.scaling import scale_constants, scale_window

RATE_HZ = 8.0
CLASSES = ("c", "a", "b")
Stretch = tuple[int, int, str]


def touched(stretch: Stretch, start: int, window: int) -> bool:
    """Whether a window holds a sample of a stretch; an instant is of the sample in which it lies."""
    first, length, _ = stretch
    return start < first + max(length, 1) and first < start + window


def label_of(stretches: Sequence[Stretch], start: int, window: int, rule: str) -> str:
    """Return the label of a window, counted sample by sample; nothing where none is decided."""
    held: dict[str, set[int]] = {}
    for first, length, name in stretches:
        inside = set(range(first, first + length)) & set(range(start, start + window))
        held.setdefault(name, set()).update(inside)
    there = {name: len(samples) for name, samples in held.items() if samples}
    if rule == "whole":
        alone = len(there) == 1 and next(iter(there.values())) == window
        return next(iter(there)) if alone else ""
    most = [name for name, count in there.items() if 2 * count > window]
    return most[0] if len(most) == 1 else ""


def drawn(rng: np.random.Generator, n_times: int, parity: int) -> list[Stretch]:
    """Return stretches of some labels, of lengths that are all odd or all even."""
    return [
        (
            int(rng.integers(0, n_times - 2)),
            2 * int(rng.integers(0, 20) * (rng.random() < 0.75)) + parity,
            str(rng.choice([*"abcdx"])),
        )
        for _ in range(rng.integers(1, 9))
    ]


@pytest.mark.parametrize("rule", ["whole", "majority", "centre"])
@pytest.mark.parametrize("seed", range(25))
def test_windows_and_their_labels_are_those_counted(rule: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_times, window, stride = int(rng.integers(60, 160)), int(rng.integers(8, 30)), int(rng.integers(1, 30))
    stretches = drawn(rng, n_times, window % 2)
    out = (int(rng.integers(0, n_times)), int(rng.integers(1, 9)))
    config = WindowConfig(
        window_s=window / RATE_HZ,
        label_rule=rule,
        exclude_labels=("X*",),
        exclude_s=(f"{out[0] / RATE_HZ}:{sum(out) / RATE_HZ}",),
    )
    spans = tuple(LabelSpan(first / RATE_HZ, length / RATE_HZ, name) for first, length, name in stretches)
    info = RecordingInfo("r", "s", "", n_times, RATE_HZ, ("Cz",), spans)
    labels = label_spans(info, config)
    starts, found = recording_windows(info, labels, config, CLASSES, window, stride)

    wanted = [stretch for stretch in stretches if not fnmatch.fnmatch(stretch[2], "x*")]
    banned = [stretch for stretch in stretches if stretch[2] == "x"] + [(*out, "")]
    if rule == "centre":
        every = [((2 * first + length - window) // 2, name) for first, length, name in wanted]
        every = [(s, name) for s, name in every if name in CLASSES and 0 <= s <= n_times - window]
    else:
        every = [(s, label_of(wanted, s, window, rule)) for s in range(0, n_times - window + 1, stride)]
    every = [(s, name) for s, name in every if not any(touched(stretch, s, window) for stretch in banned)]
    expected = [(s, CLASSES.index(name) if name in CLASSES else -1) for s, name in every]
    assert list(zip(starts.tolist(), found.tolist())) == expected

    grid = np.arange(0, n_times - window + 1)
    given = labels_at(info, labels, config, CLASSES, grid, window).tolist()
    free = [not any(touched(stretch, s, window) for stretch in banned) for s in grid]
    if rule == "centre":
        own: list[int] = [-1] * len(grid)
        for first, length, name in wanted:
            s = (2 * first + length - window) // 2
            near = min(max(s, 0), len(grid) - 1)
            if name in CLASSES and 2 * abs(near - s) <= window:
                own[near] = CLASSES.index(name)
    else:
        names = [label_of(wanted, s, window, rule) for s in grid.tolist()]
        own = [CLASSES.index(name) if name in CLASSES else -1 for name in names]
    assert given == [label if there else -1 for label, there in zip(own, free)]


def written(folder: Path, lengths: dict[str, int], rate_hz: float = 32.0, **facts: Any) -> RecordingStore:
    """Write recordings that count: sample t of channel c of recording r is 10,000 r + 1,000 c + t."""
    writer = StoreWriter(folder, PreprocessingConfig(sfreq_hz=rate_hz, h_freq_hz=12.0), ("Fz", "Cz"))
    for number, (name, n_times) in enumerate(lengths.items()):
        own = {key: values[number] for key, values in facts.items()}
        info = RecordingInfo(name, f"p{number % 2}", "", n_times, rate_hz, ("Fz", "Cz"), **own)
        array = 1e4 * number + 1e3 * np.arange(2)[:, None] + np.arange(n_times)
        writer.write(info, array.astype(np.float32))
    return RecordingStore(folder)


def test_a_data_set_gives_the_samples_label_and_person_of_each_window(tmp_path: Path) -> None:
    labels = [
        (LabelSpan(0.0, 1.5, "b"), LabelSpan(1.5, 9.0, "a")),
        (LabelSpan(0.0, 9.0, "c"),),
        (LabelSpan(0.0, 0.75, "a"), LabelSpan(1.0, 9.0, "b")),
    ]
    store = written(tmp_path / "s", {"r0": 96, "r1": 100, "r2": 64}, labels=labels)
    config = WindowConfig(window_s=0.5, stride_s=0.75, scaling="none")
    data = WindowDataset(store, config, classes=["b", "a"])
    rows = []
    for number, n_times in enumerate((96, 100, 64)):
        for start in range(0, n_times - 16 + 1, 24):
            spans = [(round(32 * s.onset_s), round(32 * s.duration_s), s.label) for s in labels[number]]
            rows.append((number, start, label_of(spans, start, 16, "whole")))
    assert data.classes == ("b", "a")
    assert data.unlabelled == ("r1",)
    assert data.index.tolist() == [(r, s, {"b": 0, "a": 1}.get(name, -1)) for r, s, name in rows]
    assert data.subjects.tolist() == [f"p{r % 2}" for r, _, _ in rows]
    assert data.recording_ids.tolist() == [f"r{r}" for r, _, _ in rows]
    np.testing.assert_array_equal(data.start_s, [s / 32 for _, s, _ in rows])
    for place, (r, s, name) in enumerate(rows):
        item = data[place]
        expected = 1e4 * r + 1e3 * np.arange(2)[:, None] + np.arange(s, s + 16)
        np.testing.assert_array_equal(item["x"].numpy(), expected.astype(np.float32))
        assert (item["y"], item["index"]) == ({"b": 0, "a": 1}.get(name, -1), place)
    some = WindowDataset(store, config, classes=["b", "a"], labelled=True, subjects=["p0"])
    assert some.index.tolist() == [
        (r // 2, s, {"b": 0, "a": 1}[name]) for r, s, name in rows if r != 1 and name in ("b", "a")
    ]
    assert [info.id for info in some.recordings] == ["r0", "r2"]


def test_an_attribute_is_the_label_of_every_window_of_its_recording(tmp_path: Path) -> None:
    groups = [{"group": "x"}, {"group": "n/a"}, {"group": "y"}, {}, {"group": ""}]
    store = written(tmp_path / "s", {f"r{i}": 64 for i in range(5)}, attributes=groups)
    data = WindowDataset(store, WindowConfig(window_s=1.0, target="group"))
    assert data.classes == ("x", "y")
    assert data.labels.tolist() == [0, 0, -1, -1, 1, 1, -1, -1, -1, -1]
    assert data.unlabelled == ("r1", "r3", "r4")


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("at", [5, 262_143, 262_144, 262_200])
def test_a_peak_anywhere_takes_out_its_windows_and_no_others(sign: float, at: int, tmp_path: Path) -> None:
    """A recording longer than what is read at once."""
    n_times = 262_144 + 100
    writer = StoreWriter(tmp_path / "s", PreprocessingConfig(channels=("Cz",)), ("Cz",))
    x = np.full((1, n_times), -100 * sign, np.float32)  # as large as may be, either way
    x[0, at] = 100.25 * sign
    writer.write(RecordingInfo("r", "s", "", n_times, 128.0, ("Cz",)), x)
    config = WindowConfig(window_s=0.25, stride_s=8 / 128, scaling="none", reject_uv=100.0)
    data = WindowDataset(RecordingStore(tmp_path / "s"), config)
    kept = [s for s in range(0, n_times - 32 + 1, 8) if not s <= at < s + 32]
    assert data.index["start"].tolist() == kept


@pytest.mark.parametrize("method", ["quantile95", "robust", "zscore", "recording"])
def test_scaling_can_be_undone_and_is_as_defined(method: Any) -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((2, 3, 41)) * [[1], [10], [100]] + 5).astype(np.float32)
    offset, gain = scale_constants(x, method, 7.5)
    made = scale_window(x, method, 7.5)
    np.testing.assert_allclose(made * gain + (0 if offset is None else offset), x, rtol=1e-4, atol=1e-4)
    for window, channel in np.ndindex(2, 3):
        row = x[window, channel].astype(float)
        ordered = np.sort(np.abs(row))
        quarters = np.percentile(row, [25, 50, 75])
        middle, size = {
            "quantile95": (0.0, ordered[38]),  # 0.95 of 40 steps
            "robust": (quarters[1], (quarters[2] - quarters[0]) / 1.349),
            "zscore": (row.mean(), np.sqrt(np.mean((row - row.mean()) ** 2))),
            "recording": (0.0, 7.5),
        }[method]
        np.testing.assert_allclose(made[window, channel], (row - middle) / size, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_windows_that_come_together_are_of_one_recording_and_none_is_lost(size: int) -> None:
    groups = np.array([4, 0, 0, 2, 4, 4, 0, 2, 2, 0, 4, 2, 4, 7])
    orders = [grouped_order(groups, size, np.random.default_rng(seed)).tolist() for seed in range(6)]
    whole = sum(count // size for count in (4, 4, 5, 1))
    for order in orders:
        assert sorted(order) == list(range(14))
        sets = [order[i : i + size] for i in range(0, whole * size, size)]
        assert all(len({groups[w] for w in members}) == 1 for members in sets)
    assert len({tuple(order) for order in orders}) == 6


def test_stretches_may_be_open_at_either_end() -> None:
    config = WindowConfig(exclude_s=(":2", "5:6.5", "9:"))
    assert config.excluded_spans() == [(0.0, 2.0), (5.0, 6.5), (9.0, np.inf)]
    info = RecordingInfo("r", "s", "", 96, RATE_HZ, ("Cz",))
    starts, _ = recording_windows(info, [], config, CLASSES, 8, 4)
    assert starts.tolist() == [16, 20, 24, 28, 32, 52, 56, 60, 64]


def test_lengths_are_rounded_to_samples_and_classes_sorted(tmp_path: Path) -> None:
    labels = [(LabelSpan(0.0, 3.0, "z"),), (LabelSpan(0.0, 1.6, "m"), LabelSpan(1.6, 9.0, "a"))]
    store = written(tmp_path / "s", {"r0": 96, "r1": 96}, labels=labels)
    data = WindowDataset(store, WindowConfig(window_s=1.02, stride_s=0.33, scaling="none"))
    assert (data.n_times, data.stride, data.classes) == (33, 11, ("a", "m", "z"))
    np.testing.assert_allclose(data.start_s, [11 * i / 32 for i in range(6)] * 2)
    both = PoolWindows(StorePool(store), {0: data})
    assert both.recordings_of([0, 5, 6, 11]) == [0, 0, 1, 1]
    assert both.n_times == 33


def test_a_typical_amplitude_that_is_known_is_taken_as_it_is(tmp_path: Path) -> None:
    known = [{"typical_uv": 0.25}, {"typical_uv": 0.0}, {}, {"typical_uv": 40.0}]
    store = written(tmp_path / "s", {f"r{i}": 64 for i in range(4)}, quality=known)
    measured = typical_amplitude(store.read("r1"))
    expected = [0.25, measured, typical_amplitude(store.read("r2")), 40.0]
    assert [store.typical_uv(f"r{i}") for i in range(4)] == pytest.approx(expected)
