"""What is measured, as data: one `Measurement` is one process."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eegm2.benchmark.config import OURS, PEERS, BenchmarkConfig

Work = Literal[
    "forward", "blocks", "train", "scan", "scan-train",
    "first-forward", "first-train", "first-prepare", "first-decision", "help", "info",
    "prepare", "pretrain", "embed", "probe",
]  # fmt: skip
Precision = Literal["float32", "bfloat16", "int8"]
Cache = Literal["", "cold", "warm"]
#: Works of a new process until its first result, and of whole commands on recordings.
FIRST = ("first-forward", "first-train", "first-prepare", "first-decision", "help", "info")
COMMANDS = ("prepare", "pretrain", "embed", "probe")

#: A recording of one hour at 128 Hz.
HOUR = 460_800
#: Lengths at which every model is measured: whole patches of every peer, but for the first.
LENGTHS = (50, 400, 1400, 4000, 12_800)


@dataclass(frozen=True)
class Measurement:
    """One thing to measure.

    Attributes
    ----------
    work : str
        forward: without gradients; blocks: the same in blocks of time; train: a training step; scan: the scan
        alone at (batch, n_times, 8, 64, d_state 16), scan-train: with its gradients; one of `FIRST`: a new
        process until that has been done; one of `COMMANDS`: that command on recordings.
    model : str
        Network; for the scan "eegm2" (the compiled one) or "plain".
    n_times, batch, threads, n_chans, width : int
        Sizes.
    precision : {"float32", "bfloat16", "int8"}
        Of the products of the network.
    keep_memory : bool
        Whether freed memory stays in the process, as in ``eegm2 pretrain``.
    cache : {"", "cold", "warm"}
        Of `FIRST`: whether the kernels have been compiled before.
    data : str
        Of `COMMANDS`: name of the folder of recordings; empty: the bundled ones.
    """

    work: Work
    model: str
    n_times: int
    batch: int = 1
    threads: int = 1
    precision: Precision = "float32"
    n_chans: int = 16
    width: int = 64
    keep_memory: bool = False
    cache: Cache = ""
    data: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return dataclasses.asdict(self)

    def title(self) -> str:
        """Return a line that says what is measured."""
        how = "" if self.precision == "float32" else f" in {self.precision}"
        how += ", freed memory kept" if self.keep_memory else ""
        if self.work in FIRST:
            model = "" if self.work in ("help", "info", "first-prepare") else f" {self.model}"
            return f"{self.work}{model}" + (f", {self.cache} cache" if self.cache else "")
        if self.work in COMMANDS:
            return f"{self.work} {self.model} on {self.data or 'the bundled recordings'}"
        how += f", {self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.work} {self.model}, {self.batch} × {self.n_chans} × {self.n_times}{how}"


@dataclass(frozen=True)
class Grid:
    """Every combination of models, lengths and batch sizes of one kind of work."""

    work: Work
    models: tuple[str, ...]
    lengths: tuple[int, ...]
    batch: tuple[int, ...] = (1,)
    precision: Precision = "float32"
    keep_memory: bool = False
    cache: Cache = ""
    threads: int = 0  # 0: all

    def combinations(self) -> Iterator[Measurement]:
        """Yield them, models side by side: what is compared is measured close in time."""
        for batch in self.batch:
            for length in self.lengths:
                for model in self.models:
                    yield Measurement(
                        self.work,
                        model,
                        length,
                        batch,
                        self.threads,
                        precision=self.precision,
                        keep_memory=self.keep_memory,
                        cache=self.cache,
                    )


#: A new process until its first result.
PROCESSES = (
    Grid("help", ("eegm2",), (0,)),
    Grid("info", ("eegm2",), (0,)),
    *(Grid("first-forward", ("light", "eegm2"), (1400,), cache=cache) for cache in ("warm", "cold")),
    *(Grid("first-train", ("light", "eegm2"), (1400,), cache=cache) for cache in ("warm", "cold")),
    *(Grid("first-prepare", ("eegm2",), (0,), cache=cache) for cache in ("warm", "cold")),
    *(Grid("first-decision", ("eegm2",), (0,), cache=cache) for cache in ("warm", "cold")),
)
#: Whole commands, in windows of 4 s at 128 Hz.
WORK = (
    Grid("prepare", ("eegm2",), (0,)),
    Grid("pretrain", ("eegm2", "covariance"), (512,), batch=(64,)),
    Grid("embed", ("eegm2", "covariance"), (512,), batch=(64,)),
    Grid("probe", ("eegm2",), (512,), batch=(64,)),
)
OWN = ("light", "eegm2", "covariance")
SIZED = (*OWN, *PEERS)
#: Never the fastest of the peers, and most of the time of all of them: measured behind the others.
SLOW_PEERS = ("BENDR", "EEGPT")
FIRST_SIZED = tuple(name for name in SIZED if name not in SLOW_PEERS)


def _aimed(models: tuple[str, ...]) -> tuple[Grid, ...]:
    """Return the inputs that aims compare models on."""
    return (
        Grid("forward", models, (1400, 12_800)),
        Grid("forward", models, (1400, 12_800), batch=(16,)),
        Grid("train", models, (1400, 12_800)),
        Grid("forward", models, (400, 4000), batch=(1, 16)),
    )


#: The comparisons behind the aims come first: a run that is cut short after some 15 minutes has them.
PAPER = (
    *_aimed(FIRST_SIZED)[:1],
    Grid("forward", ("light", "eegm2"), (HOUR,)),
    *PROCESSES[:4],
    *_aimed(FIRST_SIZED)[1:],
    Grid("forward", ("eegm2", "light"), (50,)),
    *_aimed(SLOW_PEERS),
    *WORK[1:3],
    Grid("forward", ("plain", "s3", "s4"), (12_800,)),
    Grid("scan", ("eegm2", "plain"), (12_800,)),
    Grid("train", ("plain",), (12_800,)),
    Grid("blocks", ("eegm2", "light"), (12_800, HOUR)),
    *PROCESSES[4:],
    *WORK,
    Grid("train", SIZED, (400, 1400), batch=(16,)),
    Grid("train", SIZED, (400, 4000)),
    Grid("train", ("eegm2", "light"), (4000, 12_800), batch=(16,)),
    *(Grid("forward", SIZED, LENGTHS[1:], batch=(batch,), threads=1) for batch in (1, 16)),
    Grid("train", SIZED, LENGTHS[1:], threads=1),
    Grid("forward", ("s1", "s3", "s4", "s5", "plain"), LENGTHS),
    Grid("forward", PEERS, (50,)),
    Grid("train", ("s3", "s5", "plain"), (1400, 12_800)),
    Grid("forward", ("eegm2", "light"), (12_800,), precision="bfloat16"),
    Grid("forward", ("eegm2", "light"), (12_800,), precision="int8"),
    Grid("scan-train", ("eegm2", "plain"), (12_800,)),
    Grid("train", ("eegm2", "plain"), (12_800,), keep_memory=True),
    Grid("train", SIZED, LENGTHS[1:], batch=(16,), threads=1),
    Grid("train", SIZED, (4000, 12_800), batch=(16,)),
    Grid("forward", ("eegm2", "light"), (51_200, 153_600)),
    Grid("forward", ("plain", "s5"), (1400,), batch=(16,)),
)
DEFAULT = (
    Grid("forward", ("eegm2", "light"), (512, 1280, 12_800)),
    Grid("forward", ("eegm2", "light"), (512,), batch=(32,)),
    Grid("train", ("eegm2",), (512, 12_800)),
)
QUICK = (Grid("forward", ("eegm2", "light"), (512,)),)
SUITES: dict[str, tuple[Grid, ...]] = {
    "default": DEFAULT,
    "paper": PAPER,
    "first": PROCESSES,
    "work": WORK,
    "quick": QUICK,
}


def measurements(config: BenchmarkConfig) -> list[Measurement]:
    """Return what a configuration asks for, in order and without repetition."""
    found = (m for grid in grids(config) for m in grid.combinations())
    return list(dict.fromkeys(_sized(m, config) for m in found))


def _sized(m: Measurement, config: BenchmarkConfig) -> Measurement:
    """Return a measurement with the sizes and the recordings of a run."""
    changes: dict[str, Any] = {"n_chans": config.n_chans, "width": config.width}
    changes["threads"] = config.threads or min(m.threads or available_cores(), available_cores())
    if m.work in COMMANDS:
        changes["data"] = Path(config.data).resolve().name if config.data else ""
    return dataclasses.replace(m, **changes)


def grids(config: BenchmarkConfig) -> tuple[Grid, ...]:
    """Return the suite, or the combinations that the options name."""
    suite = SUITES["quick" if config.quick else config.suite]
    if not (config.models or config.lengths or config.batch or config.train or config.peers):
        return suite
    ours = OURS[:2]
    models = config.models or ((*ours, *PEERS) if config.peers else ours)
    if config.models and config.peers:
        models = tuple(dict.fromkeys((*models, *PEERS)))
    lengths = config.lengths or ((512,) if config.quick else (512, 1280, 12_800))
    works: tuple[Work, ...] = ("forward", "train") if config.train else ("forward",)
    return tuple(Grid(work, models, lengths, config.batch or (1,)) for work in works)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
