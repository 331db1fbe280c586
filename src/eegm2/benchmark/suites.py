"""What is measured, as data: one `Measurement` is one process."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from eegm2.benchmark.config import OURS, PEERS, BenchmarkConfig

Work = Literal["forward", "blocks", "train", "scan", "scan-train"]
Precision = Literal["float32", "bfloat16", "int8"]

#: A recording of one hour at 128 Hz.
HOUR = 460_800
#: Lengths at which every model is measured: whole patches of every peer, but for the first.
LENGTHS = (50, 400, 1400, 4000, 12_800)


@dataclass(frozen=True)
class Measurement:
    """One thing to measure.

    Attributes
    ----------
    work : {"forward", "blocks", "train", "scan", "scan-train"}
        Without gradients; the same in blocks of time; a training step; the scan alone at
        (batch, n_times, 8, 64, d_state 16), and with its gradients.
    model : str
        Network; for the scan "eegm2" (the compiled one) or "plain".
    n_times, batch, threads, n_chans, width : int
        Sizes.
    precision : {"float32", "bfloat16", "int8"}
        Of the products of the network.
    keep_memory : bool
        Whether freed memory stays in the process, as in ``eegm2 pretrain``.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return dataclasses.asdict(self)

    def title(self) -> str:
        """Return a line that says what is measured."""
        how = "" if self.precision == "float32" else f" in {self.precision}"
        how += ", freed memory kept" if self.keep_memory else ""
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
                        precision=self.precision,
                        keep_memory=self.keep_memory,
                    )


#: The comparisons behind the aims come first: a run that is cut short has them.
PAPER = (
    Grid("forward", ("eegm2", "plain", "light", "s5"), (12_800,)),
    Grid("scan", ("eegm2", "plain"), (12_800,)),
    Grid("train", ("eegm2", "plain"), (12_800,)),
    Grid("forward", ("eegm2", "light"), (HOUR,)),
    Grid("blocks", ("eegm2", "light"), (12_800, HOUR)),
    Grid("forward", ("light", *PEERS), (12_800,)),
    Grid("forward", ("light", "plain", "s5", *PEERS), (1400,)),
    Grid("forward", ("eegm2", "light"), (12_800,), precision="bfloat16"),
    Grid("forward", ("eegm2", "light"), (12_800,), precision="int8"),
    Grid("scan-train", ("eegm2", "plain"), (12_800,)),
    Grid("train", ("eegm2", "plain"), (12_800,), keep_memory=True),
    Grid("forward", ("eegm2", "light", "s1", "s3", "s5", "plain"), LENGTHS),
    Grid("forward", PEERS, LENGTHS),
    Grid("train", ("eegm2", "light", "s3", "s5", "plain"), (1400, 12_800)),
    Grid("train", PEERS, (1400,)),
    Grid("forward", ("eegm2", "light", "plain", "s5", *PEERS), (1400,), batch=(16,)),
    Grid("forward", ("eegm2", "light"), (51_200, 153_600)),
    Grid("train", PEERS, (12_800,)),
)
DEFAULT = (
    Grid("forward", ("eegm2", "light"), (512, 1280, 12_800)),
    Grid("forward", ("eegm2", "light"), (512,), batch=(32,)),
    Grid("train", ("eegm2",), (512, 12_800)),
)
QUICK = (Grid("forward", ("eegm2", "light"), (512,)),)
SUITES: dict[str, tuple[Grid, ...]] = {"default": DEFAULT, "paper": PAPER, "quick": QUICK}


def measurements(config: BenchmarkConfig) -> list[Measurement]:
    """Return what a configuration asks for, in order and without repetition."""
    threads = config.threads or available_cores()
    found = [m for grid in grids(config) for m in grid.combinations()]
    changes: dict[str, Any] = {"threads": threads, "n_chans": config.n_chans, "width": config.width}
    return list(dict.fromkeys(dataclasses.replace(m, **changes) for m in found))


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
