"""What ``eegm2 benchmark`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eegm2.config import option
from eegm2.errors import ConfigError

#: Networks of this package, in the order of the tables; "plain" is EEGM2 with the plain chunk-256 scan.
OURS = ("eegm2", "light", "s1", "s3", "s4", "s5", "plain", "covariance")
#: Networks of braindecode.
PEERS = ("BIOT", "BENDR", "EEGPT", "CBraMod", "LUNA", "EEGConformer", "Labram")


@dataclass(frozen=True)
class BenchmarkConfig:
    """Options of a benchmark run.

    Attributes
    ----------
    suite : {"default", "paper", "first", "work"}
        What is measured where nothing else is named.
    models, lengths, batch : tuple
        Measure these instead of the suite's; every combination of the three.
    threads : int
        Threads of every measurement; 0 takes what the suite says, else one per core.
    data : str
        Folder of labelled recordings for the suite "work"; empty: those that the package brings.
    train, peers, quick : bool
        Add training steps; add the peers from braindecode; only a few small measurements.
    timeout_s, memory_gb, minutes : float
        Bounds of one measurement's process (memory_gb 0: 80 % of what is free at the start), and of the run.

    Raises
    ------
    ConfigError
        If a value is out of range or a model is unknown.
    """

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
        known = (*OURS, *PEERS)
        for name in self.models:
            if name not in known:
                raise ConfigError(f"models: got '{name}', expected one of {', '.join(known)}")
        for field, least in (("n_chans", 1), ("width", 1), ("threads", 0)):
            if getattr(self, field) < least:
                raise ConfigError(f"{field}: got {getattr(self, field)}, expected at least {least}")
        for field in ("timeout_s", "minutes"):
            if not getattr(self, field) > 0:
                raise ConfigError(f"{field}: got {getattr(self, field)}, expected more than 0")
        if self.memory_gb < 0:
            raise ConfigError(f"memory_gb: got {self.memory_gb}, expected 0 or more")
        for length in self.lengths:
            if length < 8:
                raise ConfigError(f"lengths: got {length}, expected at least 8 samples")
        for size in self.batch:
            if size < 1:
                raise ConfigError(f"batch: got {size}, expected at least 1")
