"""The options of a pretraining run in groups; no heavy import here.

The defaults are the values of the authors' code, but for the number of epochs: theirs is 500.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eegm2.config import option
from eegm2.data.config import (
    POSITIONS_HELP,
    SCALING_HELP,
    DatasetOptions,
    Scaling,
    SplitConfig,
    WindowConfig,
)
from eegm2.model.config import TRAINED, MixerOptions

Decayed = Literal["all", "matrices"]


@dataclass(frozen=True)
class ModelOptions(MixerOptions):
    """Which network."""

    preset: str = option(
        "eegm2",
        "Network; s1, s3, s4, s5 are the paper's ablations, the light preset is any eegm2's encoder; "
        "covariance takes any electrodes.",
        parts=TRAINED,
    )
    width: int = option(64, "Channels at full time resolution (w of the paper).")
    network: tuple[str, ...] = option(
        (), "Another size of the network, e.g. d_state=8 or n_virtual=12; repeat for more."
    )
    init: str = option(
        "",
        "Begin with the weights of this model (run, folder, file or name) in place of random ones.",
    )


@dataclass(frozen=True)
class DataOptions(DatasetOptions):
    """Which windows, and who is held out."""

    window_s: float = option(4.0, "Length of a window in seconds.")
    stride_s: float | None = option(
        None, "Step between window starts in seconds; none given: the window's length."
    )
    scaling: Scaling = option("quantile95", SCALING_HELP)
    exclude_s: tuple[str, ...] = option(
        (), "Stretch of every recording to leave out, start:stop in seconds, e.g. 0:5; repeat for more."
    )
    reject_uv: float = option(
        0.0, "Leave out windows in which a sample exceeds this many microvolts either way; 0 keeps all."
    )
    val: float = option(0.15, "Share of the subjects for validation; 0 leaves it out.")
    test: float = option(0.15, "Share of the subjects kept unseen for a later probe; 0 leaves it out.")
    by: Literal["subject", "recording"] = option(
        "subject", "What a split never divides; recording is for the data of one person."
    )
    official: bool = option(True, "Keep the data set's own test part where it has one.")
    split_seed: int = option(0, "Seed of the split.")
    share: tuple[str, ...] = option(
        (),
        "Several stores: a store and its share of the training, e.g. eyes=0.5, or equal; repeat for more; "
        "none given: in proportion to the windows.",
    )
    positions: str = option("", POSITIONS_HELP)
    splits: str = option("", "Use this split manifest (JSON with lists train, val, test) instead of drawing.")

    def window_config(self) -> WindowConfig:
        """Return how windows are cut."""
        return WindowConfig(
            window_s=self.window_s,
            stride_s=self.stride_s,
            scaling=self.scaling,
            exclude_s=self.exclude_s,
            reject_uv=self.reject_uv,
            dataset=self.dataset,
            dataset_options=self.dataset_options,
        )

    def split_config(self) -> SplitConfig:
        """Return how subjects are divided."""
        return SplitConfig(
            seed=self.split_seed, val=self.val, test=self.test, by=self.by, official=self.official
        )


@dataclass(frozen=True)
class OptimiserOptions:
    """How it is minimised: AdamW with a one-cycle rate."""

    epochs: int = option(20, "Training passes over the windows (the paper: 500).")
    batch_size: int = option(64, "Windows per batch, over all devices together.")
    accumulate: int = option(1, "Batches per optimiser step.")
    max_lr: float = option(5e-4, "Highest learning rate of the cycle.")
    pct_start: float = option(0.1, "Share of the steps that warm up (the paper's text: 0.3, its code: 0.1).")
    div_factor: float = option(2.0, "First rate: max_lr divided by this.")
    final_div_factor: float = option(100.0, "Last rate: first rate divided by this.")
    weight_decay: float = option(1e-2, "AdamW's weight decay; A_log, D and dt_bias take none.")
    decayed: Decayed = option(
        "all", "What it acts on: all weights, norms and biases too (the authors'), or matrices alone."
    )
    gradient_clip: float = option(1.0, "Largest 2-norm of the gradient; 0 leaves it as it is.")
    ema_decay: float = option(
        0.0, "Decay of a moving average of the weights, e.g. 0.999, which is then validated and kept; 0: off."
    )
    gradient_ema: float = option(
        0.0, "Decay of a moving average of the gradients that is added to them, e.g. 0.98; 0: off."
    )
    gradient_ema_gain: float = option(2.0, "Weight of that average.")
    seed: int = option(0, "Seed of weights, order and masks.")
    patience: int = option(0, "Stop after so many epochs without a better validation loss; 0: never.")


@dataclass(frozen=True)
class RunOptions:
    """How the run is kept, watched and tried out."""

    workers: int = option(0, "Processes that read windows; 0 reads in the main one.")
    checkpoint_every_steps: int = option(
        500, "Also save the whole state after so many optimiser steps; 0: at the end of epochs only."
    )
    log_every_steps: int = option(50, "Optimiser steps between entries of logs/steps.csv and TensorBoard.")
    on_nonfinite: Literal["stop", "skip"] = option(
        "stop",
        "When a loss or gradient is not finite: stop and name its windows, or skip the step and count.",
    )
    overfit_batches: int = option(
        0,
        "Train and validate on the first so many batches only, unshuffled: the loss should go to zero.",
    )
    fast_dev_run: bool = option(False, "One epoch of two batches, to see whether everything fits.")


@dataclass(frozen=True)
class HardwareOptions:
    """Where it runs."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = option("auto", "Kind of device.")
    devices: str = option("auto", "How many devices (a number), which (0,1), or auto.")
    num_nodes: int = option(1, "Machines.")
    strategy: Literal["auto", "ddp", "fsdp"] = option(
        "auto", "Several devices: ddp copies the model to each, fsdp shards it (GPUs only)."
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = option(
        "32-true", "Arithmetic; the scan's state and the loss stay in float32."
    )
    compile: bool = option(False, "Compile the network with torch.compile.")
    checkpoint_blocks: bool = option(
        False, "Compute every sequence block again for its gradient: less memory, a longer step."
    )
    checkpoint_windows: int = option(
        0, "With --checkpoint-blocks: compute so many windows at a time; fewer need less memory; 0: all."
    )
