"""Files of headsets and their programs become recordings like any: names, microvolts, rate, markers, gaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.files.headsets.samples import Samples, as_raw, measured_rate
from eegm2.data.files.readers import annotation_labels, companion_files, has_reader, read_raw
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import DataError
from tests.data.samples import eeg, write_edf
from tests.data.xdf import xdf

MUSE = ("TP9", "AF7", "AF8", "TP10")


def close(raw, x_uv: np.ndarray, names: Sequence[str], sfreq_hz: float) -> None:
    assert tuple(raw.ch_names) == tuple(names)
    assert raw.info["sfreq"] == sfreq_hz
    np.testing.assert_allclose(raw.get_data() * 1e6, x_uv, atol=1e-3)


def labels(raw) -> list[tuple[float, str]]:
    return [(round(span.onset_s, 4), span.label) for span in annotation_labels(raw)]


def write_mindmonitor(path: Path, x: np.ndarray, *, pause: tuple[int, float] = (10**9, 0.0)) -> Path:
    """Rows come in bursts of 12, as from the band, in milliseconds; elements are rows of their own."""
    lines = [
        "TimeStamp,Delta_TP9," + ",".join(f"RAW_{name}" for name in MUSE) + ",AUX_RIGHT,Battery,Elements"
    ]
    for i, row in enumerate(x.T):
        seconds = 12 * (i // 12) / 256 + (pause[1] if i >= pause[0] else 0.0)
        stamp = f"2024-03-01 10:{int(seconds // 60):02d}:{seconds % 60:06.3f}"
        if i == 300:
            lines.append(f"{stamp},,,,,,,,/Marker/2")
        lines.append(f"{stamp},0.1," + ",".join(f"{value:.4f}" for value in row) + ",800,90,")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_mind_monitor(tmp_path: Path) -> None:
    x = eeg(4, 2560) + 800
    raw = read_raw(write_mindmonitor(tmp_path / "a.csv", x))
    close(raw, x, MUSE, 256.0)
    assert labels(raw) == [(round(300 / 256, 4), "2")]
    parted = read_raw(write_mindmonitor(tmp_path / "b.csv", x, pause=(1200, 3.0)))
    assert labels(parted)[1] == (round(1200 / 256, 4), "BAD boundary")
    slow = write_mindmonitor(tmp_path / "c.csv", x)
    head, *rows = slow.read_text().splitlines()
    slow.write_text("\n".join([head, *rows[::128]]))
    with pytest.raises(DataError, match=r"c.csv: holds .* rows a second, not the samples themselves"):
        read_raw(slow)


def test_muselsl(tmp_path: Path) -> None:
    x, t = eeg(4, 1024), 1.7e9 + np.arange(1024) / 256
    rows = [
        f"{s:.3f}," + ",".join(f"{v:.4f}" for v in c) + f",0.0,{int(i == 512)}"
        for i, (s, c) in enumerate(zip(t, x.T))
    ]
    file = tmp_path / "m.csv"
    file.write_text("\n".join(["timestamps,TP9,AF7,AF8,TP10,Right AUX,Marker0", *rows]))
    raw = read_raw(file)
    close(raw, x, MUSE, 256.0)
    assert labels(raw) == [(2.0, "marker 1")]
    back = file.read_text().splitlines()
    back[600] = back[600].replace(back[600].split(",")[0], f"{t[0] - 50:.3f}")
    file.write_text("\n".join(back))
    with pytest.raises(DataError, match=r"m.csv: its clock jumps back by 5\d\.\d s at sample 600"):
        read_raw(file)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1.5000", "1,5000", r"line 3 has 8 cells under 7 titles; .*points as decimal marks"),
        ("1.5000", "1_5", r"line 3, column TP9: '1_5' is no number"),
    ],
)
def test_numbers_that_are_none(old: str, new: str, said: str, tmp_path: Path) -> None:
    rows = [f"{1.7e9 + i / 256:.3f},1.5000,{i % 7},3.0,4.0,0.0,0" for i in range(600)]
    file = tmp_path / "m.csv"
    rows[1] = rows[1].replace(old, new)
    file.write_text("\n".join(["timestamps,TP9,AF7,AF8,TP10,Right AUX,Marker0", *rows]))
    with pytest.raises(DataError, match=rf"m.csv: {said}"):
        read_raw(file)


def test_rows_again_and_short_rows_of_a_declared_table(tmp_path: Path) -> None:
    file, rows = tmp_path / "own.csv", [f"{i / 250:.4f},{i % 17},{i % 5},0" for i in range(600)]
    (tmp_path / "own.toml").write_text('time = "s"\nmarkers = ["m"]\n[channels]\na = "C3"\nb = "C4"\n')
    file.write_text("\n".join(["s,a,b,m", *rows[:300], *rows[280:]]))
    with pytest.raises(DataError, match=r"own.csv: sample 301 is sample 281 again, of the same time"):
        read_raw(file)
    again = [row.replace(",", ",1", 1) for row in rows[300:]]
    file.write_text("\n".join(["s,a,b,m", *rows[:400], *again]))
    with pytest.raises(DataError, match=r"own.csv: its clock jumps back by 0.396 s at sample 401"):
        read_raw(file)
    file.write_text("\n".join(["s,a,b,m", *rows])[:-2])  # the last row has no marker any more
    assert read_raw(file).n_times == 600


def write_openbci(path: Path, x: np.ndarray, lost: Sequence[int] = ()) -> Path:
    names = ",".join(f" EXG Channel {i}" for i in range(len(x)))
    lines = ["%OpenBCI Raw EXG Data", f"%Number of channels = {len(x)}", "%Sample Rate = 250 Hz"]
    lines += ["%Board = OpenBCI_GUI$BoardCytonSerial", f"Sample Index,{names}, Accel Channel 0, Timestamp"]
    for i, row in enumerate(x.T):
        if i not in lost:
            lines.append(
                f"{i % 256}, " + ", ".join(f"{v:.5f}" for v in row) + f", 0.1, {1.7e9 + i / 250:.6f}"
            )
    path.write_text("\n".join(lines))
    return path


def test_openbci_gui_and_its_lost_samples(tmp_path: Path) -> None:
    x = eeg(8, 1500, seed=2)
    names = [f"EXG Channel {i}" for i in range(8)]
    close(read_raw(write_openbci(tmp_path / "a.txt", x)), x, names, 250.0)
    few = read_raw(write_openbci(tmp_path / "b.txt", x, range(500, 505)))
    filled = few.get_data() * 1e6
    assert filled.shape == x.shape
    np.testing.assert_allclose(filled[:, 505:], x[:, 505:], atol=1e-3)
    assert labels(few) == [(2.0, "BAD filled")]
    many = read_raw(write_openbci(tmp_path / "c.txt", x, range(500, 600)))
    assert many.n_times == 1400
    assert labels(many) == [(2.0, "BAD boundary")]


def test_emotiv_text_of_both_kinds(tmp_path: Path) -> None:
    x = eeg(2, 512) + 4200
    head = "Timestamp,EEG.Counter,EEG.Interpolated,EEG.AF3,EEG.O1,EEG.RawCq,EEG.Battery,"
    head += "EEG.MarkerHardware,MarkerValueInt,CQ.AF3"
    about = "title:rest,start timestamp:1.7e9,headset type:EPOCX,sampling rate:eeg_128,subject name:s"
    rows = [
        f"{1.7e9 + i / 128:.6f},{i % 128},0,{a:.4f},{b:.4f},0,90,0,{31 * (i == 128)},4"
        for i, (a, b) in enumerate(x.T)
    ]
    pro = tmp_path / "pro.csv"
    pro.write_text("\n".join([about, head, *rows]))
    raw = read_raw(pro)
    close(raw, x, ("AF3", "O1"), 128.0)
    assert labels(raw) == [(1.0, "marker 31")]
    bench = tmp_path / "bench.csv"
    first = "title:rest, recorded:01.01.12, sampling:128, subject:s, "
    first += "labels:COUNTER INTERPOLATED AF3 O1 GYROX MARKER, chan:6, units:emotiv"
    rows = [f"{i % 129}, 0, {a}, {b}, 1600, {5 * (i in (64, 65))}" for i, (a, b) in enumerate(x.T)]
    bench.write_text("\n".join([first, *rows]))
    raw = read_raw(bench)
    close(raw, x, ("AF3", "O1"), 128.0)
    assert labels(raw) == [(0.5, "marker 5")]


def test_emotiv_edf_keeps_its_markers_and_no_counters(tmp_path: Path) -> None:
    x = np.concatenate(
        [np.arange(512)[None] % 128, np.zeros((1, 512)), eeg(2, 512) + 4200, np.zeros((1, 512))]
    )
    x[4, 256:260] = 7
    file = write_edf(tmp_path / "e.edf", x, ("COUNTER", "INTERPOLATED", "AF3", "O1", "MARKER"))
    raw = read_raw(file)
    assert [n for n, kind in zip(raw.ch_names, raw.get_channel_types()) if kind == "eeg"] == ["AF3", "O1"]
    assert labels(raw) == [(2.0, "marker 7")]


def test_any_other_table_as_it_is_declared(tmp_path: Path) -> None:
    x = eeg(2, 600)
    file = tmp_path / "own.csv"
    file.write_text(
        "\n".join(
            [
                "ms;left;right;event",
                *(
                    f"{4 * i};{a / 1e3:.7f};{b / 1e3:.7f};{'go' if i == 250 else ''}"
                    for i, (a, b) in enumerate(x.T)
                ),
            ]
        )
    )
    assert not has_reader(file)
    with pytest.raises(
        DataError, match=r"unknown kind of file '.csv'.*a table of samples is declared in own.toml"
    ):
        read_raw(file)
    declared = tmp_path / "own.toml"
    text = 'separator = ";"\nunit = "mV"\ntime = "ms"\ntime_unit_s = 0.001\nmarkers = ["event"]\n'
    declared.write_text(text + '[channels]\nleft = "C3"\nright = "C4"\n')
    raw = read_raw(file)
    close(raw, x, ("C3", "C4"), 250.0)
    assert labels(raw) == [(1.0, "go")]
    assert companion_files(file) == (declared,)
    declared.write_text(text + '[channels]\nmiddle = "Cz"\n')
    with pytest.raises(
        DataError, match=r"own.toml: column 'middle' is not in own.csv, which has ms, left, right"
    ):
        read_raw(file)
    declared.write_text('[channels]\nleft = "C3"\n')
    with pytest.raises(DataError, match="rate_hz, time: got neither"):
        read_raw(file)
    declared.write_text(text + '[channels]\nevent = "C3"\n')
    with pytest.raises(DataError, match=r"own.csv: line 252, column event: 'go' is no number"):
        read_raw(file)


def test_a_brainflow_file_by_its_board(tmp_path: Path) -> None:
    brainflow = pytest.importorskip("brainflow")
    about = brainflow.BoardShim.get_board_descr(brainflow.BoardIds.CYTON_BOARD.value)
    x, data = eeg(8, 500), np.zeros((about["num_rows"], 500))
    data[about["eeg_channels"]], data[about["package_num_channel"]] = x, np.arange(500) % 256
    data[about["timestamp_channel"]] = 1.7e9 + np.arange(500) / 250
    data[about["marker_channel"], 125] = 3
    file = tmp_path / "b.csv"
    brainflow.DataFilter.write_file(data, str(file), "w")
    with pytest.raises(
        DataError, match=r"b.csv: looks like a file of BrainFlow.*brainflow_board = .* into b.toml"
    ):
        read_raw(file)
    (tmp_path / "eegm2_table.toml").write_text('brainflow_board = "cyton"\n[channels]\n1 = "Oz"\n')
    raw = read_raw(file)
    assert raw.ch_names[0] == "Oz"
    assert raw.info["sfreq"] == 250.0
    np.testing.assert_allclose(raw.get_data() * 1e6, x, atol=1e-3)
    assert [onset for onset, _ in labels(raw)] == [0.5]


def test_xdf_with_markers_of_another_clock(tmp_path: Path) -> None:
    pytest.importorskip("pyxdf")
    x, t = eeg(3, 1000).astype(np.float32), 100 + np.arange(1000) / 250
    cap = ("cap", "EEG", 250.0, ("Fz", "Cz", "Pz"), t, list(x.T), 0.0)
    marks = ("keys", "Markers", 0.0, ("m",), np.array([51.0, 53.0]), ["left", "right"], 50.0)
    file = tmp_path / "a.xdf"
    file.write_bytes(xdf([cap, marks]))
    raw = read_raw(file)
    close(raw, x, ("Fz", "Cz", "Pz"), 250.0)
    assert labels(raw) == [(1.0, "left"), (3.0, "right")]
    file.write_bytes(xdf([cap, ("other", *cap[1:])]))
    with pytest.raises(
        DataError, match=r"a.xdf: has 2 EEG streams with samples, expected one \(streams: cap \(EEG\)"
    ):
        read_raw(file)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"a.xdf: cannot be read as XDF"):
        read_raw(file)


def test_headset_files_are_prepared_as_any_recording(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    write_mindmonitor(folder / "s1.csv", 20 * eeg(4, 2560) / eeg(4, 2560).std() + 800)
    write_mindmonitor(folder / "s2.csv", 20 * eeg(4, 2560, seed=1) / eeg(4, 2560).std() + 800)
    (folder / "notes.csv").write_text("who,what\na,b\n")
    done = CliRunner().invoke(app, ["prepare", str(folder), "--out", str(tmp_path / "store"), "--jobs", "1"])
    assert done.exit_code == 0, (done.output, done.exception)
    store = RecordingStore(tmp_path / "store")
    assert store.ch_names == MUSE
    assert [info.id for info in store.recordings] == ["s1", "s2"]
    assert store.recordings[0].n_times == 1280


def packets(rate: float, n: int, size: int, *, stamped: str, late_s: float = 0.0) -> np.ndarray:
    """Return the times of samples that come in packets: one time for all, or each counted back from it."""
    rng = np.random.default_rng(0)
    number = np.arange(n) // size
    arrival = (number + 1) * size / rate + rng.exponential(late_s, number[-1] + 1)[number]
    back = 0 if stamped == "alike" else (size - 1 - np.arange(n) % size) / rate
    return np.round(1.7e9 + arrival - back, 3)


ORDINARY = {
    "muselsl": (256.0, packets(256, 15_360, 12, stamped="each", late_s=0.03), 0.0),
    "Mind Monitor": (256.0, packets(256, 15_360, 30, stamped="alike"), 0.0),
    "muselsl, Bluetooth loses an eighth": (256.0, packets(256, 15_360, 12, stamped="each"), 0.12),
    "OpenBCI, packets of a serial driver": (
        250.0,
        packets(250, 15_000, 62, stamped="alike", late_s=0.01),
        0.0,
    ),
    "OpenBCI, radio loses a seventh": (250.0, packets(250, 15_000, 10, stamped="alike"), 0.14),
    "Ganglion, stamps that jitter": (200.0, packets(200, 12_000, 1, stamped="each", late_s=0.004), 0.0),
    "Emotiv": (128.0, packets(128, 7_680, 16, stamped="alike"), 0.08),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_a_stated_rate_is_not_contradicted_by_packets_and_losses(kind: str) -> None:
    rate, times, share = ORDINARY[kind]
    packet = np.arange(len(times)) // 12
    kept = (np.random.default_rng(1).random(packet[-1] + 1) >= share)[packet]
    lost = np.diff(np.flatnonzero(kept), prepend=-1) - 1
    x = np.random.default_rng(2).normal(0, 20, (2, kept.sum()))
    assert as_raw(Samples(Path("x"), ["Fz", "Cz"], x, rate, times[kept], lost)).info["sfreq"] == rate


@pytest.mark.parametrize("kind", [kind for kind, (_, _, share) in ORDINARY.items() if not share])
def test_packets_do_not_change_a_measured_rate(kind: str) -> None:
    rate, times, _ = ORDINARY[kind]
    assert measured_rate(times, Path("x")) == rate


def test_a_loss_is_no_slower_rate() -> None:
    rate, times, share = ORDINARY["muselsl, Bluetooth loses an eighth"]
    kept = (np.random.default_rng(1).random(len(times) // 12) >= share).repeat(12)
    assert measured_rate(times[kept], Path("x")) == rate


def test_a_rate_that_times_contradict_is_refused_still() -> None:
    times = packets(250, 15_000, 10, stamped="alike")
    with pytest.raises(DataError, match="states 125 samples a second, its times say 2"):
        as_raw(Samples(Path("x"), ["Fz"], np.zeros((1, 15_000)), 125.0, times))
