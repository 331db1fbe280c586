"""Declared choices of ``eegm2 predict`` (no heavy import here)."""

from __future__ import annotations

from dataclasses import dataclass

from eegm2.config import AT_LEAST_1, SECONDS, SHARE, expect, option


@dataclass(frozen=True)
class PredictConfig:
    """How a kept model is applied to recordings."""

    head: str = option(
        "",
        "Head of the model: its name (linear, light, fine), or a file of eegm2 head; none given: the first.",
    )
    stride_s: float | None = option(None, "Step between windows in seconds; none given: the window's length.")
    threshold: float | None = option(
        None, "Two classes: probability from which the second is decided; none given: as it was learnt."
    )
    positions: str = option(
        "", "CSV table of electrode positions (name,x,y,z), for networks of any electrodes."
    )
    allow_mismatch: bool = option(
        False, "Go on although a store's preprocessing differs from that of the model's data."
    )
    reaction: bool = option(
        True, "Also find out what the model reacts to: channels replaced and rhythms halved in some windows."
    )
    batch_size: int = option(64, "Windows per forward pass.")
    device: str = option("cpu", "cpu, cuda or mps.")

    def __post_init__(self) -> None:
        expect(self, SECONDS, "stride_s")
        expect(self, SHARE, "threshold")
        expect(self, AT_LEAST_1, "batch_size")
