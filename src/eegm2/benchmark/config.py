"""What ``eegm2 benchmark`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eegm2.config import ABOVE_0, AT_LEAST_1, NOT_NEGATIVE, expect, one_of, option
from eegm2.records import Kind

#: Networks of this package, in the order of the tables; "plain" is EEGM2 with the plain chunk-256 scan.
OURS = ("eegm2", "light", "s1", "s3", "s4", "s5", "plain", "covariance")
#: Networks of braindecode.
PEERS = ("BIOT", "BENDR", "EEGPT", "CBraMod", "LUNA", "EEGConformer", "Labram")


@dataclass(frozen=True)
class BenchmarkConfig:
    """Options of a benchmark run; `models`, `lengths` and `batch` are measured in every combination."""

    suite: Literal["default", "paper", "first", "work"] = option(
        "default",
        "Measurements: two minutes' worth; all of the documentation's; what a new process needs until its "
        "first result; prepare, pretrain, embed and probe against what they cannot do without.",
    )
    models: tuple[str, ...] = option((), "Models to measure: presets, plain, braindecode's.")
    lengths: tuple[int, ...] = option((), "Lengths of the input in samples.")
    batch: tuple[int, ...] = option((), "Batch sizes.")
    threads: int = option(0, "Threads of every measurement; 0: as the suite has it, else one per core.")
    data: str = option(
        "", "Folder of recordings with labels for prepare, pretrain, embed and probe; none: the bundled ones."
    )
    train: bool = option(False, "Measure training steps as well (loss, backward, AdamW).")
    peers: bool = option(False, "Measure the peers from braindecode as well.")
    quick: bool = option(False, "Only a few small measurements, some 20 seconds.")
    n_chans: int = option(16, "EEG channels.")
    width: int = option(64, "Width of our networks.")
    timeout_s: float = option(120.0, "Seconds after which one measurement is given up.")
    memory_gb: float = option(0.0, "Resident memory of one measurement; 0 takes 80 % of what is free.")
    minutes: float = option(20.0, "No measurement is started after this many minutes.")

    def __post_init__(self) -> None:
        expect(self, one_of(*OURS, *PEERS, words="one of"), "models")
        expect(self, AT_LEAST_1, "n_chans", "width", "batch")
        expect(self, Kind("at least 8 samples", lambda length: length >= 8), "lengths")
        expect(self, Kind("more than 0", ABOVE_0.fits), "timeout_s", "minutes")
        expect(self, Kind("at least 0", NOT_NEGATIVE.fits), "threads")
        expect(self, NOT_NEGATIVE, "memory_gb")
