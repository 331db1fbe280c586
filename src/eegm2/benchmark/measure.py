"""What one process does: build, check, warm up, time, and print one line of JSON last.

python -m eegm2.benchmark.measure '{"work": "forward", "model": "light", "n_times": 512}'
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

from eegm2.benchmark.timing import clock_of, spread

#: Repeats: until this many seconds have been measured, but not fewer or more than these.
ENOUGH_S, FEWEST, MOST = 1.5, 3, 40
#: A run as long as this is repeated less often.
LONG_S, FEWEST_LONG = 8.0, 1


def measure(values: dict[str, Any]) -> dict[str, Any]:
    """Measure in this process.

    Parameters
    ----------
    values : dict
        Fields of a `Measurement`.

    Returns
    -------
    dict
        ``status`` "ok" with ``seconds`` {median, q25, q75, min, n}, ``memory_mb`` (peak above idle),
        ``bound`` and facts; or "refused", "not installed", "memory", "crashed" with ``reason``.
    """
    from eegm2.benchmark.peers import NotInstalled
    from eegm2.benchmark.suites import COMMANDS, FIRST, Measurement

    m = Measurement(**values)
    try:
        if m.work in FIRST:
            from eegm2.benchmark.first import measure_first

            return measure_first(m)
        if m.work in COMMANDS:
            from eegm2.benchmark.commands import measure_command

            return measure_command(m)
        return _measure_network(m)
    except NotInstalled as error:
        return {"status": "not installed", "reason": one_line(error)}
    except Exception as error:
        return {"status": _kind(m.model, error), "reason": f"{type(error).__name__}: {one_line(error)}"}


def _measure_network(m: Any) -> dict[str, Any]:
    import torch

    from eegm2.benchmark.subject import build_subject
    from eegm2.ops import keep_freed_memory

    torch.set_num_threads(m.threads)
    if m.keep_memory:
        keep_freed_memory()
    subject = build_subject(m)
    return {"status": "ok", **subject.facts, **_time(m, subject)}


def _kind(model: str, error: Exception) -> str:
    from eegm2.benchmark.config import PEERS

    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "memory"
    return "refused" if model in PEERS else "crashed"


def _time(m: Any, subject: Any) -> dict[str, Any]:
    """Time the subject; its peak memory is that of all repeats, above what was resident before the first."""
    from eegm2.benchmark.memory import Peak
    from eegm2.benchmark.products import bound

    subject.warm_up()
    peak = Peak()
    times = [clock(subject)]
    peak.stop()
    first, times = times[0], []
    fewest = FEWEST_LONG if first > LONG_S else FEWEST
    while len(times) < fewest or (sum(times) < ENOUGH_S and len(times) < MOST):
        times.append(clock(subject))
    memory = peak.above_idle_mb()
    result: dict[str, Any] = {
        "seconds": spread(times),
        "first_s": first,
        "memory_mb": memory,
        "idle_mb": peak.idle_mb,
        "memory_method": peak.method,
        "samples": m.n_times if m.work.startswith("scan") else subject.inputs[0].shape[-1],
    }
    if subject.plain is not None:
        training = m.work == "train"
        result["bound"] = bound(subject.plain(), m.n_chans, m.n_times, m.batch, training=training)
    return result


def clock(subject: Any) -> float:
    """Return the seconds of one step."""
    return clock_of(lambda: subject.step(*subject.inputs))


def one_line(error: object) -> str:
    """Return a message as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(measure(json.loads(sys.argv[1]))))
