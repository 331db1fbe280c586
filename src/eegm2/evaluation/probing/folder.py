"""The folder of a probe: its arrays, written whole or not at all, and its place in the run's list."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.atomic import whole_folder, write_atomic
from eegm2.data.files.naming import impossible_name
from eegm2.errors import ConfigError
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.from_store import ChosenSplit
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.records import read_json
from eegm2.training.runfolder import locked, refuse_unwritable


def score_name(protocol: str, seed: int) -> str:
    """Return the name of a protocol's scores in predictions.npz."""
    return f"{protocol}_{seed}_score"


def scored_by(name: str) -> tuple[str, str] | None:
    """Return the protocol and the seed of an array of predictions.npz, None where it holds no scores."""
    protocol, _, seed = name.removesuffix("_score").rpartition("_")
    return (protocol, seed) if name.endswith("_score") and protocol else None


def prediction_arrays(
    outcomes: list[Outcome], data: LabelledWindows, split: ChosenSplit
) -> dict[str, np.ndarray]:
    """Return what predictions.npz holds: the scores of the test windows, and where those are from."""
    test = split.indices.test
    scores = {score_name(o.protocol, o.seed): np.asarray(o.score, dtype=np.float32) for o in outcomes}
    return {
        **scores,
        "y_true": data.y[test],
        "subject": data.subject[test].astype(str),
        "recording": data.recording[test].astype(str),
        "start_s": np.asarray(data.start_s)[test],
    }


def embedding_arrays(
    features: np.ndarray, data: LabelledWindows, split: ChosenSplit
) -> dict[str, np.ndarray]:
    """Return what embedding.npz holds: the features of the test windows."""
    test = split.indices.test
    return {
        "features": features[test].astype(np.float32),
        "y": data.y[test],
        "subject": data.subject[test].astype(str),
    }


def refuse_foreign_folder(out: Path) -> None:
    """Refuse an output folder that holds anything but an earlier probe, or that cannot be written."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / "results.json").is_file()):
        raise ConfigError(f"--out {out}: exists and is not a probe's folder; choose another name")
    refuse_unwritable(out)


def write_folder(
    out: Path,
    results: dict[str, Any],
    predictions: dict[str, Any],
    embedding: dict[str, Any],
    keep: Callable[[Path], None] | None = None,
) -> None:
    """Write the folder under a temporary name beside it, then put it in its place.

    `keep` is called with that name, to write what else belongs into the folder.
    """
    with whole_folder(out) as folder:
        np.savez_compressed(folder / "predictions.npz", **predictions)
        np.savez_compressed(folder / "embedding.npz", **embedding)
        text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(folder / "results.json", [text.encode()])
        if keep is not None:
            keep(folder)


def listed_probes(path: Path) -> tuple[list[str], str]:
    """Return the folders that a run's probes.json lists, and what is wrong with it."""
    try:
        entries = read_json(path)
    except FileNotFoundError:
        return [], ""
    except (OSError, ValueError) as error:
        return [], f"{path.name} is damaged ({error})."
    if isinstance(entries, dict):  # of an early version
        entries = entries.get("probes", [])
    if not isinstance(entries, list):
        return [], f"{path.name} holds no list."
    found = [entry.get("path") if isinstance(entry, dict) else entry for entry in entries]
    names = [name for name in found if isinstance(name, str) and not impossible_name(name)]
    return names, "" if len(names) == len(entries) else f"{path.name} lists something that is no folder."


def append_to_run(run: Path, out: Path) -> None:
    """Add the folder to the run's list of probes, relative where it lies inside the run.

    Probes of one run may end at the same time: the list is held while it is read and written.
    """
    path = run / "probes.json"
    place = out.resolve()
    name = str(place.relative_to(run.resolve())) if place.is_relative_to(run.resolve()) else str(place)
    with locked(run, ".probes.lock", wait_s=60):
        names = [entry for entry in listed_probes(path)[0] if entry != name]
        write_atomic(path, [json.dumps([*names, name], indent=1).encode()])
