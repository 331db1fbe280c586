"""Quality of a recording, measured while it is prepared; a table of all of them lies in the store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import fft

from eegm2.data.signal.compiled import kernels
from eegm2.data.signal.order_statistics import medians
from eegm2.data.storage import Storage
from eegm2.errors import DataError
from eegm2.records import QUALITY, Record, checked, parse_json

Ends = tuple[np.ndarray, np.ndarray, bool]
"""Every channel's lowest and highest sample, and whether all samples are finite."""
FLAT_SHARE_OF_MEDIAN = 1e-3
NOISY_TIMES_MEDIAN = 4.0
ARTEFACT_UV, ARTEFACT_TIMES_TYPICAL = 1000.0, 20.0
LINE_TIMES_NEIGHBOURS = 1000.0
MAINS_HZ = (50.0, 60.0)
COLUMNS = (
    "recording", "subject", "session", "status", "duration_s", "n_chans", "source_sfreq_hz",
    "low_uv", "high_uv", "typical_uv", "flat_channels", "noisy_channels", "bad_channels", "line_noise_ratio",
    "line_hz",
    "clipped_share", "nan_share", "interpolated_channels", "dropped_channels", "notes", "reason",
)  # fmt: skip


def extremes(x: np.ndarray) -> Ends:
    """Return lowest and highest sample of every channel, and whether all samples are finite.

    Parameters
    ----------
    x : ndarray, shape (n_chans, n_times)
        Quick where it is float32 and lies time-major in memory, as prepared recordings do.
    """
    compiled = _kernels(x)
    if compiled is None:
        low = np.array([row.min() for row in x])
        high = np.array([row.max() for row in x])
        return low, high, bool(np.isfinite(x.sum()))
    low, high = np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    return low, high, bool(compiled.extremes(x.T, low, high))


def flat_channels(x: np.ndarray, ch_names: Sequence[str], ends: Ends | None = None) -> list[str]:
    """Return the channels whose whole range is at most 0.1 % of the median channel's (or zero).

    Parameters
    ----------
    x : ndarray, shape (n_chans, n_times)
        Unfiltered, any unit.
    ch_names : sequence of str
    ends : tuple, optional
        Its `extremes`, where they are known.
    """
    low, high, _ = ends or extremes(x)
    ranges = high - low
    alive = ranges[ranges > 0]
    limit = FLAT_SHARE_OF_MEDIAN * float(np.median(alive)) if len(alive) else 0.0
    return [name for name, size in zip(ch_names, ranges) if size <= limit]


def clipped_share(x: np.ndarray, ends: Ends | None = None) -> float:
    """Return the share of samples that stay at their channel's highest or lowest value for three or more."""
    low, high, _ = ends or extremes(x)
    counts = np.zeros(len(x), np.int64)
    compiled = _kernels(x)
    if compiled is not None:
        compiled.clipped(x.T, low, high, counts)
    else:
        counts[:] = [_clipped(row, *ends) for row, *ends in zip(x, low, high)]
    return int(counts[low < high].sum()) / x.size


def _clipped(row: np.ndarray, low: float, high: float) -> int:
    """Return how many samples stay at an extreme for three or more."""
    at_edge = (row == low) | (row == high)
    same = at_edge[1:-1] & (row[1:-1] == row[:-2]) & (row[1:-1] == row[2:])
    inside = np.zeros(len(row), bool)
    inside[1:-1] |= same
    inside[:-2] |= same
    inside[2:] |= same
    return int(inside.sum())


def line_noise(x: np.ndarray, sfreq_hz: float) -> tuple[float | None, float | None]:
    """Return the mains power over that beside it, and which mains frequency it is (None: rate too low).

    The ratio compares ±1 Hz around 50 or 60 Hz with the bands 4 to 8 Hz beside it, median over channels, from
    at most 30 two-second pieces spread over the recording.
    """
    n = round(2 * sfreq_hz)
    pieces = min(30, x.shape[1] // n)
    usable = [mains for mains in MAINS_HZ if mains + 4 < sfreq_hz / 2]
    if pieces < 1 or not usable:
        return None, None
    window = np.hanning(n).astype(np.float32)[:, None]
    frequency = np.fft.rfftfreq(n, 1 / sfreq_hz)
    near = (frequency >= MAINS_HZ[0] - 9) & (frequency <= MAINS_HZ[1] + 9)
    frequency, power = frequency[near], np.zeros((int(near.sum()), len(x)))
    for start in np.linspace(0, x.shape[1] - n, pieces).astype(int):
        piece = x.T[start : start + n]  # time-major: all channels are transformed side by side
        spectrum = fft.rfft((piece - piece.mean(0, dtype=piece.dtype)) * window, axis=0)[near]
        power += spectrum.real**2 + spectrum.imag**2
    found = []
    for mains in usable:
        distance = np.abs(frequency - mains)
        around = power[(distance >= 4) & (distance <= 8)].mean(0)
        ratio = power[distance <= 1].mean(0)[around > 0] / around[around > 0]
        found.append((float(np.median(ratio)) if len(ratio) else 0.0, mains))
    return max(found)


def array_quality(x: np.ndarray, ch_names: Sequence[str], ends: Ends | None = None) -> dict[str, Any]:
    """Return range, typical amplitude and noisy channels of a prepared array (n_chans, n_times) in µV."""
    deviations = _deviations(x)
    limit = NOISY_TIMES_MEDIAN * float(np.median(deviations))
    low, high, _ = ends or extremes(x)
    return {
        "low_uv": round(float(low.min()), 2),
        "high_uv": round(float(high.max()), 2),
        "typical_uv": float(f"{typical_amplitude(x):.4g}"),
        "noisy_channels": [name for name, value in zip(ch_names, deviations) if limit > 0 and value > limit],
    }


def typical_amplitudes(x: np.ndarray) -> np.ndarray:
    """Return every channel's 1.4826 times median absolute deviation, from 2,000 samples: (n_chans,)."""
    some = np.ascontiguousarray(x[:, :: max(1, x.shape[1] // 2000)])
    amplitudes: np.ndarray = 1.4826 * medians(np.abs(some - medians(some)))[:, 0].astype(np.float64)
    return amplitudes


def typical_amplitude(x: np.ndarray) -> float:
    """Return the median over channels of their typical amplitudes."""
    return float(np.median(typical_amplitudes(x)))


def _deviations(x: np.ndarray) -> np.ndarray:
    """Return every channel's standard deviation, in float64."""
    compiled = _kernels(x)
    if compiled is None:
        return np.array([row.std(dtype=np.float64) for row in x])
    total, squares = np.zeros(len(x)), np.zeros(len(x))
    compiled.moments(x.T, total, squares)
    variance = squares / x.shape[1] - (total / x.shape[1]) ** 2
    deviations: np.ndarray = np.sqrt(np.maximum(variance, 0.0))
    return deviations


def _kernels(x: np.ndarray) -> Any | None:
    """Return the compiled statistics where they fit: float32, time-major in memory."""
    return kernels("stat_kernels") if x.dtype == np.float32 and x.T.flags.c_contiguous else None


def artefacts(quality: Mapping[str, Any]) -> list[str]:
    """Return in words what of a recording's amplitudes and mains power no EEG has; empty where nothing is."""
    found = []
    largest = max(abs(float(quality.get(key) or 0.0)) for key in ("low_uv", "high_uv"))
    typical = float(quality.get("typical_uv") or 0.0)
    if largest > ARTEFACT_UV and largest > ARTEFACT_TIMES_TYPICAL * typical:
        found.append(f"artefacts beyond {ARTEFACT_UV:,.0f} µV (--reject-uv leaves their windows out)")
    if float(quality.get("line_noise_ratio") or 0.0) > LINE_TIMES_NEIGHBOURS:
        hz = quality.get("line_hz")
        found.append(
            f"mains at {hz:g} Hz over {LINE_TIMES_NEIGHBOURS:,.0f} times its neighbours (--notch-hz)"
        )
    return found


def quality_row(
    recording: str, subject: str, session: str, status: str, quality: dict[str, Any], reason: str = ""
) -> dict[str, Any]:
    """Return one row of the table, with every column."""
    row = {"recording": recording, "subject": subject, "session": session, "status": status, "reason": reason}
    return {column: row.get(column, quality.get(column)) for column in COLUMNS}


def write_quality(storage: Storage, rows: Iterable[dict[str, Any]]) -> None:
    """Write the table into the store as quality.json and quality.csv."""
    table = sorted(rows, key=lambda row: str(row["recording"]))
    storage.write("quality.json", [json.dumps(table, indent=1, allow_nan=False).encode()], durable=False)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row[column]) for column in COLUMNS] for row in table)
    storage.write("quality.csv", [text.getvalue().encode()])


def read_quality(storage: Storage) -> list[dict[str, Any]]:
    """Return the table of a store; empty if it has none.

    Raises
    ------
    DataError
        If it is damaged; row and field are named.
    """
    data = storage.read_many(["quality.json"]).get("quality.json")
    if not data:
        return []
    where, remedy = f"{storage.url}/quality.json", "run eegm2 prepare again"
    try:
        rows = parse_json(data)
    except ValueError as error:
        raise DataError(f"{where}: damaged ({error}); {remedy}") from error
    table = checked({"rows": rows}, Record({"rows": [QUALITY]}), where, DataError, remedy)
    return list(table["rows"])


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else value
