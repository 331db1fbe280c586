"""Run measurements one after another, each in its own process, into a JSON file that can be resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

import eegm2
from eegm2.atomic import write_atomic
from eegm2.benchmark.commands import VARIABLE
from eegm2.benchmark.config import BenchmarkConfig
from eegm2.benchmark.machine import code, load, machine
from eegm2.benchmark.suites import Measurement, measurements
from eegm2.config import to_dict
from eegm2.errors import ConfigError

FORMAT = 1
LOOK_S = 0.02  # how often the process is looked at
#: What a longer input would meet as well.
BOUNDED = ("timeout", "memory")
NETWORKS = ("forward", "blocks", "train")
LEAST_RUNS = 2  # of one measurement


def run(
    config: BenchmarkConfig, out: Path | None = None, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Measure what `config` asks for.

    Parameters
    ----------
    config : BenchmarkConfig
        What to measure.
    out : Path, optional
        JSON file, written after every measurement. What it holds from the same machine, versions and source
        is kept and not measured again, whichever suite it is of; anything else in it is replaced.
    say : callable
        Receives a line of progress per measurement.

    Returns
    -------
    dict
        The content of the file: format, created, machine, code, options, bounds, results.
    """
    begin = time.monotonic()
    if config.data and not Path(config.data).is_dir():
        raise ConfigError(f"data: '{config.data}' is not a folder; name one of recordings with labels")
    bounds = {
        "timeout_s": config.timeout_s,
        "memory_gb": config.memory_gb or round(0.8 * psutil.virtual_memory().available / 2**30, 1),
    }
    document: dict[str, Any] = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "code": code(),
        "options": {**to_dict(config), "data": Path(config.data).name},  # no path of this machine
        "bounds": bounds,
        "results": [],
    }
    todo = measurements(config)
    asked = set(todo)
    kept = finished(out, document, say) if out is not None else {}
    for done, m in enumerate(todo):
        record = kept.get(m)
        if record is None:
            record = {"measurement": m.to_dict(), "load": load()}
            record |= _foreseen(m, document["results"], config.timeout_s) or {}
            if "status" not in record and time.monotonic() - begin > 60 * config.minutes:
                reason = f"the run's {config.minutes:g} minutes were over"
                record |= {"status": "not run", "reason": reason}
            if "status" not in record:
                record |= measure_in_process(m, **bounds, data=config.data)
            say(f"[{done + 1}/{len(todo)}] {m.title()}: {summary(record)}")
        document["results"].append(record)
        if out is not None:
            others = [r for other, r in kept.items() if other not in asked]
            write_results(out, {**document, "results": [*document["results"], *others]})
    document["results"] += [r for other, r in kept.items() if other not in asked]
    return document


def finished(out: Path, document: dict[str, Any], say: Callable[[str], None]) -> dict[Measurement, Any]:
    """Return the measurements in `out` that still hold."""
    if not out.exists():
        return {}
    before = read_results(out)
    same = before["machine"] == document["machine"] and all(
        before["code"][key] == document["code"][key] for key in ("versions", "source_sha256")
    )
    if not same:
        say(f"{out}: of another machine, version or source; measuring anew")
        return {}
    whole = [r for r in before["results"] if r["status"] not in ("not run", "crashed", "too long")]
    if before["bounds"] != document["bounds"]:
        whole = [r for r in whole if r["status"] not in BOUNDED]
    if whole:
        say(f"{out}: {len(whole)} measurements are kept")
    return {Measurement(**r["measurement"]): r for r in whole}


def read_results(path: Path) -> dict[str, Any]:
    """Read a file of results.

    Raises
    ------
    ConfigError
        If it is not one, or of another format.
    """
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise ConfigError(f"{path}: format {document['format']!r}, expected {FORMAT}; measure again")
        for record in document["results"]:
            Measurement(**record["measurement"])
            record["status"]
        document["machine"], document["code"]["versions"], document["bounds"]
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{path}: not a file of benchmark results ({error}); name one that eegm2 benchmark --out wrote"
        ) from error
    return document


def write_results(path: Path, document: dict[str, Any]) -> None:
    """Write results whole or not at all."""
    write_atomic(path, [(json.dumps(document, indent=1) + "\n").encode()])


def _foreseen(m: Measurement, results: list[dict[str, Any]], timeout_s: float) -> dict[str, Any] | None:
    """Return the outcome of what need not be tried, by the same work on a smaller input; None if unknown.

    Where that met its bound a larger input would; and no network takes less than in proportion to its input.
    """
    for record in results:
        smaller = Measurement(**record["measurement"])
        if _alike(m) != _alike(smaller) or smaller.n_times > m.n_times or smaller.batch > m.batch:
            continue
        size = f"{smaller.batch} × {smaller.n_times}"
        if record["status"] in BOUNDED and smaller.threads >= m.threads:
            return {"status": "not run", "reason": f"{size} met its bound ({record['reason']})"}
        if record["status"] == "ok" and m.work in NETWORKS:
            larger = m.batch * m.n_times / (smaller.batch * smaller.n_times)
            expected = larger * record["seconds"]["median"]
            if larger > 1 and smaller.threads >= m.threads and LEAST_RUNS * expected > timeout_s:
                return {"status": "too long", "reason": f"some {expected:.0f} s each, by {size}"}
    return None


def _alike(m: Measurement) -> tuple[Any, ...]:
    return m.work, m.model, m.precision, m.cache, m.data


def measure_in_process(
    m: Measurement, *, timeout_s: float, memory_gb: float, data: str = ""
) -> dict[str, Any]:
    """Measure in a new process and return what it found, or how it ended."""
    root = str(Path(eegm2.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    threads = {
        name: str(m.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    command = [sys.executable, "-m", "eegm2.benchmark.measure", json.dumps(m.to_dict())]
    environment = {**os.environ, **threads, "PYTHONPATH": path, VARIABLE: data}
    return supervise(command, environment, timeout_s, memory_gb)


def supervise(
    command: list[str], environment: dict[str, str], timeout_s: float, memory_gb: float
) -> dict[str, Any]:
    """Run a process within its bounds; return the JSON of its last line, or how it ended.

    Returns
    -------
    dict
        The process's own, with ``wall_s``; or ``status`` "timeout" or "memory" (the bound is in the reason),
        or "crashed" with the exit status and the last line of standard error.
    """
    begin = time.monotonic()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr)
        try:
            ended = _watch(process, begin + timeout_s, memory_gb * 2**30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        wall = {"wall_s": round(time.monotonic() - begin, 2)}
        if ended == "timeout":
            return {"status": "timeout", "reason": f"more than {timeout_s:g} s", **wall}
        if ended == "memory":
            return {"status": "memory", "reason": f"more than {memory_gb:g} GB resident", **wall}
        lines, said = (_lines(file) for file in (stdout, stderr))
    if process.returncode == 0 and lines:
        try:
            return {**json.loads(lines[-1]), **wall}
        except ValueError:
            pass
    reason = f"exit status {process.returncode}: {said[-1][:200] if said else 'no message'}"
    return {"status": "crashed", "reason": reason, **wall}


def _watch(process: subprocess.Popen[bytes], deadline: float, memory: float) -> str | None:
    """Wait for a process; return the bound it crossed, if any."""
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        if time.monotonic() > deadline:
            return "timeout"
        try:
            if watched.memory_info().rss > memory:
                return "memory"
        except psutil.Error:
            pass
        time.sleep(LOOK_S)
    return None


def _lines(file: Any) -> list[str]:
    file.seek(0)
    return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def summary(record: dict[str, Any]) -> str:
    """Return one measurement's outcome as text."""
    if record["status"] != "ok":
        return f"{record['status']} ({record['reason']})"
    median = record["seconds"]["median"]
    if "rate" in record:
        rate = f"{record['rate']:,.4g} {record['unit']}"
        if record["unit"] == "MB/s":
            return f"{rate}; {record['bare']}: {record['bare_rate']:,.4g}"
        return f"{rate}, {record['rate'] / record['bare_rate']:.0%} of {record['bare']}"
    if "memory_mb" not in record:
        beyond = f", {record['beyond_s']['median']:.2f} s beyond import torch" if "beyond_s" in record else ""
        return f"{median:.2f} s{beyond}"
    rate = record["measurement"]["batch"] * record["measurement"]["n_times"] / median
    return f"{1e3 * median:,.1f} ms, {record['memory_mb']:,.0f} MB above idle, {rate:,.0f} samples/s"
