"""Every choice of a pretraining run, checked; no heavy import here."""

from __future__ import annotations

from dataclasses import dataclass

from eegm2.config import ABOVE_0, AT_LEAST_1, BELOW_1, NOT_NEGATIVE, SHARE, check_parts, expect
from eegm2.errors import ConfigError
from eegm2.model.config import TRAINED, EEGM2Config, largest_divisor
from eegm2.records import Kind
from eegm2.training.objectives.options import (
    OBJECTIVES,
    TOGETHER,
    AugmentOptions,
    ObjectiveOptions,
    OscillatoryOptions,
)
from eegm2.training.options import (
    DataOptions,
    HardwareOptions,
    ModelOptions,
    OptimiserOptions,
    RunOptions,
)

#: What numbers must be, and the options that are such.
RANGES = (
    (AT_LEAST_1, "width epochs batch_size accumulate log_every_steps num_nodes hide_chunks"),
    (
        NOT_NEGATIVE,
        "seed split_seed patience workers checkpoint_every_steps overfit_batches checkpoint_windows "
        "windows_per_recording alpha beta weight_decay gradient_clip gradient_ema_gain noise hide_radius "
        "band_power tangent latent neighbours pooled variance covariance contrast gain_db aperiodic_noise",
    ),
    (
        Kind("a number above 0", ABOVE_0.fits),
        "max_lr div_factor final_div_factor mask_patch_s patch_s contrast_temperature",
    ),
    (
        SHARE,
        "pct_start mask_time mask_channels pops hide_time channel_subsets channel_dropout sign rereference",
    ),
    (BELOW_1, "ema_decay gradient_ema teacher_decay teacher_decay_end"),
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
        changes = self.changes(self.network)
        if not OBJECTIVES.find(self.objective).decoder:
            changes["decoder"] = False
        if TRAINED.find(self.preset).get("embedding") == "covariance":
            changes["sfreq_hz"] = sfreq_hz
        shape = {"n_chans": n_chans, "width": self.width, **changes}
        return EEGM2Config.preset(self.preset, **shape)

    @property
    def together(self) -> int:
        """Windows of a recording that a batch takes together."""
        compares = self.objective == "oscillatory" and (
            self.contrast > 0 or (self.tangent > 0 and self.centre_targets == "recording")
        )
        found = self.windows_per_recording
        if found == 0:
            found = largest_divisor(self.batch_size, TOGETHER) if compares else 1
        if compares and found == 1:
            raise ConfigError(
                f"windows_per_recording: got 1 with batch_size {self.batch_size}, but centring by recording "
                "and contrast compare windows of a recording; give 2 or more and a multiple of it for the "
                "batch, or --centre-targets window and --contrast 0"
            )
        return found

    def __post_init__(self) -> None:
        check_parts(self)
        self.changes()
        self.window_config()
        self.split_config()
        for kind, names in RANGES:
            expect(self, kind, *names.split())
        for check in (_check_objective, _check_training):
            check(self)


def _check_objective(config: PretrainConfig) -> None:
    """Refuse options of the task that leave nothing to learn or do not fit one another."""
    if config.batch_size % config.together:
        raise ConfigError(
            f"windows_per_recording: got {config.together} with batch_size {config.batch_size}, expected a "
            "divisor of it"
        )
    aims = config.band_power + config.tangent + config.latent + config.neighbours + config.contrast
    if config.objective == "oscillatory" and aims == 0:
        raise ConfigError(
            "band_power, tangent, latent, neighbours, contrast: all are 0, so nothing is learnt; "
            "raise one of them"
        )
    if config.neighbours and config.neighbours_s < config.window_s:
        raise ConfigError(
            f"neighbours_s: got {config.neighbours_s:g} with windows of {config.window_s:g} s, expected at "
            "least a window's length: windows that overlap are no neighbours"
        )
    if config.objective == "masked" and config.mask_time == config.mask_channels == 0:
        raise ConfigError("mask_time, mask_channels: both are 0, so nothing is masked; raise one of them")


def _check_training(config: PretrainConfig) -> None:
    """Refuse ways to train that contradict one another."""
    if config.patience and config.val == 0 and not config.splits:
        raise ConfigError(
            f"patience: got {config.patience} without validation; set val above 0 or patience to 0"
        )
    for name in ("ema_decay", "gradient_ema"):
        if getattr(config, name) and config.strategy == "fsdp":
            given = f"{name}: got {getattr(config, name)} with strategy fsdp"
            raise ConfigError(f"{given}, which shards weights; use strategy ddp")
    if config.checkpoint_blocks and config.preset == "unet":
        raise ConfigError(
            "checkpoint_blocks: preset unet has no sequence blocks; leave --checkpoint-blocks off"
        )
    if config.checkpoint_windows and not config.checkpoint_blocks:
        raise ConfigError(
            f"checkpoint_windows: got {config.checkpoint_windows} without checkpoint_blocks; "
            "give --checkpoint-blocks too"
        )


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
