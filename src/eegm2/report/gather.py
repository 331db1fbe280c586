"""Collecting a report's contents from a run, its store, its model and its probes."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import eegm2
from eegm2.errors import ConfigError, EEGM2Error
from eegm2.report.contents import Recording, Rejected, ReportData
from eegm2.report.folders import read_evaluations, read_probe, read_probes, read_run
from eegm2.report.positions import head_positions

if TYPE_CHECKING:
    from eegm2.data.store.recording_store import RecordingStore

_MENDABLE = (EEGM2Error, OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError)


def gather(
    run: str | Path,
    store: str | Path | Sequence[str | Path] | None = None,
    *,
    probes: Sequence[str | Path] = (),
    evaluations: Sequence[str | Path] = (),
    command: str = "",
) -> ReportData:
    """Return everything the report of a run can show; what cannot be had is explained in its `missing`.

    Parameters
    ----------
    run : path
        A RUN folder.
    store : path or URL, or a sequence of them, optional
        Default: the stores that the run names.
    probes, evaluations : sequences of paths
        Besides those that the run lists.
    command : str
        Recorded in the report.

    Raises
    ------
    ConfigError
        If `run` is no folder, or holds nothing of a run.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise ConfigError(f"{run}: no such run folder; give the folder that eegm2 pretrain --out wrote")
    if not any((folder / name).exists() for name in ("run.json", "checkpoints", "logs", "probes.json")):
        raise ConfigError(
            f"{run}: not a run folder (no run.json, checkpoints or logs); give the folder that eegm2 "
            "pretrain wrote"
        )
    data = read_run(folder)
    data.command = command
    data.created = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    data.versions = _versions()
    data.probes, data.missing["probes"] = read_probes(folder, probes)
    if data.tuned and (folder / "results.json").is_file():
        data.probes.insert(0, read_probe(folder, embedded=False))
    data.evaluations, data.missing["evaluations"] = read_evaluations(evaluations)
    given = [store] if isinstance(store, str | Path) else list(store or ())
    opened = _open_stores(folder, given, data)
    for name, one in opened.items():
        _add_store(one, data, name)
    if data.ch_names:
        data.positions = head_positions(data.ch_names)
    name, first = next(iter(opened.items()), ("", None))
    if first is not None:
        _measure(first, data)
    _add_model(folder, first, data, name)
    data.missing = {part: text for part, text in data.missing.items() if text}
    return data


def _versions() -> dict[str, str]:
    found = {"eegm2": eegm2.__version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "scikit-learn", "matplotlib"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _open_stores(run: Path, given: Sequence[str | Path], data: ReportData) -> dict[str, RecordingStore]:
    """Return the stores of a run by their names in it; a single one has the name ""."""
    facts = {"store": data.header.get("store")} if data.tuned else data.header.get("data", {})
    parts = facts.get("stores")
    several = [entry for entry in parts if isinstance(entry, dict)] if isinstance(parts, list) else []
    if not several:
        store = _open_store(run, given[0] if given else facts.get("store"), data)
        return {} if store is None else {"": store}
    found: dict[str, RecordingStore] = {}
    for where in given or [str(entry.get("store")) for entry in several]:
        store = _open_store(run, where, data)
        same = [e for e in several if store is not None and e.get("manifest_sha256") == store.manifest_sha256]
        name = str((same[0] if same else {}).get("store", Path(str(where)).name))
        if store is not None:
            found[name] = store
    return found


def _open_store(run: Path, where: str | Path | None, data: ReportData) -> RecordingStore | None:
    if not where:
        data.missing["store"] = (
            "The run names no store and none was given, so the recordings are not shown; add --store STORE."
        )
        return None
    from eegm2.data.store.recording_store import RecordingStore

    problem = ""
    places = [str(where)]
    if "://" not in str(where) and not Path(where).is_absolute():
        places += [str(run / where), str(run.parent / where)]
    for place in places:
        try:
            return RecordingStore(place)
        except _MENDABLE as error:
            problem = problem or str(error)
    data.missing["store"] = (
        f"The store could not be opened, so recordings and quality are not shown ({problem}). Add "
        "--store STORE."
    )
    return None


def _add_store(store: RecordingStore, data: ReportData, name: str = "") -> None:
    """Add the recordings' facts and what preparation rejected; `name` is the store's, of several."""
    part_of = {unit: part for part, names in data.splits.items() for unit in names}
    start = f"{name}/" if name else ""
    data.recordings += [
        Recording(
            start + info.id,
            start + info.subject,
            info.session,
            info.n_times / info.sfreq_hz,
            info.sfreq_hz,
            tuple((span.onset_s, span.duration_s, span.label) for span in info.labels),
            info.quality,
            part_of.get(start + (info.id if data.split_by == "recording" else info.subject), ""),
        )
        for info in store.recordings
    ]
    data.rejected += [Rejected(start + what, reason) for what, reason in sorted(store.damaged.items())]
    data.rejected += [Rejected(start + left_out.source, left_out.reason) for left_out in _rejected(store)]
    data.ch_names = data.ch_names or tuple(store.ch_names)
    data.sfreq_hz = data.sfreq_hz or store.sfreq_hz
    facts = data.header if data.tuned else data.header.get("data", {})
    own = [entry for entry in facts.get("stores") or () if isinstance(entry, dict)] if name else [facts]
    trained_on = next((e.get("manifest_sha256") for e in own if not name or e.get("store") == name), None)
    if trained_on and trained_on != store.manifest_sha256:
        data.missing["store"] = (
            f"The store has changed since training (manifest {store.manifest_sha256[:12]}… now, "
            f"{str(trained_on)[:12]}… then): what is shown of recordings is the store of today."
        )


def _measure(store: RecordingStore, data: ReportData) -> None:
    """Add the band power of the classes of the labels."""
    from eegm2.report.measured import class_power

    try:
        data.class_power = class_power(store, data)
    except _MENDABLE as error:
        data.missing["power"] = f"Band power per class could not be measured ({error})."


def _rejected(store: RecordingStore) -> list[Rejected]:
    """Return the recordings that preparation left out, from the store's table of quality."""
    from eegm2.data.signal.quality import read_quality

    try:
        rows = read_quality(store.storage)
    except _MENDABLE:
        return []
    return [
        Rejected(str(row.get("recording")), str(row.get("reason") or "no reason given"))
        for row in rows
        if row.get("status") == "rejected"
    ]


def _add_model(run: Path, store: RecordingStore | None, data: ReportData, name: str = "") -> None:
    """Load the model, count its parameters and let it reconstruct held-out windows."""
    try:
        from eegm2.model.electrode_weights import electrode_weights
        from eegm2.training.checkpoint import load_checkpoint

        best = (run / "checkpoints" / "best.safetensors").exists()
        checkpoint = load_checkpoint(run, "best" if best else "last")
        data.n_parameters = sum(p.numel() for p in checkpoint.model.parameters())
        data.header |= {key: value for key, value in checkpoint.header.items() if value is not None}
        if tuple(checkpoint.header.get("ch_names") or ()) == data.ch_names:
            data.electrode_weights = electrode_weights(checkpoint.model)
    except _MENDABLE as error:
        data.missing["reconstruction"] = (
            f"The model could not be loaded, so nothing was reconstructed ({error})."
        )
        return
    if data.tuned:
        data.missing["reconstruction"] = (
            "The network was tuned to tell classes and not to reconstruct; for that look at the report of "
            "the run it began with."
        )
        return
    if store is None:
        data.missing["reconstruction"] = "Without the store there are no windows to reconstruct."
        return
    if data.header.get("model", {}).get("decoder") is False:
        data.missing["reconstruction"] = "The model is an encoder without decoder: it reconstructs nothing."
        return
    try:
        from eegm2.report.measured import reconstruct_windows

        data.reconstruction = reconstruct_windows(checkpoint.model, store, _of_store(data, name))
    except _MENDABLE as error:
        data.missing["reconstruction"] = f"The reconstruction could not be made ({error})."


def _of_store(data: ReportData, name: str) -> ReportData:
    """Return the contents with the split as one of several stores has it."""
    start = f"{name}/" if name else ""
    own = {
        part: tuple(unit.removeprefix(start) for unit in names if unit.startswith(start))
        for part, names in data.splits.items()
    }
    return dataclasses.replace(data, splits=own)
