"""Slow potentials: mean amplitude per channel in stretches of the window, and a linear model of it.

For tasks that show in the potential itself and not in its rhythms (slow cortical potentials, the readiness
potential before a movement). The data must not be high-passed: ``eegm2 prepare --l-freq-hz 0 --offset keep``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eegm2.config import ABOVE_0, expect, option, to_dict
from eegm2.errors import DataError
from eegm2.evaluation.baselines.declaration import Baseline
from eegm2.evaluation.baselines.options import Threshold, linear_options
from eegm2.evaluation.baselines.windows import BaselineRunner, chunks, rescaled
from eegm2.evaluation.config import C_HELP, CENTRE_HELP, Centre, check_c
from eegm2.evaluation.protocols.frozen import linear_probe
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.labelled import LabelledWindows, Split


@dataclass(frozen=True)
class SlowOptions:
    """Mean amplitude per channel in stretches of the window and a linear model."""

    scaling: Literal["none", "zscore", "quantile95", "robust", "recording"] = option(
        "none", "Scaling of the windows; none: microvolts, so that amplitude counts."
    )
    stretches: int = option(8, "Equal stretches of the window.")
    centre: Centre = option("none", CENTRE_HELP)
    c: float | str = option(1.0, C_HELP + ".")
    threshold: Threshold = option(
        "validation", "Two classes: threshold by balanced accuracy on validation data, or half."
    )

    def __post_init__(self) -> None:
        expect(self, ABOVE_0, "stretches")
        check_c(self.c)


def slow_runner(name: str, sfreq_hz: float, options: SlowOptions) -> BaselineRunner:
    """Return the runner; see `eegm2.evaluation.baselines.baseline_runner`."""

    def prepare(data: LabelledWindows) -> NDArray[np.float64]:
        windows = rescaled(data, options.scaling)
        return np.concatenate([stretch_means(x, options.stretches, name) for x in chunks(windows, name)])

    def learn(features: NDArray[np.float64], data: LabelledWindows, split: Split, seed: int) -> Outcome:
        outcome = linear_probe(features, data, split, **linear_options(options))
        return replace(outcome, protocol=name, facts={**outcome.facts, "options": to_dict(options)})

    return BaselineRunner(prepare, learn)


def stretch_means(x: NDArray[np.floating], stretches: int, name: str) -> NDArray[np.float64]:
    """Return the mean of each channel over equal stretches of the window.

    Parameters
    ----------
    x : array, shape (n, n_chans, n_times)
        Microvolts.
    stretches : int
        How many; lengths differ by one sample at most.
    name : str
        For messages.

    Returns
    -------
    array, shape (n, n_chans * stretches)
        Stretch by stretch for the first channel, then the next.

    Raises
    ------
    DataError
        If the window has fewer samples than stretches.
    """
    if x.shape[-1] < stretches:
        raise DataError(
            f"baseline {name}: windows of {x.shape[-1]} samples for {stretches} stretches; use longer "
            "windows or fewer stretches"
        )
    means = [part.mean(-1) for part in np.array_split(x, stretches, axis=-1)]
    return np.stack(means, axis=-1).reshape(len(x), -1)


BASELINES = (
    Baseline(
        "slow_potentials",
        "mean amplitude per channel in eight stretches of the window, standardised, logistic regression "
        "(ridge for a value); for data that were not high-passed",
        slow_runner,
        SlowOptions,
        deterministic=True,
    ),
)
