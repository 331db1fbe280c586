"""Every choice of a pretraining run; no heavy import here.

The defaults are the values of the authors' code, but for the number of epochs: theirs is 500.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from eegm2.config import option
from eegm2.data.config import POSITIONS_HELP, SCALING_HELP, Scaling, SplitConfig, WindowConfig
from eegm2.errors import ConfigError
from eegm2.model.config import ALL_PRESETS, EEGM2Config
from eegm2.training.objectives.options import (
    TOGETHER,
    WITHOUT_DECODER,
    AugmentOptions,
    ObjectiveOptions,
    OscillatoryOptions,
)


@dataclass(frozen=True)
class ModelOptions:
    """Which network."""

    preset: Literal["eegm2", "s1", "s3", "s4", "s5", "unet", "covariance"] = option(
        "eegm2",
        "Network; s1, s3, s4, s5 are the paper's ablations, the light preset is any eegm2's encoder; "
        "covariance takes any electrodes.",
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
            window_s=self.window_s, stride_s=self.stride_s, scaling=self.scaling, exclude_s=self.exclude_s
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
    HardwareOptions,
    RunOptions,
    OptimiserOptions,
    AugmentOptions,
    OscillatoryOptions,
    ObjectiveOptions,
    DataOptions,
    ModelOptions,
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

    def read_positions(self) -> dict[str, tuple[float, float, float]] | None:
        """Return the user's positions of electrodes, if any were given."""
        from eegm2.data.electrodes import read_positions

        return read_positions(self.positions) if self.positions else None

    def network_config(self, n_chans: int, sfreq_hz: float) -> EEGM2Config:
        """Return the network's shape for a number of channels and a sampling rate.

        Raises
        ------
        ConfigError
            If an entry of `network` cannot be used.
        """
        changes: dict[str, Any] = {}
        hints = get_type_hints(EEGM2Config)
        for text in self.network:
            name, _, value = text.partition("=")
            kind = hints.get(name)
            if kind not in (int, float) or name in ("n_chans", "width", "sfreq_hz"):
                sizes = [field for field, of in hints.items() if of in (int, float)]
                known = ", ".join(sorted(set(sizes) - {"n_chans", "width", "sfreq_hz"}))
                raise ConfigError(f"network: got {text!r}, expected a size and its value; sizes are {known}")
            try:
                changes[name] = kind(value)
            except ValueError:
                raise ConfigError(f"network: got {text!r}, expected {name}=NUMBER") from None
        if self.objective in WITHOUT_DECODER:
            changes["decoder"] = False
        if ALL_PRESETS[self.preset].get("embedding") == "covariance":
            changes["sfreq_hz"] = sfreq_hz
        shape = {"n_chans": n_chans, "width": self.width, **changes}
        return EEGM2Config.preset(self.preset, **shape)

    @property
    def together(self) -> int:
        """Windows of a recording that a batch takes together."""
        compares = self.objective == "oscillatory" and (
            self.contrast > 0 or (self.tangent > 0 and self.centre_targets == "recording")
        )
        if self.windows_per_recording == 0:
            return min(TOGETHER, self.batch_size) if compares else 1
        if compares and self.windows_per_recording == 1:
            raise ConfigError(
                "windows_per_recording: got 1, but centring by recording and contrast compare windows of a "
                "recording; give 2 or more, or --centre-targets window and --contrast 0"
            )
        return self.windows_per_recording

    def __post_init__(self) -> None:
        self.window_config()
        self.split_config()
        if self.batch_size % self.together:
            raise ConfigError(
                f"windows_per_recording: got {self.together} with batch_size {self.batch_size}, expected a "
                "divisor of it"
            )
        for name in (
            "hide_chunks",
            "width",
            "epochs",
            "batch_size",
            "accumulate",
            "log_every_steps",
            "num_nodes",
        ):
            _check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "seed",
            "split_seed",
            "patience",
            "workers",
            "checkpoint_every_steps",
            "overfit_batches",
            "checkpoint_windows",
            "windows_per_recording",
        ):
            _check(self, name, getattr(self, name) >= 0, "0 or more")
        for name in (
            "max_lr",
            "div_factor",
            "final_div_factor",
            "mask_patch_s",
            "patch_s",
            "contrast_temperature",
        ):
            _check(self, name, getattr(self, name) > 0, "a number above 0")
        for name in (
            *("alpha", "beta", "weight_decay", "gradient_clip", "gradient_ema_gain", "noise", "hide_radius"),
            *("band_power", "tangent", "latent", "neighbours", "pooled"),
            *("variance", "covariance", "contrast"),
            *("gain_db", "aperiodic_noise"),
        ):
            _check(self, name, getattr(self, name) >= 0, "0 or more")
        for name in (
            *("pct_start", "mask_time", "mask_channels", "pops", "hide_time"),
            *("channel_subsets", "channel_dropout", "sign", "rereference"),
        ):
            _check(self, name, 0 <= getattr(self, name) <= 1, "a share between 0 and 1")
        if (
            self.objective == "oscillatory"
            and self.band_power == self.tangent == self.latent == self.neighbours == self.contrast == 0
        ):
            raise ConfigError(
                "band_power, tangent, latent, neighbours, contrast: all are 0, so nothing is learnt; "
                "raise one of them"
            )
        if self.neighbours and self.neighbours_s < self.window_s:
            raise ConfigError(
                f"neighbours_s: got {self.neighbours_s:g} with windows of {self.window_s:g} s, expected at "
                "least a window's length: windows that overlap are no neighbours"
            )
        for name in ("ema_decay", "gradient_ema", "teacher_decay", "teacher_decay_end"):
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
