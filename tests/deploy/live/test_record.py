"""Recordings of live sources can be read whenever they end, with cues and gaps where they belong."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.files.edf_stream import GrowingEdf
from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.deploy.config import RecordConfig
from eegm2.deploy.live.quality import channel_quality, problems
from eegm2.deploy.live.record import record
from eegm2.deploy.live.source import Chunk, SourceLost
from eegm2.errors import ConfigError, DataError
from tests.data.samples import eeg, write_edf
from tests.deploy.live.test_live import NAMES, RATE, Fake, chunks, microvolts


def labels(path: Path) -> list[tuple[float, float, str]]:
    spans = annotation_labels(read_raw(path))
    return [(round(s.onset_s, 3), round(s.duration_s, 3), s.label) for s in spans]


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_cues_become_labels_of_a_recording(tmp_path: Path, suffix: str) -> None:
    x = eeg(3, 128 * 40) + np.array([[4200.0], [-900.0], [0.0]])
    source, out = write_edf(tmp_path / "in.edf", x, NAMES), tmp_path / f"out{suffix}"
    command = ["record", "--source", str(source), "--speed", "0", "--out", str(out)]
    cues = ["--cue", "open:4", "--cue", "closed:5", "--rounds", "2", "--pause-s", "1"]
    done = CliRunner().invoke(app, [*command, *cues])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "22 s, 0 gaps" in done.output
    assert "now: closed (5 s)" in done.output
    raw = read_raw(out)
    assert tuple(raw.ch_names) == NAMES
    np.testing.assert_allclose(raw.get_data() * 1e6, read_raw(source)[:, : raw.n_times][0] * 1e6, atol=0.06)
    found = [span for span in labels(out) if span[2] != "bad_padding"]
    assert [(length, label) for _, length, label in found] == [(4, "open"), (5, "closed")] * 2
    np.testing.assert_allclose([at for at, *_ in found], [1, 6, 12, 17], atol=0.07)
    again = CliRunner().invoke(app, [*command, *cues])
    assert "is there already; name a new file" in str(again.exception)


def test_gaps_are_filled_or_marked_and_counted(tmp_path: Path) -> None:
    x = microvolts(1024)
    times = np.arange(1024) / RATE
    gaps = ((100, 4), (400, 200))
    source, out = Fake([Chunk(x, times, gaps)]), tmp_path / "g.edf"
    facts = record(source, out, RecordConfig(reconnect_s=0), say=lambda text: None)
    assert (facts["gaps"], facts["lost"], facts["filled"]) == (2, 204, 4)
    found = labels(out)
    assert (round(100 / RATE, 3), round(4 / RATE, 3), "BAD filled") in found
    assert (round(404 / RATE, 3), 0.0, "BAD boundary") in found
    kept = read_raw(out).get_data()[:, :1028] * 1e6
    np.testing.assert_allclose(kept[:, 104:], x[:, 100:], atol=0.06)


def test_what_is_written_stays_readable_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = GrowingEdf.write

    def full(self: GrowingEdf, x_uv: np.ndarray) -> None:
        if self.records == 3:
            self._file.seek(0, 2)
            self._file.write(b"half a record")
            raise OSError(28, "No space left on device")
        real(self, x_uv)

    monkeypatch.setattr(GrowingEdf, "write", full)
    source, out = write_edf(tmp_path / "in.edf", eeg(3, 128 * 10), NAMES), tmp_path / "out.edf"
    done = CliRunner().invoke(app, ["record", "--source", str(source), "--speed", "0", "--out", str(out)])
    assert isinstance(done.exception, DataError)
    assert "No space left on device; what was recorded before is kept in it" in str(done.exception)
    assert out.stat().st_size > 0
    head = out.read_bytes()[236:244]
    assert head == b"3       "


def test_a_lost_device_leaves_a_file_and_a_silent_one_none(tmp_path: Path) -> None:
    out = tmp_path / "lost.edf"
    source = Fake([*chunks(microvolts(512)), SourceLost("headset: lost")])
    with pytest.raises(SourceLost, match="headset: lost"):
        record(source, out, RecordConfig(reconnect_s=0), say=lambda text: None)
    assert read_raw(out).n_times == 512
    with pytest.raises(DataError, match="sent less than a second of signal; nothing was recorded"):
        record(Fake([]), tmp_path / "none.edf", RecordConfig(), say=lambda text: None)
    stop = threading.Event()
    stop.set()
    with pytest.raises(ConfigError, match=r"expected a new \.edf or \.bdf file"):
        record(Fake([]), tmp_path / "x.txt", RecordConfig(), say=lambda text: None, stop=stop)
    with pytest.raises(ConfigError, match="cue: got 'open', expected LABEL:SECONDS"):
        RecordConfig(cue=("open",))


def test_problems_of_channels_are_found() -> None:
    t = np.arange(512) / 256
    x = 20 * np.random.default_rng(0).standard_normal((4, 512)).cumsum(1) / 8
    x[1] = 3.0
    x[2] += 300 * np.sin(2 * np.pi * 50 * t)
    x[3] = np.clip(x[3], x[3].min(), np.quantile(x[3], 0.8))
    assert problems(channel_quality(x, ["a", "b", "c", "d"], 256.0)) == ["b flat", "c 50 Hz mains", "d clips"]


def test_a_recording_that_ends_within_a_cue_can_be_read(tmp_path: Path) -> None:
    x, out = eeg(3, 128 * 10), tmp_path / "out.edf"
    source = write_edf(tmp_path / "in.edf", x, NAMES)
    command = ["record", "--source", str(source), "--speed", "0", "--out", str(out), "--cue", "open:60"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert (2.0, 8.0, "open") in labels(out), "the cue lasts as long as the recording"
    file = GrowingEdf(tmp_path / "killed.edf", NAMES, RATE, np.zeros(3))
    file.annotate(0.5, 5.0, "open")
    for second in range(3):
        file.write(x[:, 128 * second : 128 * (second + 1)])
    assert labels(tmp_path / "killed.edf") == [], "not closed: a label that is not over is not there"
    file.write(x[:, :128])
    file.write(x[:, :128])
    file.write(x[:, :128])
    assert labels(tmp_path / "killed.edf") == [(0.5, 5.0, "open")]


def test_texts_of_any_length_and_kind_can_be_written(tmp_path: Path) -> None:
    file = GrowingEdf(tmp_path / "t.edf", NAMES, RATE, np.zeros(3))
    texts = ["ü" * 300, "a\x14b\0c\nd", "plain"]
    for text in texts:
        file.annotate(0.1, 0.0, text)
    for _ in range(4):
        file.write(eeg(3, 128))
    assert (file.noted, file.shortened) == (True, 1)
    file.close()
    found = {label for _, _, label in labels(tmp_path / "t.edf")}
    assert {"plain", "a b c d"} < found
    (long,) = found - {"plain", "a b c d"}
    assert set(long) == {"ü", "…"}


def test_a_disk_that_is_full_leaves_whole_records(tmp_path: Path) -> None:
    """The kernel itself ends the file within a record: what can be read are the whole ones."""
    import resource

    source, out = write_edf(tmp_path / "in.edf", eeg(3, 128 * 10), NAMES), tmp_path / "out.edf"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5300, before[1]))
    try:
        command = ["record", "--source", str(source), "--speed", "0", "--out", str(out), "--cue", "a:3"]
        done = CliRunner().invoke(app, command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(done.exception, DataError), done.output
    assert "File too large; what was recorded before is kept in it" in str(done.exception)
    kept = read_raw(out)
    assert kept.n_times == 3 * 128, "of the fourth a part was written"
    np.testing.assert_allclose(kept.get_data(), read_raw(source)[:, : 3 * 128][0], atol=6e-8)
