"""Table, figure and the aims met or not, from the JSON that streaming.py wrote."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

#: Resident memory may move by this much between the tenth minute and the last.
FLAT_MIB = 16


def aims(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each aim with what was measured and whether it is met."""
    rows = {(r["preset"], r["runtime"], r["push"], r["threads"]): r for r in result["rows"]}
    found = []

    def add(aim: str, value: float, unit: str, met: bool) -> None:
        found.append({"aim": aim, "measured": f"{value:.4g} {unit}".strip(), "met": met})

    for preset, least in (("light", 100), ("eegm2", 30)):
        factor = rows[preset, "torch", 32, 1]["real_time_factor"]
        add(
            f"{preset}: real-time factor at least {least} (torch, 32 samples, one thread)",
            factor,
            "",
            factor >= least,
        )
    p99 = rows["light", "torch", 32, 1]["p99_ms"]
    add("light: 99 % of the pushes of 32 samples under 10 ms (torch, one thread)", p99, "ms", p99 < 10)
    for preset in ("light", "eegm2"):
        pair = [rows[preset, runtime, 32, 1]["median_ms"] for runtime in ("torch", "onnx")]
        add(
            f"{preset}: ONNX Runtime at least as fast as torch (torch / ONNX; 32 samples, one thread)",
            pair[0] / pair[1], "", pair[1] <= pair[0],
        )  # fmt: skip
    for bundle in result.get("bundles", []):
        name = f"bundle, {bundle['preset']} at {bundle['n_chans']} channels, one thread"
        p99 = max(bundle["p99_ms"], bundle["decision_p99_ms"])
        add(f"{name}: 99 % of the pushes, and of those that decide, under 10 ms", p99, "ms", p99 < 10)
        add(f"{name}: bundle and runtime under 25 MB", bundle["bundle_mb"], "MB", bundle["bundle_mb"] < 25)
    for hour in result["hours"]:
        resident = hour["resident_mib"]
        grown = resident[-1] - resident[min(9, len(resident) // 2)]
        add(
            f"{hour['preset']}: memory flat over {len(resident)} minutes (last minute against the tenth, "
            f"at most {FLAT_MIB} MiB more)",
            grown, "MiB", grown <= FLAT_MIB,
        )  # fmt: skip
    return found


def render(path: Path) -> dict[str, Any]:
    """Write ``streaming.md`` and ``streaming.svg`` beside the JSON; return the aims."""
    result = json.loads(path.read_text())
    checked = aims(result)
    path.with_suffix(".md").write_text(markdown(result, checked, path.with_suffix(".svg").name))
    figure(result, path.with_suffix(".svg"))
    return {"aims": checked}


def markdown(result: dict[str, Any], checked: list[dict[str, Any]], picture: str) -> str:
    """Return the page's text."""
    lines = [
        f"Measured on {result['processor']}, {result['cores']} cores, torch {result['torch']}, commit "
        f"{result['commit']}; {result['n_chans']} channels at {result['sfreq_hz']} Hz, width 64, random "
        f"weights, batch 1. Load of the machine before: {result['load']}."
        + (" **A quick run: it shows that the benchmark runs and nothing more.**" if result["quick"] else ""),
        "",
        "| aim | measured | met |",
        "| --- | --- | --- |",
        *(f"| {aim['aim']} | {aim['measured']} | {'yes' if aim['met'] else 'no'} |" for aim in checked),
        "",
        "| model | runtime | threads | push | ms | p99 ms | worst ms | real time × | MiB | grown MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in result["rows"]:
        lines.append(
            f"| {r['preset']} | {r['runtime']} | {r['threads']} | {r['push']} | {r['median_ms']:.2f} | "
            f"{r['p99_ms']:.2f} | {r['worst_ms']:.2f} | {r['real_time_factor']:.0f} | "
            f"{r['resident_mib']:.0f} | {r['grown_mib']:.1f} |"
        )
    lines += [
        "",
        "`ms` is the median, `MiB` the whole process, `grown` what the timed pushes added.",
        "",
    ]
    lines += covariance_lines(result)
    lines += bundle_lines(result)
    for hour in result["hours"]:
        resident = hour["resident_mib"]
        lines.append(
            f"- {hour['preset']}, {hour['signal_s'] / 60:.0f} minutes of EEG in pushes of {hour['push']} "
            f"from {hour['source']}{', repeated' if hour['repeated'] else ''} ({hour['n_chans']} channels): "
            f"{hour['real_time_factor']:.0f} times real time, memory of its own {min(resident):.0f} to "
            f"{max(resident):.0f} MiB, {hour['held_back']} samples held back at the end."
        )
    for lsl in result["lsl"]:
        lines.append(
            f"- {lsl['preset']}, LSL round trip between two processes, {lsl['decisions']} decisions, blocks "
            f"of {lsl['block_samples']} samples: from the push of the sample that completes a decision to "
            f"its class, median {lsl['median_ms']:.1f} ms, p99 {lsl['p99_ms']:.1f} ms, worst "
            f"{lsl['worst_ms']:.1f} ms."
        )
    return "\n".join([*lines, "", f"![Time per push, and memory over the hour](results/{picture})", ""])


def covariance_lines(result: dict[str, Any]) -> list[str]:
    """Return the table of preset covariance beside Light: means, for not every push completes a token."""
    rows = {(r["preset"], r["push"]): r for r in result.get("covariance", [])}
    lines = [
        "Preset covariance beside Light, torch on one thread, mean over all pushes:",
        "",
        "| samples per push | Light, ms | covariance, ms | times | commit |",
        "| --- | --- | --- | --- | --- |",
    ]
    for push in sorted({push for _, push in rows}):
        light, ours = (
            1e3 * push / result["sfreq_hz"] / rows[preset, push]["real_time_factor"]
            for preset in ("light", "covariance")
        )
        commit = rows["covariance", push]["commit"]
        lines.append(f"| {push} | {light:.3f} | {ours:.3f} | {ours / light:.2f} | {commit} |")
    return [*lines, ""] if rows else []


def bundle_lines(result: dict[str, Any]) -> list[str]:
    """Return the table of the bundles, which run without torch."""
    if not result.get("bundles"):
        return []
    lines = [
        "Bundles, from microvolts at 250 Hz to decisions, with NumPy and ONNX Runtime alone on one thread, "
        "in pushes of a sixteenth of a second, a decision every half one:",
        "",
        "| bundle | commit | ms | p99 ms | worst ms | deciding, ms | p99 ms | CPU s per hour | MiB | before "
        "| MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for b in result["bundles"]:
        lines.append(
            f"| {b['preset']}, {b['features']} | {b['commit']} | {b['median_ms']:.2f} | {b['p99_ms']:.2f} | "
            f"{b['worst_ms']:.2f} | {b['decision_median_ms']:.2f} | {b['decision_p99_ms']:.2f} | "
            f"{b['cpu_s_per_hour']:.0f} | {b['resident_mib']:.0f} | {b['without_mib']:.0f} | "
            f"{b['bundle_mb']:.1f} |"
        )
    note = (
        "`MiB` is the whole process, `before` what Python and NumPy take of it, `MB` the size of both files."
    )
    return [*lines, "", note, ""]


def figure(result: dict[str, Any], path: Path) -> None:
    """Draw the time per push on one thread, and memory over the hour."""
    from eegm2.benchmark.render import svg_file
    from eegm2.report.figures.style import MUTED, PALETTE, direct_legend, figure_style, log_ticks, new_figure

    presets = {
        "light": ("EEGM2 Light", PALETTE[1]),
        "eegm2": ("EEGM2", PALETTE[0]),
    }  # as in the other figures
    runtimes = {"torch": ("torch", "-"), "onnx": ("ONNX Runtime", "--")}
    pushes = sorted({row["push"] for row in result["rows"]})
    with figure_style():
        drawn = new_figure(3.8, 9.4)
        left, right = drawn.subplots(1, 2)
        for (preset, (name, colour)), (runtime, (engine, line)) in itertools.product(
            presets.items(), runtimes.items()
        ):
            which = (preset, runtime, 1)
            rows = [row for row in result["rows"] if (row["preset"], row["runtime"], row["threads"]) == which]
            x = [row["push"] for row in rows]
            left.plot(
                x,
                [r["median_ms"] for r in rows],
                f"o{line}",
                markersize=4,
                color=colour,
                label=f"{name}, {engine}",
            )
            left.plot(x, [r["p99_ms"] for r in rows], "_", color=colour, markersize=10)
        left.plot(pushes, [1e3 * n / result["sfreq_hz"] for n in pushes], ":", color=MUTED, label="real time")
        left.set_title("Time per push, ms: median, and 99 % (bar)")
        left.set(xscale="log", yscale="log", xlabel="samples per push")
        log_ticks(left.xaxis)
        log_ticks(left.yaxis)
        left.set_xticks(pushes)
        left.set_ylim(top=3 * left.get_ylim()[1])
        direct_legend(left, loc="upper left", ncols=2)
        for hour in result["hours"]:
            name, colour = presets[hour["preset"]]
            resident = hour["resident_mib"]
            right.plot(range(1, len(resident) + 1), resident, color=colour, label=name)
        right.set_title("Memory of the process, MiB")
        right.set(xlabel="minutes of EEG streamed")
        right.set_ylim(0, 1.15 * max(max(hour["resident_mib"]) for hour in result["hours"]))
        direct_legend(right, loc="lower right")
        path.write_bytes(svg_file(drawn))
