"""Kill a command at random moments until it gets through, and compare what it leaves with an undisturbed run.

The first kill of a run comes right before or after one of the command's writes (fsync, rename, link), where a
torn state would show; from run to run they spread over all the writes. Of the others three in four come after
a random time, the rest at a random write. Where each one hit is read from the process's own stack and counted
by place.

Time in which the whole harness is stopped (SIGSTOP) or starved does not count: a pause is not a hang.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.forked import forked
from tests.training.kill_inside import run_inside

WAIT_S = 900.0  # a busy machine is slow; tests have limits of their own
SLICE_S = 0.05
GOLDEN = 0.618034  # its multiples spread evenly over [0, 1)
ELSEWHERE = "start-up or exit"


@dataclass(frozen=True)
class Killed:
    """How often a command was killed and where, and how often it was started until it got through."""

    kills: int
    starts: int
    places: tuple[str, ...] = ()


def campaign(
    command: Callable[..., None],
    arguments: Callable[[str], tuple[Any, ...]],
    differences: Callable[[str], list[str]],
    *,
    kills: int,
    seed: int,
    places: Mapping[str, str],
    context: Any = None,
    writes_itself: bool = True,
) -> dict[str, Any]:
    """Kill runs until `kills` hit; every run must end as the undisturbed one, ``whole``, did.

    Parameters
    ----------
    command : callable
        A module-level function; killed and called again it must go on.
    arguments : callable
        Returns the command's arguments for a run of a given name.
    differences : callable
        Returns in what the finished run of a name differs from ``whole``.
    kills, seed : int
        How many kills must hit, and the seed of their moments.
    places : mapping
        Place to a pattern searched in the stack of the killed process; the first that is found counts.
    writes_itself : bool
        Whether the first kill of a run comes at a write; a command whose processes write is killed after
        random times alone.

    Returns
    -------
    dict
        kills, runs, places (place to number of kills) and failures.
    """
    seconds, writes = _measure(command, arguments("whole"), context)
    writes = writes if writes_itself else 0
    hits = runs = 0
    found: Counter[str] = Counter()
    failures: list[str] = []
    while hits < kills:
        name = f"killed{runs}"
        done = run_killed(
            command,
            *arguments(name),
            kills=min(5, kills - hits),
            longest_s=seconds,
            seed=seed * 1000 + runs,
            context=context,
            writes=writes,
            first_write=(-1) ** runs
            * (writes - int(runs * GOLDEN % 1 * writes)),  # the first: the last write
            places=places,
        )
        hits, runs = hits + done.kills, runs + 1
        found.update(done.places)
        failures += [f"{name}: {what}" for what in differences(name)]
    counted = {place: found[place] for place in (*places, ELSEWHERE)}
    return {"kills": hits, "runs": runs, "places": counted, "failures": failures}


def check(result: dict[str, Any], kills: int, *, places: bool = False) -> None:
    """Assert that so many kills hit and did no harm; and, with `places`, that all places but one were hit."""
    counted = result["places"]
    assert result["kills"] == sum(counted.values()) == kills, counted
    assert not places or sum(n == 0 for n in counted.values()) <= 1, counted
    assert result["failures"] == []


def run_whole(command: Callable[..., None], *arguments: Any, context: Any = None) -> float:
    """Run a command undisturbed in a process of its own; return its seconds."""
    return _measure(command, arguments, context)[0]


def run_killed(
    command: Callable[..., None],
    *arguments: Any,
    kills: int,
    longest_s: float,
    seed: int,
    context: Any = None,
    writes: int = 0,
    first_write: int = 0,
    places: Mapping[str, str] | None = None,
) -> Killed:
    """Start a command, SIGKILL it at a random moment, and so on; then let it get through.

    Parameters
    ----------
    command : callable
        A module-level function; killed and called again it must go on.
    kills : int
        How many kills must hit the running command; when it gets through before, `kills` is what hit.
    longest_s : float
        Upper end of the random times.
    seed : int
        Seed of the moments.
    context : optional
        From `multiprocessing.get_context`; by default a fork server that has imported the training.
    writes : int
        How many writes an undisturbed run makes; with 0 every kill comes after a time.
    first_write : int
        At which write the first kill comes, before it (negative) or after; with 0 it is as the others.
    places : mapping, optional
        As `campaign` takes them.
    """
    rng = random.Random(seed)
    found: list[str] = []
    for number in range(kills):
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder) / "trace"
            at_write = rng.choice((-1, 1)) * rng.randint(1, writes) if writes and rng.random() < 0.25 else 0
            at_write = first_write if number == 0 and first_write else at_write
            process = _start(command, arguments, context, trace=str(trace), at_write=at_write)
            _wait(process, WAIT_S if at_write else rng.uniform(0.0, longest_s))
            if process.exitcode is None:
                _kill(process, trace)
            if process.exitcode == -signal.SIGKILL:
                found.append(_place(trace, places or {}))
                continue
        assert process.exitcode == 0, (
            f"{command.__name__} left with {process.exitcode} after {len(found)} kills"
        )
        return Killed(len(found), len(found) + 1, tuple(found))
    run_whole(command, *arguments, context=context)
    return Killed(len(found), len(found) + 1, tuple(found))


def _measure(command: Callable[..., None], arguments: tuple[Any, ...], context: Any) -> tuple[float, int]:
    """Run a command undisturbed; return its seconds and how many writes it made."""
    with tempfile.TemporaryDirectory() as folder:
        count = Path(folder) / "count"
        process = _start(command, arguments, context, count=str(count))
        seconds = _wait(process, WAIT_S)
        assert process.exitcode == 0, f"{command.__name__} left with {process.exitcode}"
        return seconds, int(count.read_text())


def _start(command: Callable[..., None], arguments: tuple[Any, ...], context: Any, **options: Any) -> Any:
    process = (context or forked()).Process(target=run_inside, args=(command, arguments), kwargs=options)
    process.start()
    return process


def _wait(process: Any, seconds: float) -> float:
    """Wait for a process to end, at most so long; time in which this process was stopped does not count."""
    waited = 0.0
    while process.exitcode is None and waited < seconds:
        some, began = min(SLICE_S, seconds - waited), time.monotonic()
        process.join(some)
        waited += min(time.monotonic() - began, 2 * some)
    return waited


def _kill(process: Any, trace: Path) -> None:
    """Let a process write down where it is, and kill it."""
    with contextlib.suppress(ProcessLookupError):
        if trace.exists():  # from then on it answers
            os.kill(process.pid, signal.SIGUSR2)
            for _ in range(40):
                if trace.stat().st_size:
                    break
                time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    _wait(process, WAIT_S)


def _place(trace: Path, places: Mapping[str, str]) -> str:
    text = trace.read_text() if trace.exists() else ""
    matching = (name for name, pattern in places.items() if re.search(pattern, text, re.MULTILINE))
    return next(matching, ELSEWHERE)


def warm_up() -> None:
    """Do nothing, once the fork server has imported everything: times measured later are the work's."""
