"""Readers of what Mind Monitor, muselsl, the OpenBCI GUI and Emotiv's programs write as text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from eegm2.data.channels import is_known
from eegm2.data.files.headsets.samples import Samples, by_counter
from eegm2.data.files.headsets.text import cells, head_lines, read_columns
from eegm2.errors import DataError

_MARKERS = ("MARKERVALUEINT", "MARKER", "MARKERHARDWARE", "MARKER_HARDWARE")


def read_mindmonitor(path: Path) -> Samples:
    """Read a CSV of Mind Monitor: the columns ``RAW_…`` in microvolts; elements are markers."""
    names = cells(head_lines(path)[0])
    raw = [place for place, name in enumerate(names) if name.startswith("RAW_")]
    elements = [names.index("Elements")] if "Elements" in names else []
    found = read_columns(
        path, skip=1, numbers={i: names[i] for i in raw}, time=0, texts=elements, width=len(names)
    )
    if not found.given.any():
        raise DataError(f"{path}: holds no raw samples; record with a constant interval in Mind Monitor")
    times_s = found.times_s[found.given]
    before = np.cumsum(found.given) - found.given
    marks = [
        (float(at), text.rsplit("/", 1)[-1])
        for place in elements
        for at, text in zip(before, found.texts[place])
        if text
    ]
    count, duration_s = len(times_s), times_s[-1] - times_s[0]
    if count > 2 and duration_s > 0 and (count - 1) / duration_s < 60:
        raise DataError(
            f"{path}: holds {(count - 1) / duration_s:.3g} rows a second, not the samples themselves; "
            "record with a constant interval in Mind Monitor"
        )
    x = found.stacked(raw)
    x = x if found.given.all() else x[:, found.given]
    return Samples(path, [names[place].removeprefix("RAW_") for place in raw], x, None, times_s, None, marks)


def read_muselsl(path: Path) -> Samples:
    """Read a CSV of muselsl: ``timestamps``, channels in microvolts, and ``Marker…`` columns."""
    names = cells(head_lines(path)[0])
    marked = [place for place, name in enumerate(names) if name.lower().startswith("marker")]
    wanted = [place for place in range(1, len(names)) if place not in marked and names[place] != "Right AUX"]
    numbers = {place: names[place] for place in (0, *wanted)}
    found = read_columns(path, skip=1, numbers=numbers, texts=marked, width=len(names))
    marks = [
        (float(at), f"marker {text.removesuffix('.0')}")
        for place in marked
        for at, text in enumerate(found.texts[place])
        if text not in ("", "0", "0.0", "[]", "nan")
    ]
    times_s, x = found.numbers[0], found.stacked(wanted)
    return Samples(path, [names[place] for place in wanted], x, None, times_s, None, sorted(marks))


def read_openbci(path: Path) -> Samples:
    """Read a TXT of the OpenBCI GUI: channels in microvolts, named ``EXG Channel 0`` and so on."""
    lines = head_lines(path)
    head = [line for line in lines if line.startswith("%")]
    stated = re.search(r"%\s*Sample Rate\s*=\s*([\d.]+)", "\n".join(head), re.IGNORECASE)
    count = re.search(r"%\s*Number of channels\s*=\s*(\d+)", "\n".join(head), re.IGNORECASE)
    following = lines[len(head)] if len(lines) > len(head) else ""
    titled = bool(re.search(r"[A-Za-z]{3}", following.split(",")[0]))
    first_line = len(head) + titled + 1
    if titled:
        names = cells(following)
        wanted = [place for place, name in enumerate(names) if name.startswith("EXG Channel")]
    else:  # version 4 and before: index, channels, accelerometer, …
        wanted = list(range(1, 1 + int(count[1]))) if count else []
        names = ["Sample Index", *(f"EXG Channel {i}" for i in range(len(wanted)))]
    if not wanted:
        raise DataError(f"{path}: names no EXG channel; save it again with the OpenBCI GUI")
    timed = names.index("Timestamp") if "Timestamp" in names else None
    marked = next((i for i, name in enumerate(names) if name.lower().startswith("marker")), None)
    others = [place for place in (timed, marked) if place is not None]
    numbers = {0: "Sample Index"} | {place: names[place] for place in (*wanted, *others)}
    width = len(names) if titled else 0
    found = read_columns(path, skip=first_line - 1, numbers=numbers, width=width)
    times_s = None if timed is None else found.numbers[timed]
    values = np.zeros(0) if marked is None else np.nan_to_num(found.numbers[marked])
    marks = [(float(at), f"marker {values[at]:g}") for at in np.flatnonzero(values)]
    lost = by_counter(found.numbers[0])
    rate_hz = float(stated[1]) if stated else None
    return Samples(path, [names[i] for i in wanted], found.stacked(wanted), rate_hz, times_s, lost, marks)


def read_emotiv(path: Path) -> Samples:
    """Read a CSV of EmotivPRO or TestBench: the channels in microvolts with their offset, and markers."""
    lines = head_lines(path)
    about = lines[0] if lines[0].lower().startswith("title:") else ""
    labels = re.search(r"labels:(.*?)(?:,\s*\w+:|$)", about)
    if about and labels and len(labels[1].split()) > 3 and not _titled(lines):
        names, skip = labels[1].split(), 1
    else:
        skip = 2 if about else 1
        names = cells(lines[skip - 1])
    short = [name.removeprefix("EEG.") for name in names]
    wanted = [i for i, name in enumerate(names) if _is_emotiv_channel(name)]
    if not wanted:
        raise DataError(f"{path}: has no EEG columns; export the raw EEG")
    timed = next((i for i, name in enumerate(names) if name.lower() == "timestamp"), None)
    counter = next((i for i, name in enumerate(short) if name.upper() == "COUNTER"), None)
    markers = [i for i, name in enumerate(short) if name.upper() in _MARKERS]
    others = [place for place in (timed, counter, *markers) if place is not None]
    numbers = {place: names[place] for place in (*wanted, *others)}
    found = read_columns(
        path, skip=skip, numbers=numbers, width=len(names) if lines[skip - 1] != about else 0
    )
    stated = re.search(r"sampling(?: rate)?:\s*(?:eeg_)?([\d.]+)", about)
    times_s = None if timed is None else found.numbers[timed]
    marks: list[tuple[float, str]] = []
    for place in markers:
        values = np.nan_to_num(found.numbers[place])
        marks += [(float(at), f"marker {values[at]:g}") for at in onsets(values)]
    lost = None if counter is None else by_counter(found.numbers[counter])
    rate_hz = float(stated[1]) if stated else None
    x = found.stacked(wanted)
    return Samples(path, [short[i] for i in wanted], x, rate_hz, times_s, lost, sorted(set(marks)))


def refuse_brainflow(path: Path) -> Samples:
    """Refuse a BrainFlow file whose board nobody has named: its rows do not tell."""
    raise DataError(
        f"{path}: looks like a file of BrainFlow, which does not say of which board; write "
        f'brainflow_board = "cyton" (or another) into {path.with_suffix(".toml").name} beside it'
    )


def onsets(values: np.ndarray) -> np.ndarray:
    """Return where a marker channel takes a new value other than 0."""
    before = np.concatenate([[0.0], values[:-1]])
    return np.flatnonzero((values != 0) & (values != before))


def _titled(lines: list[str]) -> bool:
    return len(lines) > 1 and any(name.startswith("EEG.") for name in cells(lines[1]))


def _is_emotiv_channel(name: str) -> bool:
    """Return whether a column is an electrode: ``EEG.AF3``, or ``AF3`` as TestBench has it."""
    return not name.startswith(("CQ.", "EQ.", "POW.", "MOT.", "PM.")) and is_known(name.removeprefix("EEG."))
