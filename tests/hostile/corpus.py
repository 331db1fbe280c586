"""Count what becomes of damaged recordings: ``python -m tests.hostile.corpus --per-kind 1000``.

Writes docs/results/corpus.json and the table that the documentation shows. With EEGM2_TEST_DATA naming a
folder of real recordings, those are damaged too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mne
import scipy

import eegm2
from tests.hostile.headset_seeds import write_headset_seeds
from tests.hostile.mutations import Mutant, mutate, mutate_as_users
from tests.hostile.own_files import make, try_one
from tests.hostile.seeds import Seed, write_seeds
from tests.hostile.worker import MEMORY_MB, ROOT, TIME_S, Reader

RESULTS = ROOT / "docs" / "results"
Damage = Callable[[Seed, int, Path], Mutant]
OF_USERS, OWN = "what users do", "files of our own"
#: Formats in which what users do is tried: all but those whose bytes hide the names.
USED = ("edf", "bdf", "set", "set+fdt", "brainvision", "fif", "gdf")
OUTCOMES = ("read", "refused", "judged", "differs", "escaped", "memory", "crash", "hang")
FAILURES = ("differs", "escaped", "memory", "crash", "hang")
REAL = {
    "edf": "eegmmidb/**/*R01.edf",
    "bdf": "formats/*.bdf",
    "set+fdt": "formats/*.set",
    "epoc": "epoc_eyes/**/*_eeg.edf",
}


def real_seeds(root: Path) -> list[tuple[Seed, tuple[str, ...]]]:
    """Return one real recording of each kind below `root`, with its channels."""
    from eegm2.data.files.readers import companion_files, read_raw
    from eegm2.data.signal.preprocessing import default_channels

    found = []
    for kind, pattern in REAL.items():
        for path in sorted(root.glob(pattern))[:1]:
            channels = default_channels(read_raw(path), path.name)
            found.append((Seed(f"real {kind}", path, (path, *companion_files(path))), channels))
    return found


def count(
    seed: Seed, channels: tuple[str, ...], numbers: range, reader: Reader, damage: Damage = mutate
) -> Counter[str]:
    """Return how many damaged copies came to which outcome."""
    counts: Counter[str] = Counter()
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            mutant = damage(seed, number, Path(folder))
            outcome = reader.read(mutant.main, channels)
            counts[outcome["outcome"]] += 1
            counts["judged"] += outcome.get("judged") in ("equal", "differs")
            counts["differs"] += outcome.get("judged") == "differs"
            if outcome["outcome"] not in ("read", "refused") or outcome.get("judged") == "differs":
                print(mutant.name, outcome, flush=True)
    return counts


def own_files(numbers: range) -> dict[str, int]:
    """Return how many damaged copies of stores, runs, probes, evaluations and heads came to which outcome."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "made")
        for number in numbers:
            kind, said = try_one(Path(folder) / "made", number, Path(folder) / "copy")
            counts[kind] += 1
            if kind == "escaped":
                print(number, said, flush=True)
            shutil.rmtree(Path(folder) / "copy")
    return {name: counts[name] for name in OUTCOMES}


def main() -> None:
    """Run the corpus, or some of its rows, and write the counts; rows that are not run stay as they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-kind", type=int, default=1000, help="damaged copies of each small recording")
    parser.add_argument("--own", type=int, default=2000, help="damaged copies of files of our own")
    parser.add_argument("--per-real", type=int, default=100, help="damaged copies of each real recording")
    parser.add_argument("--per-user", type=int, default=60, help="copies of each format with faults of users")
    parser.add_argument("--only", nargs="+", help="rows to run, e.g. xdf (default: all)")
    options = parser.parse_args()

    def wanted(kind: str) -> bool:
        return not options.only or kind in options.only

    rows: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder, Reader() as reader:
        small = write_seeds(Path(folder))
        jobs: list[tuple[str, Seed, tuple[str, ...], int, Damage]] = [
            (seed.kind, seed, seed.channels, options.per_kind, mutate)
            for seed in [*small, *write_headset_seeds(Path(folder))]
        ]
        jobs += [
            (OF_USERS, seed, seed.channels, options.per_user, mutate_as_users)
            for seed in small
            if seed.kind in USED
        ]
        if root := os.environ.get("EEGM2_TEST_DATA"):
            jobs += [
                (seed.kind, seed, channels, options.per_real, mutate)
                for seed, channels in real_seeds(Path(root))
            ]
        for row, seed, channels, copies, damage in jobs:
            if wanted(row):
                found = count(seed, channels, range(copies), reader, damage)
                rows[row] = rows.get(row, Counter()) + found
                print(f"{row:14}", seed.kind, dict(found), flush=True)
    counts = {row: {name: found[name] for name in OUTCOMES} for row, found in rows.items()}
    if wanted(OWN):
        counts[OWN] = own_files(range(options.own))
        print(OWN, counts[OWN], flush=True)
    keep(counts, whole=not options.only)


def keep(counts: dict[str, dict[str, int]], *, whole: bool) -> None:
    """Write counts and their table; where they are not the `whole`, beside the rows that are kept already."""
    command = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    path = RESULTS / "corpus.json"
    RESULTS.mkdir(parents=True, exist_ok=True)
    result = {
        "counts": counts,
        "limits": {"memory_mb": MEMORY_MB, "time_s": TIME_S},
        "versions": {"eegm2": eegm2.__version__, "mne": mne.__version__, "scipy": scipy.__version__},
        "python": platform.python_version(),
        "commit": commit,
    }
    if not whole and path.exists():
        kept = json.loads(path.read_text())
        rows = {**kept["counts"], **counts}
        commits = {**kept.get("commits", {}), **dict.fromkeys(counts, commit)}
        result = {**kept, "counts": rows, "commits": commits}
    path.write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "corpus.md").write_text(table(result))


def table(result: dict) -> str:
    """Return the counts as a table in Markdown."""
    lines = [
        "| recording | damaged copies | read | of these judged by another reader "
        "| refused with file and reason | failures |",
        "| --- " * 6 + "|",
    ]
    total: Counter[str] = Counter()
    for kind, counts in result["counts"].items():
        total.update(counts)
        lines.append(_row(kind, counts))
    limits, versions = result["limits"], result["versions"]
    return "\n".join(
        [
            *lines,
            _row("all", total),
            "",
            f"Limits: {limits['memory_mb']} MB beyond the idle process, {limits['time_s']:g} s a file. "
            f"MNE {versions['mne']}, SciPy {versions['scipy']}. Failures: samples that another reader reads "
            "otherwise, crash, hang, out of memory, or an exception that nobody foresaw.",
            "",
        ]
    )


def _row(kind: str, counts: dict[str, int]) -> str:
    failures = sum(counts.get(name, 0) for name in FAILURES)
    copies = sum(counts.get(name, 0) for name in OUTCOMES if name not in ("judged", "differs"))
    read, judged = counts["read"], counts.get("judged", 0)
    return f"| {kind} | {copies:,} | {read:,} | {judged:,} | {counts['refused']:,} | {failures:,} |"


if __name__ == "__main__":
    main()
