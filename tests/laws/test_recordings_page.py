"""Laws of what a report says of recordings: facts, stores, quality, and what where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eegm2.report import sections
from eegm2.report.contents import ClassPower, Reconstruction, Recording, Rejected, ReportData
from eegm2.report.document import Section

NAMES = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")
PLACES = {name: (0.1 * i, 0.05 * i * i) for i, name in enumerate(NAMES)}


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(
        "eegm2.report.document.inline_svg", lambda figure, key: found.update({key: figure}) or ""
    )
    return found


def texts(section: Section, kind: str) -> list[str]:
    return [block.text for block in section.blocks if block.kind == kind]


def facts(section: Section) -> dict[str, str]:
    return {name: value for block in section.blocks if block.kind == "facts" for name, value in block.rows}


def tables(section: Section) -> list[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]:
    return [(block.head, block.rows) for block in section.blocks if block.kind == "table"]


def captions(section: Section) -> str:
    return " ".join(texts(section, "figure"))


def test_facts_of_recordings_are_theirs_and_what_is_not_known_is_left_out() -> None:
    found = [Recording(f"r{i}", f"s{i}", "", 100.0 * (i + 1), 64.0) for i in range(4)]
    data = ReportData(
        "r", recordings=found, ch_names=NAMES, sfreq_hz=100.0, split_seed=3,
        splits={"train": ("s0", "s1"), "val": ("s2",), "test": ()},
        header={"preprocessing": {"l_freq_hz": 0.5}, "windows": {"window_s": 4.0}},
    )  # fmt: skip
    section = sections.data_section(data)
    said = facts(section)
    assert said["Recordings"] == "4, 16.7 min in all"
    assert said["Length of a recording"] == "100 s to 6.7 min"
    assert said["Subjects"] == "2 training, 1 validation"
    assert (said["Split seed"], said["Sampling rate"]) == ("3", "100 Hz")
    assert said["Channels"] == "6: Fp1, Fp2, C3, C4, O1, O2"
    assert said["high-pass edge (Hz)"] == "0.5"
    assert texts(section, "heading") == ["Preprocessing", "Windows"]
    assert any("No recording carries labels" in text for text in texts(section, "note"))
    data.split_by = "recording"
    assert "Recordings split" in facts(sections.data_section(data))
    nothing = sections.data_section(ReportData("r", missing={"store": "The store is gone."}))
    assert facts(nothing) == {}
    assert texts(nothing, "note") == ["The store is gone."]
    assert texts(nothing, "heading") == []


@pytest.mark.parametrize("n_known", [0, 5, 6])
def test_channels_without_a_place_are_counted(n_known: int) -> None:
    data = ReportData("r", ch_names=NAMES, positions=dict(list(PLACES.items())[:n_known]))
    section = sections.data_section(data)
    if n_known:
        assert ("1 channel without a known position left out" in captions(section)) == (n_known == 5)
    else:
        assert any("No positions are known" in text for text in texts(section, "note"))


def test_every_store_has_a_row_of_what_it_gave() -> None:
    first = {
        "store": "eyes", "n_recordings": 7, "n_train_subjects": 4, "n_val_subjects": 2, "n_train_windows": 90,
        "n_val_windows": 31, "share": 0.25, "ch_names": ["C3", "C4"], "licence": "CC0",
    }  # fmt: skip
    data = ReportData("r", header={"data": {"stores": [first, {"store": "none", "ch_names": 3}]}})
    section = sections.data_section(data)
    assert texts(section, "heading") == ["What came from where"]
    ((head, rows),) = tables(section)
    named = [dict(zip(head, row)) for row in rows]
    assert named[0] == {
        "store": "eyes", "recordings": "7", "people: train, validation": "4, 2",
        "windows: train, validation": "90, 31", "share": "25%", "channels": "2: C3, C4", "licence": "CC0",
    }  # fmt: skip
    assert named[1]["share"] == "–"
    assert named[1]["channels"].startswith("0")
    assert named[1]["licence"] == "not stated"


def test_quality_is_of_its_recording_in_its_unit() -> None:
    """Amplitudes from low to high, mains in decibels, bad channels by name; a dash where nothing is known."""
    known = {
        "low_uv": -31.6, "high_uv": 28.4, "line_noise_ratio": 100.0, "flat_channels": ["C3"],
        "noisy_channels": [], "clipped_share": 0.025,
    }  # fmt: skip
    found = [
        Recording("a", "s1", "", 61.4, 64.0, quality=known, split="val"),
        Recording("b", "s2", "", 10.0, 64.0, quality={"flat_channels": [], "noisy_channels": ["O1", "O2"]}),
    ]
    section = sections.quality_section(
        ReportData("r", recordings=found, rejected=[Rejected("x.edf", "short")])
    )
    (head, rows), left_out = tables(section)
    first, second = (dict(zip(head, row)) for row in rows)
    assert (first["recording"], first["subject"], first["split"], first["length (s)"]) == (
        "a",
        "s1",
        "val",
        "61",
    )
    assert first["range (µV)"] == "−32 to 28"
    assert first["mains (dB)"] == "20.0"
    assert first["clipped (%)"] == "2.5"
    assert first["bad channels"] == "flat C3"
    assert second["split"] == second["range (µV)"] == second["mains (dB)"] == second["clipped (%)"] == "–"
    assert second["bad channels"] == "noisy O1 O2"
    assert left_out == (("recording", "reason"), (("x.edf", "short"),))
    assert texts(section, "heading") == ["Left out by preparation"]
    assert texts(section, "text") == []
    assert texts(section, "note") == []


def test_a_page_says_that_there_are_no_quality_facts() -> None:
    bare = sections.quality_section(ReportData("r", recordings=[Recording("a", "s", "", 9.0, 64.0)]))
    assert texts(bare, "note") == [
        "The store holds no quality facts for its recordings; only their durations are shown."
    ]
    assert texts(bare, "text") == ["Preparation left no file out."]
    assert tables(bare)[0][0] == ("recording", "subject", "split", "length (s)")
    for missing, said in (({}, "No store was read"), ({"store": "It moved."}, "It moved.")):
        nothing = sections.quality_section(ReportData("r", missing=missing))
        (note,) = texts(nothing, "note")
        assert note.startswith(said)
        assert texts(nothing, "text") == tables(nothing) == []
    some = [Recording("a", "s", "", 9.0, 64.0, quality={"low_uv": -4.0})]
    ((head, ((*_, low),)),) = tables(sections.quality_section(ReportData("r", recordings=some)))
    assert (head[-1], low) == ("range (µV)", "−4.0")


@pytest.mark.parametrize("n_places", [3, 4, 6])
def test_a_map_of_the_head_needs_four_places(n_places: int) -> None:
    power = ClassPower(np.zeros((2, 1, 6)), ("alpha",), ("x", "y"), NAMES, 12, 3)
    weights = {"first layer": np.arange(6) / 2.5}
    data = ReportData("r", ch_names=NAMES, class_power=power, electrode_weights=weights)
    data.positions = dict(list(PLACES.items())[:n_places])
    drawn_at_all = n_places >= 4
    section = sections.power_section(data)
    assert (section is not None) == drawn_at_all == (sections.weights_section(data) is not None)
    if section is not None:
        assert captions(section).startswith("Over 12 windows of 3 subjects")
    data.class_power, data.electrode_weights = None, {}
    assert sections.power_section(data) is sections.weights_section(data) is None


@pytest.mark.parametrize("n_available", [3, 4, 1200])
def test_a_reconstruction_says_of_how_many_windows_it_is(n_available: int) -> None:
    """All that there are, or so many of them; of one window the typical is the worst, and is shown once."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 6, 128))
    who = ("a", "b", "c")
    made = Reconstruction(x, x + 1, who, who, np.arange(3.0), n_available=n_available)
    data = ReportData("r", ch_names=NAMES, sfreq_hz=64.0, reconstruction=made)
    (text, *_) = texts(sections.reconstruction_section(data), "text")
    assert text.startswith("3 windows of ")
    assert (f", drawn evenly from {n_available:,}" in text) == (n_available > 3)
    one = Reconstruction(x[:1], x[:1], who[:1], who[:1], np.zeros(1), n_available=1)
    figures = [
        b
        for b in sections.reconstruction_section(
            ReportData("r", ch_names=NAMES, sfreq_hz=64.0, reconstruction=one)
        ).blocks
        if b.kind == "figure"
    ]
    assert [b.title for b in figures] == ["typical reconstruction", "error per channel"]
    none = sections.reconstruction_section(ReportData("r"))
    assert texts(none, "note") == ["No reconstruction was made for this report."]
    why = sections.spectra_section(ReportData("r", missing={"reconstruction": "No decoder."}))
    assert texts(why, "note") == ["No decoder."]


@pytest.mark.parametrize("n_chans", [20, 21])
def test_more_than_twenty_channels_are_thinned_and_it_is_said(n_chans: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, n_chans, 128))
    made = Reconstruction(x, x, ("a", "b"), ("a", "b"), np.zeros(2), n_available=2)
    names = tuple(f"E{i}" for i in range(n_chans))
    section = sections.spectra_section(ReportData("r", ch_names=names, sfreq_hz=64.0, reconstruction=made))
    assert ("20 of 21 channels, evenly picked" in captions(section)) == (n_chans == 21)


@pytest.mark.parametrize("rate_hz", [None, 64.0])
def test_without_a_rate_samples_stand_for_seconds(rate_hz: float | None, drawn: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 128))
    made = Reconstruction(x, x, ("a", "b"), ("a", "b"), np.zeros(2), n_available=2)
    data = ReportData("r", ch_names=NAMES, sfreq_hz=rate_hz, reconstruction=made)
    sections.reconstruction_section(data)
    traces = drawn["reconstruction-1"].axes[0].lines[0].get_xdata()
    assert np.diff(np.asarray(traces, float)[:2]) == pytest.approx(1 / (rate_hz or 1.0))
    sections.spectra_section(data)
    hertz = np.asarray(drawn["spectra-2"].axes[0].lines[0].get_xdata(), float)
    assert hertz.max() <= (rate_hz or 1.0) / 2
