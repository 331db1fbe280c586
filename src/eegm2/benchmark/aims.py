"""The aims of the benchmark, computed from its results: a ratio, its target, and whether it is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eegm2.benchmark.config import PEERS
from eegm2.benchmark.results import Results, display_name
from eegm2.benchmark.suites import HOUR

LONG, SHORT = 12_800, 1400
FORWARD, SHARE, SCAN, TRAIN, TRAIN_MEMORY, LINEAR = 10.0, 0.60, 40.0, 6.0, 0.20, 0.15
#: What Light is compared with.
RIVALS = ("s5", "plain", *PEERS)


@dataclass(frozen=True)
class Aim:
    """One aim.

    Attributes
    ----------
    text : str
        What is asked.
    value : float or None
        What was measured, None if something it needs is missing.
    target : str
        As text, with its direction.
    met : bool or None
        None where it cannot be said.
    note : str
        What the value is made of, or what is missing.
    """

    text: str
    value: float | None
    target: str
    met: bool | None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Met, not met or not measured."""
        return "not measured" if self.met is None else "met" if self.met else "not met"


def aims(results: Results) -> list[Aim]:
    """Return every aim with what was measured."""
    return [
        _faster(results, "forward", f"EEGM2 forward, 16 × {LONG:,}, against the plain scan", FORWARD),
        _share(results),
        _light(results, SHORT),
        _light(results, LONG),
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


def _share(results: Results) -> Aim:
    text, asked = f"EEGM2 forward, 16 × {LONG:,}, share of the bound", f"at least {SHARE:.0%}"
    record = results.find("forward", "eegm2", LONG)
    if record is None or record["status"] != "ok" or "bound" not in record:
        return Aim(text, None, asked, None, _missing(results, "forward", ("eegm2",), LONG))
    bound, seconds = record["bound"], record["seconds"]["median"]
    share = bound["at_rate_s"] / seconds
    note = (
        f"{bound['gflop']:.1f} GFLOP of products at {bound['gflop_per_s']:.0f} GFLOP/s take "
        f"{_time(bound['at_rate_s'])}; the products alone at their own shapes {_time(bound['alone_s'])} "
        f"({bound['alone_s'] / seconds:.0%})"
    )
    return Aim(text, share, asked, share >= SHARE, note)


def _light(results: Results, length: int) -> Aim:
    """Light against every rival; meeting a bound or refusing the input counts as slower."""
    text, asked = f"EEGM2 Light at {length:,} steps against the fastest peer", "more than 1 times faster"
    light = results.seconds("forward", "light", length)
    times = {name: results.seconds("forward", name, length) for name in RIVALS}
    measured = {name: seconds for name, seconds in times.items() if seconds is not None}
    if light is None or not measured:
        return Aim(text, None, asked, None, _missing(results, "forward", ("light", *RIVALS), length))
    fastest = min(measured, key=lambda name: measured[name])
    ratio = measured[fastest] / light
    records = {name: results.find("forward", name, length) for name in RIVALS if name not in measured}
    unknown = [
        display_name(name)
        for name, record in records.items()
        if record is None or record["status"] not in ("timeout", "memory", "refused")
    ]
    note = f"{display_name(fastest)} {_time(measured[fastest])}, Light {_time(light)}"
    if unknown:
        note += f"; not measured: {', '.join(unknown)}"
    met = ratio > 1 if not unknown or ratio <= 1 else None
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


def _missing(results: Results, work: str, models: tuple[str, ...], *lengths: int) -> str:
    said = []
    for model in models:
        for length in lengths:
            record = results.find(work, model, length)
            if record is None:
                said.append(f"{display_name(model)} at {length:,}: not in this run")
            elif record["status"] != "ok":
                said.append(f"{display_name(model)} at {length:,}: {_why(record)}")
    return "; ".join(said)


def _why(record: dict[str, Any]) -> str:
    return f"{record['status']}, {record['reason']}"


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:,.1f} ms"
