"""Markdown tables from a document of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eegm2.benchmark.aims import LONG, aims
from eegm2.benchmark.config import PEERS
from eegm2.benchmark.process_tables import command_table, first_table, process_lines
from eegm2.benchmark.results import Results, display_name, number, table
from eegm2.benchmark.suites import COMMANDS, FIRST

Record = dict[str, Any]
#: Name of the section; see the snippets of pymdownx.
SECTION = "tables"
SFREQ_HZ = 128  # of the paper: what real time means


def markdown(document: Record, figures: Sequence[str] = ()) -> str:
    """Return the whole page: figures, origin, aims, time, memory, training, bound, precision, what failed.

    All but the figures is a section of its own that another page can include.

    Parameters
    ----------
    document : dict
        As written by ``eegm2 benchmark --out``.
    figures : sequence of str
        Paths of images, relative to the page.
    """
    results = Results(document)
    parts = [f"![Time and memory against length]({figure})" for figure in figures]
    parts += [f"<!-- --8<-- [start:{SECTION}] -->", _origin(results), _aims(results)]
    parts += [_side_by_side(results), first_table(results), command_table(results)]
    for work, title in (("forward", "Forward pass"), ("train", "Training step (loss, backward, AdamW)")):
        parts += _networks(results, work, title)
        if work == "forward":
            parts += _networks(results, "blocks", "In blocks of time (reconstruct_long, encode_long)")
    parts += [_kept(results), _scan(results), _bound(results), _precision(results), _notes(results)]
    parts.append(f"<!-- --8<-- [end:{SECTION}] -->")
    return "\n\n".join(part for part in parts if part) + "\n"


def _origin(results: Results) -> str:
    document = results.document
    host, code = document["machine"], document["code"]
    threads = sorted({r["measurement"]["threads"] for r in results.records})
    loads = [r["load"] for r in results.records if r.get("load") is not None]
    versions = ", ".join(f"{name} {version}" for name, version in code["versions"].items())
    lines = [
        f"{host['processor']}, {host['cores']} cores, {host['memory_gb']:g} GB, {host['system']}, "
        f"{' '.join(host['instructions'])}; {', '.join(map(str, threads))} threads per measurement.",
        f"{versions}; commit {(code['commit'] or 'unknown')[:12]}; {document['created']}.",
    ]
    if loads:
        lines.append(
            f"Load average of the machine before each measurement: {min(loads):g} to {max(loads):g}."
        )
    bounds = document["bounds"]
    lines.append(
        f"Bounds of one measurement: {bounds['timeout_s']:g} s, {bounds['memory_gb']:g} GB resident. "
        "Medians, quartiles in brackets."
    )
    return "\n".join(lines)


def _aims(results: Results) -> str:
    rows = []
    for aim in aims(results):
        value = "–" if aim.value is None else f"{aim.value:.2f}"
        rows.append((aim.text, aim.target, value, aim.verdict, aim.note))
    return "### Aims\n\n" + table(("aim", "asked", "measured", "", "from"), rows, left=5)


def _side_by_side(results: Results) -> str:
    """Return size, time and memory of ours and the peers on one input."""
    rows = []
    for name in results.models("forward"):
        found = [results.find(work, name, LONG) for work in ("forward", "train")]
        sizes = [r["parameters"] for r in found if r is not None and "parameters" in r]
        if not sizes:
            continue
        cells = ["" if r is None else cell(r) for r in found for cell in (_milliseconds, _megabytes)]
        rows.append((display_name(name), f"{sizes[0] / 1e6:,.2f}", *cells))
    header = ("model", "parameters, millions", "forward, ms", "MB above idle", "training step, ms", "MB")
    title = f"### Side by side, batch 1 × {LONG:,}\n\n"
    return title + table(header, rows) if rows else ""


def _networks(results: Results, work: str, title: str) -> list[str]:
    """Return the tables of time and memory of every batch size, and of time on fewer threads."""
    parts = []
    for batch in sorted({r["measurement"]["batch"] for r in results.select(work)}):
        parts.append(_by_length(results, work, batch, f"{title}, ms", _milliseconds))
        parts.append(_by_length(results, work, batch, f"{title}, peak memory above idle, MB", _megabytes))
    for threads in sorted({r["measurement"]["threads"] for r in results.records} - {results.threads}):
        noun = f"{threads} thread{'s' * (threads > 1)}"
        for batch in sorted({r["measurement"]["batch"] for r in results.select(work, threads=threads)}):
            parts.append(
                _by_length(results, work, batch, f"{title}, {noun}, ms", _milliseconds, threads=threads)
            )
    return parts


def _by_length(
    results: Results,
    work: str,
    batch: int,
    title: str,
    cell: Callable[[Record], str],
    threads: int | None = None,
) -> str:
    tried = [r for r in results.select(work, batch, threads=threads) if r["status"] != "not run"]
    lengths = sorted({r["measurement"]["n_times"] for r in tried})  # the notes tell of the rest
    rows = []
    for model in results.models(work, threads):
        found = [results.find(work, model, length, batch, threads=threads) for length in lengths]
        cells = ["" if r is None or r["status"] == "not run" else cell(r) for r in found]
        if any(cells):
            rows.append((display_name(model), *cells))
    if not rows:
        return ""
    header = ("model", *(f"{length:,}" for length in lengths))
    return f"### {title}, batch {batch}\n\nColumns are lengths in samples.\n\n" + table(header, rows)


def _milliseconds(record: Record) -> str:
    if record["status"] != "ok":
        return record["status"]
    s = record["seconds"]
    return f"{number(1e3 * s['median'])} ({number(1e3 * s['q25'])}–{number(1e3 * s['q75'])})"


def _megabytes(record: Record) -> str:
    return f"{record['memory_mb']:,.0f}" if record["status"] == "ok" else record["status"]


def _scan(results: Results) -> str:
    rows = []
    for work, words in (("scan", "forward"), ("scan-train", "with gradients")):
        for r in results.select(work):
            m = r["measurement"]
            name = "plain, chunks of 256" if m["model"] == "plain" else "ours"
            rows.append((f"{name}, {words}", f"{m['n_times']:,}", _milliseconds(r), _megabytes(r)))
    header = ("scan alone (8 heads of 64, d_state 16)", "steps", "ms", "MB above idle")
    return "### Scan\n\n" + table(header, rows) if rows else ""


def _kept(results: Results) -> str:
    rows = []
    for r in results.select("train", keep_memory=True):
        m = r["measurement"]
        rows.append(
            (display_name(m["model"]), f"{m['batch']} × {m['n_times']:,}", _milliseconds(r), _megabytes(r))
        )
    header = ("training step", "input", "ms", "MB above idle")
    title = "### Freed memory kept in the process, as eegm2 pretrain does\n\n"
    return title + table(header, rows) if rows else ""


def _bound(results: Results) -> str:
    rows = []
    for r in results.records:
        if r["status"] != "ok" or "bound" not in r:
            continue
        m, b, seconds = r["measurement"], r["bound"], r["seconds"]["median"]
        if m["threads"] != results.threads:
            continue
        rows.append(
            (
                f"{display_name(m['model'])}, {m['work']}",
                f"{m['batch']} × {m['n_times']:,}",
                number(1e3 * seconds),
                f"{b['gflop']:.2f}",
                f"{b['gflop_per_s']:.0f}",
                number(1e3 * b["at_rate_s"]),
                f"{b['at_rate_s'] / seconds:.0%}",
                number(1e3 * b["alone_s"]),
                f"{b['alone_s'] / seconds:.0%}",
            )
        )
    header = ("network", "input", "ms", "GFLOP", "GFLOP/s", "at that rate, ms", "share", "alone, ms", "share")
    text = (
        "### Bound\n\nThe matrix products of linear layers and convolutions alone: their operations at the "
        "highest rate measured on square products in the same process, and the same at their own shapes. "
        "Embedding and first linear layer count as the one convolution that they multiply out to in a "
        "forward pass. A training step counts three products for each of the network's layers.\n\n"
    )
    return text + table(header, rows) if rows else ""


def _precision(results: Results) -> str:
    rows = []
    for r in results.records:
        m = r["measurement"]
        if m["precision"] == "float32":
            continue
        full = results.seconds(m["work"], m["model"], m["n_times"], m["batch"])
        ok = r["status"] == "ok"
        ratio = f"{full / r['seconds']['median']:.2f}" if ok and full is not None else "–"
        error = f"{r['error']:.1e}" if ok else "–"
        rows.append(
            (display_name(m["model"]), m["precision"], f"{m['n_times']:,}", _milliseconds(r), ratio, error)
        )
    header = ("network", "precision", "steps", "ms", "times faster than float32", "largest error")
    text = (
        "### Lower precision\n\nbfloat16 by autocast, int8 by dynamically quantised mixers; "
        "the error is relative to the largest value, with random weights.\n\n"
    )
    return text + table(header, rows, left=2) if rows else ""


def _notes(results: Results) -> str:
    failed: dict[tuple[str, str], list[str]] = {}
    changed: dict[tuple[str, str], list[str]] = {}
    for r in results.records:
        m = r["measurement"]
        if r["status"] != "ok":
            key = (display_name(m["model"]), f"{r['status']}: {r['reason']}")
            failed.setdefault(key, []).append(_what(m, results.threads))
        elif m["model"] in PEERS:
            for change in r.get("changes", ()):
                changed.setdefault((display_name(m["model"]), change), []).append(f"{m['n_times']:,}")
    parts = []
    if failed:
        lines = [f"- {name}, {', '.join(where)}: {why}" for (name, why), where in failed.items()]
        parts.append("### Without a time\n\n" + "\n".join(lines))
    if changed:
        lines = []
        for (name, change), where in changed.items():
            lengths = "" if "input of" not in change else f" (at {', '.join(dict.fromkeys(where))})"
            lines.append(f"- {name}: {change}{lengths}")
        parts.append("### What the peers made us change\n\n" + "\n".join(lines))
    methods = sorted({r["memory_method"] for r in results.records if "memory_method" in r})
    if methods:
        parts.append(f"Memory: {'; '.join(methods)}; idle is after imports, building and a short warm-up.")
    return "\n\n".join(parts)


def _what(m: Record, threads: int) -> str:
    """Return what was to be measured, in few words."""
    if m["work"] in (*FIRST, *COMMANDS):
        return m["work"] + (f" ({m['cache']} cache)" if m.get("cache") else "")
    fewer = "" if m["threads"] == threads else f" on {m['threads']} thread{'s' * (m['threads'] > 1)}"
    return f"{m['work']} {m['batch']} × {m['n_times']:,}{fewer}"


def overview(document: Record) -> str:
    """Return milliseconds, memory, and how much faster than real time, as lines for a terminal."""
    lines = []
    networks = [r for r in document["results"] if r["measurement"]["work"] not in (*FIRST, *COMMANDS)]
    if networks:
        lines.append(f"{'':30}{'ms':>10}{'MB':>8}{'× real time':>14}")
    for r in networks:
        m = r["measurement"]
        name = f"{m['work']} {display_name(m['model'])}, {m['batch']} × {m['n_times']:,}"
        if r["status"] != "ok":
            lines.append(f"{name}: {r['status']}, {r['reason']}")
            continue
        seconds = r["seconds"]["median"]
        speed = m["batch"] * m["n_times"] / SFREQ_HZ / seconds
        lines.append(f"{name:30}{number(1e3 * seconds):>10}{r['memory_mb']:>8,.0f}{speed:>14,.0f}")
    return "\n".join([*lines, *process_lines(document)])
