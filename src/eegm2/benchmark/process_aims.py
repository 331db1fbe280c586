"""The aims of new processes and of whole commands: what a user waits for besides the networks themselves."""

from __future__ import annotations

from eegm2.benchmark.results import Aim, Results

FORWARD_S = {"warm": 1.0, "cold": 5.0}
PLAIN_S = {"help": 0.5, "info": 3.0}
SHARES = {"pretrain": 0.90, "embed": 0.80}


def process_aims(results: Results) -> list[Aim]:
    """Return the aims of `eegm2.benchmark.suites.FIRST` and `COMMANDS` with what was measured."""
    return [
        *(_first(results, cache, model) for cache in FORWARD_S for model in ("light", "eegm2")),
        *(_plain(results, name) for name in PLAIN_S),
        *(_share(results, name) for name in SHARES),
    ]


def _first(results: Results, cache: str, model: str) -> Aim:
    name = {"light": "Light", "eegm2": "EEGM2"}[model]
    text = f"First forward of {name} in a new process, {cache} kernel cache, seconds beyond import torch"
    asked = f"less than {FORWARD_S[cache]:g}"
    found = [r for r in results.work("first-forward", model) if r["measurement"]["cache"] == cache]
    for record in found:
        if record["status"] == "ok":
            seconds = record["beyond_s"]["median"]
            note = f"{record['seconds']['median']:.2f} s from the start of the process"
            return Aim(text, seconds, asked, seconds < FORWARD_S[cache], note)
    return Aim(text, None, asked, None, _reason(found))


def _plain(results: Results, name: str) -> Aim:
    text = f"eegm2 {'--help' if name == 'help' else name}, seconds"
    asked = f"less than {PLAIN_S[name]:g}"
    found = results.work(name)
    for record in found:
        if record["status"] == "ok":
            seconds = record["seconds"]["median"]
            return Aim(text, seconds, asked, seconds < PLAIN_S[name])
    return Aim(text, None, asked, None, _reason(found))


def _share(results: Results, name: str) -> Aim:
    found = results.work(name, "eegm2")
    what = {"pretrain": "the bare training step's rate", "embed": "the bare forward pass's"}[name]
    text, asked = f"eegm2 {name}, share of {what}", f"at least {SHARES[name]:.0%}"
    for record in found:
        if record["status"] == "ok":
            share = record["rate"] / record["bare_rate"]
            unit = record["unit"]
            note = f"{record['rate']:,.4g} of {record['bare_rate']:,.4g} {unit}"
            return Aim(text, share, asked, share >= SHARES[name], note)
    return Aim(text, None, asked, None, _reason(found))


def _reason(found: list[dict]) -> str:
    return "; ".join(f"{r['status']}, {r['reason']}" for r in found) or "not in this run"
