"""The EEGM2 family as data: every variant of the paper is a value of one configuration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from eegm2.config import from_dict, option, to_dict
from eegm2.errors import ConfigError

#: Shortest input, in samples: three poolings by two leave one step of representation.
MIN_TIMES = 8

#: The variants of the paper (sections 3 and 5.6) as differences from EEGM2. S2 is EEGM2 trained with the
#: L1 objective.
PRESETS: dict[str, dict[str, Any]] = {
    "eegm2": {},
    "light": {"decoder": False},
    "s1": {"embedding": "conv3"},
    "s3": {"mixer": "mamba1"},
    "s4": {"embedding": "conv3", "mixer": "mamba1"},
    "s5": {"mixer": "attention", "norm_order": "after_residual"},
    "unet": {"architecture": "unet"},
}


@dataclass(frozen=True)
class EEGM2Config:
    """Shape of a network of the EEGM2 family.

    Attributes
    ----------
    n_chans : int
        EEG channels of input and reconstruction.
    width : int
        w of the paper: channels at full time resolution; 2w at half, 4w below.
    architecture : {"eegm2", "unet"}
        The paper's network, or its convolutional U-Net baseline.
    embedding : {"branches", "conv3"}
        Parallel kernels 1, 3 and 7 fused by a kernel-1 convolution, or (S1) a single kernel-3 convolution.
    mixer : {"mamba2", "mamba1", "attention"}
        What mixes over time inside a block.
    norm_order : {"before_residual", "after_residual"}
        ``LayerNorm(mixer(u)) + u``, or (S5) ``LayerNorm(mixer(u) + u)``.
    decoder : bool
        False leaves the encoder alone (EEGM2 Light): the output is then the representation.
    d_state, d_conv, expand, headdim, ngroups : int
        Mamba parameters under mamba_ssm's names; ``headdim`` is an upper bound, lowered to the largest
        divisor of ``expand * channels``.
    n_heads : int
        Heads of the attention mixer; lowered to the largest divisor of its channels.
    dropout : float
        Dropout on the attention weights (S5 only).

    References
    ----------
    Hong, Mackellar, Ghane, "EEGM2", arXiv 2502.17873, section 3 and Table VII.
    """

    n_chans: int = option(16, "EEG channels of input and reconstruction.")
    width: int = option(64, "Channels at full time resolution (w of the paper).")
    architecture: Literal["eegm2", "unet"] = option("eegm2", "Network: EEGM2 or the convolutional U-Net.")
    embedding: Literal["branches", "conv3"] = option("branches", "Input embedding.")
    mixer: Literal["mamba2", "mamba1", "attention"] = option("mamba2", "What mixes over time inside a block.")
    norm_order: Literal["before_residual", "after_residual"] = option(
        "before_residual", "Order of norm and residual."
    )
    decoder: bool = option(True, "False leaves the encoder alone.")
    d_state: int = option(16, "State size of the selective scan.")
    d_conv: int = option(2, "Kernel of the causal convolution inside a Mamba block.")
    expand: int = option(8, "Inner channels of a Mamba block per channel.")
    headdim: int = option(64, "Upper bound of the channels per Mamba-2 head.")
    ngroups: int = option(1, "Groups that share B and C.")
    n_heads: int = option(4, "Upper bound of the attention heads.")
    dropout: float = option(0.1, "Dropout on attention weights.")

    def __post_init__(self) -> None:
        for name in ("n_chans", "width", "d_state", "d_conv", "expand", "headdim", "ngroups", "n_heads"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"model config: {name} is {value}, expected at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model config: dropout is {self.dropout}, expected 0 <= dropout < 1")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> EEGM2Config:
        """Return a variant of the paper by name, with any field changed.

        Parameters
        ----------
        name : {"eegm2", "light", "s1", "s3", "s4", "s5", "unet"}
            Variant, see ``PRESETS``.
        **changes
            Fields to override, ``n_chans`` and ``width`` usually.

        Raises
        ------
        ConfigError
            If the name or a field is unknown; the message lists the known ones.
        """
        if name not in PRESETS:
            raise ConfigError(f"preset: got '{name}', expected one of {', '.join(PRESETS)}")
        return from_dict(cls, {**PRESETS[name], **changes}, where=f"preset {name}")

    @property
    def preset_name(self) -> str:
        """Name of the preset that this configuration varies only in sizes, or "custom"."""
        sizes = (
            "n_chans",
            "width",
            "d_state",
            "d_conv",
            "expand",
            "headdim",
            "ngroups",
            "n_heads",
            "dropout",
        )
        kept = {name: getattr(self, name) for name in sizes}
        return next((name for name in PRESETS if EEGM2Config.preset(name, **kept) == self), "custom")

    @property
    def representation_channels(self) -> int:
        """Channels of the representation, 4w."""
        return 4 * self.width

    def replace(self, **changes: Any) -> EEGM2Config:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: str = "model config") -> EEGM2Config:
        """Build from plain values; unknown keys are errors."""
        return from_dict(cls, values, where=where)


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is at most `limit`."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)
