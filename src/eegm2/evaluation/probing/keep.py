"""What a probe learnt, kept as a model that predicts: weights, heads, and what must be known of them."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.data.config import WindowConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.evaluation.protocols.kept import HeadArrays, write_tuned
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.from_store import ChosenSplit
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.model.heads import Downstream
from eegm2.training.checkpoint import Checkpoint, save_checkpoint, weights_sha256
from eegm2.zoo.shipped import HEADS, WEIGHTS

METRICS = ("balanced_accuracy", "auroc", "r2", "mae")


def keep_models(
    folder: Path,
    checkpoint: Checkpoint,
    outcomes: Sequence[Outcome],
    rows: Sequence[dict[str, Any]],
    common: dict[str, Any],
    classes: Sequence[str],
    of_people: dict[str, Any] | None = None,
) -> None:
    """Write the network once and the head of each protocol's first seed beside it.

    A protocol that changes the network gets a folder of its own, named after it.

    Parameters
    ----------
    folder : Path
        Is a model afterwards: ``model.safetensors`` and ``heads/``.
    checkpoint : Checkpoint
        What was probed.
    outcomes, rows : sequence
        Of the protocols and seeds, and their results.
    common : dict
        From :func:`learnt_from`.
    classes : sequence of str
        In the order of their numbers; none of a value (regression).
    of_people : dict, optional
        As `common`, of a probe that learnt from the validation people too (its penalty is people's choice).
    """
    digest = write_network(folder / WEIGHTS, checkpoint)
    for outcome, row in zip(outcomes, rows):
        if outcome.seed or outcome.learnt is None:
            continue
        facts = {
            **(of_people if of_people and "n_people" in outcome.facts else common),
            "protocol": outcome.protocol,
            "seed": outcome.seed,
            "threshold": outcome.threshold,
            "test": {name: row["metrics"][name] for name in METRICS if row["metrics"].get(name) is not None},
        }
        name = f"{outcome.protocol}.safetensors"
        if isinstance(outcome.learnt, HeadArrays):
            (folder / HEADS).mkdir(exist_ok=True)
            outcome.learnt.write(folder / HEADS / name, classes, {**facts, "model_sha256": digest})
        elif isinstance(outcome.learnt, Downstream):
            own = folder / outcome.protocol
            (own / HEADS).mkdir(parents=True, exist_ok=True)
            facts |= {
                "centre": "none",
                "model_sha256": write_network(own / WEIGHTS, checkpoint, outcome.learnt),
            }
            write_tuned(own / HEADS / name, outcome.learnt, classes, facts)


def write_network(path: Path, checkpoint: Checkpoint, tuned: Downstream | None = None) -> str:
    """Write a checkpoint's network, or what became of it; return the hash of its weights.

    A file that says the same is copied as it is.
    """
    if tuned is None and checkpoint.path.suffix == ".safetensors" and "trained_on" not in checkpoint.header:
        shutil.copyfile(checkpoint.path, path)
        return weights_sha256(checkpoint.model)
    model = checkpoint.model
    if tuned is not None:
        model = copy.deepcopy(model)  # whose decoder stays where the head read none
        model.load_state_dict(tuned.network.state_dict(), strict=False)
    header = {key: value for key, value in checkpoint.header.items() if key not in ("format", "model")}
    save_checkpoint(path, model, header)
    return weights_sha256(model)


def learnt_from(
    store: RecordingStore,
    data: LabelledWindows,
    split: ChosenSplit,
    windows: WindowConfig,
    learnt_features: np.ndarray | None,
    *,
    parts: Sequence[str] = ("train",),
    **more: Any,
) -> dict[str, Any]:
    """Return what a kept head must tell: how windows are made, who was seen, and what the data were like.

    Parameters
    ----------
    store, data, split, windows
        What was learnt from.
    learnt_features : array, shape (n, n_features), optional
        Of all windows, as the head takes them.
    parts : sequence of str
        Those that are learnt from.
    **more
        Further facts: features, centre, target.
    """
    learnt = np.concatenate([getattr(split.indices, part) for part in parts])
    others = [part for part in _PARTS if part not in parts]
    people = {"train": _names(data, learnt)}
    people |= {part: _names(data, getattr(split.indices, part)) for part in others}
    recordings = np.unique(data.recording[np.concatenate([split.indices.train, split.indices.val])]).tolist()
    amplitudes = [store.typical_uv(name) for name in recordings]
    facts: dict[str, Any] = {
        "window_s": windows.window_s,
        "n_times": round(windows.window_s * store.sfreq_hz),
        "scaling": windows.scaling,
        "target": windows.target,
        "ch_names": list(store.ch_names),
        "sfreq_hz": store.sfreq_hz,
        "people": people,
        "by": split.manifest.by,
        "n_windows": len(learnt),
        "store_sha256": store.manifest_sha256,
        "pretraining": split.statement,
        "range": {
            "typical_uv": [min(amplitudes), max(amplitudes)],
            "common_share": float(np.median([common_share(store, name) for name in recordings])),
        },
        **more,
    }
    if data.is_regression:
        facts["range"]["target"] = [float(data.y[learnt].min()), float(data.y[learnt].max())]
    if learnt_features is not None:
        facts["range"]["unusual"] = usual_distance(learnt_features[learnt])
    return facts


_PARTS = ("train", "val", "test")


def _names(data: LabelledWindows, indices: np.ndarray) -> list[str]:
    found: list[str] = np.unique(data.subject[indices]).tolist()
    return found


def common_share(store: RecordingStore, recording: str) -> float:
    """Return how much of a recording is common to all its channels: 0 with their average as reference."""
    x = store.view(recording)[:: max(1, store[recording].n_times // 20_000)].astype(np.float64)
    each = float(x.std(0).mean())
    return float(x.mean(1).std() / each) if each > 0 else 0.0


def usual_distance(features: np.ndarray) -> dict[str, list[float] | float]:
    """Return centre and spread of features, and the distance that 99 of 100 windows keep to."""
    centre, spread = np.median(features, 0), features.std(0)
    spread[spread <= 1e-9 * (1 + np.abs(centre))] = np.inf
    distance = np.sqrt((((features - centre) / spread) ** 2).mean(1))
    spread[np.isinf(spread)] = 0.0
    return {
        "centre": np.round(centre.astype(float), 6).tolist(),
        "spread": np.round(spread.astype(float), 6).tolist(),
        "limit": float(np.quantile(distance, 0.99)),
    }
