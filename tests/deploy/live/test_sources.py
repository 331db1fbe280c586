"""Which source is taken, and whose calibration: connections, names, units and what a device change does."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.deploy.device.calibration import Calibration
from eegm2.deploy.live import lsl
from eegm2.deploy.live.lsl import LslSource
from eegm2.deploy.live.pipeline import Pipeline
from eegm2.deploy.live.runner import run_stream
from eegm2.deploy.live.source import Chunk, RecordingSource, SourceLost, named_channels
from eegm2.errors import DataError
from tests.data.samples import eeg, write_edf
from tests.deploy.helpers import checkpoint
from tests.deploy.live.test_live import NAMES, RATE, Collect, Fake, chunks, microvolts, settings, trained


class Info:
    """What LSL says of a stream."""

    def __init__(self, name: str, source_id: str, kind: str = "EEG", labels: tuple[str, ...] = NAMES) -> None:
        self.facts, self.labels = (name, source_id, kind), labels

    def name(self) -> str:
        return self.facts[0]

    def source_id(self) -> str:
        return self.facts[1]

    def type(self) -> str:
        return self.facts[2]

    def uid(self) -> str:
        return str(id(self))

    def nominal_srate(self) -> float:
        return RATE

    def channel_count(self) -> int:
        return 3


class FakeLsl:
    """As much of pylsl as a source needs: streams that come and go."""

    proc_clocksync = 1
    util = SimpleNamespace(TimeoutError=TimeoutError, LostError=ConnectionError, InternalError=RuntimeError)

    def __init__(self, *streams: Info) -> None:
        self.streams = list(streams)

    def resolve_byprop(self, key: str, value: str, minimum: int = 1, timeout: float = 0) -> list[Info]:
        return [info for info in self.streams if getattr(info, key)() == value]

    def StreamInlet(self, info: Info, **_: Any) -> Any:
        return SimpleNamespace(info=lambda timeout: info, open_stream=lambda timeout: None)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FakeLsl:
    fake = FakeLsl()
    monkeypatch.setattr(lsl, "configured_pylsl", lambda reach: fake)
    monkeypatch.setattr(lsl, "_channels", lambda info: (list(info.labels), [""] * len(info.labels)))
    return fake


def test_only_the_same_source_id_is_taken_up_again(network: FakeLsl) -> None:
    network.streams = [Info("cap", "A1")]
    source = LslSource()
    source.open()
    assert source.device == "cap A1"
    network.streams = [Info("cap", "B2")]
    with pytest.raises(SourceLost, match=r"no stream with source_id 'A1' within 5 s"):
        source.open()
    network.streams += [Info("cap", "A1")]
    source.open()
    assert source.device == "cap A1"


def test_a_stream_without_source_id_is_not_taken_up_again(network: FakeLsl) -> None:
    network.streams = [Info("cap", "")]
    source = LslSource("cap")
    source.open()
    with pytest.raises(DataError, match="states no source_id, so that another stream could take its place"):
        source.open()


def test_our_own_outputs_are_no_source_and_two_devices_are_told_apart(network: FakeLsl) -> None:
    network.streams = [Info("eegm2-reconstruction", "eegm2-x", "eegm2-reconstruction")]
    with pytest.raises(SourceLost, match="no stream with name 'eegm2-reconstruction'"):
        LslSource("eegm2-reconstruction").open()
    network.streams = [Info("cap", "A1"), Info("cap", "B2")]
    with pytest.raises(
        DataError, match=r"there are several: cap \(A1\), cap \(B2\); choose with .*--stream-id"
    ):
        LslSource("cap").open()
    source = LslSource(source_id="B2")
    source.open()
    assert source.device == "cap B2"
    with pytest.raises(DataError, match=r"LSL stream: there are several: cap \(A1\), cap \(B2\)"):
        LslSource().open()
    network.streams += [Info("copy", "B2")]
    with pytest.raises(DataError, match=r"there are several: cap \(B2\), copy \(B2\)"):
        source.open()


def test_the_outlets_of_a_run_say_whose_they_are_and_open_late(monkeypatch: pytest.MonkeyPatch) -> None:
    from eegm2.deploy.live.sinks import Layout, LslSink

    opened: list[tuple[str, str]] = []

    class Outlet:
        def __init__(self, name: str, kind: str, *_: Any) -> None:
            opened.append((name, kind))

        def push(self, x: np.ndarray, time_s: float) -> None: ...

    monkeypatch.setattr(lsl, "LslOutlet", Outlet)
    sink = LslSink(Layout(NAMES, ("a", "b"), 8, True, RATE))
    assert opened == []
    outputs = SimpleNamespace(reconstruction=np.zeros((3, 1)), decisions=[], time_s=1.0, signal_time_s=None)
    sink.push(outputs)  # type: ignore[arg-type]
    assert opened == [
        ("eegm2-reconstruction", "eegm2-reconstruction"),
        ("eegm2-probabilities", "eegm2-probabilities"),
    ]
    assert all(kind.startswith(lsl.OWN_TYPE) for _, kind in opened)


def test_channels_are_named_where_a_source_names_none() -> None:
    assert named_channels([], ["a", "b"], 2, "cap") == ["a", "b"]
    assert named_channels(["1", "2"], ["Fz", "Cz"], 2, "cap") == ["Fz", "Cz"]
    assert named_channels(["Fz", "Cz", "Pz"], ["Pz", "Fz"], 3, "cap") == ["Fz", "Cz", "Pz"], "a choice"
    with pytest.raises(DataError, match=r"cap: describes 0 of 2 channels by label; .* with --channels"):
        named_channels([], [], 2, "cap")
    with pytest.raises(DataError, match="cap: has 3 channels, --channels names 2: a b"):
        named_channels([], ["a", "b"], 3, "cap")


def test_a_recording_takes_names_and_unit_from_options(tmp_path: Path) -> None:
    file = write_edf(tmp_path / "r.edf", eeg(3, 256), ("1", "2", "3"))
    source = RecordingSource(file, speed=0, ch_names=NAMES, unit="mV")
    source.open()
    assert source.ch_names == list(NAMES)
    chunk = source.read(16, 1.0)
    plain = RecordingSource(file, speed=0)
    plain.open()
    np.testing.assert_allclose(chunk.x_uv, 1e3 * plain.read(16, 1.0).x_uv)


def test_another_device_begins_with_a_baseline_of_its_own() -> None:
    class Device(Fake):
        @property
        def device(self) -> str:
            return f"cap {min(self.opened, 2)}"

    x = microvolts(800)
    again = [Chunk(3 * c.x_uv, c.times_s, fresh=i == 0) for i, c in enumerate(chunks(x[:, 400:], start=900))]
    config = settings(calibration_s=1.0, scale_uv=0.0)
    sink, pipeline = Collect(), Pipeline(trained(), config)
    run_stream(Device([*chunks(x[:, :400]), SourceLost("lost"), *again]), pipeline, [sink], config)
    found = [event for event in sink.events() if event["event"] == "calibrated"]
    assert len(found) == 2
    np.testing.assert_allclose(found[1]["scale_uv"], 3 * np.array(found[0]["scale_uv"]), rtol=0.3)
    assert found[0]["calibration"] != found[1]["calibration"]


def test_a_kept_calibration_is_used_and_anothers_is_refused(tmp_path: Path) -> None:
    model = str(checkpoint(tmp_path / "m.safetensors", "light", ch_names=NAMES))
    file = str(write_edf(tmp_path / "r.edf", eeg(3, 128 * 12), NAMES))
    kept = tmp_path / "ann.json"
    base = ["stream", "--source", file, "--model", model, "--speed", "0", "--calibration", str(kept)]

    def stream(*more: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, [*base, *more])
        if done.exception is not None:
            raise done.exception
        return dict(json.loads(done.stderr.strip().splitlines()[-1]))

    stream("--calibration-s", "4", "--person", "ann")
    known = Calibration.load(kept)
    assert (known.person, known.baseline_s, len(known.scale_uv)) == ("ann", 4.0, 3)
    out = tmp_path / "again.jsonl"
    stream("--person", "ann", "--out", str(out))
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[0]["calibration"] == known.id
    steps = sum(len(line["values"][0]) for line in lines if line["type"] == "representation")
    assert steps == 12 * 16, "nothing is spent on a baseline"
    with pytest.raises(DataError, match=r"ann.json: is of person 'ann', not of 'bob'"):
        stream("--person", "bob")
    other = str(checkpoint(tmp_path / "o.safetensors", "light", ch_names=("Fz", "Cz")))
    base[base.index("--model") + 1] = other
    with pytest.raises(DataError, match=r"is of channels Fz Cz Pz, not of Fz Cz; name another file"):
        stream()
    kept.write_text("{}")
    with pytest.raises(DataError, match="is not a calibration written by eegm2"):
        stream()


def test_times_are_those_of_the_samples_also_of_the_last_ones() -> None:
    x = microvolts(400)
    sink = Collect()
    config = settings()
    run_stream(Fake(chunks(x, start=1280)), Pipeline(trained(), config), [sink], config)
    given, checked = 0, 0
    for outputs in sink.outputs:
        given += outputs.reconstruction.shape[1]
        if outputs.reconstruction.shape[1]:
            assert outputs.signal_time_s == pytest.approx(10 + (given - 1) / RATE, abs=1e-9)
            checked += 1
    assert given == 400
    assert checked > 10


def test_a_channel_that_stops_moving_and_filled_gaps_are_flagged() -> None:
    from eegm2.deploy.heads.dense import DenseHead

    head = DenseHead(np.zeros(288), np.ones(288), [(np.zeros((2, 288)), np.zeros(2))], ("a", "b"))
    x = microvolts(1024)
    x[1, 512:] = 7.0
    source = Fake(
        [Chunk(x[:, :200], np.arange(200) / RATE), Chunk(x[:, 204:], np.arange(204, 1024) / RATE, ((0, 4),))]
    )
    config, sink = settings(), Collect()
    run_stream(source, Pipeline(trained(), config, head), [sink], config)
    quality = {d["sample"]: d["quality"] for o in sink.outputs for d in o.decisions}
    assert quality[128] == []
    assert "interpolated" in quality[256]
    assert quality[1024] == ["flat:Cz"]
