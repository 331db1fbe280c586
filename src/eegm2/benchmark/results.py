"""Measurements looked up in a document of results, whether they meet an aim, and Markdown tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from eegm2.benchmark.config import OURS, PEERS

NAMES = {
    "eegm2": "EEGM2",
    "light": "EEGM2 Light",
    "s1": "S1 (one convolution)",
    "s3": "S3 (Mamba-1)",
    "s4": "S4 (S1 and S3)",
    "s5": "S5 (attention)",
    "plain": "EEGM2, plain scan",
    "covariance": "Covariance",
    "Labram": "LaBraM",
}


def display_name(model: str) -> str:
    """Return a model's name for people."""
    return NAMES.get(model, model)


@dataclass(frozen=True)
class Results:
    """The measurements of a document.

    Attributes
    ----------
    document : dict
        As `eegm2.benchmark.run.run` returns it.
    """

    document: dict[str, Any]

    @property
    def threads(self) -> int:
        """The number of threads of the main tables: the largest of any network."""
        counts = [r["measurement"]["threads"] for r in self.records]
        return max(counts, default=1)

    @property
    def records(self) -> list[dict[str, Any]]:
        """All measurements in the order in which they were made."""
        return list(self.document["results"])

    def find(
        self,
        work: str,
        model: str,
        n_times: int,
        batch: int = 1,
        precision: str = "float32",
        *,
        threads: int | None = None,
        cache: str = "",
    ) -> dict[str, Any] | None:
        """Return the measurement of that name, or None; of several `threads` that of the main tables."""
        wanted = {"model": model, "n_times": n_times, "cache": cache}
        found = self.select(work, batch, precision, threads=threads)
        return next((r for r in found if wanted.items() <= {"cache": "", **r["measurement"]}.items()), None)

    def seconds(
        self, work: str, model: str, n_times: int, batch: int = 1, precision: str = "float32"
    ) -> float | None:
        """Return the median time of a measurement that succeeded, or None."""
        record = self.find(work, model, n_times, batch, precision)
        return record["seconds"]["median"] if record is not None and record["status"] == "ok" else None

    def memory(self, work: str, model: str, n_times: int, batch: int = 1) -> float | None:
        """Return the peak memory above idle of a measurement that succeeded, in MB, or None."""
        record = self.find(work, model, n_times, batch)
        return record["memory_mb"] if record is not None and record["status"] == "ok" else None

    def models(self, work: str, threads: int | None = None) -> list[str]:
        """Return the models measured in float32 at some work, ours first."""
        found = {r["measurement"]["model"] for r in self.select(work, threads=threads)}
        return [name for name in (*OURS, *PEERS) if name in found]

    def select(
        self,
        work: str,
        batch: int | None = None,
        precision: str = "float32",
        keep_memory: bool = False,
        threads: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return the measurements of some work, on the threads of the main tables unless told otherwise."""
        threads = threads or self.threads
        return [
            r
            for r in self.records
            if r["measurement"]["work"] == work
            and r["measurement"]["precision"] == precision
            and r["measurement"]["keep_memory"] == keep_memory
            and r["measurement"]["threads"] == threads
            and batch in (None, r["measurement"]["batch"])
        ]

    def work(self, work: str, model: str = "") -> list[dict[str, Any]]:
        """Return the measurements of a new process or a whole command, on any number of threads."""
        return [
            r
            for r in self.records
            if r["measurement"]["work"] == work and model in ("", r["measurement"]["model"])
        ]


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


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Return a Markdown table; the first `left` columns are text, the others numbers."""
    align = ["---" if i < left else "---:" for i in range(len(header))]
    lines = [header, align, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float) -> str:
    """Return a number with three significant digits, thousands separated."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
