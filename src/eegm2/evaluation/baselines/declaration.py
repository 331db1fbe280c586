"""What a baseline declares of itself; every module of this package that has ``BASELINES`` takes part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eegm2.evaluation.scores.crossval import Runner


@dataclass(frozen=True)
class Baseline:
    """One baseline's declaration.

    Attributes
    ----------
    name : str
        What ``baseline = `` calls it.
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

    name: str
    description: str
    factory: Callable[[str, float, Any], Runner]
    options: type
    defaults: Mapping[str, Any] = field(default_factory=dict)
    deterministic: bool = False
    requires: tuple[str, ...] = ()
    reference: str = ""
