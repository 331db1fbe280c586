"""Readers of what Mind Monitor, muselsl, the OpenBCI GUI and Emotiv's programs write as text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from eegm2.data.channels import is_known
from eegm2.data.files.headsets.samples import Samples, by_counter
from eegm2.data.files.headsets.text import cells, clock_times, column, head_lines, read_rows
from eegm2.errors import DataError


def read_mindmonitor(path: Path) -> Samples:
    """Read a CSV of Mind Monitor: the columns ``RAW_…`` in microvolts; elements are markers."""
    names = cells(head_lines(path)[0])
    rows = read_rows(path, skip=1, width=len(names))
    raw = [place for place, name in enumerate(names) if name.startswith("RAW_")]
    is_sample = np.array([any(place < len(row) and row[place] for place in raw) for row in rows], bool)
    kept = [row for row, there in zip(rows, is_sample) if there]
    if not kept:
        raise DataError(f"{path}: holds no raw samples; record with a constant interval in Mind Monitor")
    times_s = clock_times(path, [row[0] for row in kept])
    x = np.stack([column(path, kept, place, names[place], 2) for place in raw])
    if "Elements" in names:
        place = names.index("Elements")
        before = np.cumsum(is_sample) - is_sample
        marks = [
            (float(at), row[place].rsplit("/", 1)[-1])
            for at, row in zip(before, rows)
            if place < len(row) and row[place]
        ]
    else:
        marks = []
    duration_s = times_s[-1] - times_s[0]
    if len(kept) > 2 and duration_s > 0 and (len(kept) - 1) / duration_s < 60:
        raise DataError(
            f"{path}: holds {(len(kept) - 1) / duration_s:.3g} rows a second, not the samples themselves; "
            "record with a constant interval in Mind Monitor"
        )
    return Samples(path, [names[place].removeprefix("RAW_") for place in raw], x, None, times_s, None, marks)


def read_muselsl(path: Path) -> Samples:
    """Read a CSV of muselsl: ``timestamps``, channels in microvolts, and ``Marker…`` columns."""
    names = cells(head_lines(path)[0])
    rows = read_rows(path, skip=1, width=len(names))
    times_s = column(path, rows, 0, names[0], 2)
    marked = [place for place, name in enumerate(names) if name.lower().startswith("marker")]
    wanted = [place for place in range(1, len(names)) if place not in marked and names[place] != "Right AUX"]
    x = np.stack([column(path, rows, place, names[place], 2) for place in wanted])
    marks = [
        (float(at), f"marker {row[place].removesuffix('.0')}")
        for at, row in enumerate(rows)
        for place in marked
        if place < len(row) and row[place] not in ("", "0", "0.0", "[]", "nan")
    ]
    return Samples(path, [names[place] for place in wanted], x, None, times_s, None, marks)


def read_openbci(path: Path) -> Samples:
    """Read a TXT of the OpenBCI GUI: channels in microvolts, named ``EXG Channel 0`` and so on."""
    lines = head_lines(path)
    head = [line for line in lines if line.startswith("%")]
    stated = re.search(r"%\s*Sample Rate\s*=\s*([\d.]+)", "\n".join(head), re.IGNORECASE)
    count = re.search(r"%\s*Number of channels\s*=\s*(\d+)", "\n".join(head), re.IGNORECASE)
    following = lines[len(head)] if len(lines) > len(head) else ""
    titled = bool(re.search(r"[A-Za-z]{3}", following.split(",")[0]))
    first_line = len(head) + titled + 1
    rows = read_rows(path, skip=first_line - 1, width=len(cells(following)) if titled else 0)
    if titled:
        names = cells(following)
        wanted = [place for place, name in enumerate(names) if name.startswith("EXG Channel")]
    else:  # version 4 and before: index, channels, accelerometer, …
        wanted = list(range(1, 1 + int(count[1]))) if count else []
        names = ["Sample Index", *(f"EXG Channel {i}" for i in range(len(wanted)))]
    if not wanted:
        raise DataError(f"{path}: names no EXG channel; save it again with the OpenBCI GUI")
    x = np.stack([column(path, rows, place, names[place], first_line) for place in wanted])
    times_s = None
    if "Timestamp" in names:
        times_s = column(path, rows, names.index("Timestamp"), "Timestamp", first_line)
    marks = []
    place = next((i for i, name in enumerate(names) if name.lower().startswith("marker")), None)
    if place is not None:
        values = column(path, rows, place, names[place], first_line)
        marks = [(float(at), f"marker {values[at]:g}") for at in np.flatnonzero(np.nan_to_num(values))]
    lost = by_counter(column(path, rows, 0, "Sample Index", first_line))
    rate_hz = float(stated[1]) if stated else None
    return Samples(path, [names[i] for i in wanted], x, rate_hz, times_s, lost, marks)


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
    rows = read_rows(path, skip=skip, width=len(names) if lines[skip - 1] != about else 0)
    x = np.stack([column(path, rows, i, names[i], skip + 1) for i in wanted])
    stated = re.search(r"sampling(?: rate)?:\s*(?:eeg_)?([\d.]+)", about)
    times_s = None
    timed = next((i for i, name in enumerate(names) if name.lower() == "timestamp"), None)
    if timed is not None:
        times_s = column(path, rows, timed, names[timed], skip + 1)
    marks: list[tuple[float, str]] = []
    for i, name in enumerate(short):
        if name.upper() in ("MARKERVALUEINT", "MARKER", "MARKERHARDWARE", "MARKER_HARDWARE"):
            values = np.nan_to_num(column(path, rows, i, names[i], skip + 1))
            marks += [(float(at), f"marker {values[at]:g}") for at in onsets(values)]
    counter = next((i for i, name in enumerate(short) if name.upper() == "COUNTER"), None)
    lost = None
    if counter is not None:
        lost = by_counter(column(path, rows, counter, names[counter], skip + 1))
    rate_hz = float(stated[1]) if stated else None
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
