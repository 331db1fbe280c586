"""Live streams: gaps, clocks, reconnection, backpressure, sinks, the web page and the command."""

from __future__ import annotations

import csv
import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import edfio
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.labels import LabelSpan
from eegm2.deploy.config import StreamConfig
from eegm2.deploy.device.scale import RunningScale
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.fit import fit_head
from eegm2.deploy.live.clock import ClockTracker
from eegm2.deploy.live.outputs import Outputs
from eegm2.deploy.live.pipeline import Pipeline
from eegm2.deploy.live.runner import run_stream
from eegm2.deploy.live.source import Chunk, RecordingSource, SourceLost, unit_factor
from eegm2.deploy.live.web import WebPage
from eegm2.deploy.trained_model import TrainedModel, load_trained
from eegm2.errors import CheckpointError, ConfigError, DataError, EEGM2Error
from tests.data.samples import eeg, write_edf, write_store
from tests.deploy.helpers import BUNDLED, EPOC, checkpoint, network

NAMES = ("Fz", "Cz", "Pz")
RATE = 128.0


class Fake:
    """A source that plays chunks; an exception among them is raised, and opening moves on."""

    def __init__(self, chunks: list, *, can_wait: bool = True, names: list[list[str]] | None = None) -> None:
        self.name, self.sfreq_hz, self.can_wait = "headset", RATE, can_wait
        self.chunks, self.names, self.opened = list(chunks), names or [list(NAMES)], 0
        self.ch_names = self.names[0]

    def open(self) -> None:
        self.ch_names = self.names[min(self.opened, len(self.names) - 1)]
        self.opened += 1

    def read(self, n: int, timeout_s: float) -> Chunk | None:
        if not self.chunks:
            return None
        item = self.chunks.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None: ...

    def facts(self) -> dict[str, float]:
        return {"jitter_ms": 0.0}


class Collect:
    def __init__(self) -> None:
        self.outputs: list[Outputs] = []
        self.statistics: dict | None = None

    def push(self, outputs: Outputs) -> None:
        self.outputs.append(outputs)

    def close(self, statistics: dict) -> None:
        self.statistics = statistics

    def joined(self, name: str) -> np.ndarray:
        return np.concatenate([getattr(o, name) for o in self.outputs], axis=1)

    def events(self) -> list[dict]:
        return [event for o in self.outputs for event in o.events]


def trained(preset: str = "eegm2") -> TrainedModel:
    from eegm2.data.config import PreprocessingConfig

    model = network(preset)
    return TrainedModel(model, NAMES, RATE, "quantile95", 1.0, PreprocessingConfig(), "best.safetensors", "0")


def settings(**changes: object) -> StreamConfig:
    values = {"calibration_s": 0.0, "scale_uv": 20.0, "causal": False, "reconnect_s": 2.0, "timeout_s": 2.0}
    return StreamConfig(**{**values, **changes})


def microvolts(n: int, seed: int = 0) -> np.ndarray:
    return 20 * np.random.default_rng(seed).standard_normal((3, n))


def chunks(x: np.ndarray, size: int = 16, start: int = 0) -> list[Chunk]:
    times = (start + np.arange(x.shape[1])) / RATE
    return [Chunk(x[:, i : i + size], times[i : i + size]) for i in range(0, x.shape[1], size)]


def run(source: Fake, config: StreamConfig | None = None, head: DenseHead | None = None) -> Collect:
    sink = Collect()
    run_stream(source, Pipeline(trained(), config or settings(), head), [sink], config or settings())
    return sink


def offline(x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network()(torch.from_numpy(x[None] / 20).float())[0].numpy()


def test_what_comes_out_is_the_offline_reconstruction() -> None:
    x = microvolts(400)
    sink = run(Fake(chunks(x)))
    np.testing.assert_allclose(sink.joined("reconstruction"), offline(x), rtol=0, atol=1e-4)
    assert sink.statistics["samples"] == 400
    assert sink.statistics["latency_ms"]["network"] == pytest.approx(234.4)


def test_channels_in_another_order_are_put_right_and_missing_ones_refused() -> None:
    x = microvolts(160)
    sink = run(Fake(chunks(x[[2, 0, 1]]), names=[["EEG PZ", "Fz", "cz"]]))
    np.testing.assert_allclose(sink.joined("reconstruction"), offline(x), rtol=0, atol=1e-4)
    with pytest.raises(DataError, match="headset: missing 1 of 3 channels: Pz"):
        run(Fake(chunks(x), names=[["Fz", "Cz", "Oz"]]))


def test_a_short_gap_is_interpolated_and_a_long_one_begins_anew() -> None:
    x = microvolts(200)
    x[:, 100:104] = np.linspace(x[:, 99], x[:, 104], 6, axis=1)[:, 1:5]
    kept = np.delete(x, np.s_[100:104], axis=1)
    times = np.delete(np.arange(200) / RATE, np.s_[100:104])
    sink = run(Fake([Chunk(kept, times, ((100, 4),))]))
    np.testing.assert_allclose(sink.joined("reconstruction"), offline(x), rtol=0, atol=1e-4)
    assert sink.statistics["interpolated"] == 4
    assert sink.statistics["restarts"] == 0
    long = run(Fake([Chunk(x, np.arange(200) / RATE, ((120, 64),))]))
    assert [event["event"] for event in long.events()] == ["gap", "restart"]
    np.testing.assert_allclose(long.joined("reconstruction")[:, -80:], offline(x[:, 120:]), rtol=0, atol=1e-4)


def test_a_source_that_comes_back_with_other_channels_is_matched_again() -> None:
    x = microvolts(320)
    again = [
        Chunk(c.x_uv[[1, 0, 2]], c.times_s, fresh=i == 0) for i, c in enumerate(chunks(x[:, 160:], start=900))
    ]
    source = Fake([*chunks(x[:, :160]), SourceLost("lost"), *again], names=[list(NAMES), ["Cz", "Fz", "Pz"]])
    sink = run(source)
    assert sink.statistics["reconnects"] == 1
    assert {"event": "restart", "why": "the source came back"} in sink.events()
    np.testing.assert_allclose(
        sink.joined("reconstruction")[:, -160:], offline(x[:, 160:]), rtol=0, atol=1e-4
    )


def test_a_source_that_stays_away_ends_the_run_with_the_statistics_kept() -> None:
    sink = Collect()
    config = settings(reconnect_s=0.0)
    with pytest.raises(SourceLost, match="no sample for 2 s"):
        run_stream(
            Fake([*chunks(microvolts(64)), SourceLost("headset: no sample for 2 s")]),
            Pipeline(trained(), config),
            [sink],
            config,
        )
    assert sink.statistics["samples"] == 64


def test_what_cannot_be_analysed_in_time_is_dropped_and_counted_and_memory_stays_bounded() -> None:
    x = microvolts(16 * 200)
    source = Fake(chunks(x), can_wait=False)
    config = settings(buffer_s=1.0, chunk_s=0.125)
    release, sink = threading.Event(), Collect()
    pipeline = Pipeline(trained(), config)
    push = pipeline.push

    def slow(chunk: Chunk) -> Outputs:
        release.wait(5)
        return push(chunk)

    pipeline.push = slow  # type: ignore[method-assign]

    def let_go() -> None:
        while source.chunks:
            time.sleep(0.01)
        release.set()

    threading.Thread(target=let_go, daemon=True).start()
    statistics = run_stream(source, pipeline, [sink], config)
    assert statistics["dropped"] > 2000
    assert statistics["samples"] + statistics["dropped"] <= x.shape[1]
    assert statistics["samples"] <= 16 * 10
    waiting = run(Fake(chunks(x), can_wait=True), config)
    assert waiting.statistics["dropped"] == 0
    assert waiting.statistics["samples"] == x.shape[1]


def test_a_unit_that_is_wrong_by_a_million_is_refused_at_the_baseline() -> None:
    config = settings(calibration_s=2.0, scale_uv=0.0)
    with pytest.raises(DataError, match=r"typical amplitude of the baseline is .* µV, EEG has 0\.2 to 2000"):
        run(Fake(chunks(1e-6 * microvolts(400))), config)
    assert run(Fake(chunks(microvolts(400))), config).statistics["calibrated"]
    assert unit_factor("Volts", "x") == 1e6
    with pytest.raises(DataError, match="headset: unit is 'bananas', expected V, mV, µV"):
        unit_factor("bananas", "headset")


def test_jitter_is_no_gap_and_gaps_and_drift_are_measured() -> None:
    rng = np.random.default_rng(0)
    clock = ClockTracker(RATE)
    stamps = 50 + np.arange(60 * 128) / RATE * (1 + 200e-6) + 0.004 * rng.standard_normal(60 * 128)
    found = [g for part in np.split(stamps, 60) for g in clock.push(part)]
    assert found == []
    assert clock.drift_ppm == pytest.approx(200, abs=120)
    assert clock.jitter_s == pytest.approx(0.004, rel=0.2)
    clock = ClockTracker(RATE)
    kept = np.delete(np.arange(2000) / RATE, np.s_[700:719])
    assert clock.push(kept) == ((700, 19),)


@pytest.mark.parametrize("true_hz", [64.0, 250.0])
def test_a_source_that_states_another_rate_than_it_sends_is_refused(true_hz: float) -> None:
    clock = ClockTracker(RATE, where="headset")
    with pytest.raises(DataError, match=r"headset: states 128 Hz but sends \d+(\.\d+)? samples a second"):
        list(map(clock.push, np.split(np.arange(4000) / true_hz, 40)))


def test_decisions_follow_the_head() -> None:
    rng = np.random.default_rng(0)
    layers = [(rng.standard_normal((8, 288)), np.zeros(8)), (rng.standard_normal((2, 8)), np.zeros(2))]
    head = DenseHead(np.zeros(288), np.ones(288), layers, ("rest", "task"))
    sink = run(Fake(chunks(microvolts(512))), settings(hop_s=0.25), head)
    decisions = [d for o in sink.outputs for d in o.decisions]
    assert [d["sample"] for d in decisions] == list(range(128, 513, 32))
    assert all(sum(d["probabilities"]) == pytest.approx(1, abs=1e-5) for d in decisions)
    with torch.no_grad():
        f = network().encode(torch.from_numpy(microvolts(512)[None] / 20).float())[..., :16]
        from eegm2 import time_statistics

        expected = head(time_statistics(f).numpy())[0]
    np.testing.assert_allclose(decisions[0]["probabilities"], expected, atol=1e-4)


def test_heads_are_files_of_plain_arrays(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    f = 3 + 2 * rng.standard_normal((60, 5))
    for n_classes in (2, 3):
        y = rng.integers(0, n_classes, 60)
        for last in (OneVsRestClassifier(LogisticRegression()), LogisticRegression()):
            pipeline = make_pipeline(StandardScaler(), last).fit(f, y)
            names = tuple("abc"[:n_classes])
            DenseHead.from_pipeline(pipeline, names, window_s=2.0).save(tmp_path / "head.safetensors")
            head = DenseHead.load(tmp_path / "head.safetensors")
            np.testing.assert_allclose(head(f), pipeline.predict_proba(f), atol=1e-10)
            assert (head.classes, head.facts) == (names, {"window_s": 2.0})
    with pytest.raises(CheckpointError, match="is not a head written by eegm2"):
        DenseHead.load(checkpoint(tmp_path / "model.safetensors"))
    with pytest.raises(CheckpointError, match="cannot be read as a head"):
        DenseHead.load(tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match=r"got features \(1, 4\), expected \(windows, 5\)"):
        head(f[:1, :4])


def sixteen_seconds(folder: Path) -> Path:
    """Return a recording without joins or labels: the beginning of a bundled one."""
    edf = edfio.read_edf(sorted(BUNDLED.glob("*.edf"))[1])
    edf.slice_between_seconds(0, 16)
    edfio.Edf(edf.signals).write(folder / "sixteen.edf")
    return folder / "sixteen.edf"


def test_the_command_streams_a_recording(tmp_path: Path) -> None:
    source = str(sixteen_seconds(tmp_path))
    model = str(checkpoint(tmp_path / "m.safetensors"))
    lines, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    arguments = ["stream", "--source", source, "--model", model, "--speed", "0", "--calibration-s", "4"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(lines), "--out", str(table)])
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert records[-1]["type"] == "statistics"
    assert records[-1]["samples"] == 2048
    y = np.concatenate([r["values"] for r in records if r["type"] == "reconstruction"], axis=1)
    assert y.shape == (14, 2048 - 512)
    with table.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["index", *EPOC]
    np.testing.assert_allclose(np.array(rows[1:], float)[:, 1:].T, y, atol=1e-4)
    assert list(tmp_path.glob("*.part")) == []
    again = CliRunner().invoke(app, [*arguments, "--out", str(lines)])
    assert isinstance(again.exception, ConfigError)
    assert "is there already" in str(again.exception)


def test_a_head_is_fitted_from_a_store_and_decides_on_a_stream(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", ch_names=NAMES, n_times=2560)
    model = str(checkpoint(tmp_path / "m.safetensors", "light", ch_names=NAMES))
    head, table = tmp_path / "head.safetensors", tmp_path / "out.csv"
    done = CliRunner().invoke(app, ["head", model, str(store.url), "--out", str(head)])
    assert done.exit_code == 0, done.output
    # 20 s, of which 2 s are baseline: whole windows of 2 s from 2 s (open) and from 6 to 8 s (closed)
    assert "closed, open: fitted on 9 windows of 3 subjects" in done.output
    assert (
        "streamed (restored from the store): baseline 2 s, scaling quantile95, a decision every 0.5 s on 2 s"
        in done.output
    )
    assert "validation on 10 windows of 1 other subject " in done.output
    assert DenseHead.load(head).facts["window_s"] == 2.0
    source = write_edf(tmp_path / "r.edf", eeg(3, 1280), NAMES)
    arguments = ["--source", str(source), "--model", model, "--head", str(head), "--speed", "0"]
    done = CliRunner().invoke(app, ["stream", *arguments, "--calibration-s", "2", "--out", str(table)])
    assert done.exit_code == 0, done.output
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sample"]) for row in rows] == list(range(256, 1025, 64))
    assert all(float(row["p_open"]) + float(row["p_closed"]) == pytest.approx(1, abs=1e-5) for row in rows)
    with pytest.raises(DataError, match="has channels Fz Cz Pz at 128 Hz, the model expects Cz Fz"):
        fit_head(checkpoint(tmp_path / "other.safetensors", ch_names=("Cz", "Fz")), str(store.url))
    one = write_store(tmp_path / "one", ch_names=NAMES, labels=[LabelSpan(0.0, 10.0, "open")])
    with pytest.raises(DataError, match="labelled windows of open only; a head needs at least two"):
        fit_head(model, str(one.url))


def test_the_streamed_recording_equals_offline_on_what_was_prepared(tmp_path: Path) -> None:
    from eegm2.deploy.live.source import RecordingSource

    sink, config = Collect(), StreamConfig(speed=0, calibration_s=4)
    model = load_trained(checkpoint(tmp_path / "m.safetensors"))
    run_stream(RecordingSource(sixteen_seconds(tmp_path), speed=0), Pipeline(model, config), [sink], config)
    with torch.no_grad():
        expected = model.model(torch.from_numpy(sink.joined("x").astype(np.float32))[None])[0].numpy()
    np.testing.assert_allclose(sink.joined("reconstruction"), expected, rtol=0, atol=1e-4)
    assert isinstance(Pipeline(model, config).scale, RunningScale)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "nowhere.edf"], "got 'nowhere.edf', expected lsl, brainflow or a recording's file"),
        (["--source", "lsl", "--out", "x.txt"], "got 'x.txt', expected lsl, a .jsonl or .csv file"),
        (["--source", "lsl", "--port", "80", "--host", "0.0.0.0"], "which others can reach; give --token"),
        (["--source", "lsl", "--enter", "0.3"], "smooth, enter, leave: got 0.0, 0.3, 0.5"),
        (["--source", "lsl", "--buffer-s", "0"], "buffer_s: got 0.0, expected seconds above 0"),
    ],
)
def test_bad_options_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    model = str(checkpoint(tmp_path / "m.safetensors"))
    result = CliRunner().invoke(app, ["stream", "--model", model, *arguments])
    assert isinstance(result.exception, EEGM2Error)
    assert message in str(result.exception)


def fetch(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as response:
        return response.read()


def test_the_page_serves_this_machine_and_sends_events() -> None:
    page = WebPage("127.0.0.1", 0, "", {"ch_names": list(NAMES)})
    try:
        assert b"<title>eegm2 stream</title>" in fetch(page.url)
        assert json.loads(fetch(page.url + "facts")) == {"ch_names": list(NAMES)}
        with urllib.request.urlopen(page.url + "events", timeout=5) as events:
            outputs = Outputs(1.0, np.ones((3, 2)), np.zeros((3, 1)), np.zeros((32, 0)))
            for _ in range(100):
                page.push(outputs, {})
            message = json.loads(events.readline().removeprefix(b"data: "))
        assert message["x"] == [[1.0, 1.0]] * 3
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetch(page.url, Host="evil.example:80")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(page.url + "etc/passwd")
    finally:
        page.close()


def test_the_page_asks_for_its_token_and_refuses_strangers_without_one() -> None:
    page = WebPage("127.0.0.1", 0, "secret", {})
    try:
        base = f"http://127.0.0.1:{page.port}/"
        for url in (base, base + "?token=wrong", base + "events"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                fetch(url)
        assert b"eegm2" in fetch(base + "?token=secret")
    finally:
        page.close()
    with pytest.raises(ConfigError, match=r"got '0\.0\.0\.0', which others can reach; give --token"):
        WebPage("0.0.0.0", 0, "", {})


def test_what_is_flushed_has_the_time_of_the_end() -> None:
    sink = run(Fake(chunks(microvolts(400))))
    assert sink.outputs[-1].reconstruction.shape[1] > 0
    assert sink.outputs[-1].time_s == pytest.approx(399 / RATE)


def test_names_of_a_source_can_be_mapped() -> None:
    x = microvolts(400)
    source = Fake(chunks(x[[2, 0, 1]]), names=[["ch 3", "A=1", "Cz"]])
    sink = run(source, settings(aliases=("ch 3=Pz", "A=1=Fz")))
    np.testing.assert_allclose(sink.joined("reconstruction"), offline(x), rtol=0, atol=1e-4)
    with pytest.raises(DataError, match=r"missing 2 of 3 channels: Fz Pz .*--aliases 'its name=ours'"):
        run(Fake(chunks(x), names=[["ch 3", "A=1", "Cz"]]))


def test_a_recording_begins_anew_after_a_join(tmp_path: Path) -> None:
    import mne

    raw = mne.io.RawArray(microvolts(640) * 1e-6, mne.create_info(list(NAMES), RATE, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations([2.0, 3.0], [0.0, 1.0], ["boundary", "BAD_ACQ_SKIP"]))
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    source = RecordingSource(tmp_path / "a_raw.fif", speed=0)
    source.open()
    read = iter(lambda: source.read(100, 0.1), None)
    found = [(round(c.times_s[0] * RATE), c.x_uv.shape[1], c.fresh) for c in read]
    assert [place for place, _, fresh in found if fresh] == [256, 512]
    assert sum(n for _, n, _ in found) == 512
    assert all(not place < 256 < place + n for place, n, _ in found)
