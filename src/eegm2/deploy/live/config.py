"""Declared choices of ``eegm2 calibrate`` (no heavy import here)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eegm2.config import NOT_NEGATIVE, SECONDS, expect, option
from eegm2.data.config import POSITIONS_HELP, Scaling
from eegm2.deploy.config import RecordConfig
from eegm2.errors import ConfigError
from eegm2.evaluation.config import AUTO_HELP, FEATURES_HELP, Features
from eegm2.records import Kind

#: Fewest blocks of a class from which a head is fitted and judged.
LEAST_BLOCKS = 2


@dataclass(frozen=True)
class CalibrateConfig(RecordConfig):
    """What ``eegm2 calibrate`` asks of a person, and how the head is fitted on it."""

    cue: tuple[str, ...] = option(
        ("eyes_open:20", "eyes_closed:20"),
        "A class and the seconds of one block of it, e.g. left_hand:8; repeat, two classes or more.",
    )
    rounds: int = option(4, "Blocks of each class; every second round goes backwards.")
    pause_s: float = option(3.0, "Seconds before each block, which belong to none.")
    settle_s: float = option(1.0, "Seconds at the start of each block that are not learnt from.")
    baseline_s: float = option(20.0, "Seconds of baseline before the blocks, from which the scale is taken.")
    contact: Literal["refuse", "warn"] = option(
        "refuse", "What to do where channels that the model needs are flat, loose, clip or carry the mains."
    )
    contact_s: float = option(30.0, "How long to wait for good contact before the baseline.")
    person: str = option("", "Who wears the device; kept with the calibration, another's is refused.")
    features: Literal["auto", Features] = option("auto", AUTO_HELP + FEATURES_HELP)
    scaling: Scaling | None = option(None, "Scaling by the baseline; none given: as pretrained.")
    window_s: float | None = option(None, "Length of a window in seconds; none given: as pretrained.")
    hop_s: float = option(0.5, "Seconds between two decisions.")
    wrong: float = option(
        0.1, "Share of wrong decisions that is aimed at when the threshold is chosen (--enter of a stream)."
    )
    positions: str = option("", POSITIONS_HELP)
    aliases: tuple[str, ...] = option(
        (), "Another name of a channel, as 'name in the source=our name'; repeat for more."
    )
    seed: int = option(0, "Draws the blocks on which the penalty is chosen.")

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [label for label, _ in self.cues()]
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise ConfigError(
                f"cue: got {', '.join(names) or 'none'}; expected two classes or more, each named once"
            )
        blocks = f"at least {LEAST_BLOCKS} blocks of each class: one is left out to judge the head"
        expect(self, Kind(blocks, lambda rounds: rounds >= LEAST_BLOCKS), "rounds")
        expect(self, SECONDS, "baseline_s", "hop_s", "contact_s", "window_s")
        expect(self, NOT_NEGATIVE, "settle_s")
        expect(self, Kind("a share above 0 and below 0.5", lambda share: 0 < share < 0.5), "wrong")
        if self.duration_s:
            raise ConfigError("duration_s: cues and rounds say how long a calibration takes")
