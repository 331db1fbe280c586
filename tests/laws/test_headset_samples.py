"""Samples of headsets and files: units, counters, gaps and marks, each counted a second time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.data.files.headsets.declared import read_declared
from eegm2.data.files.headsets.programs import onsets, read_openbci
from eegm2.data.files.headsets.samples import (
    FILLED,
    JOIN,
    LONGEST_FILLED_S,
    Samples,
    as_raw,
    by_counter,
    measured_rate,
)
from eegm2.data.files.headsets.xdf import read_xdf
from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.worker import clip_labels
from eegm2.errors import DataError
from tests.data.xdf import xdf
from tests.hostile import writers

UNITS = {"V": 1e6, "volts": 1e6, "mV": 1e3, "millivolts": 1e3, "uV": 1.0, "microvolts": 1.0, "nV": 1e-3}


def test_every_channel_of_a_stream_is_in_its_own_unit(tmp_path: Path) -> None:
    pytest.importorskip("pyxdf")
    x = np.random.default_rng(0).normal(0, 20, (len(UNITS), 500))
    names = [f"{name}{i}" for i, name in enumerate(UNITS)]
    stored = (x / np.array([*UNITS.values()])[:, None]).astype(np.float32)
    data = xdf([("cap", "EEG", 250.0, names, 5 + np.arange(500) / 250, list(stored.T), 0.0)])
    head, *rest = data.split(b"</unit>")
    parts = [head, *rest]
    for place, unit in enumerate(UNITS):  # of the same length, as chunks state theirs
        parts[place] = parts[place].replace(b"<unit>microvolts", b"<unit>" + unit.encode().ljust(10))
    (tmp_path / "a.xdf").write_bytes(b"</unit>".join(parts))
    found = read_xdf(tmp_path / "a.xdf")
    assert found.ch_names == names
    np.testing.assert_allclose(found.x_uv, x, rtol=1e-5, atol=1e-6)
    assert (found.sfreq_hz, found.marks) == (250.0, [])


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("top", [256, 129, 65536])
def test_lost_samples_are_those_that_a_counter_leaves_out(step: int, top: int) -> None:
    """Whatever a board counts by, and across the place where it begins again."""
    if top % step:
        return
    counter = (step * np.arange(1500)) % top
    lost = np.zeros(1500, int)
    gaps = {40: 1, 200: 3, 333: 10, 801: 25}
    kept = np.ones(1500, bool)
    for first, n in gaps.items():
        kept[first : first + n] = False
    lost = np.diff(np.flatnonzero(kept), prepend=-1) - 1
    assert by_counter(counter[kept]).tolist() == lost.tolist()
    assert sorted(n for n in by_counter(counter[kept]) if n) == sorted(gaps.values())
    assert not by_counter(counter).any()
    assert not by_counter(np.array([0.0, 1.5, 3.0, 9.0])).any()
    assert not by_counter(np.zeros(50)).any()


@pytest.mark.parametrize("rate_hz", [100.0, 250.0])
def test_short_gaps_are_filled_in_and_marked_and_long_ones_part_the_recording(rate_hz: float) -> None:
    """Every sample and mark stays at its time; a line leads over a gap of a quarter of a second at most."""
    longest = int(0.25 * rate_hz)
    assert LONGEST_FILLED_S == 0.25
    n, lost = 400, np.zeros(400, int)
    gaps = {50: 1, 120: longest, 200: longest + 1, 300: 3}
    for place, missing in gaps.items():
        lost[place] = missing
    x = np.random.default_rng(1).normal(0, 20, (3, n))
    marks = [(10.0, "early"), (50.0, "at"), (119.5, "within"), (350.0, "late")]
    raw = as_raw(Samples(Path("x"), ["a", "b", "c"], x.copy(), rate_hz, None, lost, marks))
    filled = {place: missing for place, missing in gaps.items() if missing <= longest}
    place_of, place = [], 0
    for i in range(n):
        place += filled.get(i, 0)
        place_of.append(place)
        place += 1
    found = 1e6 * raw.get_data()
    assert found.shape == (3, place)
    np.testing.assert_allclose(found[:, place_of], x, atol=1e-9)
    expected: list[tuple[float, float, str]] = []
    for i, missing in filled.items():
        first = place_of[i] - missing
        for k in range(missing):
            share = (k + 1) / (missing + 1)
            np.testing.assert_allclose(found[:, first + k], (1 - share) * x[:, i - 1] + share * x[:, i])
        expected.append((first, missing, FILLED))
    expected.append((place_of[200], 0, JOIN))
    at = {10.0: place_of[10], 50.0: place_of[50], 350.0: place_of[350]}
    at[119.5] = (place_of[119] + place_of[120]) / 2
    expected += [(at[time], 0, text) for time, text in marks]
    labels = [(s.onset_s * rate_hz, s.duration_s * rate_hz, s.label) for s in annotation_labels(raw)]
    assert [
        (pytest.approx(a, abs=1e-3), pytest.approx(b, abs=1e-3), c) for a, b, c in sorted(expected)
    ] == labels


def test_a_pause_in_the_times_parts_a_recording_unless_it_is_caught_up() -> None:
    times = np.arange(2000) / 250.0
    paused = times + 2.0 * (np.arange(2000) >= 700)
    caught = times.copy()
    caught[900:1100] = times[900] + 0.8 + np.linspace(0, times[1100] - times[900] - 0.8, 200)
    for stamps, expected in ((times, []), (paused, [700 / 250]), (caught, [])):
        raw = as_raw(Samples(Path("x"), ["a", "b"], np.ones((2, 2000)), 250.0, stamps))
        assert [s.onset_s for s in annotation_labels(raw)] == pytest.approx(expected)
    back = times - 0.4 * (np.arange(2000) >= 1500)
    with pytest.raises(DataError, match=r"clock jumps back by 0\.396 s at sample 1501"):
        as_raw(Samples(Path("x"), ["a", "b"], np.random.default_rng(0).normal(size=(2, 2000)), 250.0, back))


@pytest.mark.parametrize(
    ("rate_hz", "found"),
    [
        (250.0, 250.0),
        (252.0, 250.0),
        (257.0, 256.0),
        (127.9, 128.0),
        (400.0, 400.0),
        (305.5, 300.0),
        (307.0, 307.0),
    ],
)
def test_a_measured_rate_is_a_devices_where_that_is_near(rate_hz: float, found: float) -> None:
    assert measured_rate(1e6 + np.arange(3000) / rate_hz, Path("x")) == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize("unit", ["uV", "mV", "V", "nV"])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_declared_table_is_in_the_unit_times_the_factor(unit: str, factor: float, tmp_path: Path) -> None:
    """Columns by their titles in the declaration's order; times in its unit; marks where they begin."""
    x = np.random.default_rng(0).normal(0, 20, (3, 300)).round(6)
    per = {"uV": 1.0, "mV": 1e3, "V": 1e6, "nV": 1e-3}[unit] * factor
    event = np.zeros(300, int)
    event[50:60], event[60:70], event[200:] = 3, 4, 3
    rows = ["t,c3,cz,c4,n,event"]
    rows += [
        f"{4 * i},{','.join(f'{v / per:.12g}' for v in x[:, i])},{i % 256},{event[i]}" for i in range(300)
    ]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    declared = tmp_path / "a.toml"
    declared.write_text(
        f'unit = "{unit}"\nfactor = {factor}\ntime = "t"\ntime_unit_s = 0.001\n'
        'counter = "n"\nmarkers = ["event"]\n'
        '[channels]\nc4 = "C4"\nc3 = "C3"\n'
    )
    found = read_declared(tmp_path / "a.csv", declared)
    assert found.ch_names == ["C4", "C3"]
    np.testing.assert_allclose(found.x_uv, x[[2, 0]], rtol=1e-9)
    assert found.marks == [(50.0, "event 3"), (60.0, "event 4"), (200.0, "event 3")]
    assert found.times_s is not None
    np.testing.assert_allclose(found.times_s, 0.004 * np.arange(300))
    assert found.sfreq_hz is None
    assert found.lost is not None
    assert not found.lost.any()
    assert as_raw(found).info["sfreq"] == 250.0


@pytest.mark.parametrize("seed", range(3))
def test_a_marker_begins_where_its_value_is_new_and_not_nought(seed: int) -> None:
    values: Any = np.repeat(np.random.default_rng(seed).integers(0, 3, 30), 4)
    before, expected = 0, []
    for place, value in enumerate(values.tolist()):
        if value and value != before:
            expected.append(place)
        before = value
    assert onsets(values).tolist() == expected


def test_marks_of_the_openbci_gui_are_at_their_own_samples(tmp_path: Path) -> None:
    """Whatever column comes first, and though samples before them are lost."""
    x = np.random.default_rng(0).normal(0, 20, (4, 700))
    marks = {0: 5, 10: 1, 11: 2, 400: 3, 699: 4}
    for lost, name in (((), "a.txt"), (range(200, 204), "b.txt")):
        lines = ["%OpenBCI Raw EXG Data", "%Number of channels = 4", "%Sample Rate = 250 Hz", "%Board = x"]
        lines.append(
            "Sample Index," + ",".join(f" EXG Channel {i}" for i in range(4)) + ", Timestamp, Marker"
        )
        for i, row in enumerate(x.T):
            if i not in lost:
                values = ", ".join(f"{v:.5f}" for v in row)
                lines.append(f"{i % 256}, {values}, {1.7e9 + i / 250:.6f}, {marks.get(i, 0)}")
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        found = read_openbci(tmp_path / name)
        assert found.ch_names == [f"EXG Channel {i}" for i in range(4)]
        np.testing.assert_allclose(found.x_uv, np.delete(x, [*lost], axis=1), atol=1e-4)
        gone = len(lost)
        expected = [(float(at - gone * (at > 203)), f"marker {value}") for at, value in marks.items()]
        assert found.marks == expected
        raw = as_raw(found)
        labels = [(round(250 * s.onset_s), s.label) for s in annotation_labels(raw) if s.label != FILLED]
        assert labels == [(at, f"marker {value}") for at, value in marks.items()]


@pytest.mark.parametrize(
    ("late_s", "gap"), [(0.0, False), (0.0009, False), (0.0015, True), (0.05, True), (-0.01, True)]
)
def test_a_record_that_begins_late_is_a_gap_from_a_millisecond_on(
    late_s: float, gap: bool, tmp_path: Path
) -> None:
    stamps = [record + late_s * (record > 4) for record in range(8)]
    (tmp_path / "a.edf").write_bytes(writers.edf(stamps=stamps))
    if not gap:
        assert read_raw(tmp_path / "a.edf").n_times > 0
        return
    with pytest.raises(DataError, match=r"with 1 gaps, the first from 5 s to"):
        read_raw(tmp_path / "a.edf")


def test_a_label_that_ends_where_the_recording_begins_lies_outside() -> None:
    """And one that begins where it ends; an instant at the first sample is inside."""
    spans = [
        (-1.0, 1.0),
        (-1.0, 0.0),
        (0.0, 0.0),
        (0.0, 1.0),
        (9.5, 0.5),
        (9.5, 9.0),
        (10.0, 0.0),
        (10.0, 2.0),
    ]
    spans += [(-5.0, math.inf), (3.0, math.inf)]
    kept, outside = clip_labels([LabelSpan(*span, "a") for span in spans], 10.0)
    expected = [(0.0, 0.0), (0.0, 1.0), (9.5, 0.5), (9.5, 0.5), (0.0, 10.0), (3.0, 7.0)]
    assert [(span.onset_s, span.duration_s) for span in kept] == expected
    assert outside == 4


KINDS = {"INT_16": ("<i2", 0.1), "INT_32": ("<i4", 0.001), "IEEE_FLOAT_32": ("<f4", 1.0)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", ["uV", "mV", "V", "nV", "µV", "microvolt"])
def test_brainvision_in_every_kind_of_number_and_unit(kind: str, unit: str, tmp_path: Path) -> None:
    """Each channel with its resolution; a file that is a byte short is refused."""
    x = np.random.default_rng(0).normal(0, 30, (3, 400))
    dtype, step = KINDS[kind]
    per = {"uV": 1.0, "mV": 1e3, "V": 1e6, "nV": 1e-3, "µV": 1.0, "microvolt": 1.0}[unit]
    steps = step * np.array([1.0, 2.0, 0.5])
    stored = np.round(x / steps[:, None]) if kind != "IEEE_FLOAT_32" else x / steps[:, None]
    (tmp_path / "a.eeg").write_bytes(stored.T.astype(dtype).tobytes())
    lines = ["Brain Vision Data Exchange Header File Version 1.0", "[Common Infos]", "Codepage=UTF-8"]
    lines += ["DataFile=a.eeg", "MarkerFile=a.vmrk", "DataFormat=BINARY", "DataOrientation=MULTIPLEXED"]
    lines += ["NumberOfChannels=3", "SamplingInterval=4000", "[Binary Infos]", f"BinaryFormat={kind}"]
    lines += ["[Channel Infos]"]
    names = ("Fz", "Cz", "Pz")
    lines += [
        f"Ch{i}={name},,{s / per:.12g},{unit}" for i, (name, s) in enumerate(zip(names, steps), start=1)
    ]
    (tmp_path / "a.vhdr").write_text("\n".join(lines) + "\n", encoding="utf-8")
    marks = ["Brain Vision Data Exchange Marker File, Version 1.0", "[Common Infos]", "DataFile=a.eeg"]
    marks += [
        "[Marker Infos]",
        "Mk1=New Segment,,1,1,0",
        "Mk2=Stimulus,S  1,101,1,0",
        "Mk3=Comment,eyes,201,50,0",
    ]
    (tmp_path / "a.vmrk").write_text("\n".join(marks) + "\n", encoding="utf-8")
    raw = read_raw(tmp_path / "a.vhdr")
    assert (raw.info["sfreq"], raw.n_times, tuple(raw.ch_names)) == (250.0, 400, names)
    np.testing.assert_allclose(
        1e6 * raw.get_data(), x, atol=steps.max() / 2 if kind != "IEEE_FLOAT_32" else 1e-4
    )
    spans = [s for s in annotation_labels(raw) if s.label != JOIN]
    assert [(round(250 * s.onset_s), s.label) for s in spans] == [
        (100, "Stimulus/S  1"),
        (200, "Comment/eyes"),
    ]
    assert spans[1].duration_s == pytest.approx(0.2)
    (tmp_path / "a.eeg").write_bytes((tmp_path / "a.eeg").read_bytes()[:-1])
    with pytest.raises(DataError, match="truncated"):
        read_raw(tmp_path / "a.vhdr")
