"""A whole network with its head fitted to a task: as it comes, or from the linear probe of its features on.

References
----------
Kumar et al. (2022), "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
arXiv 2202.10054, for beginning with the probe.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eegm2.errors import ConfigError
from eegm2.evaluation.config import Centre, FitConfig
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.protocols.centred import Centring
from eegm2.evaluation.protocols.fitting import History, Task, fit
from eegm2.evaluation.protocols.frozen import choose_threshold, linear_probe, predictions, scores
from eegm2.evaluation.protocols.kept import HeadArrays
from eegm2.evaluation.protocols.layers import layer_groups
from eegm2.evaluation.protocols.resuming import FitState
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.model.features import feature_views
from eegm2.model.heads import Downstream, FeatureDownstream, TokensHead

NOBODY = np.zeros(0, np.int64)


def tune(
    name: str,
    network: Downstream | FeatureDownstream,
    data: LabelledWindows,
    split: Split,
    *,
    seed: int,
    config: FitConfig,
    centre: Centre = "none",
    state: FitState | None = None,
) -> Outcome:
    """Fit a network in place, stopped by the validation part, and return what it says of the test windows.

    Parameters
    ----------
    name : str
        Of the protocol.
    network : Downstream or FeatureDownstream
        In memory with its head; trained in place.
    data, split, seed, config, state
        As for :func:`eegm2.evaluation.protocols.fitting.fit`.
    centre : {"none", "recording", "running"}
        What is taken off the features, see :class:`eegm2.evaluation.protocols.centred.Centring`.
    """
    task = _task(data, split, config, centre)
    history = fit(network, task, config, seed, layer_groups(network, config), state=state)
    return predictions(name, seed, network, task, data, split, config, _facts(history, config))


def tune_probe(
    name: str,
    network: Downstream,
    data: LabelledWindows,
    split: Split,
    *,
    seed: int,
    config: FitConfig,
    centre: Centre = "none",
    state: FitState | None = None,
) -> tuple[Outcome, Downstream]:
    """Tune from the linear probe of the frozen features on; return what the test windows get, and by whom.

    The probe is that of ``c="people"``. People who validate say how many epochs are better than none: the
    network begins with the probe of those who train, learns from these, and is judged by them. Then it
    begins anew with the probe of both, as the frozen probe learns from both, and learns from both for as many
    epochs. Where no epoch is better, the probe of both is the answer. Scores of the validation part, and the
    threshold that they give, are those of the first round (of people left out, where nothing is tuned).

    Raises
    ------
    ConfigError
        If the head is not linear in features: any but statistics of the covariance preset.
    """
    if not isinstance(network.head, TokensHead):
        raise ConfigError(
            f"begin: got 'probe' with head '{network.head_name}' of preset "
            f"{network.network.config.preset_name}; it is for head 'statistics' of preset covariance"
        )
    kind = network.head.KIND
    features = extract_features(network.network, data, device=config.device, kind=kind)

    def probe(learnt: Split) -> Outcome:
        views = feature_views(kind, network.network.config)
        how = {"threshold": config.threshold, "centre": centre, "views": views}
        return linear_probe(features, data, learnt, c="people", **how)  # type: ignore[arg-type]

    again = copy.deepcopy(network)
    task = _task(data, split, config, centre)
    _begin_with(network, task, probe(Split(split.train, NOBODY, split.val)).learnt)
    groups = layer_groups(network, config)
    history = fit(network, task, config, seed, groups, state=state, counts_as_it_is=True)
    both = probe(split)
    _begin_with(again, task, both.learnt)
    facts = _facts(history, config) | {"begun_with": {key: both.facts[key] for key in ("c", "shares")}}
    threshold, val_score = both.threshold, both.val_score
    if history.best_epoch >= 0:
        learnt = np.concatenate([split.train, split.val])
        whole = replace(task, train=learnt, val=NOBODY, scaled_on=split.train)
        how = replace(config, max_epochs=history.best_epoch + 1)
        then = state.then() if state is not None else None
        facts["again_loss"] = fit(again, whole, how, seed, layer_groups(again, how), state=then).train_loss
        val_score = scores(network, task, split.val, config)
        threshold = choose_threshold(data, split, val_score, config.threshold)
    score = scores(again.eval(), task, split.test, config)
    return Outcome(name, seed, score, threshold, facts, val_score), again


def _task(data: LabelledWindows, split: Split, config: FitConfig, centre: Centre) -> Task:
    centring = Centring(data, centre, config.batch_size) if centre != "none" else None
    return Task(data.batch, data.y, split.train, split.val, len(data.classes), centring)


def _facts(history: History, config: FitConfig) -> dict[str, Any]:
    return {
        "epochs": len(history.val_loss),
        "best_epoch": history.best_epoch,
        "train_loss": history.train_loss,
        "val_loss": history.val_loss,
        "head": config.head,
    }


def _begin_with(network: Downstream, task: Task, probe: HeadArrays) -> None:
    """Set a head to a linear probe."""
    ((weight, bias),) = probe.layers
    if not task.n_classes:
        mean, scale = task.target_scale()
        weight, bias = weight / scale, (bias - mean) / scale
    elif len(weight) == 1:  # one score of two classes
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    arrays: tuple[NDArray[np.floating], ...] = (probe.mean, probe.scale, weight, bias)
    assert isinstance(network.head, TokensHead)
    network.head.begin_with(*(torch.from_numpy(a) for a in arrays))
