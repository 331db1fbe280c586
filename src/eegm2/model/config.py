"""The EEGM2 family as data: every variant is a value of one configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from eegm2.config import check_parts, from_dict, option, to_dict
from eegm2.errors import ConfigError
from eegm2.plugins import Registry

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
#: Ours, which the paper does not have.
OWN_PRESETS: dict[str, dict[str, Any]] = {"covariance": {"embedding": "covariance", "decoder": False}}
ALL_PRESETS = {**PRESETS, **OWN_PRESETS}
NETWORKS = Registry("preset", "builtins:dict", ALL_PRESETS, instances=True)
#: Those that are trained as they are; light is taken from a trained one.
TRAINED = Registry(
    "preset", "builtins:dict", {k: v for k, v in ALL_PRESETS.items() if k != "light"}, instances=True
)

MIXERS = Registry(
    "mixer",
    "eegm2.model.mixer:Mixer",
    {
        "mamba2": "eegm2.model.mamba2:Mamba2",
        "mamba1": "eegm2.model.mamba1:Mamba1",
        "attention": "eegm2.model.block:Attention",
    },
    methods=("forward",),
)

#: Options of the covariance embedding; left out of records of networks that have none.
COVARIANCE_OPTIONS = (
    "n_virtual",
    "harmonics_order",
    "n_bands",
    "sfreq_hz",
    "kernel_s",
    "token_hz",
    "covariance_s",
    "shrinkage",
    "trunk_width",
    "trunk_blocks",
)


@dataclass(frozen=True, kw_only=True)
class MixerOptions:
    """The mixer of a network and its sizes, where they are others than the preset's."""

    mixer: str = option("", "What mixes over time, in place of the preset's.", later=True, parts=MIXERS)
    mixer_options: dict[str, Any] = option(
        {}, "An option of a mixer of one's own, name=value; repeat for more.", later=True
    )
    d_state: int = option(0, "State size of the mixer's scan; 0: the preset's.", later=True)
    expand: int = option(0, "Inner channels of the mixer per channel; 0: the preset's.", later=True)
    headdim: int = option(0, "Upper bound of the channels per Mamba-2 head; 0: the preset's.", later=True)

    def changes(self, network: Sequence[str] = ()) -> dict[str, Any]:
        """Return what differs from the preset, as fields of `EEGM2Config`.

        Parameters
        ----------
        network : sequence of str
            Other sizes, see `stated_sizes`.

        Raises
        ------
        ConfigError
            If a size is below 0, given twice, or one of `network` cannot be used.
        """
        names = [field.name for field in dataclasses.fields(MixerOptions)]
        found = {name: getattr(self, name) for name in names if getattr(self, name)}
        stated = stated_sizes(network)
        for name in ("d_state", "expand", "headdim"):
            if found.get(name, 1) < 1:
                raise ConfigError(f"{name}: got {found[name]}, expected at least 1, or 0 for the preset's")
            if name in found and name in stated:
                raise ConfigError(f"{name}: given by itself and in network; give it once")
        return {**stated, **found}


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
    embedding : {"branches", "conv3", "covariance"}
        Parallel kernels 1, 3 and 7 fused by a kernel-1 convolution; (S1) a single kernel-3 convolution; or
        the parallel kernels and, beside them, tokens of band-wise covariances with a trunk of their own.
    mixer : str
        What mixes over time inside a block: mamba2, mamba1, attention, or ``package.module:Name``.
    mixer_options : dict
        Options of a mixer of one's own.
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
    n_virtual : int
        Covariance embedding, as all that follows: virtual channels, for any electrodes; 0 takes the channels
        as they are.
    harmonics_order : int
        Highest degree of the spherical harmonics that virtual channels are weights over.
    n_bands : int
        Kernels of the filter bank.
    sfreq_hz : float
        Sampling rate, by which the kernels and tokens are laid out.
    kernel_s : float
        Length of the kernels, at most a second.
    token_hz : float
        Tokens per second; a token's step is rounded to whole multiples of 8 samples.
    covariance_s : float
        Length of the running window of covariances; rounded to whole tokens.
    shrinkage : float
        Share of the identity in a covariance, to begin with; learnt per band.
    trunk_width, trunk_blocks : int
        Channels of the trunk as a multiple of the width, and its sequence blocks.

    References
    ----------
    Hong, Mackellar, Ghane, "EEGM2", arXiv 2502.17873, section 3 and Table VII.
    """

    n_chans: int = option(16, "EEG channels of input and reconstruction.")
    width: int = option(64, "Channels at full time resolution (w of the paper).")
    architecture: Literal["eegm2", "unet"] = option("eegm2", "Network: EEGM2 or the convolutional U-Net.")
    embedding: Literal["branches", "conv3", "covariance"] = option("branches", "Input embedding.")
    mixer: str = option("mamba2", "What mixes over time inside a block.", parts=MIXERS)
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
    n_virtual: int = option(16, "Virtual channels, for any electrodes; 0: the channels as they are.")
    harmonics_order: int = option(4, "Highest degree of the spherical harmonics behind virtual channels.")
    n_bands: int = option(6, "Bands of the filter bank.")
    sfreq_hz: float = option(128.0, "Sampling rate for which the filter bank is laid out, in Hz.")
    kernel_s: float = option(0.5, "Length of the filter bank's kernels in seconds, at most 1.")
    token_hz: float = option(4.0, "Covariance tokens per second.")
    covariance_s: float = option(1.0, "Length of the running window of covariances in seconds.")
    shrinkage: float = option(0.1, "Share of the identity in a covariance, to begin with.")
    trunk_width: int = option(4, "Channels of the trunk over covariance tokens, as a multiple of the width.")
    trunk_blocks: int = option(1, "Sequence blocks of the trunk.")
    mixer_options: dict[str, Any] = option({}, "Options of a mixer of one's own.", later=True)

    def __post_init__(self) -> None:
        check_parts(self)
        for name in ("n_chans", "width", "d_state", "d_conv", "expand", "headdim", "ngroups", "n_heads"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"model config: {name} is {value}, expected at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model config: dropout is {self.dropout}, expected 0 <= dropout < 1")
        if self.embedding == "covariance":
            self._check_covariance()

    def _check_covariance(self) -> None:
        """Refuse options of the covariance embedding that make no network."""
        ranges = {
            "n_virtual": (0, 32),
            "harmonics_order": (1, 8),
            "n_bands": (1, 64),
            "sfreq_hz": (16, 1e5),
            "kernel_s": (0.05, 1.0),
            "token_hz": (0.25, 16.0),
            "covariance_s": (0.25, 60.0),
            "shrinkage": (1e-4, 0.999),
            "trunk_width": (1, 64),
            "trunk_blocks": (1, 64),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"model config: {name} is {value}, expected {low:g} to {high:g}")
        if self.architecture != "eegm2":
            raise ConfigError("model config: embedding 'covariance' is of architecture 'eegm2' only")
        if self.n_virtual and self.n_chans < 4:
            raise ConfigError(
                f"model config: n_chans is {self.n_chans}, expected at least 4 electrodes for virtual "
                "channels; n_virtual 0 takes the channels as they are"
            )
        if self.n_virtual and self.decoder:
            raise ConfigError(
                "model config: decoder is on with n_virtual above 0, and virtual channels are not "
                "reconstructed; use n_virtual 0, or leave the decoder out"
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> EEGM2Config:
        """Return a variant by name, with any field changed.

        Parameters
        ----------
        name : str
            Variant, see ``PRESETS`` and ``OWN_PRESETS``; or ``package.module:NAME``, a dict of changes.
        **changes
            Fields to override, ``n_chans`` and ``width`` usually.

        Raises
        ------
        ConfigError
            If the name or a field is unknown; the message lists the known ones.
        """
        return from_dict(cls, {**NETWORKS.find(name), **changes}, where=f"preset {name}")

    @property
    def preset_name(self) -> str:
        """Name of the preset that this configuration varies only in sizes, or "custom"."""
        kinds = ("architecture", "embedding", "mixer", "mixer_options", "norm_order", "decoder")
        usual = {field.name: _default(field) for field in dataclasses.fields(self) if field.name in kinds}
        mine = {name: getattr(self, name) for name in kinds}
        fits = (name for name, changes in ALL_PRESETS.items() if {**usual, **_among(changes, kinds)} == mine)
        return next(fits, "custom")

    @property
    def representation_channels(self) -> int:
        """Channels of the representation: 4w; with the covariance embedding trunk and tangent vector."""
        if self.embedding == "covariance":
            return self.trunk_channels + self.tangent_size
        return 4 * self.width

    @property
    def inner_chans(self) -> int:
        """Channels that the network works on: virtual ones where it has them."""
        return self.n_virtual if self.any_electrodes else self.n_chans

    @property
    def any_electrodes(self) -> bool:
        """Whether the network takes any electrodes, through virtual channels."""
        return self.embedding == "covariance" and self.n_virtual > 0

    @property
    def step_samples(self) -> int:
        """Samples per step of the representation."""
        return self.token_step if self.embedding == "covariance" else MIN_TIMES

    @property
    def token_step(self) -> int:
        """Samples per covariance token, a multiple of 8."""
        return MIN_TIMES * max(1, round(self.sfreq_hz / self.token_hz / MIN_TIMES))

    @property
    def kernel_taps(self) -> int:
        """Taps of the filter bank's kernels."""
        return round(self.kernel_s * self.sfreq_hz)

    @property
    def window_tokens(self) -> int:
        """Token steps in the running window of covariances."""
        return max(1, round(self.covariance_s * self.sfreq_hz / self.token_step))

    @property
    def trunk_channels(self) -> int:
        """Channels of the trunk over covariance tokens."""
        return self.trunk_width * self.width

    @property
    def tangent_size(self) -> int:
        """Numbers in a tangent vector: the upper triangles of all bands."""
        return self.n_bands * self.inner_chans * (self.inner_chans + 1) // 2

    def at_rate(self, sfreq_hz: float) -> EEGM2Config:
        """Return the configuration for a sampling rate: the covariance embedding is laid out by it."""
        return self.replace(sfreq_hz=float(sfreq_hz)) if self.embedding == "covariance" else self

    def replace(self, **changes: Any) -> EEGM2Config:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values; those of the covariance embedding only where it is used."""
        values = to_dict(self)
        if self.embedding != "covariance":
            for name in COVARIANCE_OPTIONS:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: str = "model config") -> EEGM2Config:
        """Build from plain values; unknown keys are errors."""
        return from_dict(cls, values, where=where)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _among(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def stated_sizes(texts: Sequence[str]) -> dict[str, int | float]:
    """Return sizes of a network that are written as ``d_state=8``; channels, width and rate are none.

    Raises
    ------
    ConfigError
        If one is unknown (the known ones are listed) or no number.
    """
    hints = get_type_hints(EEGM2Config)
    found: dict[str, int | float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        kind = hints.get(name)
        if kind not in (int, float) or name in ("n_chans", "width", "sfreq_hz"):
            sizes = [field for field, of in hints.items() if of in (int, float)]
            known = ", ".join(sorted(set(sizes) - {"n_chans", "width", "sfreq_hz"}))
            raise ConfigError(f"network: got {text!r}, expected a size and its value; sizes are {known}")
        try:
            found[name] = kind(value)
        except ValueError:
            raise ConfigError(f"network: got {text!r}, expected {name}=NUMBER") from None
    return found


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is at most `limit`."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)
