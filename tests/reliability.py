"""Run the long reliability suites; keep their counts in docs/results, a table and the README.

    python -m tests.reliability                  # everything, hours on two cores
    python -m tests.reliability "prepare --jobs 2" pretrain --kills 50
    python -m tests.reliability --table          # only write the table again

The corpus of damaged files and the planted faults have their own commands, ``python -m tests.hostile.corpus``
and ``python -m tests.mutation.run``; their stored counts enter the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


def prepare_kills(folder: Path, kills: int) -> dict[str, Any]:
    from tests.data.preparing.test_prepare_killed import prepare_kills

    return prepare_kills(folder, kills=kills, seed=2)


def isolated_kills(folder: Path, kills: int) -> dict[str, Any]:
    from tests.data.preparing.test_prepare_killed import prepare_kills

    return prepare_kills(folder, kills=kills, seed=4, isolated=True)


def pretrain_kills(folder: Path, kills: int) -> dict[str, Any]:
    from tests.training.pretrain_kills import pretrain_kills

    return pretrain_kills(folder, kills=kills, seed=2)


def probe_kills(folder: Path, kills: int) -> dict[str, Any]:
    from tests.evaluation.probing.test_kill import probe_kills

    return probe_kills(folder, kills=kills, seed=2)


def evaluate_kills(folder: Path, kills: int) -> dict[str, Any]:
    from tests.evaluation.experiment.test_kill import campaign

    return campaign(folder, "band_power", kills=kills, seed=2)


def two_processes(folder: Path, kills: int) -> dict[str, Any]:
    """Train alone and in two gloo processes; return the largest relative difference of any loss."""
    from tests.training.stores import tiny_store
    from tests.training.test_ddp import losses, pretrain

    tiny_store(folder / "store")
    worst, compared = 0.0, 0
    for objective in ("reconstruction", "masked"):
        runs = []
        for devices in ("1", "2"):
            runs.append(folder / f"{objective}{devices}")
            strategy = ["--strategy", "ddp"] if devices == "2" else []
            pretrain(folder / "store", runs[-1], "--objective", objective, "--devices", devices, *strategy)
        one, two = map(losses, runs)
        compared += len(one)
        worst = max(worst, *(abs(a - b) / abs(a) for a, b in zip(one, two)))
    return {"losses": compared, "largest_difference": worst, "failures": [] if worst < 1e-4 else ["differs"]}


SUITES: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "prepare --no-isolate": prepare_kills,
    "prepare --jobs 2": isolated_kills,
    "pretrain": pretrain_kills,
    "probe": probe_kills,
    "evaluate": evaluate_kills,
    "ddp": two_processes,
}


def circumstances() -> dict[str, str]:
    """Commit, machine and versions of a result; the results kept so far do not make a checkout dirty."""
    import torch

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/results", ":!README.md")
    commit = git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    return {
        "commit": os.environ.get("EEGM2_COMMIT") or commit or "unknown",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def damaged_files(corpus: dict[str, Any]) -> tuple[int, int]:
    """Return how many damaged files were tried, and how many were neither read rightly nor refused."""
    from tests.hostile.corpus import FAILURES

    counts = list(corpus["counts"].values())
    failed = sum(count.get(name, 0) for count in counts for name in FAILURES)
    unforeseen = sum(count.get(name, 0) for count in counts for name in FAILURES if name != "differs")
    return unforeseen + sum(count["read"] + count["refused"] for count in counts), failed


def planted_faults() -> str:
    """Return the kept counts of planted faults in words."""
    from tests.mutation import run

    found = run.counts(run.load(run.RESULTS))
    return (
        f"{found['tried']:,} of {found['mutants_in_all']:,} single faults planted, in {found['modules']} of "
        f"{found['modules_in_all']} modules that compute: "
        f"{found['killed']:,} seen by a test, {found['equivalent']} change nothing, "
        f"{found['survived']} not seen; {share(found['killed'], found['killed'] + found['survived'])}"
        f" (when first met: {'; '.join(first_sight(found['first']))})"
    )


def first_sight(first: dict[str, dict[str, int]]) -> list[str]:
    """Return, in words, what the tests saw of each round of planted faults when they met it first."""
    said = []
    for met, count in first.items():
        seen, of = count.get("killed", 0), count.get("killed", 0) + count.get("survived", 0)
        said.append(f"{met}, {seen} of {of}, {interval(seen, of)}")
    return said


def share(hits: int, trials: int) -> str:
    """Return a share of the faults that change something, see :func:`interval`."""
    return f"{interval(hits, trials)} of those that change something"


def interval(hits: int, trials: int) -> str:
    """Return a share with the interval of Wilson that holds it in 95 of 100 samples."""
    from math import sqrt

    z, p = 1.959964, hits / trials
    middle = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * sqrt(p * (1 - p) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return f"{p:.0%} [{middle - half:.0%}, {middle + half:.0%}]"


def summary(results: dict[str, Any], corpus: dict[str, Any]) -> str:
    """Return the counts in words, for the README."""
    kills = [f"{result['kills']} of `{name}`" for name, result in results.items() if name != "ddp"]
    differences = sum(len(result["failures"]) for name, result in results.items() if name != "ddp")
    damaged, failed = damaged_files(corpus)
    return (
        f"- SIGKILLs at random moments: {', '.join(kills)}; {differences} runs ended differently.\n"
        f"- One process and two: {results['ddp']['losses']} losses compared, the largest relative difference "
        f"{results['ddp']['largest_difference']:.0e}.\n"
        f"- Damaged files: {damaged:,}; {failed} neither read rightly nor refused by name.\n"
        f"- Tests: {planted_faults()}.\n"
    )


def readme(text: str, counts: str) -> str:
    """Return the README with the counts in their place."""
    return re.sub(r"(?<=<!-- counts -->\n).*?(?=<!-- end -->)", lambda _: counts, text, flags=re.DOTALL)


def table(results: dict[str, Any], corpus: dict[str, Any]) -> str:
    """Return the Markdown table of the documentation."""
    rows = []
    for name, result in results.items():
        where = f"{result['commit']}, {result['machine']}"
        failures = len(result["failures"])
        if name == "ddp":
            what = f"{result['losses']} losses of one and of two processes compared"
            outcome = f"largest relative difference {result['largest_difference']:.1e}; {failures} failures"
        else:
            runs = f" in {result['runs']} runs" if "runs" in result else ""
            what = f"`eegm2 {name}`: {result['kills']} SIGKILLs at random moments{runs}"
            hit = [f"{place} {count}" for place, count in result.get("places", {}).items() if count]
            what += f" ({', '.join(hit)})" if hit else ""
            outcome = f"{failures} differences from an undisturbed run"
        rows.append(f"| {what} | {outcome} | {where} |")
    damaged, failed = damaged_files(corpus)
    rows.append(f"| {damaged:,} damaged files | {failed} failures | {corpus['commit'][:7]} |")
    what, _, outcome = planted_faults().partition(": ")
    rows.append(f"| {what} | {outcome} | as kept in mutants.json |")
    return "\n".join(["| suite | outcome | commit, machine |", "| --- | --- | --- |", *rows]) + "\n"


def stored() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the kept results of this command and of the corpus."""
    path = RESULTS / "reliability.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    return results, json.loads((RESULTS / "corpus.json").read_text())


def main() -> int:
    """Run suites; return 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="which (default: all)")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--table", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    failed = False
    for name in () if arguments.table else arguments.suites or SUITES:
        with tempfile.TemporaryDirectory() as place:
            about = circumstances()  # of the code as it is now, whatever changes while it runs
            result = {**SUITES[name](Path(place), arguments.kills), **about}
        failed |= bool(result["failures"])
        results, _ = stored()
        results[name] = result
        kept = {key: results[key] for key in SUITES if key in results}
        (RESULTS / "reliability.json").write_text(json.dumps(kept, indent=1) + "\n")
        print(json.dumps({name: result}), flush=True)
    (RESULTS / "reliability.md").write_text(table(*stored()))
    page = ROOT / "README.md"
    page.write_text(readme(page.read_text(), summary(*stored())))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
