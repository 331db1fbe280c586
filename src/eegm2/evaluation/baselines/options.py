"""Declared choices of the baselines (no heavy import here)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from eegm2.config import option
from eegm2.errors import ConfigError
from eegm2.evaluation.config import CENTRE_HELP, Centre, FitConfig, check_c

Threshold = Literal["validation", "half"]
BaselineScaling = Literal["none", "train", "zscore", "quantile95", "robust", "recording"]


@dataclass(frozen=True)
class BandPowerOptions:
    """Log band power per channel and a linear model."""

    scaling: Literal["none", "zscore", "quantile95", "robust", "recording"] = option(
        "none", "Scaling of the windows; none: microvolts, so that amplitude counts."
    )
    bands: tuple[str, ...] = option(
        ("delta=1:4", "theta=4:8", "alpha=8:13", "low_beta=13:20", "high_beta=20:30", "gamma=30:45"),
        "Bands as name=low:high in Hz, the upper edge left out; cut at half the sampling rate.",
    )
    segment_s: float = option(
        2.0, "Length of Welch's segments in seconds (half overlapping); at most the window."
    )
    centre: Centre = option("none", CENTRE_HELP)
    c: float | str = option(1.0, "Inverse strength of the L2 penalty, or validation: chosen there.")
    threshold: Threshold = option(
        "validation", "Two classes: threshold by balanced accuracy on validation data, or half."
    )

    def __post_init__(self) -> None:
        _above_zero(self, "segment_s")
        check_c(self.c)
        if not self.bands:
            raise ConfigError("bands: got none, expected at least one such as alpha=8:13")
        band_edges(self.bands)


@dataclass(frozen=True)
class SlowOptions:
    """Mean amplitude per channel in stretches of the window and a linear model."""

    scaling: Literal["none", "zscore", "quantile95", "robust", "recording"] = option(
        "none", "Scaling of the windows; none: microvolts, so that amplitude counts."
    )
    stretches: int = option(8, "Equal stretches of the window.")
    centre: Centre = option("none", CENTRE_HELP)
    c: float | str = option(1.0, "Inverse strength of the L2 penalty, or validation: chosen there.")
    threshold: Threshold = option(
        "validation", "Two classes: threshold by balanced accuracy on validation data, or half."
    )

    def __post_init__(self) -> None:
        _above_zero(self, "stretches")
        check_c(self.c)


@dataclass(frozen=True)
class RiemannOptions:
    """Covariances in the tangent space at their Riemannian mean, and a linear model."""

    scaling: Literal["none", "zscore", "quantile95", "robust", "recording"] = option(
        "none", "Scaling of the windows; none: microvolts, so that amplitude counts."
    )
    bands: tuple[str, ...] = option(
        (), "Filter bank as name=low:high in Hz, one covariance per band; none: the windows as they are."
    )
    estimator: Literal["lwf", "oas", "scm"] = option(
        "lwf", "Covariance: Ledoit-Wolf shrinkage, oracle approximating shrinkage, or the sample covariance."
    )
    centre: Centre = option("none", CENTRE_HELP)
    c: float | str = option(1.0, "Inverse strength of the L2 penalty, or validation: chosen there.")
    threshold: Threshold = option(
        "validation", "Two classes: threshold by balanced accuracy on validation data, or half."
    )

    def __post_init__(self) -> None:
        check_c(self.c)
        band_edges(self.bands)


@dataclass(frozen=True)
class NetworkOptions:
    """A network trained from random weights; each baseline has its own learning rate and scaling."""

    scaling: BaselineScaling = option(
        "none",
        "Scaling of the windows; train: mean and standard deviation of each channel over the training "
        "windows; the others act on each window alone.",
    )
    lr: float = option(1e-3, "Learning rate of AdamW.")
    weight_decay: float = option(0.0, "Weight decay of AdamW.")
    batch_size: int = option(64, "Windows per step.")
    max_epochs: int = option(100, "Most passes over the training windows.")
    patience: int = option(10, "Epochs without a better validation loss before stopping.")
    clip: float = option(1.0, "Largest gradient norm; 0 leaves gradients alone.")
    class_weights: Literal["balanced", "none"] = option(
        "balanced", "Weigh classes by their inverse frequency, or equally."
    )
    threshold: Threshold = option(
        "validation", "Two classes: threshold by balanced accuracy on validation data, or half."
    )
    device: str = option("cpu", "cpu, cuda or mps.")

    def __post_init__(self) -> None:
        self.fit()

    def fit(self) -> FitConfig:
        """Return the settings of the training loop, which checks them."""
        return FitConfig(
            lr=self.lr,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            clip=self.clip,
            class_weights=self.class_weights,
            threshold=self.threshold,
            device=self.device,
        )


def linear_options(options: BandPowerOptions | SlowOptions | RiemannOptions) -> dict[str, Any]:
    """Return what a baseline passes on to its linear model."""
    return {"c": options.c, "threshold": options.threshold, "centre": options.centre}


def band_edges(bands: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Return low and high edge in Hz of every band given as ``name=low:high``.

    Raises
    ------
    ConfigError
        If one is not of that form with 0 <= low < high, or a name comes twice.
    """
    found: dict[str, tuple[float, float]] = {}
    for text in bands:
        name, equals, edges = text.partition("=")
        low, colon, high = edges.partition(":")
        try:
            pair = (float(low), float(high))
        except ValueError:
            pair = (0.0, 0.0)
        if not (name and equals and colon) or not 0 <= pair[0] < pair[1]:
            raise ConfigError(f"bands: got {text!r}, expected name=low:high in Hz such as alpha=8:13")
        if name in found:
            raise ConfigError(f"bands: {name} is given twice; name each band once")
        found[name] = pair
    return found


def _above_zero(options: object, *names: str) -> None:
    for name in names:
        if not getattr(options, name) > 0:
            raise ConfigError(f"{name}: got {getattr(options, name)}, expected above 0")
