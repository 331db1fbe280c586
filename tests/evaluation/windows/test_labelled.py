"""Labelled windows as arrays and data sets: whose they are, which class, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eegm2.errors import DataError
from eegm2.evaluation.windows.labelled import LabelledWindows, Split, check_targets, subject_labels_of

X = np.zeros((4, 2, 8))


@pytest.mark.parametrize(
    ("y", "given", "numbers", "classes"),
    [
        ([0, 2, 0, 1], None, [0, 2, 0, 1], ("0", "1", "2")),
        ([True, False, True, True], None, [1, 0, 1, 1], ("0", "1")),
        ([1, 0, 1, 1], ("shut", "open"), [1, 0, 1, 1], ("shut", "open")),
        (["b", "a", "c", "a"], None, [1, 0, 2, 0], ("a", "b", "c")),
        (["b", "a", "b", "a"], ("b", "a"), [0, 1, 0, 1], ("b", "a")),
        ([0.5, 2.0, 1.0, 1.0], None, [0.5, 2.0, 1.0, 1.0], ()),
    ],
)
def test_targets_are_classes_names_or_values(
    y: list, given: tuple | None, numbers: list, classes: tuple
) -> None:
    data = LabelledWindows.from_arrays(X, np.array(y), classes=given)
    assert data.y.tolist() == numbers
    assert data.classes == classes
    assert data.is_regression == (not classes)
    assert len(data) == 4


def test_every_window_is_somebodys_and_a_recording_is_its_subjects_unless_it_is_said() -> None:
    y, people, records = [0, 1, 0, 1], [7, 7, 8, 8], ["a", "b", "c", "c"]
    alone = LabelledWindows.from_arrays(X, y)
    assert alone.subject.tolist() == alone.recording.tolist() == ["0", "1", "2", "3"]
    known = LabelledWindows.from_arrays(X, y, people)
    assert known.subject.tolist() == known.recording.tolist() == ["7", "7", "8", "8"]
    both = LabelledWindows.from_arrays(X, y, people, records)
    assert (both.subject.tolist(), both.recording.tolist()) == (["7", "7", "8", "8"], records)
    assert both.where_subject(["8"]).tolist() == [2, 3]
    assert subject_labels_of(both) == {"7": "0+1", "8": "0+1"}
    assert subject_labels_of(both, "recording") == {"a": "0", "b": "1", "c": "0+1"}
    assert subject_labels_of(LabelledWindows.from_arrays(X, [0.0, 1.0, 2.0, 3.0], people)) == {}


def test_windows_are_float32_wherever_they_come_from() -> None:
    x = np.random.default_rng(0).standard_normal((3, 2, 8))
    items = [{"x": window} for window in x]
    there = LabelledWindows.from_arrays(x, [0, 1, 0])
    lazy = LabelledWindows(items, there.y, there.subject, there.recording, there.start_s, there.classes)
    for data in (there, lazy):
        batch = data.batch(np.array([2, 0]))
        assert batch.dtype == torch.float32
        torch.testing.assert_close(batch, torch.from_numpy(x[[2, 0]]).float())
    whole = lazy.in_memory(limit_bytes=x.size * 4)
    assert isinstance(whole.x, np.ndarray)
    assert lazy.in_memory(limit_bytes=x.size * 4 - 1) is lazy


def test_what_cannot_be_learnt_or_judged_is_refused() -> None:
    people = ["a", "b", "c", "d"]
    values = LabelledWindows.from_arrays(X, [1.0, 1.0, 2.0, np.nan], people)
    with pytest.raises(DataError, match="split train: the target is 1 in all 2 windows"):
        check_targets(values, np.array([0, 1]), "train")
    with pytest.raises(DataError, match="split val: 1 windows have no finite target"):
        check_targets(values, np.array([2, 3]), "val")
    check_targets(values, np.array([1, 2]), "train")
    classes = LabelledWindows.from_arrays(X, [0, 1, 2, 1], people)
    with pytest.raises(DataError, match="split train: no window of class 0, 2 among 2"):
        check_targets(classes, np.array([1, 3]), "train")
    one, two, three = (np.array([i]) for i in range(3))
    within = LabelledWindows.from_arrays(X[:3], [0.0, 1.0, 2.0], ["a", "a", "a"], ["r", "s", "t"])
    with pytest.raises(DataError, match=r"split: subject a is in both train and val \(1 such\)"):
        Split(one, two, three).check(within)
    with pytest.raises(DataError, match="the target is 0 in all 1 windows"):
        Split(one, two, three).check(within, unit="recording")
