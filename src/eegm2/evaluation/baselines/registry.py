"""The baselines by name, and runners of them for cross-validation (no heavy import here)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eegm2.config import from_dict
from eegm2.errors import ConfigError
from eegm2.evaluation.baselines.options import BandPowerOptions, NetworkOptions, RiemannOptions, SlowOptions

if TYPE_CHECKING:
    from eegm2.evaluation.scores.outcome import Outcome
    from eegm2.evaluation.windows.labelled import LabelledWindows, Split

    Runner = Callable[[LabelledWindows, Split, int], Outcome]


@dataclass(frozen=True)
class Baseline:
    """One baseline's declaration.

    Attributes
    ----------
    description : str
        One sentence.
    factory : callable
        ``factory(name, sfreq_hz, options) -> runner``.
    options : type
        Dataclass of what it can be told.
    defaults : dict
        Its own values where they differ from the dataclass's.
    deterministic : bool
        True where no chance is involved, so that one seed suffices.
    requires : tuple of str
        Libraries beyond the core; ``pip install 'eegm2[baselines]'`` brings them.
    reference : str
        Where it was published.
    """

    description: str
    factory: Callable[[str, float, Any], Runner]
    options: type
    defaults: Mapping[str, Any] = field(default_factory=dict)
    deterministic: bool = False
    requires: tuple[str, ...] = ()
    reference: str = ""


def baseline_runner(name: str, *, sfreq_hz: float, options: Mapping[str, Any] | None = None) -> Runner:
    """Return a runner of one baseline, for `eegm2.evaluation.scores.crossval.cross_validate` and the like.

    Parameters
    ----------
    name : str
        A key of :data:`BASELINES`.
    sfreq_hz : float
        Sampling rate of the windows in Hz.
    options : mapping, optional
        Values of the baseline's options; see ``eegm2.evaluation.baselines.options``.

    Returns
    -------
    callable
        ``runner(data, split, seed) -> Outcome``: learnt on ``split.train``, stopped early and thresholded on
        ``split.val``, scores of ``split.test``. `data` should be the windows of a store as
        `labelled_windows` returns them: the runner reads them again with the baseline's own scaling.
        Windows already in an array are taken as they are where the scaling is ``none`` or ``train``, and
        scaled (once more) otherwise. Features and windows are kept between calls on the same data. The
        outcome's facts say ``deterministic`` where one seed suffices.

    Raises
    ------
    ConfigError
        If the name or an option is unknown, the sampling rate is not positive, or a library is missing (the
        message has the command that installs it).
    """
    if name not in BASELINES:
        raise ConfigError(f"baseline: got '{name}', expected one of {', '.join(BASELINES)}")
    if not sfreq_hz > 0:
        raise ConfigError(f"baseline {name}: got sfreq_hz {sfreq_hz}, expected a rate in Hz above 0")
    baseline = BASELINES[name]
    values = {**baseline.defaults, **(options or {})}
    return baseline.factory(
        name, float(sfreq_hz), from_dict(baseline.options, values, where=f"baseline {name}")
    )


def _band_power(name: str, sfreq_hz: float, options: BandPowerOptions) -> Runner:
    from eegm2.evaluation.baselines.band_power import band_power_runner

    return band_power_runner(name, sfreq_hz, options)


def _slow(name: str, sfreq_hz: float, options: SlowOptions) -> Runner:
    from eegm2.evaluation.baselines.slow import slow_runner

    return slow_runner(name, sfreq_hz, options)


def _riemann(name: str, sfreq_hz: float, options: RiemannOptions) -> Runner:
    from eegm2.evaluation.baselines.riemann import riemann_runner

    return riemann_runner(name, sfreq_hz, options)


def _network(name: str, sfreq_hz: float, options: NetworkOptions) -> Runner:
    from eegm2.evaluation.baselines.networks import network_runner

    return network_runner(name, sfreq_hz, options)


#: Every baseline by name. Scaling and learning rate of the networks are those of their authors.
BASELINES: dict[str, Baseline] = {
    "band_power": Baseline(
        "log band power per channel (Welch), standardised, logistic regression (ridge for a value)",
        _band_power,
        BandPowerOptions,
        deterministic=True,
    ),
    "slow_potentials": Baseline(
        "mean amplitude per channel in eight stretches of the window, standardised, logistic regression "
        "(ridge for a value); for data that were not high-passed",
        _slow,
        SlowOptions,
        deterministic=True,
    ),
    "riemann": Baseline(
        "covariances in the tangent space at their Riemannian mean, logistic regression (ridge for a value)",
        _riemann,
        RiemannOptions,
        deterministic=True,
        requires=("pyriemann",),
        reference="Barachant et al. (2012), IEEE Trans. Biomed. Eng. 59:920-928",
    ),
    "riemann_bands": Baseline(
        "riemann with a filter bank: a covariance per band (delta, theta, alpha, beta)",
        _riemann,
        RiemannOptions,
        {"bands": ("delta=1:4", "theta=4:8", "alpha=8:13", "beta=13:30")},
        deterministic=True,
        requires=("pyriemann",),
        reference="Barachant et al. (2012), IEEE Trans. Biomed. Eng. 59:920-928",
    ),
    "eegnet": Baseline(
        "EEGNet, a compact depthwise and separable convolutional network; windows in microvolts",
        _network,
        NetworkOptions,
        {"scaling": "none", "lr": 1e-3},
        requires=("braindecode",),
        reference="Lawhern et al. (2018), J. Neural Eng. 15:056013",
    ),
    "shallow_fbcsp": Baseline(
        "ShallowFBCSPNet, a shallow convolutional network that computes log band power; windows z-scored "
        "(for the authors' running standardisation)",
        _network,
        NetworkOptions,
        {"scaling": "zscore", "lr": 6.25e-4},
        requires=("braindecode",),
        reference="Schirrmeister et al. (2017), Hum. Brain Mapp. 38:5391-5420",
    ),
    "eegconformer": Baseline(
        "EEGConformer, convolutions and a transformer; standardised by the training windows",
        _network,
        NetworkOptions,
        {"scaling": "train", "lr": 2e-4},
        requires=("braindecode",),
        reference="Song et al. (2023), IEEE Trans. Neural Syst. Rehabil. Eng. 31:710-719",
    ),
    "biot": Baseline(
        "BIOT, a transformer over spectra of each channel, from random weights; windows by their 0.95 "
        "quantile",
        _network,
        NetworkOptions,
        {"scaling": "quantile95", "lr": 1e-3, "weight_decay": 1e-5},
        requires=("braindecode",),
        reference="Yang, Westover & Sun (2023), NeurIPS",
    ),
}
