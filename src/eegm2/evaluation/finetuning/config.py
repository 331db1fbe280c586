"""Declared choices of ``eegm2 finetune`` (no heavy import here)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from eegm2.config import NOT_NEGATIVE, expect, option
from eegm2.data.config import Scaling
from eegm2.errors import ConfigError
from eegm2.evaluation.config import (
    BEGIN_HELP,
    CENTRE_HELP,
    FEATURES_HELP,
    Centre,
    Features,
    FitConfig,
    ProbeConfig,
    refuse_centred,
)

Head = Literal["light", "flatten", "statistics", "attention"]


@dataclass(frozen=True)
class FinetuneConfig:
    """How a network learns a task with labels and is kept."""

    protocol: Literal["fine", "light"] = option(
        "fine", "fine: the whole network learns; light: it stays, and the head learns on its features."
    )
    head: Head = option(
        "light",
        "fine: light: 128-32 perceptron on --features, which streams; flatten: the paper's, tied to one "
        "length; statistics, attention: of the mediator, any length.",
    )
    features: Features | None = option(
        None, FEATURES_HELP[:-1] + "; none given: what the network usually gives."
    )
    centre: Centre = option("none", CENTRE_HELP, later=True)
    begin: Literal["random", "probe"] = option("random", BEGIN_HELP, later=True)
    lr: float = option(0.0, "Learning rate of AdamW; 0: 1e-4 for fine, 1e-3 for light.")
    weight_decay: float = option(1e-2, "Weight decay of AdamW.")
    batch_size: int = option(64, "Windows per step.")
    max_epochs: int = option(0, "Most passes over the training windows; 0: 30 for fine, 100 for light.")
    patience: int = option(0, "Epochs without a better validation loss before stopping; 0: 5 and 10.")
    layer_decay: float = option(1.0, "fine: learning rate factor per level away from the head; 1 is off.")
    freeze: tuple[str, ...] = option(
        (), "fine: parameters to keep, as patterns on their names, e.g. network.encoder.block1.*"
    )
    seed: int = option(0, "Seed of fresh weights, order and dropout.")
    target: str = option("", "annotations, or a participant attribute such as group; empty: as pretrained.")
    classes: tuple[str, ...] = option((), "Labels to keep, in this order; none: all found.")
    window_s: float | None = option(None, "Window length in seconds; none given: as pretrained.")
    stride_s: float | None = option(None, "Step between windows in seconds; none given: the window's length.")
    label_rule: Literal["whole", "majority", "centre"] = option(
        "whole", "whole: one label covers the window; majority: more than half; centre: one per span."
    )
    exclude_s: tuple[str, ...] = option(
        (), "Stretches of every recording to leave out, start:stop in seconds."
    )
    by: Literal["subject", "recording"] = option("subject", "What is never divided between splits.")
    split_seed: int = option(0, "Seed of the split, where the run's own split does not apply.")
    val: float = option(0.15, "Share of subjects who say when to stop.")
    test: float = option(0.15, "Share of subjects on whom it is judged.")
    threshold: Literal["validation", "half"] = option(
        "validation", "Two classes: threshold by balanced accuracy on validation data, or half."
    )
    scaling: Scaling | None = option(None, "Scaling of the windows; none given: as pretrained.")
    which: Literal["best", "last"] = option("best", "Checkpoint of the run.")
    positions: str = option("", "CSV table of electrode positions, for networks of any electrodes.")
    allow_mismatch: bool = option(
        False, "Go on although the store's preprocessing differs from the checkpoint's."
    )
    device: str = option("cpu", "cpu, cuda or mps.")

    def __post_init__(self) -> None:
        expect(self, NOT_NEGATIVE, "lr", "max_epochs", "patience")
        if self.protocol == "light" and self.head != "light":
            raise ConfigError(f"head: got '{self.head}' with --protocol light, which has its own; use fine")
        refuse_centred(self.centre, self.head)
        if self.begin == "probe" and self.head != "statistics":
            raise ConfigError(f"begin: got 'probe' with head '{self.head}'; it is for --head statistics")
        self.fit()
        self.probe("statistics")

    def fit(self) -> FitConfig:
        """Return how the network or head is fitted."""
        light = self.protocol == "light"
        return FitConfig(
            lr=self.lr or (1e-3 if light else 1e-4),
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs or (100 if light else 30),
            patience=self.patience or (10 if light else 5),
            head="statistics" if self.head == "light" else self.head,
            begin=self.begin,
            layer_decay=self.layer_decay,
            freeze=self.freeze,
            threshold=self.threshold,
            device=self.device,
        )

    def probe(self, features: Features) -> ProbeConfig:
        """Return the same choices of windows and split as a probe takes them."""
        own = {field.name for field in dataclasses.fields(self)}
        shared = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(ProbeConfig)
            if field.name in own and field.name not in ("features", "centre")
        }
        return ProbeConfig(protocols=(self.protocol,), seeds=1, features=features, **shared)
