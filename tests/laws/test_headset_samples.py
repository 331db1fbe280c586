"""Samples of headsets: units, counters, gaps and marks, each counted a second time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.data.files.headsets.declared import read_declared
from eegm2.data.files.headsets.programs import onsets
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
from eegm2.data.files.readers import annotation_labels
from eegm2.errors import DataError
from tests.data.xdf import xdf

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
