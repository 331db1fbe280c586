"""The baselines by name, and runners of them for cross-validation."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eegm2.config import from_dict
from eegm2.errors import ConfigError
from eegm2.evaluation.baselines.declaration import Baseline, Runner
from eegm2.evaluation.config import BASELINE_REGISTRY
from eegm2.plugins import is_plugin, trusting


def _declared() -> dict[str, Baseline]:
    """Return what the modules of this package declare, by name."""
    found: dict[str, Baseline] = {}
    here = [str(Path(__file__).parent)]
    for name in sorted(info.name for info in pkgutil.iter_modules(here) if info.name != "registry"):
        for baseline in getattr(importlib.import_module(f"{__package__}.{name}"), "BASELINES", ()):
            if baseline.name in found:
                raise ConfigError(f"baseline '{baseline.name}' is defined twice (again in {name}.py)")
            found[baseline.name] = baseline
    return found


#: Every baseline by name. Scaling and learning rate of the networks are those of their authors.
BASELINES: dict[str, Baseline] = _declared()


def find_baseline(name: str) -> Baseline:
    """Return the declaration of a baseline that the user has named: ours, or ``package.module:NAME``.

    Raises
    ------
    ConfigError
        If there is none, or it cannot be imported.
    """
    with trusting(*([name] if is_plugin(name) else [])):
        found: Baseline = BASELINE_REGISTRY.find(name)
    return found


def baseline_runner(name: str, *, sfreq_hz: float, options: Mapping[str, Any] | None = None) -> Runner:
    """Return a runner of one baseline, for `eegm2.evaluation.scores.crossval.cross_validate` and the like.

    Parameters
    ----------
    name : str
        A key of :data:`BASELINES`, or ``package.module:NAME`` of a `Baseline` of one's own.
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
    baseline = find_baseline(name)
    if not sfreq_hz > 0:
        raise ConfigError(f"baseline {name}: got sfreq_hz {sfreq_hz}, expected a rate in Hz above 0")
    values = {**baseline.defaults, **(options or {})}
    return baseline.factory(
        name, float(sfreq_hz), from_dict(baseline.options, values, where=f"baseline {name}")
    )
