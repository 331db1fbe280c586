"""Laws of windows: whose label they have, what they never hold, and what scales them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegm2.data.config import SplitConfig, WindowConfig
from eegm2.data.joins import JOIN
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.worker import clip_labels
from eegm2.data.store.facts import RecordingInfo
from eegm2.data.store.recording_store import RecordingStore, StoreWriter
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.labelling import is_excluded_label, label_spans, labels_at, recording_windows
from eegm2.data.windows.scaling import scale_stored, scale_window
from eegm2.data.windows.splits import split_subjects, subject_labels
from tests.data.samples import write_store

RATE_HZ = 8.0
CLASSES = ("a", "b", "c")


def cut(
    spans: list[tuple[float, float, str]],
    *,
    n_times: int = 160,
    window: int = 16,
    stride: int = 16,
    rate_hz: float = RATE_HZ,
    **choices: object,
) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and labels of a recording with these annotations (onset, duration, label)."""
    labels = tuple(LabelSpan(*span) for span in spans)
    info = RecordingInfo("r", "s", "", n_times, rate_hz, ("Cz",), labels)
    config = WindowConfig(window_s=window / rate_hz, **choices)
    return recording_windows(info, label_spans(info, config), config, CLASSES, window, stride)


@pytest.mark.parametrize(
    ("seconds", "label"), [(0.875, -1), (1.0, -1), (1.125, 0), (2.0, 0)], ids=lambda v: str(v)
)
def test_majority_is_more_than_half(seconds: float, label: int) -> None:
    """A window of 2 s: half of it is no majority, one sample more is."""
    _, labels = cut([(0.0, seconds, "a")], label_rule="majority")
    assert labels[0] == label
    _, labels = cut([(2.0 - seconds, seconds, "a")], label_rule="majority")
    assert labels[0] == label


def test_a_plurality_is_no_majority() -> None:
    _, labels = cut([(0.0, 0.75, "a"), (0.75, 0.625, "b"), (1.375, 0.625, "c")], label_rule="majority")
    assert labels[0] == -1


def test_a_label_counts_once_however_often_it_is_annotated() -> None:
    """Two annotations of the same quarter are a quarter."""
    _, labels = cut([(0.0, 0.75, "a"), (0.25, 0.5, "a")], label_rule="majority")
    assert labels[0] == -1
    _, labels = cut([(0.0, 0.75, "a"), (0.75, 0.5, "a")], label_rule="majority")
    assert labels[0] == 0


@pytest.mark.parametrize(("onset", "duration"), [(0.125, 1.875), (0.0, 1.875)])
def test_whole_is_every_sample(onset: float, duration: float) -> None:
    _, labels = cut([(onset, duration, "a")], label_rule="whole")
    assert labels[0] == -1
    _, labels = cut([(0.0, 2.0, "a")], label_rule="whole")
    assert labels[0] == 0


def test_whole_and_another_label_is_none() -> None:
    _, labels = cut([(0.0, 2.0, "a"), (0.5, 0.25, "b")], label_rule="whole")
    assert labels[0] == -1


@settings(max_examples=60, deadline=None)
@given(
    joins=st.lists(st.integers(0, 160), min_size=1, max_size=4),
    window=st.integers(2, 20),
    stride=st.integers(1, 20),
    rule=st.sampled_from(["whole", "majority", "centre"]),
    name=st.sampled_from(["BAD boundary", "EDGE boundary", "bad boundary"]),
    rate_hz=st.sampled_from([8.0, 128.0, 100.0, 250.0 / 3]),
)
def test_no_window_crosses_a_join(
    joins: list[int], window: int, stride: int, rule: str, name: str, rate_hz: float
) -> None:
    """Where pieces were laid end to end, no window holds samples of both; what touches a join stays."""
    annotations = [(join / rate_hz, 0.0, name) for join in joins]
    events = [(at / rate_hz, 4 / rate_hz, "a") for at in range(0, 156, 7)]
    common = {"window": window, "stride": stride, "label_rule": rule, "rate_hz": rate_hz}
    starts, _ = cut([*events, *annotations], **common)
    for start in starts.tolist():
        assert not any(start < join < start + window for join in joins), (start, window, joins)
    without, _ = cut(events, **common)
    kept = [s for s in without.tolist() if not any(s < join < s + window for join in joins)]
    assert starts.tolist() == kept


@settings(max_examples=150, deadline=None)
@given(
    onset=st.integers(0, 2900),
    length=st.integers(1, 300),
    window=st.integers(2, 400),
    stride=st.integers(1, 3),
    how=st.sampled_from(["exclude_s", "exclude_labels"]),
    rate_hz=st.sampled_from([8.0, 100.0, 128.0, 250.0 / 3]),
)
def test_no_window_touches_what_is_left_out(
    onset: int, length: int, window: int, stride: int, how: str, rate_hz: float
) -> None:
    """Windows that end where it begins stay, though times in seconds are not exact."""
    begin, end = onset / rate_hz, (onset + length) / rate_hz
    common = {"n_times": 3000, "window": window, "stride": stride, "rate_hz": rate_hz}
    if how == "exclude_s":
        starts, _ = cut([], exclude_s=(f"{begin!r}:{end!r}",), **common)
    else:
        starts, _ = cut([(begin, end - begin, "BAD_muscle")], exclude_labels=("bad*",), **common)
    kept = [s for s in range(0, 3000 - window + 1, stride) if s + window <= onset or s >= onset + length]
    assert starts.tolist() == kept


@pytest.mark.parametrize(
    ("label", "duration", "kept"),
    [
        ("BAD boundary", 0.0, [0, 16, 32]),  # lies between two samples
        ("BAD_jump", 0.0, [0, 32]),  # an instant is of the sample in which it lies
    ],
)
def test_a_join_is_an_instant_of_its_own_name(label: str, duration: float, kept: list[int]) -> None:
    """Both are where the second window does."""
    starts, _ = cut([(2.0, duration, label)], n_times=48)
    assert starts.tolist() == kept


def test_windows_around_events_are_centred_and_inside() -> None:
    starts, labels = cut([(0.5, 0.0, "a"), (5.0, 1.0, "b"), (19.5, 0.5, "c")], label_rule="centre")
    assert starts.tolist() == [36], "the middle of 5.0 to 6.0 s is sample 44, the window begins 8 before it"
    assert labels.tolist() == [1]


@pytest.mark.parametrize("method", ["quantile95", "robust", "zscore"])
def test_a_window_is_scaled_by_itself_and_channel_by_channel(method: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 50)).astype(np.float32) * np.array([1, 10, 100], np.float32)[:, None]
    whole = scale_window(x, method)
    for window, channel in np.ndindex(4, 3):
        alone = scale_window(x[window, channel : channel + 1], method)
        np.testing.assert_array_equal(whole[window, channel], alone[0])
    out = np.empty((3, 50), np.float32)
    scale_stored(np.ascontiguousarray(x[1].T), method, out)
    np.testing.assert_array_equal(out, whole[1])


@pytest.mark.parametrize("label", ["BAD boundary", "BAD_ACQ_SKIP", "Comment/BAD_ACQ_SKIP"])
def test_a_discontinuity_is_left_out_whatever_else_is_not(label: str) -> None:
    assert is_excluded_label(label, WindowConfig(window_s=2.0, exclude_labels=()))
    assert not is_excluded_label("BAD", WindowConfig(window_s=2.0, exclude_labels=()))


@pytest.mark.parametrize(
    ("middle_s", "expected"), [(3.5, [0, -1]), (4.5, [0, -1]), (4.75, [-1, -1]), (9.0, [-1, -1])]
)
def test_an_event_labels_the_window_that_holds_its_middle_or_none(
    middle_s: float, expected: list[int]
) -> None:
    """Windows of 1 s around 4 s and 6 s: half a second away from a centre is the last that counts."""
    span = LabelSpan(middle_s - 0.25, 0.5, "a")
    info = RecordingInfo("r", "s", "", 160, RATE_HZ, ("Cz",), (span,))
    config = WindowConfig(window_s=1.0, label_rule="centre")
    starts = np.array([28, 44])
    assert labels_at(info, [span], config, CLASSES, starts, 8).tolist() == expected


def test_a_window_that_begins_where_a_span_ends_is_not_touched_by_it() -> None:
    """0.1 s and 0.2 s are a little more than 0.3 s in floating point."""
    starts, _ = cut(
        [(0.1, 0.2, "bad")], n_times=100, window=10, stride=1, rate_hz=10.0, exclude_labels=("bad",)
    )
    assert starts.min() == 3


def test_what_is_rejected_takes_its_label_along(tmp_path: Path) -> None:
    """A peak of either sign takes its window out, and the others keep starts, labels and people."""
    store = write_store(tmp_path / "s", 1, labels=[LabelSpan(2.0 * i, 2.0, "abcab"[i]) for i in range(5)])
    x = store.read("r0")
    x[0, 600], x[1, 1100] = 900.0, -900.0  # in the third and in the fifth window of 2 s
    writer = StoreWriter(tmp_path / "peaks", store.preprocessing, store.ch_names)
    writer.write(store["r0"], x)
    common = {"window_s": 2.0, "scaling": "none"}
    every, kept = (
        WindowDataset(
            RecordingStore(tmp_path / "peaks"), WindowConfig(**common, reject_uv=limit), labelled=True
        )
        for limit in (0.0, 500.0)
    )
    there = [i for i in range(5) if i not in (2, 4)]
    np.testing.assert_array_equal(kept.index, every.index[there])
    assert [kept.classes[label] for label in kept.labels] == ["a", "b", "a"]


@pytest.mark.parametrize("rule", ["whole", "majority"])
def test_a_stream_excludes_what_windows_exclude(rule: Any) -> None:
    """At the same places the labels are the same: marks, stretches and joins are none for a stream either."""
    spans = [(0.0, 20.0, "a"), (3.0, 0.5, "noise"), (15.0, 0.0, JOIN)]
    info = RecordingInfo("r", "s", "", 160, RATE_HZ, ("Cz",), tuple(LabelSpan(*span) for span in spans))
    config = WindowConfig(window_s=2.0, label_rule=rule, exclude_labels=("noise",), exclude_s=("9:10",))
    labels = label_spans(info, config)
    starts, expected = recording_windows(info, labels, config, CLASSES, 16, 4)
    every = np.arange(0, 145, 4)
    found = labels_at(info, labels, config, CLASSES, every, 16)
    np.testing.assert_array_equal(every[found >= 0], starts[expected >= 0])
    assert 0 < (found >= 0).sum() < len(every) - 8


def people_of(people: Sequence[tuple[str, str, str | None]]) -> Any:
    """Return what a split knows of a store with a recording for each (person, group, official part)."""
    recordings = [
        SimpleNamespace(id=f"r{number}", subject=person, attributes={"group": group}, split=part)
        for number, (person, group, part) in enumerate(people)
    ]
    subjects = tuple(dict.fromkeys(person for person, *_ in people))
    return SimpleNamespace(recordings=recordings, subjects=subjects, url="store", manifest_sha256="0")


def test_a_person_of_several_values_has_them_all_when_drawing() -> None:
    store = people_of([("p", "b", None), ("q", "b", None), ("p", "a", None), ("q", "n/a", None)])
    assert subject_labels(store, "group") == {"p": "a+b", "q": "b"}


@pytest.mark.parametrize("by", ["subject", "recording"])
@pytest.mark.parametrize("official", [("test",), ("val",), ("test", "val")])
def test_a_data_sets_own_parts_are_kept_and_the_others_drawn(official: tuple[str, ...], by: Any) -> None:
    people = [(f"p{i}", "", official[i % len(official)] if i < 4 else None) for i in range(14)]
    store = people_of(people)
    found = split_subjects(store, SplitConfig(val=0.2, test=0.2, by=by))
    name = "p{}" if by == "subject" else "r{}"
    for part in ("val", "test"):
        own = sorted(name.format(i) for i, (*_, there) in enumerate(people) if there == part)
        if own:
            assert getattr(found, part) == tuple(own)
        else:
            assert len(getattr(found, part)) == 2
            assert not {name.format(i) for i in range(4)} & set(getattr(found, part))


def test_a_label_ends_where_its_recording_ends() -> None:
    spans = [(-1.0, 3.0), (4.0, 2.0), (9.0, 5.0), (10.0, 1.0), (12.0, 1.0), (-4.0, 1.0)]
    kept, outside = clip_labels([LabelSpan(*span, "a") for span in spans], 10.0)
    assert [(s.onset_s, s.duration_s) for s in kept] == [(0.0, 2.0), (4.0, 2.0), (9.0, 1.0)]
    assert outside == 3
