"""Table, figure and the aims met or not, from the JSON that streaming.py wrote."""

from __future__ import annotations

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


def figure(result: dict[str, Any], path: Path) -> None:
    """Draw the time per push on one thread, and memory over the hour."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "eegm2"
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), constrained_layout=True)
    colours = {
        ("light", "torch"): "C0",
        ("light", "onnx"): "C2",
        ("eegm2", "torch"): "C1",
        ("eegm2", "onnx"): "C3",
    }
    for (preset, runtime), colour in colours.items():
        rows = [
            r for r in result["rows"] if (r["preset"], r["runtime"], r["threads"]) == (preset, runtime, 1)
        ]
        x = [r["push"] for r in rows]
        left.plot(x, [r["median_ms"] for r in rows], "o-", color=colour, label=f"{preset}, {runtime}")
        left.plot(x, [r["p99_ms"] for r in rows], "_", color=colour, markersize=12)
    pushes = sorted({r["push"] for r in result["rows"]})
    left.plot(pushes, [1e3 * p / result["sfreq_hz"] for p in pushes], "k:", label="real time")
    left.set(xscale="log", yscale="log", xlabel="samples per push", ylabel="ms per push (bar: 99 %)")
    left.set_xticks(pushes, [str(p) for p in pushes])
    left.minorticks_off()
    left.legend(fontsize=8)
    for hour in result["hours"]:
        resident = hour["resident_mib"]
        right.plot(range(1, len(resident) + 1), resident, label=hour["preset"])
    right.set(xlabel="minutes of EEG streamed", ylabel="memory of the process, MiB")
    right.set_ylim(0, 1.15 * max(max(hour["resident_mib"]) for hour in result["hours"]))
    right.legend(loc="lower right")
    fig.savefig(path, metadata={"Date": None})
