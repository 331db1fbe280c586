"""Clocks of live sources: bursts, chunks, jitter and drift are no gaps; what is missing is one."""

from __future__ import annotations

import numpy as np
import pytest

from eegm2.deploy.live.clock import ClockTracker
from eegm2.errors import DataError

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


def test_small_and_uneven_bursts_have_no_gap() -> None:
    rng = np.random.default_rng(3)
    polls = np.cumsum(np.where(rng.random(2000) < 0.05, 0.02, 0.1))
    true = np.arange(round(60 * RATE)) / RATE
    which = np.searchsorted(polls, true, side="right")
    within = np.arange(len(true)) - np.searchsorted(which, which, side="left")
    assert gaps(polls[which] + 1e-5 * within) == [], "each sample is stamped when it is pushed"


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


@pytest.mark.parametrize("seconds", [0.0, 1.0, 7.0, 40.0])
@pytest.mark.parametrize("ppm", [0.0, -900.0])
def test_drift_and_jitter_are_slope_and_scatter_of_the_line_through_all_stamps(
    seconds: float, ppm: float
) -> None:
    """Of no sample, or one, both are 0; a whole number of seconds before the first says nothing."""
    rng = np.random.default_rng(4)
    number = np.arange(round(seconds * RATE) + 1)
    stamps = 11 + number / RATE * (1 + ppm * 1e-6) + 2e-4 * rng.standard_normal(len(number))
    clock = ClockTracker(RATE)
    assert (clock.drift_ppm, clock.jitter_s) == (0.0, 0.0)
    assert gaps(stamps, clock) == []
    elapsed, late = stamps - stamps[0], stamps - stamps[0] - number / RATE
    slope, at_0 = np.polyfit(elapsed, late, 1) if seconds else (0.0, 0.0)
    assert clock.drift_ppm == pytest.approx(1e6 * slope, rel=1e-4, abs=1e-6)
    scatter = np.sqrt(np.mean((late - slope * elapsed - at_0) ** 2))
    assert clock.jitter_s == pytest.approx(scatter, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("kind", ["even", "burst"])
@pytest.mark.parametrize("share", [-0.2, -0.08, -0.05, -0.03, -0.02, 0.0, 0.02, 0.03, 0.05, 0.08, 0.2])
@pytest.mark.parametrize("lost", [0, 75])
def test_another_rate_than_the_stated_one_is_refused_and_told(kind: str, share: float, lost: int) -> None:
    """From 3 % on, the farther off the sooner; two per cent are drift, however stamps scatter."""
    rate_hz, rng = 50.0, np.random.default_rng(5)
    true_hz = rate_hz * (1 + share)
    stamps = 3 + np.delete(np.arange(round(100 * true_hz)), np.s_[250 : 250 + lost]) / true_hz
    polls = np.cumsum(0.2 * np.clip(1 + 0.15 * rng.standard_normal(1000), 0.2, 3))
    if kind == "burst":
        stamps = polls[np.searchsorted(polls, stamps)]
    else:
        stamps += 0.004 * rng.standard_normal(len(stamps))
    clock, starts = ClockTracker(rate_hz, where="amp"), iter(range(0, len(stamps), 16))
    if abs(share) < 0.03:
        for start in starts:
            clock.push(stamps[start : start + 16])
        return
    with pytest.raises(DataError, match="amp: states 50 Hz but sends") as refused:
        all(clock.push(stamps[start : start + 16]) is not None for start in starts)
    told_hz = float(str(refused.value).split("sends ")[1].split()[0])
    assert told_hz == pytest.approx(true_hz, rel=0.02 if kind == "even" else 0.05), "what was lost was sent"
    assert next(starts) / true_hz < {0.03: 80, 0.05: 25, 0.08: 15, 0.2: 10}[abs(share)]


def test_jumps_and_stalls_of_a_source_of_the_right_rate_do_not_make_it_another() -> None:
    """Half a second set back at once, one that is caught up, and a second lost, over a minute and a half."""
    stamps = np.arange(4500) / 50.0
    for change in (stamps - 0.5 * (stamps > 6), stamps - 0.7 * (stamps > 40), stamps + 1.0 * (stamps > 3)):
        clock = ClockTracker(50.0)
        for start in range(0, len(change), 16):
            clock.push(change[start : start + 16])
    stalled = stamps.copy()
    for begin in range(200, 4200, 400):
        stalled[begin : begin + 40] = stamps[begin + 40]
    assert gaps(stalled, ClockTracker(50.0)) == []


def test_what_a_source_was_like_is_forgotten_after_some_seconds() -> None:
    """It begins in bursts; once its stamps have been even for a while, a gap is seen where it is."""
    stamps = np.arange(3000) / 50.0
    begun = stamps < 6
    stamps[begun] = np.ceil(stamps[begun] / 0.4 + 1e-9) * 0.4
    clock, found = ClockTracker(50.0), []
    for at, stamp in enumerate(np.delete(stamps, np.s_[2000:2030])):
        found += [(at, missing) for _, missing in clock.push(np.array([stamp]))]
    assert found == [(2008, 30)], "as soon as eight have followed it"


def test_stamps_that_run_backwards_are_refused() -> None:
    with pytest.raises(DataError, match="source: time stamps run backwards"):
        ClockTracker(RATE).push(5 - np.arange(1500) * 1e-5)


@pytest.mark.parametrize("rate_hz", [50.0, 250.0])
def test_a_stamp_that_is_late_alone_is_no_gap(rate_hz: float) -> None:
    clock, stamps = ClockTracker(rate_hz), np.arange(round(20 * rate_hz)) / rate_hz
    stamps[round(10 * rate_hz)] += 0.06
    assert gaps(stamps, clock) == []
