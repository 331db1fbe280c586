"""Where a recording is not continuous: joins between two samples, and stretches that were never recorded.

Formats mark these in many ways. Here they become one: an instant span `JOIN` where two parts meet, and
spans named ``BAD_ACQ_SKIP`` for what was not recorded. They are never labels; each part is filtered,
resampled and freed of its offset alone, and no window holds samples of two.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from eegm2.data.labels import LabelSpan

JOIN = "BAD boundary"
SKIP = "BAD_ACQ_SKIP"
IN_PARTS = "each prepared alone"
"""Said in the notes of every prepared recording that is not continuous."""

_JOINS = re.compile(
    r"(?:comment/)?(?:"  # how BrainVision files have what others wrote into them
    r"(?:(?:bad|edge)[ _-])?boundary"  # MNE's concatenation, EEGLAB's cuts
    r"|new segment(?:/.*)?|dc correction(?:/.*)?"  # BrainVision
    r"|(?:.*/)?lost ?samples\b.*|(?:.*/)?buffer overflow\b.*"
    r"|(?:recording|acquisition|amplifier|rec) ?(?:was )?"
    r"(?:paused?|resumed?|restarted|interrupted|stopped|continued|gap)"
    r"|(?:data|signal|recording) ?(?:gap|discontinuity)|discontinuity|recording (?:starts|ends))",
    re.IGNORECASE,
)
_SKIPS = re.compile(r"(?:comment/)?(?:(?:bad[ _])?acq[ _]?skip|bad[ _](?:gap|pause))", re.IGNORECASE)
_CODES = {".gdf": "32766", ".set": "-99"}
"""Codes that mean a join in one format alone: GDF's 0x7FFE (a new segment), EEGLAB's boundary."""


def is_join(label: str) -> bool:
    """Return whether a mark says that the samples before and after it do not follow one another."""
    return _JOINS.fullmatch(label.strip()) is not None


def is_skip(label: str) -> bool:
    """Return whether a mark covers a stretch that was not recorded."""
    return _SKIPS.fullmatch(label.strip()) is not None


def without_marks(spans: Iterable[LabelSpan]) -> tuple[LabelSpan, ...]:
    """Return the spans that are labels: all but joins and skips."""
    return tuple(span for span in spans if not (is_join(span.label) or is_skip(span.label)))


def canonical_marks(spans: Iterable[LabelSpan], path: str | Path = "") -> tuple[LabelSpan, ...]:
    """Return spans in which every join is one instant called `JOIN`, and every skip is called `SKIP`.

    EEGLAB's marks last as long as what was cut out, which is not there: only their onset counts.

    Parameters
    ----------
    spans : iterable of LabelSpan
    path : str or Path
        The file they come from; codes of GDF and EEGLAB mean a join there only.
    """
    code = _CODES.get(Path(path).suffix.lower())
    found: dict[LabelSpan, None] = {}
    for span in spans:
        if is_join(span.label) or span.label == code:
            if span.onset_s > 0:
                found[LabelSpan(span.onset_s, 0.0, JOIN)] = None
        elif is_skip(span.label):
            found[LabelSpan(span.onset_s, span.duration_s, SKIP)] = None
        else:
            found[span] = None
    return tuple(found)


def cuts(spans: Iterable[LabelSpan], sfreq_hz: float, n_times: int) -> list[int]:
    """Return the samples at which a new part begins, sorted, from canonical marks; 0 and the end are none."""
    found: set[int] = set()
    for span in spans:
        if is_join(span.label):
            found.add(_sample(span.onset_s, sfreq_hz))
        elif is_skip(span.label):
            found.add(_sample(span.onset_s, sfreq_hz))
            found.add(_sample(min(span.onset_s + span.duration_s, n_times / sfreq_hz), sfreq_hz))
    return sorted(cut for cut in found if 0 < cut < n_times)


def _sample(time_s: float, sfreq_hz: float) -> int:
    """Return the first sample at or after a time that may lie half a sample early (EEGLAB) or be rounded."""
    return math.ceil(time_s * sfreq_hz - 0.01 - 1e-7 * time_s * sfreq_hz)


def skipped(spans: Iterable[LabelSpan], sfreq_hz: float, n_times: int) -> np.ndarray:
    """Return which samples were not recorded, a mask of (n_times,)."""
    mask = np.zeros(n_times, bool)
    for span in spans:
        if is_skip(span.label):
            stop = _sample(min(span.onset_s + span.duration_s, n_times / sfreq_hz), sfreq_hz)
            mask[max(0, _sample(span.onset_s, sfreq_hz)) : stop] = True
    return mask


def at_the_step(x: np.ndarray, places: Sequence[int], sfreq_hz: float) -> list[int]:
    """Return cuts moved to the largest step near them, where their times are known to few digits only.

    FIF files keep times as 32-bit floats, which hours into a recording are a few samples off.

    Parameters
    ----------
    x : ndarray, shape (n_chans, n_times)
    places : sequence of int
        From `cuts`.
    """
    moved = []
    for cut in places:
        radius = math.ceil(float(np.spacing(np.float32(cut / sfreq_hz))) * sfreq_hz - 0.25)
        low, high = max(1, cut - radius), min(x.shape[1] - 1, cut + radius)
        if radius < 1 or high <= low:
            moved.append(cut)
            continue
        steps = np.abs(np.diff(x[:, low - 1 : high + 1].astype(np.float64), axis=1)).sum(0)
        best = low + int(np.argmax(steps))
        moved.append(best if steps.max() > 4 * max(np.median(steps), 1e-12) else cut)
    return sorted(set(moved))


def parts(n_times: int, places: Sequence[int]) -> list[slice]:
    """Return the stretches between cuts."""
    edges = [0, *places, n_times]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges) if stop > start]
