"""Reading the RUN and PROBE folders: what is damaged or missing becomes a sentence, not an exception."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.data.files.arrays import load_npz
from eegm2.errors import DataError
from eegm2.evaluation.experiment.tables import choice_lines
from eegm2.evaluation.probing.folder import listed_probes, scored_by
from eegm2.records import DETAILS, HEADER, NUMBERS, PROBE, ROW, RUN, SPLITS, Record, read_json, sound_fields
from eegm2.report.contents import Evaluation, Probe, ReportData, TrainingLog

_CURVES = ("train_loss", "val_loss", "train_l1", "val_l1", "train_spectral", "val_spectral", "lr")


def read_fields(path: Path, record: Record) -> tuple[dict[str, Any], str]:
    """Return the sound fields of a file, and a sentence on what is wrong with it, empty if nothing is."""
    try:
        values, problems = sound_fields(read_json(path), record)
    except FileNotFoundError:
        return {}, f"{path.name} is missing."
    except OSError as error:
        return {}, f"{path.name} cannot be read ({error.strerror})."
    except ValueError as error:
        return {}, f"{path.name} is damaged ({error})."
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    said = f"{path.name} is damaged, these are left out: {'; '.join(problems[:3])}{more}." if problems else ""
    return values, said


def read_run(run: Path) -> ReportData:
    """Return what the files of a RUN folder hold, without its store, model or probes."""
    data = ReportData(run=run.resolve().name)
    header, problem = read_fields(run / "run.json", RUN)
    problems = [problem] if "missing" not in problem else []
    inner, more = sound_fields(header.pop("header", None), HEADER)
    header |= inner
    problems += [f"run.json: {text}." for text in more]
    if "config" in header and "pretrain" not in header:
        header["pretrain"] = header.pop("config")
    for which in ("last", "best"):
        saved, said = read_fields(run / "checkpoints" / f"{which}.json", HEADER)
        header |= saved
        problems += [said] if "missing" not in said else []
    data.header = {key: value for key, value in header.items() if value is not None}
    if not header:
        data.missing["header"] = f"The run's configuration is unknown: {problem}"
    elif said := " ".join(filter(None, problems)):
        data.missing["header"] = said
    data.ch_names = tuple(header.get("ch_names", ()))
    data.sfreq_hz = float(header["sfreq_hz"]) if "sfreq_hz" in header else None
    splits, problem = read_fields(run / "splits.json", SPLITS)
    data.splits = {part: tuple(splits.get(part, ())) for part in ("train", "val", "test")} if splits else {}
    data.split_seed, data.split_by = splits.get("seed"), splits.get("by", "subject")
    if problem:
        data.missing["splits"] = f"The split is {'not whole' if splits else 'unknown'}: {problem}"
    data.tuned = header.get("kind") == "finetune"
    read = read_history if data.tuned else read_log
    data.log, data.missing["log"] = read(run / ("results.json" if data.tuned else "logs/metrics.csv"))
    return data


def read_history(path: Path) -> tuple[TrainingLog | None, str]:
    """Return the losses of a fine-tuned run's results.json, one value per epoch, or None and why."""
    found, problem = read_fields(path, Record({"train_loss": NUMBERS, "val_loss": NUMBERS}))
    curves = {name: np.array(found[name], float) for name in ("train_loss", "val_loss") if found.get(name)}
    if not curves:
        return None, f"There is no learning curve ({problem or f'{path.name} holds no losses.'})"
    length = max(len(values) for values in curves.values())
    whole = {name: np.pad(v, (0, length - len(v)), constant_values=np.nan) for name, v in curves.items()}
    return TrainingLog(np.arange(1, length + 1), whole), ""


def read_log(path: Path) -> tuple[TrainingLog | None, str]:
    """Return a Lightning CSV log with one value per epoch (the last one logged), or None and why.

    Parameters
    ----------
    path : Path
        metrics.csv with a column "epoch"; training and validation values may stand on separate rows.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        return None, f"There is no training log ({path.name}: {error.strerror})."
    except (csv.Error, UnicodeDecodeError) as error:
        return None, f"The training log {path.name} is damaged ({error})."
    table: dict[int, dict[str, float]] = {}
    for row in rows:
        epoch = _number(row.get("epoch"))
        if not np.isfinite(epoch):
            continue
        for name, text in row.items():
            value, curve = _number(text), _curve_name(name)
            if curve and np.isfinite(value):
                table.setdefault(int(epoch), {})[curve] = value
    if not table:
        return None, f"The training log {path.name} holds no value of a loss."
    epochs = np.array(sorted(table))
    known = dict.fromkeys([*_CURVES, *(name for values in table.values() for name in values)])
    curves = {name: np.array([table[e].get(name, np.nan) for e in epochs.tolist()]) for name in known}
    return TrainingLog(epochs, {name: v for name, v in curves.items() if np.isfinite(v).any()}), ""


def _curve_name(column: str | None) -> str:
    """Return the curve a column of the log belongs to, or nothing."""
    name = (column or "").removesuffix("_epoch")
    if name.startswith(("lr-", "lr/")):
        return "lr"
    return name if name in _CURVES or name.startswith(("train_", "val_")) else ""


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return float("nan")


def read_probes(run: Path, extra: Sequence[str | Path]) -> tuple[list[Probe], str]:
    """Return the probes that RUN/probes.json lists and those named by the user, and what went wrong."""
    names, problem = listed_probes(run / "probes.json")
    problems = [f"The list of probes: {problem}"] if problem else []
    folders: list[Path] = []
    for name in [*names, *map(str, extra)]:
        places = [Path(name), run / name, run.parent / name]
        folder = next((p for p in places if (p / "results.json").exists()), None)
        if folder is None:
            problems.append(f"The probe {name} holds no results.json any more; it is left out.")
        elif folder.resolve() not in [p.resolve() for p in folders]:
            folders.append(folder)
    return [read_probe(folder) for folder in folders], " ".join(problems)


def read_probe(folder: Path, *, embedded: bool = True) -> Probe:
    """Return one PROBE folder's contents; arrays that do not fit are left out and named in `problems`.

    A fine-tuned run reads like one, but that it has kept no features (`embedded`).
    """
    results, problem = read_fields(folder / "results.json", PROBE)
    problems = [f"{folder.name}: {problem}"] if problem else []
    task, rows = results.get("task", {}), results.get("protocols", [])
    arrays = _read_npz(folder / "predictions.npz", problems)
    n_classes = len(task.get("classes") or ())
    if task.get("kind", "classification") != "classification":
        problems.append(
            f"{folder.name}: the task is {task['kind']}; only its scores are shown, without figures."
        )
        arrays = {}
    y_true = _whole(arrays.get("y_true"))
    subject = np.asarray(arrays.get("subject", ())).astype(str)
    limits = {(str(row.get("protocol")), str(row.get("seed"))): row.get("threshold") for row in rows}
    scores: dict[str, list[np.ndarray]] = {}
    thresholds: dict[str, list[float | None]] = {}
    order = [str(row.get("protocol")) for row in rows]
    of = {key: by[0] for key in arrays if (by := scored_by(key)) is not None}
    place = {key: order.index(protocol) for key, protocol in of.items() if protocol in order}
    for key in sorted(arrays, key=lambda key: (place.get(key, len(order)), key)):
        if (by := scored_by(key)) is None:
            continue
        protocol, seed = by
        if arrays[key].shape == (len(y_true), n_classes) and len(subject) == len(y_true):
            scores.setdefault(protocol, []).append(arrays[key])
            limit = limits.get((protocol, seed))
            two = n_classes == 2 and isinstance(limit, int | float)
            thresholds.setdefault(protocol, []).append(float(str(limit)) if two else None)
        else:
            problems.append(
                f"{folder.name}: {key} in predictions.npz is {arrays[key].shape}, expected "
                f"({len(y_true)} windows, {n_classes} classes); it is left out."
            )
    if len(y_true) and (y_true.min() < 0 or y_true.max() >= max(n_classes, 1)):
        problems.append(
            f"{folder.name}: predictions.npz has labels outside the {n_classes} classes; left out."
        )
        scores = {}
    features = _read_npz(folder / "embedding.npz", problems) if embedded else {}
    if task.get("kind", "classification") != "classification":
        features = {}
    x = next((features[k] for k in ("features", "x", "embedding") if k in features), None)
    y = _whole(features.get("y"))
    owner = np.asarray(features.get("subject", ())).astype(str)
    if x is not None and not (x.ndim == 2 and len(x) == len(y) == len(owner)):
        problems.append(
            f"{folder.name}: the arrays of embedding.npz do not fit one another; there is no map."
        )
        x = None
    problems += results.get("notes", [])
    return Probe(
        folder.name,
        task,
        rows,
        results.get("provenance", {}),
        scores,
        thresholds,
        y_true,
        subject,
        x,
        y,
        owner,
        tuple(problems),
    )


def _read_npz(path: Path, problems: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays of a file (never pickled objects); note what is wrong in `problems`."""
    try:
        return load_npz(path)
    except FileNotFoundError:
        problems.append(f"{path.parent.name}: {path.name} is missing.")
    except (OSError, DataError) as error:
        problems.append(f"{path.parent.name}: {path.name} cannot be read ({str(error).splitlines()[0]}).")
    return {}


def _whole(array: np.ndarray | None) -> np.ndarray:
    """Return class numbers; none where the array holds something else."""
    fits = array is not None and array.ndim == 1 and array.dtype.kind in "iu"
    return array.astype(int) if array is not None and fits else np.zeros(0, int)


def read_evaluations(paths: Sequence[str | Path]) -> tuple[list[Evaluation], str]:
    """Return the rows of evaluations (results.json, or its folder), and what went wrong."""
    found, problems = [], []
    for path in map(Path, paths):
        file = path / "results.json" if path.is_dir() else path
        rows, problem = _rows(file)
        if rows:
            found.append(Evaluation(file.parent.name, rows, *_evaluation_details(file.parent)))
        else:
            problems.append(f"The evaluation {path} holds no rows: {problem or 'not a list of rows.'}")
            continue
        if problem:
            problems.append(f"The evaluation {path}: {problem}")
    return found, " ".join(problems)


def _rows(file: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the sound rows of an evaluation's results.json, and what is wrong with it."""
    try:
        value = read_json(file)
    except FileNotFoundError:
        return [], f"{file.name} is missing."
    except OSError as error:
        return [], f"{file.name} cannot be read ({error.strerror})."
    except ValueError as error:
        return [], f"{file.name} is damaged ({error})."
    rows = value.get("rows", value.get("summary")) if isinstance(value, dict) else value
    kept, problems = sound_fields({"rows": rows}, Record({"rows": [ROW]}))
    return kept["rows"], f"{file.name} is damaged: {'; '.join(problems[:3])}." if problems else ""


def _evaluation_details(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return an evaluation's comparisons and what must be said beside its rows, if details.json is there."""
    details, problem = read_fields(folder / "details.json", DETAILS)
    notes = [problem] if problem and "missing" not in problem else []
    for model, by_split in details.get("pretraining_saw", {}).items():
        said = sorted({str(text) for text in by_split.values()})
        if said and said != ["no pretraining"]:
            notes.append(f"{model}: {'; '.join(said)}.")
    with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError):  # not as evaluate wrote it
        notes += choice_lines(details.get("choices") or [])
    if failed := details.get("failures"):
        notes.append("Failed: " + "; ".join(f"{cell} ({text})" for cell, text in failed.items()) + ".")
    return details.get("comparisons", []), notes
