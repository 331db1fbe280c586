"""Log band power per channel, and a linear model of it.

References
----------
Welch (1967), IEEE Trans. Audio Electroacoust. 15:70-73, for the spectra.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eegm2.config import ABOVE_0, expect, option, to_dict
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.baselines.declaration import Baseline
from eegm2.evaluation.baselines.options import Threshold, band_edges, linear_options
from eegm2.evaluation.baselines.windows import BaselineRunner, chunks, rescaled
from eegm2.evaluation.config import C_HELP, CENTRE_HELP, Centre, check_c
from eegm2.evaluation.protocols.frozen import linear_probe
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.labelled import LabelledWindows, Split

FLOOR_UV2 = 1e-12
"""Added to every power before the logarithm, so that a flat channel gives a number."""


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
    c: float | str = option(1.0, C_HELP + ".")
    threshold: Threshold = option(
        "validation", "Two classes: threshold by balanced accuracy on validation data, or half."
    )

    def __post_init__(self) -> None:
        expect(self, ABOVE_0, "segment_s")
        check_c(self.c)
        if not self.bands:
            raise ConfigError("bands: got none, expected at least one such as alpha=8:13")
        band_edges(self.bands)


def band_power_runner(name: str, sfreq_hz: float, options: BandPowerOptions) -> BaselineRunner:
    """Return the runner; see `eegm2.evaluation.baselines.baseline_runner`."""

    def prepare(data: LabelledWindows) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        windows = rescaled(data, options.scaling)
        bands = usable_bands(options, sfreq_hz, windows.batch(np.array([0])).shape[-1], name)
        parts = [log_band_power(x, sfreq_hz, bands, options.segment_s) for x in chunks(windows, name)]
        return np.concatenate(parts), tuple(bands)

    def learn(prepared: Any, data: LabelledWindows, split: Split, seed: int) -> Outcome:
        features, bands = prepared
        outcome = linear_probe(features, data, split, **linear_options(options))
        facts = {**outcome.facts, "bands": list(bands), "options": to_dict(options)}
        return replace(outcome, protocol=name, facts=facts)

    return BaselineRunner(prepare, learn)


def log_band_power(
    x: NDArray[np.floating], sfreq_hz: float, bands: dict[str, tuple[float, float]], segment_s: float
) -> NDArray[np.float64]:
    """Return ``log10(sum of the power spectral density over a band + floor)`` by Welch's method.

    Parameters
    ----------
    x : array, shape (n, n_chans, n_times)
        Microvolts.
    sfreq_hz : float
        Sampling rate.
    bands : dict of str to (low, high)
        Edges in Hz; a frequency on the upper edge belongs to the next band.
    segment_s : float
        Length of the segments (Hann, half overlapping, mean taken off); at most the window.

    Returns
    -------
    array, shape (n, n_chans * n_bands)
        Band by band for the first channel, then the next.
    """
    from scipy.signal import welch

    n_segment = segment_length(segment_s, sfreq_hz, x.shape[-1])
    frequency_hz, density = welch(x, sfreq_hz, nperseg=n_segment, axis=-1)
    step = frequency_hz[1] - frequency_hz[0]
    power = [
        density[..., (frequency_hz >= low) & (frequency_hz < high)].sum(-1) * step
        for low, high in bands.values()
    ]
    return np.log10(np.stack(power, axis=-1) + FLOOR_UV2).reshape(len(x), -1)


def segment_length(segment_s: float, sfreq_hz: float, n_times: int) -> int:
    """Return the samples of one segment: as asked, at least two and at most the window."""
    return min(max(2, round(segment_s * sfreq_hz)), n_times)


def usable_bands(
    options: BandPowerOptions, sfreq_hz: float, n_times: int, name: str
) -> dict[str, tuple[float, float]]:
    """Return the bands in which the spectrum has a frequency, cut at half the sampling rate.

    Raises
    ------
    DataError
        If the window is too short for any of them.
    """
    if n_times < 2:
        raise DataError(f"baseline {name}: windows of {n_times} sample have no spectrum; use longer windows")
    frequency_hz = np.fft.rfftfreq(segment_length(options.segment_s, sfreq_hz, n_times), 1 / sfreq_hz)
    kept = {}
    for band, (low, high) in band_edges(options.bands).items():
        if ((frequency_hz >= low) & (frequency_hz < min(high, sfreq_hz / 2))).any():
            kept[band] = (low, min(high, sfreq_hz / 2))
    if not kept:
        raise DataError(
            f"baseline {name}: windows of {n_times} samples at {sfreq_hz:g} Hz resolve none of "
            f"{', '.join(options.bands)}; use longer windows or wider bands"
        )
    return kept


BASELINES = (
    Baseline(
        "band_power",
        "log band power per channel (Welch), standardised, logistic regression (ridge for a value)",
        band_power_runner,
        BandPowerOptions,
        deterministic=True,
    ),
)
