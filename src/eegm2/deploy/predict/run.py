"""``eegm2 predict``: a model with a head on new recordings, as a folder of tables and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.atomic import remove_stale_temporaries, write_atomic
from eegm2.config import to_dict
from eegm2.data.config import sha256_json
from eegm2.data.files.written import frame
from eegm2.data.store.facts import file_stem
from eegm2.data.store.recording_store import RecordingStore
from eegm2.deploy.predict.classifier import Classifier, load_classifier
from eegm2.deploy.predict.config import PredictConfig
from eegm2.deploy.predict.reaction import MOST_WINDOWS, reactions
from eegm2.deploy.predict.recording import predict_recording
from eegm2.deploy.predict.sources import Prepared, open_sources
from eegm2.deploy.predict.tables import recording_table, window_table, write_csv
from eegm2.errors import ConfigError, DataError, EEGM2Error
from eegm2.evaluation.baselines.class_power import BANDS
from eegm2.evaluation.baselines.options import band_edges
from eegm2.plugins import is_plugin
from eegm2.progress import Progress, unseen
from eegm2.training.checkpoint import provenance
from eegm2.training.runfolder import disk_errors, locked, refuse_unwritable

FORMAT = 2
RECORDINGS, RESULT = "recordings", "predictions.json"


@dataclass(frozen=True)
class Predictions:
    """What was predicted and where it is.

    Attributes
    ----------
    document : dict
        Contents of predictions.json: model, recordings (with their windows), skipped, reactions.
    out : Path
        The folder.
    """

    document: dict[str, Any]
    out: Path

    def windows(self) -> Any:
        """Return a pandas DataFrame with a row per window."""
        return frame(window_table(self.document["recordings"], self.document["model"]))

    def recordings(self) -> Any:
        """Return a pandas DataFrame with a row per recording."""
        return frame(recording_table(self.document["recordings"], self.document["model"]))


def predict(
    model: str | Path,
    sources: Sequence[str | Path],
    out: str | Path,
    config: PredictConfig | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Apply a model with a head to files, folders or stores; run again, it goes on where it stopped.

    Parameters
    ----------
    model : str or Path
        Folder of a probe or of a fine-tuned run, or any model with ``config.head`` a file.
    sources : sequence of str or Path
        EEG files, folders of them at any depth, or stores.
    out : str or Path
        Folder for windows.csv, recordings.csv, predictions.json, and a file per recording under recordings/.
    config : PredictConfig, optional
        Head, windows, threshold.
    progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    Predictions
        Recordings that could not be used are in ``document["skipped"]`` with the reason.

    Raises
    ------
    CheckpointError
        If the model has no head, or is not finished.
    ConfigError
        If a store was prepared otherwise, or `out` holds something else.
    DataError
        If no recording could be predicted; the message has the first reason.
    """
    config, out = config or PredictConfig(), Path(out)
    report = progress or unseen
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / RECORDINGS).is_dir()):
        raise ConfigError(f"--out {out}: exists and holds no predictions; choose another name")
    refuse_unwritable(out)
    classifier = load_classifier(model, config.head)
    (out / RECORDINGS).mkdir(parents=True, exist_ok=True)
    with locked(out), disk_errors(out, "recordings predicted so far are whole"):
        remove_stale_temporaries(out / RECORDINGS)
        done: dict[str, dict[str, Any]] = {}
        skipped: dict[str, str] = {}
        for prepared in open_sources(classifier, [str(source) for source in sources], out, config, report):
            skipped |= prepared.skipped
            _predict_store(classifier, prepared, out, config, report, done, skipped)
        if not done:
            name, reason = next(iter(skipped.items()), ("", "no recording was found"))
            raise DataError(
                f"none of {len(skipped)} recordings could be predicted; the first: {reason or name}"
            )
        document: dict[str, Any] = {
            "format": FORMAT,
            "model": _model(model, classifier, config),
            "recordings": list(done.values()),
            "skipped": skipped,
            "reactions": _reactions(classifier, out, list(done.values()), config, report),
            "provenance": {**provenance(), "config": to_dict(config)},
        }
        for name, table in (("windows", window_table), ("recordings", recording_table)):
            write_csv(out / f"{name}.csv", table(document["recordings"], document["model"]))
        write_atomic(out / RESULT, [_json(document)])
    return Predictions(document, out)


def _predict_store(
    classifier: Classifier,
    prepared: Prepared,
    out: Path,
    config: PredictConfig,
    report: Progress,
    done: dict[str, dict[str, Any]],
    skipped: dict[str, str],
) -> None:
    """Predict the recordings of a store that are not done yet; what cannot be is skipped by name."""
    store = prepared.store
    if store is None:
        return
    for number, info in enumerate(store.recordings):
        report("predicting", number, len(store.recordings))
        stem = file_stem(info.id)
        while stem in done:  # of another source
            stem += "+"
        facts = _finished(out, stem, mark := _mark(classifier, store, info.id, config))
        if facts is None:
            try:
                facts = _predict_one(classifier, store, info.id, config, prepared.notes, out, stem, mark)
            except EEGM2Error as error:
                skipped[info.id] = str(error)
                continue
        done[stem] = facts
    report("predicting", len(store.recordings), len(store.recordings))


def _predict_one(
    classifier: Classifier,
    store: RecordingStore,
    recording: str,
    config: PredictConfig,
    notes: tuple[str, ...],
    out: Path,
    stem: str,
    mark: str,
) -> dict[str, Any]:
    made = predict_recording(classifier, store, recording, config, notes)
    facts = {**made.facts, "file": stem, "mark": mark}
    path = out / RECORDINGS / f"{stem}.npz"
    temporary = path.with_name(f".{stem[:60]}.partial.npz")
    np.savez_compressed(temporary, **made.arrays)  # type: ignore[arg-type]
    temporary.replace(path)
    write_atomic(path.with_suffix(".json"), [_json(facts)])
    return facts


def _mark(classifier: Classifier, store: RecordingStore, recording: str, config: PredictConfig) -> str:
    """Return what a recording's predictions depend on, as a hash."""
    info = store[recording]
    values = {key: value for key, value in to_dict(config).items() if key not in ("reaction", "device")}
    return sha256_json(
        [FORMAT, classifier.sha256, values, info.array_sha256, info.n_times, info.source_sha256]
    )


def _finished(out: Path, stem: str, mark: str) -> dict[str, Any] | None:
    """Return the predictions of a recording that an earlier run wrote, if they are the same."""
    path = out / RECORDINGS / f"{stem}.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        same = facts["mark"] == mark and path.with_suffix(".npz").is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts if same else None


def _reactions(
    classifier: Classifier, out: Path, done: list[dict[str, Any]], config: PredictConfig, report: Progress
) -> dict[str, Any] | None:
    """Return what the model reacts to in some windows of recordings with the first one's channels.

    Nothing where a data set of one's own reads the windows: changed samples cannot be read through it.
    """
    if not config.reaction or is_plugin(classifier.windows.dataset):
        return None
    report("asking what the model reacts to", 0, 1)
    windows: list[Any] = []
    typical: list[float] = []
    means: list[Any] = []
    names: tuple[str, ...] = ()
    for facts in done:
        with np.load(out / RECORDINGS / f"{facts['file']}.npz", allow_pickle=False) as arrays:
            own = tuple(arrays["ch_names"].tolist())
            if (names or own) != own or len(windows) >= MOST_WINDOWS:
                continue
            names, some = own, arrays["some_uv"][: max(1, MOST_WINDOWS // min(len(done), MOST_WINDOWS))]
            windows.extend(some)
            typical.extend([facts["quality"].get("typical_uv") or 1.0] * len(some))
            if "mean_features" in arrays:
                means.extend([arrays["mean_features"]] * len(some))
    if len({window.shape for window in windows}) != 1:
        return None
    sfreq_hz = float(classifier.checkpoint.header["sfreq_hz"])
    bands = {name: edges for name, edges in band_edges(BANDS).items() if edges[0] < sfreq_hz / 2}
    found = reactions(
        classifier.on_montage(names, config.positions),
        np.stack(windows),
        np.array(typical),
        np.array(means) if means else None,
        names,
        sfreq_hz,
        bands,
        config.device,
    )
    report("asking what the model reacts to", 1, 1)
    return {**found, "ch_names": list(names), "band_names": list(bands)}


def _model(model: str | Path, classifier: Classifier, config: PredictConfig) -> dict[str, Any]:
    facts = {key: value for key, value in classifier.facts.items() if key not in ("range", "people")}
    people = classifier.facts.get("people", {})
    return {
        "name": str(model),
        "head": classifier.name,
        "classes": list(classifier.classes),
        **({"value": classifier.value} if classifier.value else {}),
        "threshold": config.threshold if config.threshold is not None else classifier.threshold,
        "window_s": classifier.windows.window_s,
        "sha256": classifier.sha256,
        "n_people_learnt_from": len(people.get("train", ())) or facts.get("n_subjects"),
        "facts": facts,
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
        "utf-8", errors="replace"
    )
