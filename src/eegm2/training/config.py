"""Every choice of a pretraining run; no heavy import here.

The defaults are the values of the authors' code, but for the number of epochs: theirs is 500.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eegm2.config import option
from eegm2.data.config import SCALING_HELP, Scaling, SplitConfig, WindowConfig
from eegm2.errors import ConfigError

Loss = Literal["l1+spectral", "l1", "mse+spectral"]
Spectrum = Literal["complex", "amplitude"]
Norm = Literal["backward", "ortho", "forward"]


@dataclass(frozen=True)
class ModelOptions:
    """Which network."""

    preset: Literal["eegm2", "s1", "s3", "s4", "s5", "unet"] = option(
        "eegm2", "Network; s1, s3, s4, s5 are the paper's ablations. The light preset is any eegm2's encoder."
    )
    width: int = option(64, "Channels at full time resolution (w of the paper).")


@dataclass(frozen=True)
class DataOptions:
    """Which windows, and who is held out."""

    window_s: float = option(4.0, "Length of a window in seconds.")
    stride_s: float | None = option(
        None, "Step between window starts in seconds; none given: the window's length."
    )
    scaling: Scaling = option("quantile95", SCALING_HELP)
    exclude_s: tuple[str, ...] = option(
        (), "Stretch of every recording to leave out, start:stop in seconds, e.g. 0:5; repeat for more."
    )
    val: float = option(0.15, "Share of the subjects for validation; 0 leaves it out.")
    test: float = option(0.15, "Share of the subjects kept unseen for a later probe; 0 leaves it out.")
    by: Literal["subject", "recording"] = option(
        "subject", "What a split never divides; recording is for the data of one person."
    )
    official: bool = option(True, "Keep the data set's own test part where it has one.")
    split_seed: int = option(0, "Seed of the split.")
    splits: str = option("", "Use this split manifest (JSON with lists train, val, test) instead of drawing.")

    def window_config(self) -> WindowConfig:
        """Return how windows are cut."""
        return WindowConfig(
            window_s=self.window_s, stride_s=self.stride_s, scaling=self.scaling, exclude_s=self.exclude_s
        )

    def split_config(self) -> SplitConfig:
        """Return how subjects are divided."""
        return SplitConfig(
            seed=self.split_seed, val=self.val, test=self.test, by=self.by, official=self.official
        )


@dataclass(frozen=True)
class ObjectiveOptions:
    """What is minimised."""

    objective: Literal["reconstruction", "masked", "denoising"] = option(
        "reconstruction", "Task: the paper's, or reconstruct what was hidden, or what was covered by noise."
    )
    loss: Loss = option(
        "l1+spectral", "Eq. 1 of the paper; l1 alone (S2); squares in place of absolute values."
    )
    spectrum: Spectrum = option(
        "complex", "Spectral term: complex spectra (the paper's formula) or amplitudes (its text)."
    )
    norm: Norm = option(
        "backward", "Transform's normalisation: none (the paper's), ortho (1/√n_times), forward (1/n_times)."
    )
    alpha: float = option(1.0, "Weight of the time term.")
    beta: float = option(1.0, "Weight of the spectral term.")
    mask_patch_s: float = option(0.25, "Masked: length of a hidden stretch of time in seconds.")
    mask_time: float = option(0.5, "Masked: share of the time hidden in all channels.")
    mask_channels: float = option(0.0, "Masked: share of the channels hidden throughout.")
    mask_loss: Literal["hidden", "all"] = option("hidden", "Masked: where the loss is taken.")
    noise: float = option(0.5, "Denoising: white noise, in standard deviations of each channel.")
    pops: float = option(0.1, "Denoising: probability of an electrode pop per channel and window.")


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
    weight_decay: float = option(
        1e-2, "AdamW's weight decay, on norms and biases too; A_log, D and dt_bias take none."
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


@dataclass(frozen=True)
class PretrainConfig(
    HardwareOptions, RunOptions, OptimiserOptions, ObjectiveOptions, DataOptions, ModelOptions
):
    """A pretraining run.

    Raises
    ------
    ConfigError
        If a value cannot be used; the message names the option, the value and what is expected.

    References
    ----------
    EEGM2, arXiv 2502.17873, section 4; where text and code differ, the defaults follow the code.
    """

    @property
    def n_epochs(self) -> int:
        """Training passes that will be made."""
        return 1 if self.fast_dev_run else self.epochs

    def __post_init__(self) -> None:
        self.window_config()
        self.split_config()
        for name in ("width", "epochs", "batch_size", "accumulate", "log_every_steps", "num_nodes"):
            _check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "seed",
            "split_seed",
            "patience",
            "workers",
            "checkpoint_every_steps",
            "overfit_batches",
            "checkpoint_windows",
        ):
            _check(self, name, getattr(self, name) >= 0, "0 or more")
        for name in ("max_lr", "div_factor", "final_div_factor", "mask_patch_s"):
            _check(self, name, getattr(self, name) > 0, "a number above 0")
        for name in ("alpha", "beta", "weight_decay", "gradient_clip", "gradient_ema_gain", "noise"):
            _check(self, name, getattr(self, name) >= 0, "0 or more")
        for name in ("pct_start", "mask_time", "mask_channels", "pops"):
            _check(self, name, 0 <= getattr(self, name) <= 1, "a share between 0 and 1")
        for name in ("ema_decay", "gradient_ema"):
            _check(self, name, 0 <= getattr(self, name) < 1, f"0 <= {name} < 1")
        if self.objective == "masked" and self.mask_time == self.mask_channels == 0:
            raise ConfigError("mask_time, mask_channels: both are 0, so nothing is masked; raise one of them")
        if self.patience and self.val == 0 and not self.splits:
            raise ConfigError(
                f"patience: got {self.patience} without validation; set val above 0 or patience to 0"
            )
        for name in ("ema_decay", "gradient_ema"):
            if getattr(self, name) and self.strategy == "fsdp":
                given = f"{name}: got {getattr(self, name)} with strategy fsdp"
                raise ConfigError(f"{given}, which shards weights; use strategy ddp")
        if self.checkpoint_blocks and self.preset == "unet":
            raise ConfigError(
                "checkpoint_blocks: preset unet has no sequence blocks; leave --checkpoint-blocks off"
            )
        if self.checkpoint_windows and not self.checkpoint_blocks:
            raise ConfigError(
                f"checkpoint_windows: got {self.checkpoint_windows} without checkpoint_blocks; "
                "give --checkpoint-blocks too"
            )


def _check(config: PretrainConfig, name: str, good: bool, expected: str) -> None:
    if not good:
        raise ConfigError(f"{name}: got {getattr(config, name)}, expected {expected}")


#: Options that may differ when a run goes on: they change where and how it is watched, not what is computed.
FREE_ON_RESUME = frozenset(
    {
        "workers",
        "checkpoint_every_steps",
        "log_every_steps",
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "compile",
        "checkpoint_blocks",
        "splits",
    }
)
