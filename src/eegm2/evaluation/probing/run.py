"""``eegm2 probe``: what a pretrained run is worth on labelled recordings, as a folder of results."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.config import to_dict
from eegm2.data.store.recording_store import RecordingStore
from eegm2.evaluation.config import ProbeConfig
from eegm2.evaluation.features.centring import centred_windows
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.probing.folder import (
    append_to_run,
    embedding_arrays,
    prediction_arrays,
    refuse_foreign_folder,
    write_folder,
)
from eegm2.evaluation.probing.keep import keep_models, learnt_from
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe
from eegm2.evaluation.scores.outcome import Outcome, evaluate, summarise
from eegm2.evaluation.windows.from_store import ChosenSplit, LabelledTask
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.model.features import feature_views, usual_kind
from eegm2.progress import Progress, of_stage, unseen
from eegm2.training.checkpoint import INPUT, Checkpoint, load_checkpoint, provenance

FORMAT = 1


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found and where it was written.

    Attributes
    ----------
    results : dict
        Contents of results.json.
    out : Path
        The folder.
    """

    results: dict[str, Any]
    out: Path


def probe(
    run: str | Path,
    store: str | Path,
    out: str | Path,
    config: ProbeConfig | None = None,
    progress: Progress | None = None,
) -> ProbeResult:
    """Probe a pretrained run on a store's labels and write a folder of results, whole or not at all.

    Parameters
    ----------
    run : str or Path
        Any name of a model, see :func:`eegm2.zoo.find_weights`.
    store : str or Path
        Store of recordings prepared as those of the run.
    out : str or Path
        Folder for results.json, predictions.npz and embedding.npz; an older probe there is replaced. It is
        a model too: what was learnt lies in it for ``eegm2 predict``.
    config : ProbeConfig, optional
        Protocols, seeds, target and split.
    progress : callable, optional
        Called with (stage, done, total).

    Raises
    ------
    ConfigError
        If the store does not fit the checkpoint, or `out` holds something that is not a probe.
    DataError
        If labels, subjects or features do not suffice; see :func:`choose_split`.
    """
    config = config or ProbeConfig()
    run, out, began = Path(run), Path(out), time.monotonic()
    refuse_foreign_folder(out)
    checkpoint = load_checkpoint(run, config.which, needs=INPUT)
    if config.features == "auto":
        config = replace(config, features=usual_kind(checkpoint.config))
    opened = RecordingStore(store)
    checkpoint = checkpoint.on_montage(opened.ch_names, config.positions)
    task = LabelledTask.of(run, checkpoint, opened, config)
    data, split, report = task.data, task.split, progress or unseen
    features = extract_features(
        checkpoint.model,
        data,
        batch_size=config.batch_size,
        device=config.device,
        kind=config.features,
        progress=of_stage(report, "features"),
    )
    outcomes = list(_outcomes(checkpoint, features, data, split, config, report))
    rows = [evaluate(outcome, data, split.indices.test) for outcome in outcomes]
    results = {
        "format": FORMAT,
        "task": _task(data, split, task.windows, config),
        "protocols": rows,
        "summary": summarise(rows),
        "recording_summary": summarise(rows, "recording_metrics"),
        "subject_summary": summarise(rows, "subject_metrics"),
        "notes": task.notes,
        "provenance": {
            **provenance(),
            "checkpoint": str(checkpoint.path),
            "checkpoint_sha256": hashlib.sha256(checkpoint.path.read_bytes()).hexdigest(),
            "store": opened.url,
            "manifest_sha256": opened.manifest_sha256,
            "config": to_dict(config),
            "seconds": round(time.monotonic() - began, 1),
        },
    }
    made = centred_windows(features, data, config.centre)
    about: dict[str, Any] = {
        "features": config.features,
        "centre": config.centre,
        "label_rule": config.label_rule,
    }
    if data.is_regression:
        about["unit"] = config.unit
    common = learnt_from(opened, data, split, task.windows, made, **about)
    of_people = None
    if any("n_people" in outcome.facts for outcome in outcomes):
        both = ("train", "val")
        of_people = learnt_from(opened, data, split, task.windows, made, parts=both, **about)
    write_folder(
        out,
        results,
        prediction_arrays(outcomes, data, split),
        embedding_arrays(features, data, split),
        keep=lambda folder: keep_models(folder, checkpoint, outcomes, rows, common, data.classes, of_people),
    )
    if (run / "checkpoints").is_dir():
        append_to_run(run, out)
    return ProbeResult(results, out)


def _outcomes(
    checkpoint: Checkpoint,
    features: np.ndarray,
    data: LabelledWindows,
    split: ChosenSplit,
    config: ProbeConfig,
    report: Progress,
) -> Iterator[Outcome]:
    """Run every protocol with every seed; the linear one has no chance in it and runs once."""
    jobs = [
        (name, seed) for name in config.protocols for seed in range(1 if name == "linear" else config.seeds)
    ]
    for done, (name, seed) in enumerate(jobs):
        report("protocols", done, len(jobs))
        if name == "linear":
            yield linear_probe(
                features,
                data,
                split.indices,
                c=config.penalty(),
                threshold=config.threshold,
                centre=config.centre,
                views=feature_views(config.features, checkpoint.model.config),
            )
        elif name == "light":
            yield light_probe(
                features, data, split.indices, seed=seed, config=config.light(), centre=config.centre
            )
        else:
            from eegm2.evaluation.protocols.modes import run_protocol

            yield run_protocol(
                name, data, split.indices, model=checkpoint.model, seed=seed, config=config.fine()
            )
    report("protocols", len(jobs), len(jobs))


def _task(data: LabelledWindows, split: ChosenSplit, windows: Any, config: ProbeConfig) -> dict[str, Any]:
    """Return what was asked, of how many windows and people."""
    parts = {}
    for part in ("train", "val", "test"):
        indices = getattr(split.indices, part)
        parts[part] = {
            "n_windows": len(indices),
            "n_subjects": len(np.unique(data.subject[indices])),
            "n_recordings": len(np.unique(data.recording[indices])),
            "n_per_class": {name: int((data.y[indices] == i).sum()) for i, name in enumerate(data.classes)},
            config.by + "s": sorted(set(getattr(data, config.by)[indices].tolist())),
        }
    return {
        "classes": list(data.classes),
        "kind": "regression" if data.is_regression else "classification",
        "target": windows.target,
        "n_windows": len(data),
        "n_subjects": len(np.unique(data.subject)),
        "n_recordings": len(np.unique(data.recording)),
        "windows": to_dict(windows),
        "unit": config.by,
        "split": split.source,
        "split_seed": split.manifest.seed,
        "pretraining_saw": split.statement,
        "parts": parts,
    }
