"""Fit the linear head that a stream takes, on labelled windows of a store, and judge it on other people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eegm2.data.config import Scaling
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.splits import SplitManifest, subject_folds
from eegm2.deploy.heads.dense import DenseHead
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import Centre, Features
from eegm2.evaluation.features.centring import centre_features
from eegm2.evaluation.protocols.frozen import C_GRID, linear_model
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.evaluation.scores.outcome import balanced_loss
from eegm2.evaluation.windows.from_store import read_run_split
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.model.features import refuse_kind, window_features
from eegm2.model.network import EEGM2
from eegm2.training.checkpoint import load_checkpoint


def fit_head(
    run: str | Path,
    store: str | Path,
    *,
    subjects: list[str] | None = None,
    target: str = "annotations",
    classes: tuple[str, ...] | None = None,
    val: float = 0.2,
    seed: int = 0,
    features: Features = "statistics",
    scaling: Scaling | None = None,
    centre: Centre = "none",
    positions: str = "",
    batch_size: int = 64,
) -> DenseHead:
    """Fit StandardScaler and one-vs-rest logistic regression on frozen features, the paper's Linear protocol.

    A share of the subjects is left out of the fit and judges it; what came out, and who was left out, is in
    the head's ``facts["validation"]`` and stays in its file.

    Parameters
    ----------
    run : str or Path
        Run folder or checkpoint.
    store : str or Path
        Recording store with labels; its channels and rate must be the checkpoint's.
    subjects : list of str, optional
        Fit and judge on these only.
    target : str
        See :class:`eegm2.data.config.WindowConfig`.
    classes : tuple of str, optional
        Classes in the order of their numbers.
    val : float
        Share of the subjects that judge the head; 0 fits on everybody and judges on nobody.
    seed : int
        Draws them, with their labels balanced where every subject has one.
    features : str
        A kind of :func:`eegm2.model.features.window_features`: statistics with the paper's penalty (C = 1),
        any other with the penalty of the lowest loss on some of the fitted people.
    scaling : str, optional
        Of the windows, as in :class:`eegm2.data.config.WindowConfig`; by default as in pretraining.
    centre : {"none", "recording", "running"}
        What is taken off the features, without labels; a stream takes off its running mean, see
        :func:`eegm2.evaluation.features.centring.centred`.
    positions : str
        File of electrode positions, see :func:`eegm2.data.electrodes.read_positions`.
    batch_size : int
        Windows encoded at a time.

    Raises
    ------
    DataError
        If the store's channels or rate differ, or there are not two classes with windows.
    ConfigError
        If the checkpoint is no EEGM2 (it has no representation to stream), or `val` is no share.

    References
    ----------
    EEGM2, arXiv 2502.17873, section 4.3.
    """
    if not 0 <= val < 1:
        raise ConfigError(f"val: got {val}, expected a share from 0 to below 1")
    checkpoint = load_checkpoint(run)
    data = RecordingStore(store)
    checkpoint = checkpoint.on_montage(data.ch_names, positions)
    model, header = checkpoint.model, checkpoint.header
    if not isinstance(model, EEGM2):
        raise ConfigError(f"{run}: a U-Net cannot be streamed; use eegm2, light, s1, s3 or s4")
    refuse_kind(features, model.config)
    if list(data.ch_names) != list(header["ch_names"]) or data.sfreq_hz != header["sfreq_hz"]:
        raise DataError(
            f"{store}: has channels {' '.join(data.ch_names)} at {data.sfreq_hz:g} Hz, the model expects "
            f"{' '.join(header['ch_names'])} at {header['sfreq_hz']:g} Hz; prepare it like the model's store"
        )
    scaling = scaling or checkpoint.windows.scaling
    config = replace(checkpoint.windows, target=target, stride_s=None, scaling=scaling)
    windows = WindowDataset(data, config, subjects=subjects, classes=classes, labelled=True)
    made, y = _features(model, windows, batch_size, features)
    _refuse_one_class(str(store), y, windows.classes, "")
    origin = LabelledWindows(
        windows, y, windows.subjects, windows.recording_ids, windows.start_s, windows.classes
    )
    made = centre_features(made, origin, centre)
    people = np.asarray(windows.subjects)
    left_out = _left_out(people, y, val, seed)
    fitted_on = ~np.isin(people, left_out)
    without = f" without {', '.join(left_out)}; use --val 0"
    _refuse_one_class(str(store), y[fitted_on], windows.classes, without)
    present = sorted(set(y[fitted_on].tolist()))
    names = tuple(windows.classes[i] for i in present)
    c = 1.0 if features == "statistics" else _chosen_c(made[fitted_on], y[fitted_on], people[fitted_on], seed)
    head = DenseHead.from_pipeline(linear_model(c=c).fit(made[fitted_on], y[fitted_on]), names)
    head.facts |= {
        "features": features,
        "c": c,
        "window_s": config.window_s,
        "scaling": config.scaling,
        "centre": centre,
        "target": target,
        "n_windows": int(fitted_on.sum()),
        "n_subjects": len(set(people[fitted_on].tolist())),
        "store_sha256": data.manifest_sha256,
    }
    judged = ~fitted_on & np.isin(y, present)
    places = np.searchsorted(present, y[judged])
    head.facts["validation"] = {
        "seed": seed,
        "fitted_on": sorted(set(people[fitted_on].tolist())),
        "left_out": list(left_out),
        **_judgement(head, made[judged], places, len(left_out)),
        "pretraining": _seen(read_run_split(Path(run), data), left_out, data.manifest_sha256),
    }
    return head


def _features(
    model: EEGM2, windows: WindowDataset, batch_size: int, kind: Features
) -> tuple[np.ndarray, np.ndarray]:
    """Return features (windows, n_features) and labels (windows,)."""
    features, labels = [], []
    with torch.no_grad():
        for begin in range(0, len(windows), batch_size):
            items = [windows[i] for i in range(begin, min(begin + batch_size, len(windows)))]
            x = torch.stack([item["x"] for item in items])
            features.append(window_features(model.encode(x), kind, model.config).numpy())
            labels += [item["y"] for item in items]
    made = np.concatenate(features) if features else np.zeros((0, 0), np.float32)
    return made, np.array(labels, dtype=np.int64)


def _chosen_c(features: np.ndarray, y: np.ndarray, people: np.ndarray, seed: int) -> float:
    """Return the C of the lowest loss on a fifth of the people, 1 where they do not suffice for that."""
    asked = np.isin(people, _left_out(people, y, 0.2, seed))
    learnt = ~asked
    present = np.unique(y[learnt])
    asked &= np.isin(y, present)
    if len(present) < 2 or not asked.any():
        return 1.0
    places = np.searchsorted(present, y)

    def loss(c: float) -> float:
        model = linear_model(c=c).fit(features[learnt], places[learnt])
        return balanced_loss(places[asked], model.predict_proba(features[asked]))

    return min(C_GRID, key=lambda c: (loss(c), c))


def _refuse_one_class(where: str, y: np.ndarray, classes: tuple[str, ...], when: str) -> None:
    present = sorted(set(y.tolist()))
    if len(present) < 2:
        names = ", ".join(classes[i] for i in present) or "none"
        raise DataError(f"{where}: labelled windows of {names} only; a head needs at least two classes{when}")


def _left_out(people: np.ndarray, y: np.ndarray, val: float, seed: int) -> tuple[str, ...]:
    """Return the subjects that judge the head; nobody where there is only one."""
    names = sorted(set(people.tolist()))
    if not val or len(names) < 2:
        return ()
    labels = {name: "+".join(map(str, sorted(set(y[people == name].tolist())))) for name in names}
    folds = min(len(names), max(2, round(1 / val)))
    return subject_folds(names, folds, seed=seed, labels=labels)[0][1]


def _judgement(head: DenseHead, features: np.ndarray, y: np.ndarray, n_subjects: int) -> dict[str, Any]:
    """Return the metrics on windows of subjects that the head has not seen, or why there are none."""
    if not len(y):
        why = "nobody was left out of the fit, so nothing says how good this head is on unseen people"
        return {"metrics": None, "n_windows": 0, "n_subjects": 0, "notes": {"metrics": why}}
    scores = classification_metrics(y, head(features), classes=head.classes)
    return {
        "metrics": scores.plain(),
        "n_windows": len(y),
        "n_subjects": n_subjects,
        "notes": scores.reasons,
    }


def _seen(split: SplitManifest | None, left_out: tuple[str, ...], sha256: str) -> str:
    """Say whether pretraining saw the people who judge the head."""
    if split is None:
        return "the checkpoint has no split beside it: whether pretraining saw them is unknown"
    if split.by != "subject" or split.manifest_sha256 != sha256:
        return "pretraining used another store or was not split by subject: it may have seen them"
    seen = sorted(set(left_out) & {*split.train, *split.val})
    return f"pretraining (without labels) saw {len(seen)} of them"
