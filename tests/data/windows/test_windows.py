"""Windows, labels, scaling, order and splits: what a model is shown."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, default_collate

from eegm2.data.config import SplitConfig, WindowConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.signal.quality import typical_amplitude
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset, collate_windows
from eegm2.data.windows.order import epoch_order
from eegm2.data.windows.scaling import scale_window
from eegm2.data.windows.splits import SplitManifest, split_subjects, subject_folds, subject_labels
from eegm2.errors import ConfigError, DataError
from tests.data.samples import eeg, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return write_store(tmp_path_factory.mktemp("store") / "s", 6, per_subject=2)


def starts(store: RecordingStore, **options: Any) -> list[tuple[float, int]]:
    """Start in seconds and class number of the first recording's windows."""
    data = WindowDataset(store, WindowConfig(**options), recordings=["r0"])
    return list(zip(data.start_s.tolist(), data.labels.tolist()))


def test_windows_of_any_length_and_stride(store: RecordingStore) -> None:
    for window_s, stride_s in itertools.product((0.5, 2.0, 3.3, 10.0), (None, 0.25, 3.0)):
        data = WindowDataset(store, WindowConfig(window_s=window_s, stride_s=stride_s, scaling="none"))
        n, step = round(window_s * 128), round((stride_s or window_s) * 128)
        assert len(data) == 6 * len(range(0, 1280 - n + 1, step))
        last = data[len(data) - 1]
        start = int(data.index["start"][-1])
        expected = eeg(2, 1280, seed=5).astype(np.float32)[:, start : start + n]
        np.testing.assert_array_equal(last["x"].numpy(), expected)
        assert last["index"] == len(data) - 1


def test_the_paper_scaling_is_applied(store: RecordingStore) -> None:
    item = WindowDataset(store, WindowConfig())[0]
    x = eeg(2, 1280)[:, :512].astype(np.float32)
    expected = x / (np.quantile(np.abs(x), 0.95, axis=-1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(item["x"].numpy(), expected, rtol=1e-6)
    assert item["x"].dtype == torch.float32
    assert item["x"].is_contiguous()
    item["x"] += 1  # the item is its own: the store stays
    np.testing.assert_allclose(WindowDataset(store, WindowConfig())[0]["x"].numpy(), expected, rtol=1e-6)


def test_label_rules(store: RecordingStore) -> None:
    # closed (0) from 5 s to 10 s, open (1) from 0 s to 5 s
    assert starts(store, window_s=4.0) == [(0.0, 1), (4.0, -1)]
    assert starts(store, window_s=4.0, label_rule="majority") == [(0.0, 1), (4.0, 0)]
    assert starts(store, window_s=2.0, stride_s=1.5)[2:5] == [(3.0, 1), (4.5, -1), (6.0, 0)]
    assert starts(store, window_s=3.0, label_rule="centre") == [(1.0, 1), (6.0, 0)]
    assert starts(store, window_s=2.0, label_rule="majority", stride_s=4.0) == [(0.0, 1), (4.0, -1), (8.0, 0)]


def test_exclusions(store: RecordingStore, tmp_path: Path) -> None:
    assert starts(store, window_s=2.0, exclude_s=("0:1", "7.5:")) == [(2.0, 1), (4.0, -1)]
    spans = [LabelSpan(0, 10, "x"), LabelSpan(2.5, 0.2, "BAD_jump"), LabelSpan(6.5, 0.0, "edge")]
    marked = write_store(tmp_path / "s", 1, labels=spans)
    data = WindowDataset(marked, WindowConfig(window_s=2.0))
    assert data.start_s.tolist() == [0.0, 4.0, 8.0]
    assert data.classes == ("x",)
    assert len(WindowDataset(marked, WindowConfig(window_s=2.0, exclude_labels=("jump",)))) == 5


@pytest.mark.parametrize("text", ["5", "5:1", "a:b", "3:3", ":nan"])
def test_a_wrong_exclusion_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"exclude_s: got '{text}', expected start:stop"):
        WindowConfig(exclude_s=(text,))


def test_overlapping_labels_leave_no_doubt(tmp_path: Path) -> None:
    spans = [LabelSpan(0, 6, "a"), LabelSpan(4, 6, "b"), LabelSpan(4, 6, "b")]
    data = WindowDataset(write_store(tmp_path / "s", 1, labels=spans), WindowConfig(window_s=2.0))
    assert data.labels.tolist() == [0, 0, -1, 1, 1]


def test_classes_order_selection_and_attributes(store: RecordingStore) -> None:
    config = WindowConfig(window_s=2.0)
    data = WindowDataset(store, config, classes=["open", "sleep"], subjects=["s2"], labelled=True)
    assert data.classes == ("open", "sleep")
    assert set(data.labels) == {0}
    assert set(data.recording_ids) == {"r4", "r5"}
    assert set(data.subjects) == {"s2"}
    groups = WindowDataset(store, WindowConfig(window_s=2.0, target="group"))
    assert groups.classes == ("control", "patient")
    assert dict(zip(groups.subjects, groups.labels)) == {"s0": 0, "s1": 1, "s2": 0}


def test_recordings_without_a_label_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", 3)
    path = tmp_path / "s" / "recordings" / "r1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": [], "attributes": {}}))
    store = RecordingStore(tmp_path / "s")
    data = WindowDataset(store, WindowConfig(window_s=2.0), labelled=True)
    assert data.unlabelled == ("r1",)
    assert set(data.recording_ids) == {"r0", "r2"}
    assert len(WindowDataset(store, WindowConfig(window_s=2.0), recordings=["r1"])) == 5
    with pytest.raises(
        DataError, match=r"no recording has a label for target 'age' \(attributes there: group\)"
    ):
        WindowDataset(store, WindowConfig(target="age"), labelled=True)


def test_refusals(store: RecordingStore) -> None:
    with pytest.raises(
        DataError, match=r"window_s: got 11 s, longer than every recording \(the longest, r0, has 10\.00"
    ):
        WindowDataset(store, WindowConfig(window_s=11.0))
    with pytest.raises(DataError, match="subjects not in the store: s7, s8"):
        WindowDataset(store, WindowConfig(), subjects=["s8", "s0", "s7"])
    with pytest.raises(DataError, match="recordings not in the store: r9"):
        WindowDataset(store, WindowConfig(), recordings=["r9"])
    with pytest.raises(DataError, match="no recording is left by the choice"):
        WindowDataset(store, WindowConfig(), recordings=["r0"], subjects=["s1"])
    with pytest.raises(
        DataError, match=r"no window of 4 s is left by label_rule 'whole', exclude_s \['0:'\]"
    ):
        WindowDataset(store, WindowConfig(exclude_s=("0:",)))
    with pytest.raises(ConfigError, match="at least 8 samples and a step one, at 128 Hz"):
        WindowDataset(store, WindowConfig(window_s=0.001))
    with pytest.raises(ConfigError, match=r"stride_s: got -1\.0, expected seconds above 0"):
        WindowConfig(stride_s=-1.0)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_give_the_same_windows_epoch_after_epoch(store: RecordingStore, context: str) -> None:
    data = WindowDataset(store, WindowConfig(window_s=2.0))
    data[0]  # the store is already open in this process
    order: list[int] = list(range(len(data)))
    loader = DataLoader(
        data, 8, sampler=order, num_workers=1, persistent_workers=True, multiprocessing_context=context
    )
    for epoch in range(2):
        order[:] = epoch_order(len(data), seed=3, epoch=epoch).tolist()
        batches = list(loader)
        assert torch.cat([batch["index"] for batch in batches]).tolist() == order
        assert torch.equal(batches[1]["x"][3], data[int(order[11])]["x"])


@pytest.mark.parametrize("method", ["quantile95", "robust", "zscore", "none"])
def test_a_batch_is_its_windows(store: RecordingStore, method: Any) -> None:
    data = WindowDataset(store, WindowConfig(window_s=2.0, scaling=method))
    places = [7, 0, 11, 7, 3]
    items = data.__getitems__(places)
    batch = collate_windows(items)
    assert [item["index"] for item in items] == batch["index"].tolist() == places
    assert batch["y"].tolist() == data.labels[places].tolist()
    for place, window, item in zip(places, batch["x"], items):
        assert torch.equal(window, data[place]["x"])
        assert item["x"].data_ptr() == window.data_ptr()  # no copy in between
    plain = default_collate([data[place] for place in places])
    assert plain.keys() == batch.keys()
    assert all(torch.equal(plain[key], batch[key]) and plain[key].dtype == batch[key].dtype for key in plain)
    assert all(torch.equal(plain[key], value) for key, value in collate_windows(list(items)).items())


def test_workers_hand_batches_over_in_shared_memory(store: RecordingStore) -> None:
    data = WindowDataset(store, WindowConfig(window_s=2.0))
    loader = DataLoader(data, 4, num_workers=1, collate_fn=collate_windows, multiprocessing_context="fork")
    batch = next(iter(loader))
    assert batch["x"].is_shared()
    assert torch.equal(batch["x"][2], data[2]["x"])


# scaling


@pytest.mark.parametrize("method", ["quantile95", "robust", "zscore", "none"])
@pytest.mark.parametrize("shape", [(3, 513), (4, 3, 64), (2, 1)])
def test_scaling_is_one_definition(method: Any, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(3, 20, shape).astype(np.float32)
    numpy_result, torch_result = scale_window(x, method), scale_window(torch.from_numpy(x), method)
    tolerance = {"atol": 1e-6, "rtol": 1e-5} if method == "zscore" else {"atol": 0.0, "rtol": 0.0}
    np.testing.assert_allclose(torch_result.numpy(), numpy_result, **tolerance)
    assert numpy_result.dtype == np.float32
    assert numpy_result is not x
    assert not np.shares_memory(numpy_result, x)
    alone = np.stack([scale_window(row[None], method)[0] for row in x.reshape(-1, shape[-1])]).reshape(shape)
    np.testing.assert_array_equal(numpy_result, alone)


def test_scaling_formulas_and_flat_channels() -> None:
    x = np.random.default_rng(0).normal(3, 20, (2, 1001))
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75], axis=1, keepdims=True)
    np.testing.assert_allclose(
        scale_window(x, "robust"), (x - middle) / ((high - low) / 1.3489795), rtol=1e-6
    )
    expected = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    np.testing.assert_allclose(scale_window(x, "zscore"), expected, rtol=1e-6)
    for method in ("quantile95", "robust", "zscore"):
        assert np.isfinite(scale_window(np.zeros((1, 64), np.float32), method)).all()
        invariant = scale_window(x * 7, method)  # type: ignore[arg-type]
        np.testing.assert_allclose(invariant, scale_window(x, method), rtol=1e-6)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="scaling: got 'max', expected quantile95"):
        scale_window(x, "max")  # type: ignore[arg-type]


def test_scaling_by_recording_keeps_proportions(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", 2)
    raw = WindowDataset(store, WindowConfig(window_s=2.0, scaling="none"))
    scaled = WindowDataset(store, WindowConfig(window_s=2.0, scaling="recording"))
    assert store["r0"].quality.get("typical_uv") is None  # measured now, and the same for every window
    for number, recording in enumerate(raw.index["recording"].tolist()):
        amplitude = typical_amplitude(store.read(store.recordings[recording].id))
        assert amplitude > 1
        expected = raw[number]["x"] / np.float32(amplitude + 1e-8)
        torch.testing.assert_close(scaled[number]["x"], expected)
    many = scaled.__getitems__([3, 0])
    torch.testing.assert_close(many[1]["x"], scaled[0]["x"])
    x = np.ones((2, 64), np.float32)
    np.testing.assert_allclose(scale_window(x, "recording", 4.0), x / 4)
    with pytest.raises(ConfigError, match="'recording' needs to know recordings"):
        scale_window(x, "recording")


# order


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = epoch_order(100, seed=1, epoch=2)
    assert sorted(first) == list(range(100))
    np.testing.assert_array_equal(first, epoch_order(100, seed=1, epoch=2))
    for other in (epoch_order(100, seed=2, epoch=1), epoch_order(100, seed=1, epoch=3)):
        assert (first != other).any()


def test_an_order_that_is_not_shuffled_ascends() -> None:
    np.testing.assert_array_equal(epoch_order(7, seed=1, epoch=2, shuffle=False), np.arange(7))


# splits


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return write_store(tmp_path_factory.mktemp("people") / "s", 20, 64)


def test_split_by_subject(people: RecordingStore, store: RecordingStore) -> None:
    split = split_subjects(people, SplitConfig(seed=1, val=0.2, test=0.1))
    assert (len(split.train), len(split.val), len(split.test)) == (14, 4, 2)
    assert sorted(split.train + split.val + split.test) == sorted(people.subjects)
    assert split == split_subjects(people, SplitConfig(seed=1, val=0.2, test=0.1))
    assert split != split_subjects(people, SplitConfig(seed=2, val=0.2, test=0.1))
    assert split.manifest_sha256 == people.manifest_sha256
    parts = [
        set(
            WindowDataset(
                store, WindowConfig(), **split_subjects(store, SplitConfig()).selection(part)
            ).subjects
        )
        for part in ("train", "val", "test")
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 3


def test_split_is_stratified(people: RecordingStore) -> None:
    labels = subject_labels(people, "group")
    for seed in range(10):
        split = split_subjects(people, SplitConfig(seed=seed, val=0.2, test=0.3), labels)
        patients = [sum(labels[name] == "patient" for name in part) for part in (split.val, split.test)]
        assert patients[0] in (1, 2, 3)
        assert patients[1] in (2, 3, 4)
    for _, test in subject_folds(people.subjects, 5, labels=labels):
        assert sum(labels[name] == "patient" for name in test) == 2


def test_folds_test_everybody_once() -> None:
    names = [f"s{number}" for number in range(11)]
    folds = subject_folds(reversed(names), 3, seed=4)
    assert folds == subject_folds(names, 3, seed=4)
    assert sorted(name for _, test in folds for name in test) == sorted(names)
    assert all(not set(train) & set(test) and len(train) + len(test) == 11 for train, test in folds)
    with pytest.raises(DataError, match="n_folds: got 12, expected 2 to 11"):
        subject_folds(names, 12)


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(1, 24), min_size=1, max_size=3),
    n_folds=st.integers(2, 10),
    seed=st.integers(0, 9),
)
def test_every_fold_has_every_label_in_its_share(counts: list[int], n_folds: int, seed: int) -> None:
    """To less than one person, whatever the ratio of the labels has to do with the number of folds."""
    assume(sum(counts) >= n_folds)
    names = [f"s{number:02d}" for number in range(sum(counts))]
    labels = dict(zip(names, np.repeat([f"label{i}" for i in range(len(counts))], counts).tolist()))
    folds = [test for _, test in subject_folds(names, n_folds, seed=seed, labels=labels)]
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    for label, count in zip(sorted(set(labels.values())), counts):
        of = [sum(labels[name] == label for name in test) for test in folds]
        assert max(of) - min(of) <= 1 + (len(counts) > 1 and max(map(len, folds)) != min(map(len, folds)))
        assert sum(of) == count


@pytest.mark.parametrize(("val", "test"), [(0.25, 0.25), (0.2, 0.2), (0.1, 0.3), (0.15, 0.15)])
@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
def test_every_part_has_every_label_in_its_share(val: float, test: float, ratio: int, tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", 20, 16)
    labels = {name: "ab"[place % (ratio + 1) > 0] for place, name in enumerate(store.subjects)}
    for seed in range(5):
        split = split_subjects(store, SplitConfig(seed=seed, val=val, test=test), labels)
        for part in (split.train, split.val, split.test):
            share = sum(labels[name] == "a" for name in part) - len(part) * sum(
                label == "a" for label in labels.values()
            ) / len(labels)
            assert abs(share) < 1.5, (part, labels)


FOLDS = [
    [("s0", "s1", "s2"), ("s5", "s6"), ("s3", "s4")],
    [("s0", "s1", "s5"), ("s3", "s4"), ("s2", "s6")],
    [("s0", "s4", "s6"), ("s3", "s5"), ("s1", "s2")],
]
SPLIT = (("s1", "s2", "s3", "s4", "s5"), ("s6",), ("s0",))
ORDER = [1, 2, 0, 4, 5, 3]


def test_draws_stay_what_they_are(tmp_path: Path) -> None:
    """A seed draws the same people in every version: else no stored result could be made again."""
    names = [f"s{number}" for number in range(7)]
    labels = dict(zip(names, "aabbbab"))
    assert [test for _, test in subject_folds(names, 3)] == FOLDS[0]
    assert [test for _, test in subject_folds(names, 3, seed=1)] == FOLDS[1]
    assert [test for _, test in subject_folds(names, 3, labels=labels)] == FOLDS[2]
    split = split_subjects(write_store(tmp_path / "s", 7, 64), SplitConfig(seed=2))
    assert (split.train, split.val, split.test) == SPLIT
    assert epoch_order(6, seed=3, epoch=1).tolist() == ORDER


def test_split_is_the_same_under_any_hash_seed(tmp_path: Path) -> None:
    write_store(tmp_path / "s", 8, 64)
    code = (
        "import sys; from eegm2.data.store.recording_store import RecordingStore;"
        "from eegm2.data.windows.splits import *;"
        "from eegm2.data.config import SplitConfig; store = RecordingStore(sys.argv[1]);"
        "print(split_subjects(store, SplitConfig(), subject_labels(store, 'group')))"
    )
    src = str(Path(__file__).parents[3] / "src")
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "s")],
            env={"PYTHONPATH": src, "PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(outputs) == 1
    assert "SplitManifest(train=(" in outputs.pop()


def test_the_data_sets_own_test_set_is_kept(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", 10, 64)
    for info in store.recordings:
        path = tmp_path / "s" / "recordings" / f"{info.id}.json"
        part = "test" if info.id in ("r3", "r7") else "train"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"split": part}))
    store = RecordingStore(tmp_path / "s")
    split = split_subjects(store, SplitConfig(val=0.25))
    assert split.test == ("s3", "s7")
    assert len(split.val) == 2
    assert len(split_subjects(store, SplitConfig(test=0.5, official=False)).test) == 5
    path = tmp_path / "s" / "recordings" / "r4.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"subject": "s3"}))
    with pytest.raises(
        DataError, match="the data set's own split divides these subjects: s3; use --no-official"
    ):
        split_subjects(RecordingStore(tmp_path / "s"), SplitConfig())


def test_too_few_subjects(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", 4, 64, per_subject=4)
    with pytest.raises(
        DataError, match=r"1 subject \(s0\) cannot be divided into 3 parts; set val or test to 0; --by"
    ):
        split_subjects(store, SplitConfig())
    split = split_subjects(store, SplitConfig(by="recording"))
    assert sorted(split.train + split.val + split.test) == ["r0", "r1", "r2", "r3"]
    assert set(split.selection("val")) == {"recordings"}
    alone = split_subjects(store, SplitConfig(val=0, test=0))
    assert (alone.train, alone.val, alone.test) == (("s0",), (), ())


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.4), (0.4, 0.5), (0.45, 0.45)])
def test_large_shares_leave_somebody_to_learn_from(val: float, test: float, tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", 3, 64)
    split = split_subjects(store, SplitConfig(val=val, test=test))
    assert [len(part) for part in (split.train, split.val, split.test)] == [1, 1, 1]


def test_manifest_file(people: RecordingStore, tmp_path: Path) -> None:
    split = split_subjects(people, SplitConfig(seed=9))
    split.to_json(tmp_path / "splits.json")
    assert SplitManifest.from_json(tmp_path / "splits.json", people) == split
    whole = SplitManifest(("a/1",), ("b/2",), ("a/3",), 7, "recording", "hash", {"a": "1f", "b": "2e"})
    whole.to_json(tmp_path / "several.json")
    assert SplitManifest.from_json(tmp_path / "several.json") == whole
    (tmp_path / "own.json").write_text('{"train": [1], "val": [], "test": ["x"]}')
    assert SplitManifest.from_json(tmp_path / "own.json") == SplitManifest(("1",), (), ("x",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"train": ["s1", "s2"], "val": ["s2"], "test": ["s1"]}',
            "subjects in more than one part: s1, s2; keep each",
        ),
        (
            '{"train": ["s1"], "val": ["s99"], "test": []}',
            "subjects not in the store: s99; use the store's names",
        ),
        ('{"train": ["s1"]}', "not a split manifest with lists train, val, test"),
        ('{"train": "s1", "val": [], "test": []}', "train, val, test must be lists"),
        ("[", "not a split manifest"),
    ],
)
def test_a_wrong_manifest_is_refused(
    content: str, message: str, people: RecordingStore, tmp_path: Path
) -> None:
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(DataError, match=rf"mine\.json: .*{message}"):
        SplitManifest.from_json(tmp_path / "mine.json", people)


def test_windows_of_artefacts_can_be_rejected(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", 1)
    assert len(WindowDataset(store, WindowConfig(window_s=2.0))) == 5
    peak = np.abs(store.read("r0")).max(0)
    limit = float(np.sort(peak)[-1]) - 1e-3
    at = int(peak.argmax()) // 256
    kept = WindowDataset(store, WindowConfig(window_s=2.0, reject_uv=limit))
    assert kept.start_s.tolist() == [2.0 * i for i in range(5) if i != at]
    with pytest.raises(DataError, match=r"and reject_uv 0\.1; loosen one"):
        WindowDataset(store, WindowConfig(reject_uv=0.1))
    with pytest.raises(ConfigError, match="reject_uv: got -1"):
        WindowConfig(reject_uv=-1.0)


def test_a_data_set_says_what_it_holds(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", 4, per_subject=2)
    shown = repr(WindowDataset(store, WindowConfig(window_s=2.0)))
    assert shown == (
        "WindowDataset(20 windows of 2 s, 2 channels × 256 samples, scaling quantile95; 4 recordings of "
        "2 subjects; 8 closed, 8 open, 4 unlabelled)"
    )
    assert "unlabelled" not in repr(WindowDataset(store, WindowConfig(window_s=2.0), labelled=True))
