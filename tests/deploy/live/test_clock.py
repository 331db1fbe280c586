"""Clocks of live sources: bursts, chunks, jitter and drift are no gaps; what is missing is one."""

from __future__ import annotations

import numpy as np
import pytest

from eegm2.deploy.live.clock import ClockTracker

RATE = 250.0


def sent(kind: str, period_s: float, ppm: float, jitter: float, seconds: float = 40.0) -> np.ndarray:
    """Return the stamps of a sender that polls: of every sample when it is pushed, or counted back."""
    rng = np.random.default_rng(0)
    true = np.arange(round(seconds * RATE)) / RATE * (1 + ppm * 1e-6)
    polls = np.cumsum(
        period_s * np.clip(1 + jitter * rng.standard_normal(round(2 * seconds / period_s)), 0.2, 3)
    )
    which = np.searchsorted(polls, true, side="right")
    if kind == "burst":
        return polls[which]
    last = np.searchsorted(which, which, side="right") - 1
    late = 0.1 * period_s * jitter * rng.standard_normal(which.max() + 1)
    stamps = polls[which] + late[which] - (last - np.arange(len(true))) / RATE
    whole: np.ndarray = stamps[: np.searchsorted(which, which[-1])]
    return whole


def gaps(stamps: np.ndarray, clock: ClockTracker | None = None, step: int = 16) -> list[tuple[int, int]]:
    """Push stamps as an inlet gives them; return (sample, missing before it)."""
    clock = clock or ClockTracker(RATE)
    found = []
    for start in range(0, len(stamps), step):
        first = start - clock.undecided
        found += [(first + index, missing) for index, missing in clock.push(stamps[start : start + step])]
    return found


@pytest.mark.parametrize("kind", ["burst", "chunk"])
@pytest.mark.parametrize("period_s", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize(("ppm", "jitter"), [(0, 0.0), (500, 0.15), (-500, 0.15)])
def test_senders_in_bursts_and_chunks_have_no_gap(
    kind: str, period_s: float, ppm: float, jitter: float
) -> None:
    clock = ClockTracker(RATE)
    assert gaps(sent(kind, period_s, ppm, jitter), clock) == []
    assert abs(clock.drift_ppm - ppm) < 1000
    assert clock.jitter_s < period_s


@pytest.mark.parametrize("kind", ["burst", "chunk"])
@pytest.mark.parametrize("period_s", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("lost_s", [0.3, 1.0])
def test_what_is_missing_is_found_in_all_of_them(kind: str, period_s: float, lost_s: float) -> None:
    at, lost = 5000, round(lost_s * RATE)
    found = gaps(np.delete(sent(kind, period_s, 100, 0.05), np.s_[at : at + lost]))
    assert sum(missing for _, missing in found) == pytest.approx(lost, abs=0.1 * lost + 3)
    assert len(found) == 1
    assert at - 5 <= found[0][0] <= at + 2.5 * RATE


def test_a_stall_that_is_caught_up_is_no_gap() -> None:
    stamps = np.arange(5000) / RATE
    stalled = stamps.copy()
    stalled[2000:2125] = stamps[2125]  # half a second comes at once
    assert gaps(stalled) == []
    assert gaps(np.delete(stamps, np.s_[2000:2125])) == [(2000, 125)]


@pytest.mark.parametrize("step", [1, 7, 16, 5000])
def test_a_gap_is_placed_rightly_however_samples_are_pulled(step: int) -> None:
    stamps = 7 + np.delete(np.arange(4000), np.s_[1500:1530]) / RATE
    stamps += 0.0005 * np.random.default_rng(1).standard_normal(len(stamps))
    assert gaps(stamps, step=step) == [(1500, 30)]


@pytest.mark.parametrize("ppm", [0, 500, -20_000])
def test_single_samples_that_are_lost_are_counted_where_stamps_are_even(ppm: float) -> None:
    there = np.random.default_rng(0).random(10_000) > 0.02
    stamps = (np.arange(10_000) / RATE * (1 + ppm * 1e-6))[there]
    found = gaps(stamps)
    numbers = np.flatnonzero(there)
    expected = [(i + 1, int(n - 1)) for i, n in enumerate(np.diff(numbers)) if n > 1]
    missed = set(expected) - set(found)
    assert not set(found) - set(expected), "none is invented"
    assert all(not 6 * RATE < index < len(stamps) - 20 for index, _ in missed), "once the clock is known"


def test_the_interval_is_bounded() -> None:
    clock = ClockTracker(RATE)
    clock.push(np.arange(100) / 100.0)
    assert clock.drift_ppm == pytest.approx(30_000)
