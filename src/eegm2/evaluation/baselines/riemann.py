"""Covariances of windows in the tangent space at their Riemannian mean, and a linear model of them.

References
----------
Barachant, Bonnet, Congedo & Jutten (2012), Multiclass brain-computer interface classification by Riemannian
geometry, IEEE Trans. Biomed. Eng. 59:920-928, doi:10.1109/TBME.2011.2172210.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eegm2.config import option, to_dict
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.baselines.declaration import Baseline
from eegm2.evaluation.baselines.options import Threshold, band_edges, linear_options
from eegm2.evaluation.baselines.windows import BaselineRunner, chunks, rescaled
from eegm2.evaluation.config import C_HELP, CENTRE_HELP, Centre, check_c
from eegm2.evaluation.protocols.frozen import linear_probe
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.labelled import LabelledWindows, Split

RIDGE = 1e-6
"""Share of a window's mean variance added to every channel: a flat channel keeps its covariance definite."""
FLOOR_UV2 = 1e-9
FILTER_ORDER = 4


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
    c: float | str = option(1.0, C_HELP + ".")
    threshold: Threshold = option(
        "validation", "Two classes: threshold by balanced accuracy on validation data, or half."
    )

    def __post_init__(self) -> None:
        check_c(self.c)
        band_edges(self.bands)


def riemann_runner(name: str, sfreq_hz: float, options: RiemannOptions) -> BaselineRunner:
    """Return the runner; see `eegm2.evaluation.baselines.baseline_runner`."""
    try:
        from pyriemann.tangentspace import TangentSpace
    except ImportError as error:
        raise ConfigError(
            f"baseline {name}: pyriemann is not installed; pip install 'eegm2[baselines]'"
        ) from error
    filters = _filters(options, sfreq_hz, name)

    def prepare(data: LabelledWindows) -> NDArray[np.float64]:
        windows = rescaled(data, options.scaling)
        parts = [window_covariances(x, filters, options.estimator, name) for x in chunks(windows, name)]
        return np.concatenate(parts)

    def learn(covariances: NDArray[np.float64], data: LabelledWindows, split: Split, seed: int) -> Outcome:
        features = []
        for of_band in covariances.swapaxes(0, 1):
            tangent = TangentSpace(metric="riemann").fit(of_band[split.train])
            features.append(tangent.transform(of_band))
        outcome = linear_probe(np.concatenate(features, axis=1), data, split, **linear_options(options))
        return replace(outcome, protocol=name, facts={**outcome.facts, "options": to_dict(options)})

    return BaselineRunner(prepare, learn)


def window_covariances(
    x: NDArray[np.floating], filters: list[NDArray[np.float64]], estimator: str, name: str
) -> NDArray[np.float64]:
    """Return the covariance of every window in every band, positive definite.

    Parameters
    ----------
    x : array, shape (n, n_chans, n_times)
        Microvolts.
    filters : list of array
        Second-order sections, one per band, applied forwards and backwards; none: no filter.
    estimator : {"lwf", "oas", "scm"}
        As pyRiemann names them.
    name : str
        For messages.

    Returns
    -------
    array, shape (n, max(len(filters), 1), n_chans, n_chans)
        In µV², with `RIDGE` times the mean variance on the diagonal.

    Raises
    ------
    DataError
        If a window has fewer than two samples.
    """
    from pyriemann.estimation import Covariances
    from scipy.signal import sosfiltfilt

    n_chans, n_times = x.shape[1:]
    if n_times < 2:
        raise DataError(f"baseline {name}: windows of {n_times} sample have no covariance; use longer ones")
    x = x - x.mean(-1, keepdims=True)
    found = []
    padding = min(3 * (2 * FILTER_ORDER + 1), n_times - 1)
    banded = [sosfiltfilt(sections, x, axis=-1, padlen=padding) for sections in filters]
    for band in banded or [x]:
        covariance = Covariances(estimator).transform(band)
        variance = np.trace(covariance, axis1=-2, axis2=-1) / n_chans
        found.append(covariance + (RIDGE * variance + FLOOR_UV2)[:, None, None] * np.eye(n_chans))
    return np.stack(found, axis=1)


def _filters(options: RiemannOptions, sfreq_hz: float, name: str) -> list[NDArray[np.float64]]:
    """Return one Butterworth band-pass per band of the filter bank."""
    from scipy.signal import butter

    filters = []
    for band, (low, high) in band_edges(options.bands).items():
        if not 0 < low < high < sfreq_hz / 2:
            raise ConfigError(
                f"baseline {name}: band {band} is {low:g} to {high:g} Hz, expected above 0 and below half of "
                f"{sfreq_hz:g} Hz"
            )
        filters.append(butter(FILTER_ORDER, (low, high), "bandpass", fs=sfreq_hz, output="sos"))
    return filters


BASELINES = (
    Baseline(
        "riemann",
        "covariances in the tangent space at their Riemannian mean, logistic regression (ridge for a value)",
        riemann_runner,
        RiemannOptions,
        deterministic=True,
        requires=("pyriemann",),
        reference="Barachant et al. (2012), IEEE Trans. Biomed. Eng. 59:920-928",
    ),
    Baseline(
        "riemann_bands",
        "riemann with a filter bank: a covariance per band (delta, theta, alpha, beta)",
        riemann_runner,
        RiemannOptions,
        {"bands": ("delta=1:4", "theta=4:8", "alpha=8:13", "beta=13:30")},
        deterministic=True,
        requires=("pyriemann",),
        reference="Barachant et al. (2012), IEEE Trans. Biomed. Eng. 59:920-928",
    ),
)
