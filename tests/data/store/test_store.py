"""The store: whole or absent, checked, concurrent, remote, and the same whatever the order of writing."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.atomic import remove_stale_temporaries, write_atomic
from eegm2.data.config import PREPROCESSING_VERSION, PreprocessingConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.storage import open_storage
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore, StoreWriter
from eegm2.errors import ConfigError, DataError
from tests.data.samples import eeg, write_store

CONFIG = PreprocessingConfig(channels=("Fz", "Cz"))


def info(name: str, **facts: Any) -> RecordingInfo:
    return RecordingInfo(name, facts.pop("subject", "s"), "", 0, 0.0, (), **facts)


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "store")
    return f"memory://{tmp_path.as_posix().strip('/')}/store"


def test_what_is_written_is_read(url: str) -> None:
    x = eeg(2, 70_000).astype(np.float32)
    facts = info("a/b c", labels=(LabelSpan(0.5, 1.0, "öpen"),), attributes={"age": "31"}, split="test")
    written = StoreWriter(url, CONFIG, ("Fz", "Cz")).write(facts, x)
    store = RecordingStore(url)
    assert store.recordings == [written]
    assert written.n_times == 70_000
    assert written.duration_s == 70_000 / 128
    assert (store.ch_names, store.sfreq_hz, store.preprocessing) == (("Fz", "Cz"), 128.0, CONFIG)
    np.testing.assert_array_equal(store.read("a/b c"), x)
    piece = store.read("a/b c", 100, 612)
    np.testing.assert_array_equal(piece, x[:, 100:612])
    assert piece.flags.c_contiguous
    assert piece.flags.writeable
    assert store.verify() == {}


def test_local_views_are_maps_not_copies(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    view = store.view("r0", 10, 20)
    assert isinstance(view.base, np.memmap)
    assert not view.flags.writeable
    assert view.shape == (10, 2)


def test_outside_the_recording(url: str) -> None:
    store = write_store(url)
    with pytest.raises(DataError, match="r1: samples 1000:1281 are not inside the recording of 1280 samples"):
        store.read("r1", 1000, 1281)
    with pytest.raises(DataError, match="recording 'r9' cannot be read: no such recording"):
        store.read("r9")


def test_float16_halves_the_file(tmp_path: Path) -> None:
    x = eeg(2, 1280).astype(np.float32)
    StoreWriter(tmp_path, CONFIG, ("Fz", "Cz"), dtype="float16").write(info("a"), x)
    store = RecordingStore(tmp_path)
    (file,) = (tmp_path / "recordings").glob("*.raw")
    assert file.stat().st_size == x.size * 2
    assert store.read("a").dtype == np.float32
    np.testing.assert_allclose(store.read("a"), x, rtol=2**-11)
    with pytest.raises(DataError, match="b: the array holds values that are not finite as float16"):
        StoreWriter(tmp_path, CONFIG, ("Fz", "Cz"), dtype="float16").write(info("b"), x * 1e5)


def test_manifest_is_independent_of_the_order_and_sees_every_change(tmp_path: Path) -> None:
    def build(name: str, order: list[int], **changes: Any) -> str:
        writer = StoreWriter(tmp_path / name, changes.get("config", CONFIG), ("Fz", "Cz"))
        for number in order:
            labels = (LabelSpan(0, changes.get("duration", 1.0), "x"),)
            facts = info(f"r{number}", labels=labels, subject=changes.get("subject", "s"))
            writer.write(facts, eeg(2, 640, seed=number + changes.get("seed", 0)).astype(np.float32))
        return RecordingStore(tmp_path / name).manifest_sha256

    first = build("a", [0, 1, 2])
    assert build("b", [2, 0, 1]) == first
    others = [
        build("c", [0, 1]),
        build("d", [0, 1, 2], duration=2.0),
        build("e", [0, 1, 2], subject="t"),
        build("f", [0, 1, 2], seed=1),
        build("g", [0, 1, 2], config=PreprocessingConfig(channels=("Fz", "Cz"), notch_hz=50.0)),
    ]
    assert len({first, *others}) == 6


def test_a_store_of_an_earlier_version_keeps_its_hash_and_is_not_mixed(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    facts = json.loads((tmp_path / "store.json").read_text())
    assert facts["preprocessing_version"] == PREPROCESSING_VERSION
    (tmp_path / "store.json").write_text(json.dumps(facts | {"preprocessing_version": 0}))
    earlier = RecordingStore(tmp_path)
    assert earlier.manifest_sha256 != store.manifest_sha256
    assert CONFIG.sha256(0) != CONFIG.sha256() == CONFIG.sha256(PREPROCESSING_VERSION)
    np.testing.assert_array_equal(earlier.read("r0"), store.read("r0"))
    with pytest.raises(ConfigError, match=r"the store has preprocessing_version 0, asked for \d; use"):
        StoreWriter(tmp_path, CONFIG, ("Fz", "Cz"))


def test_facts_never_vouch_for_samples_that_are_not_there(tmp_path: Path) -> None:
    """After a power cut the folder may have the facts' name and not the samples'."""
    write_store(tmp_path, 2)
    (samples,) = (tmp_path / "recordings").glob("r0-*.raw")
    samples.unlink()
    store = RecordingStore(tmp_path)
    assert [item.id for item in store.recordings] == ["r1"]
    assert "is missing; prepare the recording again" in store.damaged["r0"]


def test_every_content_is_synced_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StoreWriter(tmp_path, CONFIG, ("Fz", "Cz"))
    events: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        events.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        sync(handle)

    def rename(self: Path, target: Path) -> Path:
        events.append(f"name {Path(target).suffix}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    writer.write(info("a"), eeg(2, 640).astype(np.float32))
    assert events == ["sync file", "name .raw", "sync file", "name .json", "sync folder"]


def test_another_specification_is_refused(url: str) -> None:
    write_store(url)
    other = PreprocessingConfig(channels=("Fz", "Cz"), l_freq_hz=1.0)
    with pytest.raises(
        ConfigError, match=r"the store was prepared with l_freq_hz = 0\.5, asked for 1\.0; use the same"
    ):
        StoreWriter(url, other, ("Fz", "Cz"))
    with pytest.raises(ConfigError, match="has channels Fz Cz, asked for Fz Pz; use another --out"):
        StoreWriter(url, CONFIG, ("Fz", "Pz"))
    with pytest.raises(ConfigError, match="the store has dtype 'float32', asked for 'float16'"):
        StoreWriter(url, CONFIG, ("Fz", "Cz"), dtype="float16")


def test_a_wrong_array_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, CONFIG, ("Fz", "Cz"))
    x = eeg(2, 640).astype(np.float32)
    with pytest.raises(DataError, match=r"a: got an array of shape \(3, 640\), expected \(2 channels"):
        writer.write(info("a"), eeg(3, 640))
    x[1, 5] = np.nan
    with pytest.raises(DataError, match="a: the array holds values that are not finite"):
        writer.write(info("a"), x)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["store.json"]


def test_replacing_removes_the_old_samples(url: str) -> None:
    writer = StoreWriter(url, CONFIG, ("Fz", "Cz"))
    writer.write(info("a"), eeg(2, 640, seed=1).astype(np.float32))
    writer.write(info("a"), eeg(2, 640, seed=2).astype(np.float32))
    assert len(open_storage(url).sizes("recordings")) == 2
    np.testing.assert_array_equal(RecordingStore(url).read("a"), eeg(2, 640, seed=2).astype(np.float32))
    writer.remove("a")
    assert open_storage(url).sizes("recordings") == {}


def test_damage_is_found_and_the_rest_stays_usable(tmp_path: Path) -> None:
    write_store(tmp_path, 4)
    files = {path.name.split("-")[0]: path for path in (tmp_path / "recordings").glob("*.raw")}
    files["r0"].write_bytes(files["r0"].read_bytes()[:-8])
    content = bytearray(files["r1"].read_bytes())
    content[100] ^= 1
    files["r1"].write_bytes(content)
    (tmp_path / "recordings" / "r2.json").write_text('{"id": "r2"')
    store = RecordingStore(tmp_path)
    assert [item.id for item in store.recordings] == ["r1", "r3"]
    assert "has 10232 bytes, expected 10240; prepare the recording again" in store.damaged["r0"]
    assert "prepare the recording again" in store.damaged["r2"]
    problems = store.verify()
    assert set(problems) == {"r0", "r1", "r2"}
    assert problems["r1"].startswith("checksum of the samples is ")
    assert [item.id for item in store.recordings] == ["r3"]
    with pytest.raises(DataError, match="recording 'r1' cannot be read: checksum"):
        store.read("r1")


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"not a recording store \(no store\.json\); make one with eegm2 prepare"
    ):
        RecordingStore(tmp_path)
    StoreWriter(tmp_path / "a", CONFIG, ("Fz", "Cz"))
    with pytest.raises(DataError, match="the store has no usable recording; run eegm2 prepare"):
        RecordingStore(tmp_path / "a")
    facts = json.loads((tmp_path / "a" / "store.json").read_text())
    (tmp_path / "a" / "store.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(DataError, match=r"store\.json: format 99, this version reads 1"):
        RecordingStore(tmp_path / "a")
    (tmp_path / "a" / "store.json").write_text("[")
    with pytest.raises(DataError, match=r"store\.json: damaged"):
        RecordingStore(tmp_path / "a")


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, [b"old"])

    def chunks() -> Any:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, chunks())
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_temporaries_of_ended_processes_are_removed(tmp_path: Path) -> None:
    import socket

    ended = multiprocessing.get_context("spawn").Process(target=int)
    ended.start()
    ended.join()
    dead = tmp_path / f".tmp-{socket.gethostname()}-{ended.pid}-ab"
    alive = tmp_path / f".tmp-{socket.gethostname()}-{os.getpid()}-ab"
    elsewhere = tmp_path / ".tmp-some-other-host-1-ab"
    for path in (dead, alive, elsewhere):
        path.write_bytes(b"x")
    remove_stale_temporaries(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([alive, elsewhere])


def _write_all(url: str, start: Any) -> None:
    start.wait(30)
    for number in range(12):
        writer = StoreWriter(url, CONFIG, ("Fz", "Cz"))
        writer.write(info(f"r{number}"), eeg(2, 640, seed=number).astype(np.float32))


def test_writers_at_once_do_not_harm_one_another(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Event()
    writers = [context.Process(target=_write_all, args=(str(tmp_path / "s"), start)) for _ in range(3)]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    store = RecordingStore(tmp_path / "s")
    assert len(store) == 12
    assert store.verify() == {}
    assert len(list((tmp_path / "s" / "recordings").iterdir())) == 24


def test_store_travels_to_other_processes(url: str) -> None:
    store = write_store(url)
    before = store.read("r1")
    again = pickle.loads(pickle.dumps(store))  # noqa: S301
    np.testing.assert_array_equal(again.read("r1"), before)
    assert len(pickle.dumps(store)) < 20_000


@pytest.mark.slow
def test_a_store_on_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="reads S3")
    server = pytest.importorskip("moto.server", reason="stands in for S3").ThreadedMotoServer(port=0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        import s3fs

        s3fs.S3FileSystem().mkdir("bucket")
        store = write_store("s3://bucket/store")
        np.testing.assert_array_equal(
            store.read("r2", 5, 300), eeg(2, 1280, seed=2).astype(np.float32)[:, 5:300]
        )
        assert store.verify() == {}
    finally:
        server.stop()
