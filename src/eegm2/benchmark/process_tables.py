"""Tables of new processes until their first result, and of whole commands."""

from __future__ import annotations

from typing import Any

from eegm2.benchmark.results import Results, display_name, number, table
from eegm2.benchmark.suites import COMMANDS, FIRST, Measurement

NAMES = {
    "help": "eegm2 --help",
    "info": "eegm2 info",
    "first-forward": "forward pass, {}",
    "first-train": "training step, {}",
    "first-prepare": "eegm2 prepare, one recording",
    "first-decision": "eegm2 stream, first decision",
}


def first_table(results: Results) -> str:
    """Return the seconds of a new process until its first result."""
    rows = []
    for work in FIRST:
        for r in results.work(work):
            if r["status"] != "ok":
                continue
            m = r["measurement"]
            beyond = f"{r['beyond_s']['median']:.2f}" if "beyond_s" in r else ""
            name = NAMES[work].format(display_name(m["model"]))
            rows.append((name, m["cache"], _seconds(r), beyond))
    header = ("first result", "kernel cache", "s from the start", "s beyond import torch")
    text = (
        "### A new process until its first result\n\nWith a cold cache the kernels are compiled on the way. "
        "Scripts import torch whatever they do; the last column leaves that out. A training step contains "
        "what torch's optimizer imports when it is first used. Medians, quartiles in brackets.\n\n"
    )
    return text + table(header, rows, left=2) if rows else ""


def command_table(results: Results) -> str:
    """Return the rates of whole commands against what they cannot do without."""
    rows = []
    for work in COMMANDS:
        for r in results.work(work):
            if r["status"] != "ok":
                continue
            m = r["measurement"]
            rows.append(
                (
                    f"eegm2 {work}" + (f", {display_name(m['model'])}" if work != "prepare" else ""),
                    f"{m['data'] or 'bundled'}, {r['files']} files",
                    f"{number(r['rate'])} {r['unit']}",
                    f"{number(r['bare_rate'])} ({r['bare']})",
                    f"{r['rate'] / r['bare_rate']:.0%}" if work != "prepare" else "",
                )
            )
    header = ("command", "recordings", "rate", "without it", "share")
    text = (
        "### Whole commands\n\nWindows of 4 s, batches of 64. `pretrain`: its second epoch, against loss, "
        "backward pass and AdamW on one batch. `embed` and `probe` (linear): from store to written result, "
        "against encoding as many windows. `prepare`: of the files' bytes, against reading them (from "
        "memory, where the system has kept them).\n\n"
    )
    return text + table(header, rows, left=2) if rows else ""


def process_lines(document: dict[str, Any]) -> list[str]:
    """Return a line for a terminal per measurement of a new process or a whole command."""
    from eegm2.benchmark.run import summary

    found = (r for r in document["results"] if r["measurement"]["work"] in (*FIRST, *COMMANDS))
    return [f"{Measurement(**r['measurement']).title()}: {summary(r)}" for r in found]


def _seconds(r: dict[str, Any]) -> str:
    s = r["seconds"]
    return f"{s['median']:.2f} ({s['q25']:.2f}–{s['q75']:.2f})"
