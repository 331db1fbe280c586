"""The four downstream protocols of the paper, as named modes with one signature.

linear and light learn on frozen features; fine trains the whole pretrained network with a head; scratch
does the same from random weights.

References
----------
EEGM2, arXiv 2502.17873, section 4.3.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from eegm2.errors import ConfigError
from eegm2.evaluation.config import PROTOCOLS, Centre, FitConfig, ProbeConfig, refuse_centred
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.protocols.fitting import target_scale
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe
from eegm2.evaluation.protocols.layers import freeze
from eegm2.evaluation.protocols.resuming import FitState
from eegm2.evaluation.protocols.tuning import tune, tune_probe
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.labelled import LabelledWindows, Split, check_targets
from eegm2.model.heads import Downstream
from eegm2.model.network import EEGM2, fresh_copy
from eegm2.model.unet import UNet


def run_protocol(
    name: str,
    data: LabelledWindows,
    split: Split,
    *,
    model: EEGM2 | UNet,
    seed: int = 0,
    config: FitConfig | None = None,
    features: NDArray[np.floating] | None = None,
    centre: Centre = "none",
) -> Outcome:
    """Run one protocol with one seed.

    Parameters
    ----------
    name : {"linear", "light", "fine", "scratch"}
        The protocol.
    data : LabelledWindows
        Two or more classes, or values.
    split : Split
        Learnt on train, stopped early and thresholded on val, predicted on test.
    model : EEGM2 or UNet
        Pretrained; never changed. For scratch only its configuration counts.
    seed : int
        Seeds fresh weights, order and dropout.
    config : FitConfig, optional
        Settings; the paper's (fine, scratch) or :meth:`ProbeConfig.light` (light) by default.
    features : array, optional
        The frozen features of every window, where they are known already (linear, light).
    centre : {"none", "recording", "running"}
        What is taken off the features that a head decides on, see
        :func:`eegm2.evaluation.features.centring.centre_features`; of fine and scratch while they learn too.

    Returns
    -------
    Outcome
        Scores of the test windows.

    Raises
    ------
    ConfigError
        If the name is unknown.
    DataError
        If the training part lacks a class or has a constant target.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol: got '{name}', expected one of {', '.join(PROTOCOLS)}")
    if name in ("linear", "light"):
        if features is None:
            features = extract_features(model, data, device="cpu" if config is None else config.device)
        if name == "linear":
            threshold = config.threshold if config else "validation"
            return linear_probe(features, data, split, threshold=threshold, centre=centre)
        how = config or ProbeConfig().light()
        return light_probe(features, data, split, seed=seed, config=how, centre=centre)
    outcome, network = fine_tune(
        name, data, split, model=model, seed=seed, config=config or FitConfig(), centre=centre
    )
    if data.is_regression:
        network.in_units(*target_scale(data.y[split.train]))
    return replace(outcome, learnt=network)


def fine_tune(
    name: str,
    data: LabelledWindows,
    split: Split,
    *,
    model: EEGM2 | UNet,
    seed: int,
    config: FitConfig,
    state: FitState | None = None,
    centre: Centre = "none",
) -> tuple[Outcome, Downstream]:
    """Run fine or scratch and return the trained network too; see :func:`run_protocol` and :func:`fit`."""
    check_targets(data, split.train, "train")
    refuse_centred(centre, config.head)
    data = data.in_memory()
    n_times = int(data.batch(split.train[:1]).shape[-1])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = fresh_copy(model) if name == "scratch" else copy.deepcopy(model)
        downstream = Downstream(network, max(len(data.classes), 1), n_times, config.head, config.head_dropout)
    freeze(downstream, config.freeze)
    if config.begin == "probe":
        return tune_probe(name, downstream, data, split, seed=seed, config=config, centre=centre, state=state)
    made = tune(name, downstream, data, split, seed=seed, config=config, centre=centre, state=state)
    return made, downstream
