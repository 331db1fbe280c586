"""What the options of several baselines share."""

from __future__ import annotations

from typing import Any, Literal

from eegm2.errors import ConfigError

Threshold = Literal["validation", "half"]
BaselineScaling = Literal["none", "train", "zscore", "quantile95", "robust", "recording"]


def linear_options(options: Any) -> dict[str, Any]:
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
            pair = (float("nan"), float("nan"))
        if not (name and equals and colon) or not 0 <= pair[0] < pair[1]:
            raise ConfigError(f"bands: got {text!r}, expected name=low:high in Hz such as alpha=8:13")
        if name in found:
            raise ConfigError(f"bands: {name} is given twice; name each band once")
        found[name] = pair
    return found
