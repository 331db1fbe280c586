"""The tables of the documentation from the stored results of ``benchmarks/data.py``; nothing is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write results whole or not at all."""
    write_text(path, json.dumps(result, indent=1) + "\n")


def write_tables(path: Path) -> None:
    """Write the Markdown beside a JSON of results."""
    result = json.loads(path.read_text())
    parts = [_preparing(result), _loading(result), _memory(result), _containers(result)]
    source = (
        f"<!-- made by benchmarks/data.py --tables docs/results/{path.name} -->\n\n"
        f"{result['processor']}, {result['cores']} cores, Python {result['python']}, "
        f"commit {result['commit']}, {result['date']}, "
        f"load {result['load_before']} before and {result.get('load_after', '?')} after.\n"
    )
    write_text(path.with_suffix(".md"), source + "\n" + "\n".join(parts))


def _preparing(result: dict[str, Any]) -> str:
    row = result["prepare"]
    lengths = ", ".join(f"{value:g}" for value in row["window_lengths_s"])
    spread = f"{min(row['ratios']):g} to {max(row['ratios']):g}"
    return (
        f"Preparing {row['recordings']} EDF recordings ({row['hours']:g} h, {row['channels']} channels) for "
        f"windows of {lengths} s:\n\n"
        "| | seconds (each run) | on disk (MB) |\n| --- | --- | --- |\n"
        f"| one pickle per window and length | {_list(row['plain_script_s'])} | {row['pickles_mb']:g} |\n"
        f"| `prepare`, one process | {_list(row['prepare_s'])} | {row['store_mb']:g} |\n"
        f"| `prepare`, its own choice of processes | {_list(row['prepare_default_jobs_s'])} | |\n\n"
        f"Ratio of the medians, one process each: **{row['ratio']:g}** (single runs {spread}).\n"
    )


def _loading(result: dict[str, Any]) -> str:
    lines = [
        "Random scaled windows in batches, one process each, page cache warm:\n",
        "| window (s) | windows per second | times as fast as pickles (single runs) |\n| --- | --- | --- |",
    ]
    for row in result["loading"]:
        spread = f"{min(row['ratios']):g} to {max(row['ratios']):g}"
        lines.append(f"| {row['window_s']:g} | {row['windows_per_s']} | **{row['ratio']:g}** ({spread}) |")
    return "\n".join(lines) + "\n"


def _memory(result: dict[str, Any]) -> str:
    row = result["memory"]
    if "problem" in row:
        return f"Memory of a worker: not measured ({row['problem']}).\n"
    return (
        f"Memory of a worker preparing a recording of {row['hours']:g} h ({row['file_mb']:g} MB as EDF, "
        f"{row['as_mne_holds_it_mb']:g} MB as MNE holds it): {row['peak_above_idle_mb']:g} MB above the idle "
        f"process, **{row['times_as_mne_holds_it']:g}** times the recording as MNE holds it "
        f"({row['times_as_float32']:g} times as float32).\n"
    )


def _containers(result: dict[str, Any]) -> str:
    keys = ("mb", "write_mb_s", "warm_2s_per_s", "cold_2s_per_s", "warm_100s_per_s", "cold_100s_per_s")
    lines = [
        f"Containers, {result['container_mb']:g} MB of samples; windows per second, cold ones checked to "
        "have come from the disk:\n",
        "| container | MB | written MB/s | 2 s, warm | 2 s, cold | 100 s, warm | 100 s, cold | two writers |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["containers"]:
        cells = ["not measured" if row[key] is None else f"{row[key]:g}" for key in keys]
        lines.append(" | ".join([f"| {row['container']}", *cells, f"{row['two_writers']} |"]))
    return "\n".join(lines) + "\n"


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    temporary.replace(path)
