"""Fine-tune a network on labels and keep the result as a run: it predicts, streams and is shared."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eegm2.atomic import whole_file
from eegm2.config import conflicts, to_dict
from eegm2.data.config import sha256_json
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import ConfigError
from eegm2.evaluation.features.centring import centre_features, centred_windows
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.evaluation.probing.folder import prediction_arrays
from eegm2.evaluation.probing.keep import learnt_from, write_network
from eegm2.evaluation.protocols.frozen import light_probe
from eegm2.evaluation.protocols.kept import HeadArrays, write_tuned
from eegm2.evaluation.protocols.layers import freeze
from eegm2.evaluation.protocols.modes import fine_tune
from eegm2.evaluation.protocols.resuming import FitState
from eegm2.evaluation.protocols.tuning import tune
from eegm2.evaluation.scores.outcome import Outcome, evaluate
from eegm2.evaluation.windows.from_store import ChosenSplit, LabelledTask
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.model.features import usual_kind
from eegm2.model.heads import FeatureDownstream
from eegm2.progress import Progress, of_stage, unseen
from eegm2.training.checkpoint import Checkpoint, load_checkpoint, provenance, write_json
from eegm2.training.runfolder import disk_errors, locked, refuse_unwritable
from eegm2.zoo.shipped import HEADS

KIND = "finetune"
STATE = "checkpoints/fit.pt"
"""Of an unfinished run: where it goes on."""


@dataclass(frozen=True)
class FinetuneResult:
    """What was learnt and where it is.

    Attributes
    ----------
    run : Path
        Its folder.
    results : dict
        Contents of results.json.
    already_finished : bool
        The run had ended before.
    """

    run: Path
    results: dict[str, Any]
    already_finished: bool = False


def finetune(
    model: str | Path,
    store: str | Path,
    run: str | Path,
    config: FinetuneConfig | None = None,
    progress: Progress | None = None,
) -> FinetuneResult:
    """Fine-tune a model (or fit the Light head on it) and write a run folder.

    The folder holds run.json, splits.json, results.json, predictions.npz, checkpoints/best.safetensors and
    heads/. A run that was interrupted goes on after its last whole epoch, to the same weights.

    Parameters
    ----------
    model : str or Path
        Any name of a model, see :func:`eegm2.zoo.find_weights`.
    store : str or Path
        Labelled recordings, prepared as the model's were.
    run : str or Path
        Folder to write.
    config : FinetuneConfig, optional
        Every choice.
    progress : callable, optional
        Called with (stage, done, total).

    Raises
    ------
    ConfigError
        If the store does not fit, or the folder holds something else or a run with other options.
    DataError
        If labels or people do not suffice.
    """
    config, folder = config or FinetuneConfig(), Path(run)
    report = progress or unseen
    checkpoint, opened = load_checkpoint(model, config.which), RecordingStore(store)
    checkpoint = checkpoint.on_montage(opened.ch_names, config.positions)
    facts = {
        "kind": KIND,
        "base": str(model),
        "store": Path(opened.url).name,
        "manifest_sha256": opened.manifest_sha256,
        "finetune": to_dict(config),
        **provenance(),
    }
    before = _begun(folder, facts, config)
    if before is not None:
        return FinetuneResult(folder, before, True)
    kind = config.features or usual_kind(checkpoint.config)
    refuse_unwritable(folder)
    asked = LabelledTask.of(model, checkpoint, opened, config.probe(kind))
    data, split = asked.data, asked.split
    with locked(folder), disk_errors(folder, "nothing was kept"):
        write_json(folder / "run.json", {**facts, "finished": False})
        features = None
        if config.head == "light":
            features = extract_features(
                checkpoint.model, data, device=config.device, kind=kind,
                progress=of_stage(report, "features"),
            )  # fmt: skip
        report("fitting", 0, config.fit().max_epochs)
        state = FitState(folder / STATE, _mark(checkpoint, facts), of_stage(report, "fitting"))
        outcome, network = _learnt(checkpoint, data, split, config, kind, features, state)
        taken = None  # of a network that has changed, features are others now
        if network is None and features is not None:
            taken = centred_windows(features, data, config.centre)
        common = learnt_from(opened, data, split, asked.windows, taken)
        row = evaluate(outcome, data, split.indices.test)
        task = {
            **common,
            "classes": list(data.classes),
            "n_subjects": len(np.unique(data.subject)),
            "pretraining_saw": split.statement,
        }
        results = {"format": 1, "classes": list(data.classes), "task": task, "protocols": [row], **row}
        results["notes"] = asked.notes
        about = {name: facts[name] for name in ("base", "store", "finetune")}
        tuned = replace(checkpoint, header={**checkpoint.header, "finetune": about})
        _keep(
            folder, tuned, outcome, network, data, row, {**common, "features": kind, "centre": config.centre}
        )
        split.manifest.to_json(folder / "splits.json")
        with whole_file(folder / "predictions.npz", ending=".npz") as temporary:
            np.savez_compressed(temporary, **prediction_arrays([outcome], data, split))  # type: ignore[arg-type]
        write_json(folder / "results.json", results)
        write_json(folder / "run.json", {**facts, "finished": True})
        state.remove()
    return FinetuneResult(folder, results)


def _begun(folder: Path, facts: dict[str, Any], config: FinetuneConfig) -> dict[str, Any] | None:
    """Return the results of a finished run with the same options; refuse what is something else."""
    path = folder / "run.json"
    there = [p.name for p in folder.iterdir() if not p.name.startswith(".")] if folder.is_dir() else []
    if folder.is_file() or (there and not path.is_file()):
        raise ConfigError(f"--out {folder}: exists and is no fine-tuned run; choose another name")
    if not there:
        return None
    try:
        before = json.loads(path.read_bytes())
        kind, finished = before.get("kind"), bool(before.get("finished"))
        results = json.loads((folder / "results.json").read_bytes()) if finished else None
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); choose another --out") from error
    if kind != KIND:
        raise ConfigError(f"--out {folder}: holds another kind of run; choose another name")
    names = [name for name in ("base", "manifest_sha256") if before.get(name) != facts[name]]
    names += [name for name in conflicts(before.get("finetune"), config) if name != "device"]
    if names and finished:
        raise ConfigError(
            f"--out {folder}: holds a finished run with another {', '.join(names)}; choose another name"
        )
    return results if finished else None


def _mark(checkpoint: Checkpoint, facts: dict[str, Any]) -> str:
    """Return what the weights after an epoch depend on, as a hash."""
    options = {key: value for key, value in facts["finetune"].items() if key != "device"}
    base = hashlib.sha256(checkpoint.path.read_bytes()).hexdigest()
    return sha256_json([base, facts["manifest_sha256"], options])


def _learnt(
    checkpoint: Checkpoint,
    data: LabelledWindows,
    split: ChosenSplit,
    config: FinetuneConfig,
    kind: str,
    features: np.ndarray | None,
    state: FitState,
) -> tuple[Outcome, Any]:
    """Return what was learnt, and the changed network (None where it stays)."""
    how, seed, indices = config.fit(), config.seed, split.indices
    if config.protocol == "light":
        assert features is not None
        return light_probe(features, data, indices, seed=seed, config=how, centre=config.centre), None
    if features is None:
        return fine_tune(
            "fine",
            data,
            indices,
            model=checkpoint.model,
            seed=seed,
            config=how,
            state=state,
            centre=config.centre,
        )
    less = centre_features(features, data, config.centre)
    mean, scale = less[indices.train].mean(0), less[indices.train].std(0)
    scale[scale <= 1e-6 * (1 + np.abs(features[indices.train].mean(0)))] = 1.0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FeatureDownstream(
            copy.deepcopy(checkpoint.model),
            kind,
            torch.from_numpy(mean),
            torch.from_numpy(scale),
            len(data.classes),
        )
    freeze(network, how.freeze)
    outcome = tune(
        "fine", network, data.in_memory(), indices, seed=seed, config=how, centre=config.centre, state=state
    )
    outcome = replace(outcome, facts={**outcome.facts, "head": config.head})
    arrays = HeadArrays.of_network(mean.astype(float), scale.astype(float), network.head)
    return replace(outcome, learnt=arrays), network


def _keep(
    folder: Path,
    checkpoint: Checkpoint,
    outcome: Outcome,
    network: Any,
    data: LabelledWindows,
    row: dict[str, Any],
    common: dict[str, Any],
) -> None:
    """Write the network and its head."""
    shutil.rmtree(folder / HEADS, ignore_errors=True)
    for place in (folder / HEADS, folder / "checkpoints"):
        place.mkdir(parents=True, exist_ok=True)
    digest = write_network(folder / "checkpoints" / "best.safetensors", checkpoint, network)
    facts = {
        **common,
        "model_sha256": digest,
        "protocol": outcome.protocol,
        "seed": outcome.seed,
        "threshold": outcome.threshold,
        "test": {name: row["metrics"][name] for name in ("balanced_accuracy", "auroc")},
    }
    path = folder / HEADS / f"{outcome.protocol}.safetensors"
    if isinstance(outcome.learnt, HeadArrays):
        outcome.learnt.write(path, data.classes, facts)
    else:
        write_tuned(path, network, data.classes, facts)
