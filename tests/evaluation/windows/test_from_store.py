"""What a probe takes over from pretraining, who is in which part, and what it says that pretraining saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.config import to_dict
from eegm2.data.channels import placeholders
from eegm2.data.config import WindowConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import ProbeConfig
from eegm2.evaluation.windows.from_store import (
    choose_split,
    labelled_windows,
    preprocessing_differences,
    pretraining_saw,
    probe_windows,
    read_run_split,
    refuse_mismatch,
    refuse_other_channels,
)
from eegm2.evaluation.windows.labelled import LabelledWindows
from tests.evaluation.helpers import labelled_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return labelled_store(tmp_path_factory.mktemp("data") / "store", subjects=10, seconds=8)


@pytest.fixture(scope="module")
def data(store: RecordingStore) -> LabelledWindows:
    return labelled_windows(store, WindowConfig(window_s=2.0))


def test_windows_are_cut_as_in_pretraining_where_nothing_else_is_asked() -> None:
    cut = WindowConfig(
        window_s=2.0, stride_s=0.5, scaling="zscore", target="group", exclude_s=("0:1",), reject_uv=200.0
    )
    kept = probe_windows(cut, ProbeConfig())
    assert kept == replace(cut, stride_s=None, label_rule=ProbeConfig().label_rule)
    asked = {"window_s": 4.0, "stride_s": 1.0, "scaling": "none", "target": "age"}
    asked |= {"exclude_s": ("2:3",), "reject_uv": 90.0, "label_rule": "whole"}
    made = probe_windows(cut, ProbeConfig(**asked))
    assert {name: getattr(made, name) for name in asked} == asked


def test_a_store_of_other_data_is_refused_or_its_differences_told(store: RecordingStore) -> None:
    here = list(store.ch_names)
    header = {"ch_names": here, "preprocessing": to_dict(store.preprocessing)}
    assert refuse_mismatch(header, store, "run") == []
    assert preprocessing_differences({**header, "ch_names": placeholders(3)}, store) == []
    other = {**header, "preprocessing": {**header["preprocessing"], "l_freq_hz": 1.0}}
    with pytest.raises(
        ConfigError, match=r"prepared otherwise than the data of run: l_freq_hz: 1\.0 in the ch"
    ):
        refuse_mismatch(other, store, "run")
    assert len(refuse_mismatch(other, store, "run", allow=True)) == 1
    for names, words in (
        (here[::-1], "the same channels in another order"),
        ([*here[:2], "Oz"], "missing Oz, extra P3"),
    ):
        (found,) = refuse_mismatch({**header, "ch_names": names}, store, "run", allow=True)
        assert found == f"channels: 3 in the checkpoint, 3 in the store ({words})"
    for names, words in ((here[:2], "missing none, extra P3"), ([*here, "Oz"], "missing Oz, extra none")):
        with pytest.raises(ConfigError, match=rf"does not fit run: channels: .*\({words}\); prepare the"):
            refuse_mismatch({**header, "ch_names": names}, store, "run", allow=True)
    refuse_other_channels(header, store.ch_names, "file")
    refuse_other_channels({"ch_names": placeholders(3)}, store.ch_names, "file")
    for names in (here[::-1], here[:2], placeholders(2)):
        with pytest.raises(DataError, match="file: gives channels F3 C3 P3, the checkpoint was trained on"):
            refuse_other_channels({"ch_names": names}, store.ch_names, "file")


@pytest.mark.parametrize(("val", "test", "sizes"), [(0.1, 0.4, (5, 1, 4)), (0.3, 0.1, (6, 3, 1))])
def test_a_new_split_has_the_shares_seed_and_unit_that_are_asked_for(
    store: RecordingStore, data: LabelledWindows, val: float, test: float, sizes: tuple
) -> None:
    for by in ("subject", "recording"):
        config = ProbeConfig(val=val, test=test, by=by, split_seed=4)  # type: ignore[arg-type]
        chosen = choose_split(data, store, None, config)
        manifest = chosen.manifest
        assert (len(manifest.train), len(manifest.val), len(manifest.test)) == sizes
        assert (manifest.by, manifest.seed, chosen.source) == (by, 4, "new")
        assert manifest.test[0].startswith("sub" if by == "subject" else "rec")
        assert "whether pretraining saw the test part is unknown" in chosen.statement
        assert chosen.notes == (
            ()
            if by == "subject"
            else (
                "split by recording, so the same people may be in several parts (10 people): not a finding",
            )
        )
        for part in ("train", "val", "test"):
            windows = getattr(chosen.indices, part)
            origin = data.subject if by == "subject" else data.recording
            assert set(origin[windows]) == set(getattr(manifest, part))


def test_a_runs_split_is_taken_where_it_is_of_this_store_this_unit_and_whole(
    store: RecordingStore, data: LabelledWindows
) -> None:
    names = [f"sub{i}" for i in range(10)]
    own = SplitManifest(
        tuple(names[:6]), tuple(names[6:8]), tuple(names[8:]), 9, "subject", store.manifest_sha256
    )
    chosen = choose_split(data, store, own, ProbeConfig())
    assert (chosen.source, chosen.manifest) == ("run", own)
    assert chosen.statement == "pretraining saw 0 of the 2 test subjects"
    others = {
        "of another store": replace(own, manifest_sha256="other"),
        "without test": replace(own, train=(*own.train, *own.test), test=()),
        "without val": replace(own, train=(*own.train, *own.val), val=()),
    }
    for manifest in others.values():
        assert choose_split(data, store, manifest, ProbeConfig()).source == "new"
    by_recording = choose_split(data, store, own, ProbeConfig(by="recording"))
    assert by_recording.source == "new"
    assert "pretraining was split by subject, so it may have seen data of the" in by_recording.statement
    few = data.take(data.where_subject(["sub0", "sub1"]))
    with pytest.raises(DataError, match=r"2 subjects have labelled windows \(2 people in all\).*add people"):
        choose_split(few, store, None, ProbeConfig())


def test_what_pretraining_saw_of_the_test_part_is_said() -> None:
    test = SplitManifest((), (), tuple("abcdefg"), by="subject")
    seen = SplitManifest(tuple("xgf"), tuple("edcb"), ("a",), by="subject")
    cases = [
        (
            None,
            False,
            "the checkpoint has no split beside it: whether pretraining saw the test part is unknown",
        ),
        (seen, True, "pretraining saw 6 of the 7 test subjects (b, c, d, e, f …)"),
        (SplitManifest(("x",), ("y",), ("a",)), True, "pretraining saw 0 of the 7 test subjects"),
        (
            replace(seen, by="recording"),
            True,
            "pretraining was split by recording, so it may have seen data of the 7 test subjects",
        ),
        (seen, False, "pretraining used another store, in which 6 of the 7 test subjects have namesakes"),
        (
            SplitManifest(("x",), ("y",), ("a",)),
            False,
            "pretraining used another store, with none of the 7 test subjects",
        ),
    ]
    for split, same, expected in cases:
        assert pretraining_saw(test, split, same) == expected


def test_the_split_beside_the_weights_is_the_one_of_this_store(tmp_path: Path, store: RecordingStore) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.safetensors").write_bytes(b"")
    assert read_run_split(run, store) is None
    elsewhere = SplitManifest(("p",), ("q",), ("r",), manifest_sha256="other")
    elsewhere.to_json(run / "splits.json")
    assert read_run_split(run, store) == elsewhere
    earlier = SplitManifest(("sub0",), ("sub1",), ("sub2",), manifest_sha256=store.manifest_sha256)
    earlier.to_json(run / "splits-before-1.json")
    assert read_run_split(run, store) == earlier, "what the weights began with was trained on this store"
    third = SplitManifest(("sub5",), ("r",), ("x", "p"), manifest_sha256="third")
    third.to_json(run / "splits-before-1.json")
    found = read_run_split(run, store)
    assert found is not None
    assert (found.train, found.val, found.test) == (("p", "sub5"), ("q", "r"), ("x",))
    here = SplitManifest(("sub0",), ("sub1",), ("sub4", "sub5"), manifest_sha256=store.manifest_sha256)
    assert "in which 1 of the 2 test subjects have namesakes" in pretraining_saw(here, found, same=False)


def test_classes_without_windows_are_left_out_and_numbers_are_read(
    tmp_path: Path, store: RecordingStore
) -> None:
    ages = labelled_windows(store, WindowConfig(window_s=2.0, target="age"), regression=True)
    assert ages.classes == ()
    assert ages.y[ages.where_subject(["sub3"])].tolist() == [23.0] * 4
    whole = labelled_windows(store, WindowConfig(window_s=2.0))
    assert whole.classes == ("open", "shut")
    assert [whole.classes[i] for i in whole.y[whole.where_subject(["sub0"])]] == ["shut"] * 2 + ["open"] * 2
    turned = labelled_windows(store, WindowConfig(window_s=2.0), ("shut", "open"))
    assert [turned.classes[i] for i in turned.y] == [whole.classes[i] for i in whole.y]
    np.testing.assert_array_equal(turned.y, 1 - whole.y)
    short = labelled_windows(store, WindowConfig(window_s=2.0, exclude_s=("0:4",)))
    assert short.classes == ("open",)
    assert set(short.y.tolist()) == {0}


@pytest.mark.parametrize("newest", ["subject", "recording"])
def test_names_of_people_and_of_recordings_are_not_put_together(
    newest: Any, tmp_path: Path, store: RecordingStore
) -> None:
    """Of runs whose weights a model began with, those count that were divided by the same."""
    other = "recording" if newest == "subject" else "subject"
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.safetensors").write_bytes(b"")
    made = [(newest, "a"), (newest, "b"), (other, "c")]
    for number, (by, name) in enumerate(made):
        split = SplitManifest((f"{name}1",), (f"{name}2",), (f"{name}3",), by=by, manifest_sha256=name)
        split.to_json(run / ("splits.json" if not number else f"splits-before-{number}.json"))
    found = read_run_split(run, store)
    assert found is not None
    assert found.by == newest
    assert (found.train, found.val, found.test) == (("a1", "b1"), ("a2", "b2"), ("a3", "b3"))
