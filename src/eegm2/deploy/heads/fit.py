"""Fit the linear head that a stream takes, on labelled windows of a store, and judge it on other people."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset, window_dataset
from eegm2.data.windows.splits import SplitManifest, subject_folds
from eegm2.deploy.config import HeadConfig
from eegm2.deploy.heads.as_streamed import StreamedAs, StreamedWindows, streamed_windows, usual_baseline
from eegm2.deploy.heads.dense import DenseHead
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import ProbeConfig
from eegm2.evaluation.features.centring import centre_features
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.protocols.frozen import fit_light, linear_model
from eegm2.evaluation.protocols.people import Views, fit_by_people
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.evaluation.windows.from_store import read_run_split
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.model.features import feature_views, refuse_kind, usual_kind
from eegm2.model.network import EEGM2
from eegm2.training.checkpoint import INPUT, Checkpoint, load_checkpoint, weights_sha256


def fit_head(
    run: str | Path, store: str | Path, config: HeadConfig | None = None, **options: Any
) -> DenseHead:
    """Fit a head on the features that a stream gives, and judge it on the decisions that a stream makes.

    Every recording is streamed at full speed: the declared filter forwards only, the scale from a baseline,
    the network from its end on, a window every `hop_s`. The head is fitted on windows that do not overlap and
    judged on every decision of people who were left out of the fit, as ``facts["validation"]`` tells. What
    the usual evaluation of separate windows, filtered without delay and each scaled by itself, says of the
    same people is in ``facts["validation"]["offline"]``.

    Statistics are fitted with the paper's penalty (C = 1), other features with the penalty of the lowest loss
    on some of the fitted people.

    Parameters
    ----------
    run : str or Path
        Run folder or checkpoint.
    store : str or Path
        Recording store with labels; its channels and rate must be the checkpoint's.
    config : HeadConfig, optional
        Who, which labels and features, and how they are streamed.
    **options
        Fields of a `HeadConfig`, in place of one.

    Raises
    ------
    DataError
        If the store's channels or rate differ, or there are not two classes with windows.
    ConfigError
        If the checkpoint is no EEGM2 (it has no representation to stream), or an option is out of range.

    References
    ----------
    EEGM2, arXiv 2502.17873, section 4.3.
    """
    asked = config or HeadConfig(**options)
    protocol, seed, raw = asked.protocol, asked.seed, Path(asked.recordings) if asked.recordings else None
    data = RecordingStore(store)
    checkpoint = load_checkpoint(run, needs=INPUT)
    digest = weights_sha256(checkpoint.model)
    checkpoint = checkpoint.on_montage(data.ch_names, asked.positions)
    features = usual_kind(checkpoint.config) if asked.features == "auto" else asked.features
    model = _streamable(checkpoint, data, run, features)
    cut = checkpoint.plain_windows("a stream")
    cut = replace(cut, target=asked.target, stride_s=None, scaling=asked.scaling or cut.scaling)
    windows = window_dataset(
        data, cut, subjects=asked.subjects or None, classes=asked.classes or None, labelled=True
    )
    _refuse_one_class(str(store), windows.labels, windows.classes, "")
    baseline_s = _baseline(windows) if asked.calibration_s is None else asked.calibration_s
    running = (asked.adapt_s, asked.centre, asked.warm_up)
    how = StreamedAs(features, cut.scaling, cut.window_s, asked.hop_s, baseline_s, *running)
    made = streamed_windows(model, data, windows.recordings, cut, windows.classes, how, raw)
    taken = f" after a baseline of {baseline_s:g} s; shorten it with --calibration-s"
    _refuse_one_class(str(store), made.y, windows.classes, taken)
    left_out = _left_out(made.subjects, made.y, asked.val, seed)
    without = f" without {', '.join(left_out)}; use --val 0"
    _refuse_one_class(str(store), made.y[~np.isin(made.subjects, left_out)], windows.classes, without)
    views = feature_views(features, model.config)
    head = _fitted(made, windows.classes, left_out, protocol, features, views, seed)
    head.facts |= {
        **asdict(how),
        "target": asked.target,
        "streamed_from": "store" if raw is None else "recordings",
        "protocol": protocol,
        "n_subjects": len(set(made.subjects.tolist()) - set(left_out)),
        "ch_names": list(data.ch_names),
        "model_sha256": digest,
        "store_sha256": data.manifest_sha256,
    }
    head.facts["validation"] = {
        "seed": seed,
        "fitted_on": sorted(set(made.subjects.tolist()) - set(left_out)),
        "left_out": list(left_out),
        **_judgement(head, made, windows.classes, left_out),
        "pretraining": _seen(read_run_split(Path(run), data), left_out, data.manifest_sha256),
    }
    if left_out:
        offline = _offline(model, windows, how, asked.batch_size)
        other = _fitted(offline, windows.classes, left_out, protocol, features, views, seed)
        head.facts["validation"]["offline"] = _judgement(other, offline, windows.classes, left_out)
    return head


def _streamable(checkpoint: Checkpoint, data: RecordingStore, run: str | Path, features: str) -> EEGM2:
    """Return the checkpoint's network if it can stream what the store holds."""
    model, header = checkpoint.model, checkpoint.header
    if not isinstance(model, EEGM2):
        raise ConfigError(f"{run}: a U-Net cannot be streamed; use eegm2, light, s1, s3 or s4")
    refuse_kind(features, model.config)
    if list(data.ch_names) != list(header["ch_names"]) or data.sfreq_hz != header["sfreq_hz"]:
        raise DataError(
            f"{data.url}: has channels {' '.join(data.ch_names)} at {data.sfreq_hz:g} Hz, the model expects "
            f"{' '.join(header['ch_names'])} at {header['sfreq_hz']:g} Hz; prepare it like the model's store"
        )
    return model.eval()


def _baseline(windows: WindowDataset) -> float:
    """Return the usual baseline of the recordings that have labels, shorter where it would take a class."""
    labelled = [info for info in windows.recordings if info.id not in windows.unlabelled]
    window_s, present = windows.config.window_s, set(windows.labels.tolist())
    usual_s = usual_baseline(labelled, window_s)
    for taken in range(round(usual_s / window_s), 0, -1):
        left = windows.start_s >= taken * window_s - 1e-6
        if set(windows.labels[left].tolist()) == present:
            return taken * window_s
    return usual_s


def _offline(model: EEGM2, windows: WindowDataset, how: StreamedAs, batch_size: int) -> StreamedWindows:
    """Return the features of separate windows of the store, as `eegm2 probe` takes them."""
    data = LabelledWindows.from_dataset(windows)
    features = extract_features(model, data, batch_size=batch_size, kind=how.features)
    if how.centre != "none":
        features = centre_features(features, data, how.centre).astype(np.float32)
    every = np.ones(len(data), bool)
    return StreamedWindows(features, data.y, data.subject, every, every)


def _fitted(
    made: StreamedWindows,
    classes: tuple[str, ...],
    left_out: tuple[str, ...],
    protocol: str,
    kind: str,
    views: Views,
    seed: int,
) -> DenseHead:
    """Fit a head on the windows of those who are not left out that do not overlap."""
    learnt = made.apart & ~np.isin(made.subjects, left_out)
    return fit_dense(
        made.features[learnt], made.y[learnt], made.subjects[learnt], classes, protocol, kind, views, seed
    )


def fit_dense(
    features: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    classes: tuple[str, ...],
    protocol: str,
    kind: str,
    views: Views,
    seed: int,
) -> DenseHead:
    """Fit a head on windows that do not overlap.

    Parameters
    ----------
    features : array, shape (n, n_features)
    y : array of int, shape (n,)
        Class numbers.
    groups : array of str, shape (n,)
        People, or blocks of one person, who are left out in turn for choosing (light: on some of whom
        fitting stops).
    classes : tuple of str
        In the order of their numbers; the head has those that are there.
    protocol : {"linear", "light"}
    kind : str
        Of the features.
    views : mapping of str to array of int
        Of the features, see :func:`eegm2.model.features.feature_views`.
    seed : int
        Draws those groups.
    """
    features = features.astype(float)
    present, y = np.unique(y, return_inverse=True)
    names = tuple(classes[i] for i in present)
    if protocol == "light":
        data = LabelledWindows(features, y, groups, groups, np.zeros(len(y)), names)
        every = np.arange(len(y))
        parts = _inner_split(groups, y, seed) or Split(every, every, np.zeros(0, np.int64))
        scaler, network, _, _ = fit_light(features, data, parts, seed=seed, config=ProbeConfig().light())
        head = DenseHead.from_network(scaler.mean_, scaler.scale_, network, names)
    elif kind == "statistics":
        head = DenseHead.from_pipeline(linear_model(c=1.0).fit(features, y), names)
        head.facts["c"] = 1.0
    else:
        made = fit_by_people(features, y, groups, views)
        head = DenseHead.from_arrays(made.arrays, names)
        head.facts |= {name: made.facts[name] for name in ("c", "shares", "n_left_out")}
    head.facts["n_windows"] = len(y)
    return head


def _inner_split(people: NDArray[np.str_], y: NDArray[np.int64], seed: int) -> Split | None:
    """Return a fifth of the people for choosing and stopping; None where they do not suffice for that."""
    asked = np.isin(people, _left_out(people, y, 0.2, seed))
    learnt = ~asked
    if len(np.unique(y[learnt])) < len(np.unique(y)) or not asked.any():
        return None
    return Split(np.flatnonzero(learnt), np.flatnonzero(asked), np.zeros(0, np.int64))


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


def _judgement(
    head: DenseHead, made: StreamedWindows, classes: tuple[str, ...], left_out: tuple[str, ...]
) -> dict[str, Any]:
    """Return the metrics on windows of subjects that the head has not seen, or why there are none."""
    numbers = {classes.index(name): place for place, name in enumerate(head.classes)}
    asked = np.isin(made.subjects, left_out) & np.isin(made.y, list(numbers))
    judged = asked & made.decided
    if not judged.any():
        why = "nobody was left out of the fit, so nothing says how good this head is on unseen people"
        if asked.any():
            why = "streams of the people left out end before their running mean is known; lower --warm-up"
        return {"metrics": None, "n_windows": 0, "n_subjects": 0, "notes": {"metrics": why}}
    y = np.array([numbers[label] for label in made.y[judged].tolist()])
    scores = classification_metrics(y, head(made.features[judged]), classes=head.classes)
    return {
        "metrics": scores.plain(),
        "n_windows": len(y),
        "n_subjects": len(np.unique(made.subjects[judged])),
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
