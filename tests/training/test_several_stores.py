"""Pretraining on several stores: what it leaves, exact resume, two processes, what is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import ConfigError, DataError
from eegm2.hub import share_run
from eegm2.report.gather import gather
from eegm2.report.html import write_report
from eegm2.training.checkpoint import read_header
from eegm2.training.config import PretrainConfig
from eegm2.training.pretrain import pretrain
from eegm2.training.state import Interrupted
from tests.training.pretrain_kills import differences
from tests.training.stores import tiny_store
from tests.training.test_resume import signal_after

TINY = PretrainConfig(
    preset="s5",
    width=4,
    window_s=1.0,
    epochs=2,
    batch_size=6,
    seed=3,
    share=("small=0.5",),
    checkpoint_every_steps=2,
    log_every_steps=1,
    accelerator="cpu",
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[RecordingStore]:
    folder = tmp_path_factory.mktemp("data")
    return [tiny_store(folder / "large", subjects=6), tiny_store(folder / "small", subjects=3, seed=1)]


@pytest.fixture(scope="module")
def whole(stores: list[RecordingStore], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    pretrain(stores, run, TINY)
    return run


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "logs" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_validation_is_known_for_each_store_and_weighted_by_its_share(whole: Path) -> None:
    for row in rows(whole):
        each = [float(row[f"val_loss/{name}"]) for name in ("large", "small")]
        assert each[0] != each[1]
        assert float(row["val_loss"]) == pytest.approx(sum(each) / 2)
    losses = [float(row["val_loss"]) for row in rows(whole)]
    assert read_header(whole, "best")["val_loss"] == min(losses)


def test_the_header_says_what_came_from_where(whole: Path, stores: list[RecordingStore]) -> None:
    data = read_header(whole)["data"]
    assert data["store"] == "large, small"
    assert (data["n_recordings"], data["n_subjects"]) == (9, 9)
    assert [entry["store"] for entry in data["stores"]] == ["large", "small"]
    assert [entry["share"] for entry in data["stores"]] == [0.5, 0.5]
    assert [entry["manifest_sha256"] for entry in data["stores"]] == [s.manifest_sha256 for s in stores]
    assert [(e["n_train_subjects"], e["n_val_subjects"]) for e in data["stores"]] == [(4, 1), (1, 1)]
    assert [e["n_train_windows"] for e in data["stores"]] == [48, 12]
    assert data["n_train_windows"] == 60
    split = SplitManifest.from_json(whole / "splits.json")
    assert len(split.part_of("large").train) == 4
    assert split.manifest_sha256 == data["manifest_sha256"]
    assert str(Path(stores[0].url).parent) not in (whole / "run.json").read_text()


@pytest.mark.parametrize(
    ("reads", "number"), [(14, signal.SIGTERM), (70, signal.SIGINT), (100, signal.SIGTERM)]
)
def test_interrupted_and_resumed_is_uninterrupted(
    reads: int,
    number: int,
    stores: list[RecordingStore],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        signal_after(patch, reads, number)
        with pytest.raises(Interrupted, match=signal.Signals(number).name):
            pretrain(stores, tmp_path / "run", TINY)
    pretrain([store.url for store in stores], tmp_path / "run", TINY)
    assert differences(whole, tmp_path / "run") == []


def test_card_and_report_say_it_too(whole: Path, stores: list[RecordingStore], tmp_path: Path) -> None:
    (Path(stores[0].url) / "prepare_report.json").write_text(json.dumps({"licence": "CC BY 4.0"}))
    pretrain(stores, tmp_path / "run", dataclasses.replace(TINY, epochs=1))
    (Path(stores[0].url) / "prepare_report.json").unlink()
    card = (share_run(tmp_path / "run", tmp_path / "shared") / "README.md").read_text()
    assert "| large | 6 | 4, 1 | 50% | F3 C3 P3 | CC BY 4.0 |" in card
    assert "| small | 3 | 1, 1 | 50% | F3 C3 P3 | not stated |" in card
    assert "sub0" not in card, "names of people stay out of the card"
    data = gather(tmp_path / "run", [store.url for store in stores])
    assert {r.id: r.split for r in data.recordings}.keys() == {
        *(f"large/rec{number}" for number in range(6)),
        *(f"small/rec{number}" for number in range(3)),
    }
    counts = {part: sum(r.split == part for r in data.recordings) for part in ("train", "val", "test")}
    assert counts == {"train": 5, "val": 2, "test": 2}
    assert "store" not in data.missing
    assert data.reconstruction is not None
    assert set(data.reconstruction.recordings) <= {f"rec{number}" for number in range(6)}
    page = write_report(tmp_path / "run", tmp_path / "r.html", [store.url for store in stores]).read_text()
    for words in ("What came from where", "CC BY 4.0", "large", "small", "Validation loss of each store"):
        assert words in page, words
    gone = gather(whole)  # the stores are elsewhere
    assert not gone.recordings
    assert "could not be opened" in gone.missing["store"]


def test_other_stores_or_another_order_are_refused(stores: list[RecordingStore], whole: Path) -> None:
    for given, message in (
        (stores[::-1], "the stores or their order are not those the run in .*; give those, or choose"),
        (stores[1:], "the store is not the one the run in"),
    ):
        with pytest.raises(DataError, match=message):
            pretrain(given, whole, TINY)


def test_fixed_electrodes_refuse_other_electrodes(stores: list[RecordingStore], tmp_path: Path) -> None:
    other = tiny_store(tmp_path / "other", channels=("Fp1", "Fp2", "O1", "O2"))
    with pytest.raises(
        ConfigError,
        match=r"s5 has fixed electrodes, .*: large has F3 C3 P3; other has Fp1 Fp2 O1 O2; "
        r"prepare both with the same --channels, or take --preset covariance",
    ):
        pretrain([stores[0], other], tmp_path / "run", dataclasses.replace(TINY, share=()))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_split_of_ones_own(stores: list[RecordingStore], tmp_path: Path) -> None:
    parts: dict[str, Any] = {"train": ["large/sub0", "small/sub0"], "val": ["small/sub2"], "test": []}
    (tmp_path / "own.json").write_text(json.dumps(parts))
    config = dataclasses.replace(TINY, splits=str(tmp_path / "own.json"), epochs=1)
    pretrain(stores, tmp_path / "run", config)
    row = rows(tmp_path / "run")[0]
    assert row["val_loss"] == row["val_loss/small"]
    assert row["val_loss/large"] == ""
    (tmp_path / "own.json").write_text(json.dumps({**parts, "train": ["large/sub0"]}))
    with pytest.raises(DataError, match="small: the split leaves nobody of this store to train on; leave"):
        pretrain(stores, tmp_path / "other", config)
