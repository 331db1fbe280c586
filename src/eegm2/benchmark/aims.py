"""The aims of the benchmark, computed from its results: a ratio, its target, and whether it is met."""

from __future__ import annotations

from typing import Any

from eegm2.benchmark.config import PEERS
from eegm2.benchmark.process_aims import process_aims
from eegm2.benchmark.results import Aim, Results, display_name
from eegm2.benchmark.suites import HOUR, LENGTHS

LONG, SHORT, SHORTEST = 12_800, 1400, 50
FORWARD, SCAN, TRAIN, TRAIN_MEMORY, LINEAR, MAMBA1, COVARIANCE = 10.0, 40.0, 6.0, 0.20, 0.15, 1.5, 2.0
LEAD, SHORTEST_S = 2.0, 0.003
#: Shares of the bound by work, model and length.
SHARES = {
    ("forward", "eegm2", LONG): 0.75,
    ("forward", "light", LONG): 0.60,
    ("forward", "light", SHORT): 0.50,
    ("train", "eegm2", LONG): 0.65,
    ("train", "light", LONG): 0.50,
}
#: What is slower than any time: it met a bound, or would have.
SLOWER = ("timeout", "memory", "refused", "too long")


def aims(results: Results) -> list[Aim]:
    """Return every aim with what was measured."""
    return [
        *(_fastest(results, "forward", "light", n, batch, LEAD) for batch in (1, 16) for n in LENGTHS[1:]),
        *(_share(results, *case) for case in SHARES),
        _short(results),
        *(
            _fastest(results, "train", model, n, 1, 1.0)
            for model in ("eegm2", "light")
            for n in (SHORT, LONG)
        ),
        *(_times(results, "forward", model, "eegm2", (1, LONG), MAMBA1) for model in ("s3", "s4")),
        *(
            _times(results, work, "covariance", "light", (batch, n), COVARIANCE)
            for work, batch in (("forward", 1), ("forward", 16), ("train", 1))
            for n in (SHORT, LONG)
        ),
        *process_aims(results),
        _faster(results, "forward", f"EEGM2 forward, 16 × {LONG:,}, against the plain scan", FORWARD),
        _faster(
            results, "scan", f"Scan alone, (1, {LONG:,}, 8, 64, d_state 16), against the plain one", SCAN
        ),
        _faster(results, "train", f"Training step, batch 1 × {LONG:,}, against the plain scan", TRAIN),
        _training_memory(results),
        _linear(results, "eegm2"),
        _linear(results, "light"),
        _linear(results, "eegm2", "blocks"),
        _linear(results, "light", "blocks"),
        *(_precision(results, precision) for precision in ("bfloat16", "int8")),
    ]


def _faster(results: Results, work: str, text: str, target: float) -> Aim:
    ours, plain = (results.seconds(work, model, LONG) for model in ("eegm2", "plain"))
    asked = f"at least {target:g} times faster"
    if ours is None or plain is None:
        return Aim(text, None, asked, None, _missing(results, work, ("eegm2", "plain"), LONG))
    note = f"{_time(plain)} against {_time(ours)}"
    bound = (results.find(work, "eegm2", LONG) or {}).get("bound")
    if bound is not None:
        least = bound["at_rate_s"]
        note += f"; the products alone take {_time(least)}, so {plain / least:.1f} is the most there is"
    return Aim(text, plain / ours, asked, plain / ours >= target, note)


def _share(results: Results, work: str, model: str, length: int) -> Aim:
    least = SHARES[work, model, length]
    noun = "forward" if work == "forward" else "training step"
    text, asked = (
        f"{display_name(model)} {noun}, 16 × {length:,}, share of the bound",
        f"at least {least:.0%}",
    )
    record = results.find(work, model, length)
    if record is None or record["status"] != "ok" or "bound" not in record:
        return Aim(text, None, asked, None, _missing(results, work, (model,), length))
    bound, seconds = record["bound"], record["seconds"]["median"]
    share = bound["at_rate_s"] / seconds
    note = (
        f"{bound['gflop']:.1f} GFLOP of products at {bound['gflop_per_s']:.0f} GFLOP/s take "
        f"{_time(bound['at_rate_s'])}; the products alone at their own shapes {_time(bound['alone_s'])} "
        f"({bound['alone_s'] / seconds:.0%})"
    )
    return Aim(text, share, asked, share >= least, note)


def _short(results: Results) -> Aim:
    text, asked = f"EEGM2 forward, 16 × {SHORTEST}, ms", f"at most {1e3 * SHORTEST_S:g}"
    seconds = results.seconds("forward", "eegm2", SHORTEST)
    if seconds is None:
        return Aim(text, None, asked, None, _missing(results, "forward", ("eegm2",), SHORTEST))
    return Aim(text, 1e3 * seconds, asked, seconds <= SHORTEST_S)


def _times(results: Results, work: str, model: str, other: str, size: tuple[int, int], most: float) -> Aim:
    """One of ours against another of ours on (batch, length): at most so many times its time."""
    batch, length = size
    noun = "forward" if work == "forward" else "training step"
    text = f"{display_name(model)} {noun}, batch {batch} × {length:,}, time against {display_name(other)}'s"
    asked = f"at most {most:g} times"
    base, ours = (results.seconds(work, name, length, batch) for name in (other, model))
    if base is None or ours is None:
        return Aim(text, None, asked, None, _missing(results, work, (other, model), length, batch=batch))
    return Aim(text, ours / base, asked, ours <= most * base, f"{_time(ours)} against {_time(base)}")


def _fastest(results: Results, work: str, model: str, length: int, batch: int, target: float) -> Aim:
    """One of ours against the fastest peer; meeting a bound or refusing the input counts as slower.

    In training, a peer of less than half the parameters is none of its size.
    """
    noun, of_size = ("forward", "") if work == "forward" else ("training step", " of its size")
    text = f"{display_name(model)} {noun}, batch {batch} × {length:,}, against the fastest peer{of_size}"
    asked = f"at least {target:g} times as fast"
    mine = results.find(work, model, length, batch)
    ours = results.seconds(work, model, length, batch)
    records = {name: results.find(work, name, length, batch) for name in PEERS}
    if work == "train" and mine is not None:
        least = mine.get("parameters", 0) / 2
        records = {n: r for n, r in records.items() if r is None or r.get("parameters", least) >= least}
    measured = {
        n: r["seconds"]["median"] for n, r in records.items() if r is not None and r["status"] == "ok"
    }
    if ours is None or not measured:
        return Aim(text, None, asked, None, _missing(results, work, (model, *PEERS), length, batch=batch))
    fastest = min(measured, key=lambda name: measured[name])
    ratio = measured[fastest] / ours
    unknown = [
        display_name(name)
        for name, record in records.items()
        if name not in measured and (record is None or record["status"] not in SLOWER)
    ]
    note = f"{display_name(fastest)} {_time(measured[fastest])}, {display_name(model)} {_time(ours)}"
    if unknown:
        note += f"; not measured: {', '.join(unknown)}"
    met = ratio >= target if not unknown or ratio < target else None
    return Aim(text, ratio, asked, met, note)


def _training_memory(results: Results) -> Aim:
    text = f"Training step, batch 1 × {LONG:,}, memory above idle, share of the plain scan's"
    ours, plain = (results.memory("train", model, LONG) for model in ("eegm2", "plain"))
    asked = f"at most {TRAIN_MEMORY:.0%}"
    if ours is None or plain is None:
        return Aim(text, None, asked, None, _missing(results, "train", ("eegm2", "plain"), LONG))
    return Aim(
        text, ours / plain, asked, ours / plain <= TRAIN_MEMORY, f"{ours:,.0f} MB against {plain:,.0f} MB"
    )


def _linear(results: Results, model: str, work: str = "forward") -> Aim:
    how = " in blocks" if work == "blocks" else ""
    text = f"{display_name(model)}{how}, time per step at {HOUR:,} against {LONG:,} steps"
    asked = f"within {LINEAR:.0%} of 1"
    hour, long = (results.seconds(work, model, length) for length in (HOUR, LONG))
    if hour is None or long is None:
        return Aim(text, None, asked, None, _missing(results, work, (model,), HOUR, LONG))
    ratio = (hour / HOUR) / (long / LONG)
    note = f"{1e6 * hour / HOUR:.2f} µs against {1e6 * long / LONG:.2f} µs"
    return Aim(text, ratio, asked, abs(ratio - 1) <= LINEAR, note)


def _precision(results: Results, precision: str) -> Aim:
    """Report a lower precision: it is to be measured, with its error; whether it helps is the value."""
    text = f"EEGM2 forward, 16 × {LONG:,}, {precision} against float32"
    asked = "measured; offered only where faster"
    record, full = (
        results.find("forward", "eegm2", LONG, precision=precision),
        results.seconds("forward", "eegm2", LONG),
    )
    if record is None or record["status"] != "ok" or full is None:
        reason = _why(record) if record is not None else "not in this run"
        return Aim(text, None, asked, None, reason)
    note = f"largest error {record['error']:.1e} of the largest value"
    return Aim(text, full / record["seconds"]["median"], asked, True, note)


def _missing(results: Results, work: str, models: tuple[str, ...], *lengths: int, batch: int = 1) -> str:
    said: list[str] = []
    if not any(results.find(work, model, length, batch) for model in models for length in lengths):
        return "not in this run"
    for model in models:
        for length in lengths:
            record = results.find(work, model, length, batch)
            if record is None:
                said.append(f"{display_name(model)} at {length:,}: not in this run")
            elif record["status"] != "ok":
                said.append(f"{display_name(model)} at {length:,}: {_why(record)}")
    return "; ".join(said)


def _why(record: dict[str, Any]) -> str:
    return f"{record['status']}, {record['reason']}"


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:,.1f} ms"
