"""Prepare a data set once: find its recordings, preprocess each, and write them into a store.

Each recording is written atomically and independently, so that an interrupted run goes on where it stopped,
a damaged file costs only itself, and two runs at once do the same work twice at worst.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from eegm2.atomic import remove_stale_temporaries
from eegm2.data.config import PrepareConfig, PreprocessingConfig
from eegm2.data.files.opened import stat_of
from eegm2.data.files.tree import NOT_FETCHED
from eegm2.data.names import shown
from eegm2.data.preparing import worker
from eegm2.data.preparing.finding import find_recordings, settle_gone
from eegm2.data.preparing.isolation import Ended, Limits, Task
from eegm2.data.preparing.isolation import run as run_isolated
from eegm2.data.preparing.prepare_report import PrepareResult, conclude
from eegm2.data.preparing.settled import ACROSS, across_joins, settled
from eegm2.data.preparing.worker import (
    Job,
    RecordingOutcome,
    first_channels,
    prepare_one,
    source_files,
    source_name,
)
from eegm2.data.recipes.base import Recipe, SourceRecording
from eegm2.data.storage import LocalStorage, Storage, open_storage
from eegm2.data.store.recording_store import RecordingStore, StoreWriter
from eegm2.ending import status_of
from eegm2.errors import ConfigError, DataError
from eegm2.words import count

_BYTES_PER_PROCESS = 48 << 20
"""So much EDF takes one process longer to prepare than another one takes to start."""


def prepare(
    source: str | Path,
    out: str | Path,
    config: PrepareConfig | None = None,
    *,
    progress: Callable[[int, int, RecordingOutcome], None] | None = None,
) -> PrepareResult:
    """Prepare a file, a folder or a data set into a store; run again, it does what is missing or has changed.

    Parameters
    ----------
    source : str or Path
        EEG file or folder.
    out : str or Path
        Store: folder or fsspec URL; made if needed.
    config : PrepareConfig, optional
        Options.
    progress : callable, optional
        Called with (done, total, outcome) after each recording.

    Returns
    -------
    PrepareResult
        `interrupted` is true if Ctrl-C ended it; what was prepared until then is in the store.

    Raises
    ------
    ConfigError
        If the store exists with another preprocessing, or an option cannot be used.
    DataError
        If nothing is found, or no recording could be prepared; then no store is made.
    """
    config = config or PrepareConfig()
    root = Path(source)
    if not root.exists():
        what = NOT_FETCHED if root.is_symlink() else "no such file or folder; check the name"
        raise DataError(f"{root}: {what}")
    found = find_recordings(root, config)
    recipe, sources = found.recipe, found.sources
    storage = open_storage(out)
    _refuse_foreign_folder(storage)
    existing = RecordingStore(out, allow_empty=True) if "store.json" in storage.sizes("") else None
    folder = str(root if root.is_dir() else root.parent)
    opened = (_first_channels(source, folder, config) for source in sources)
    wanted = resolve_preprocessing(_with_recipe(config, recipe, root), opened, existing)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if existing is not None:
        StoreWriter(out, wanted, wanted.channels, dtype=config.dtype)  # refuses another preprocessing at once
    if isinstance(storage, LocalStorage):
        for place in (storage.path, storage.path / "recordings"):
            remove_stale_temporaries(place)
    job = Job(str(out), folder, wanted, config.dtype)
    done: list[RecordingOutcome] = []
    todo, across = [], 0
    for recording in sources:
        outcome = settled(recording, job, existing)
        if outcome is None:
            todo.append(recording)
            across += across_joins(recording, existing)
        else:
            done.append(outcome)
            if progress:
                progress(len(done), len(sources), outcome)
    status = 0
    try:
        for outcome in _run(todo, job, config):
            done.append(outcome)
            if progress:
                progress(len(done), len(sources), outcome)
    except KeyboardInterrupt as error:
        status = status_of(error)
    removed, messages = settle_gone(found, job, existing, config.remove_gone and not status)
    result = PrepareResult(
        storage.url,
        recipe.name,
        wanted,
        tuple(sorted([*done, *removed], key=lambda o: o.recording)),
        (*found.messages, *messages, *([ACROSS.format(count(across, "recording"))] if across else [])),
        status,
        left_out=found.left_out,
        licence=recipe.licence if recipe.licence_of is None else recipe.licence_of(root),
    )
    return conclude(result, started, len(sources))


def resolve_preprocessing(
    config: PreprocessingConfig,
    opened: Iterable[tuple[tuple[str, ...], str]],
    existing: RecordingStore | None,
) -> PreprocessingConfig:
    """Return the preprocessing with the channels spelt out, as it is kept in the store and in checkpoints.

    Without a montage the channels are those of the existing store, or all EEG channels of the first recording
    that can be opened.

    Parameters
    ----------
    config : PreprocessingConfig
    opened : iterable of (tuple of str, str)
        Of each recording its channels, or none and why; asked only as far as needed.
    existing : RecordingStore or None
    """
    from eegm2.data.channels import wanted_channels

    montage = wanted_channels(config)
    if montage is not None:
        aliases = tuple(f"{theirs}={ours}" for theirs, ours in sorted(montage.aliases.items()))
        return dataclasses.replace(config, montage="", channels=montage.channels, aliases=aliases)
    if existing is not None:
        return dataclasses.replace(config, channels=existing.ch_names)
    problems = []
    for channels, problem in opened:
        if channels:
            return dataclasses.replace(config, channels=channels)
        problems.append(problem)
    raise DataError(f"none of {len(problems)} recordings can be opened; the first: {problems[0]}")


def _first_channels(source: SourceRecording, root: str, config: PrepareConfig) -> tuple[tuple[str, ...], str]:
    """Return a recording's channels, read in a process of its own, or none and why."""
    if not config.isolate or not _portable(source):
        return first_channels(source, root)
    task = Task(first_channels, (source, root), _limits(source, root, config), worker.import_readers)
    ((_, answer),) = run_isolated([task], 1)
    found: tuple[tuple[str, ...], str] = (
        answer if isinstance(answer, tuple) else ((), _ended(source, root, answer))
    )
    return found


def _portable(source: SourceRecording) -> bool:
    """Return whether another process finds the function that reads a recording: none of a script."""
    reader = getattr(source.reader, "func", source.reader)
    return getattr(reader, "__module__", "") != "__main__"


def _limits(source: SourceRecording, root: str, config: PrepareConfig) -> Limits:
    sizes = {path: max(stat_of(path)[0], 0) for path in source_files(source, root)}
    return Limits.for_files(sizes, time_s=config.limit_s, memory_gb=config.limit_gb)


def _ended(source: SourceRecording, root: str, ended: Ended) -> str:
    return f"{source_name(source, root)}: {ended.reason}"


def _with_recipe(config: PrepareConfig, recipe: Recipe, root: Path) -> PreprocessingConfig:
    """Return the preprocessing with the recipe's values where the user gave none."""
    own = config.preprocessing()
    suggested = recipe.preprocessing | (recipe.preprocessing_of(root) if recipe.preprocessing_of else {})
    chosen = {key: value for key, value in suggested.items() if key not in config.given}
    if own.montage or own.channels:
        chosen = {key: value for key, value in chosen.items() if key not in ("montage", "channels")}
    return dataclasses.replace(own, **chosen)


def _refuse_foreign_folder(storage: Storage) -> None:
    """Refuse to fill a folder that is not empty and no store."""
    if (
        isinstance(storage, LocalStorage)
        and storage.path.is_dir()
        and not (storage.path / "store.json").exists()
    ):
        there = sorted(path.name for path in storage.path.iterdir() if not path.name.startswith("."))
        if there and there != ["recordings"]:
            raise ConfigError(
                f"--out {storage.path}: is no store and not empty (it has {shown(there[0])}); "
                "name a new or empty folder"
            )


def _run(todo: Sequence[SourceRecording], job: Job, config: PrepareConfig) -> Iterator[RecordingOutcome]:
    """Yield outcomes as they come, from this process, joblib's or a Dask cluster's."""
    if config.dask:
        yield from _run_dask(todo, job, config.dask)
        return
    jobs = min(config.jobs or _useful_jobs(todo, job.root), len(todo))
    isolate = config.isolate and all(map(_portable, todo))
    if not isolate or job.out.startswith("memory:"):  # which no other process sees
        yield from (prepare_one(source, job) for source in todo)
        return
    tasks = [
        Task(prepare_one, (source, job), _limits(source, job.root, config), worker.import_readers)
        for source in todo
    ]
    for number, answer in run_isolated(tasks, jobs):
        source = todo[number]
        if isinstance(answer, Ended):
            about = (source.recording_id, source.subject, source.session, source_name(source, job.root))
            answer = RecordingOutcome(*about, "skipped", _ended(source, job.root, answer))
        yield answer


def _run_dask(todo: Sequence[SourceRecording], job: Job, scheduler: str) -> Iterator[RecordingOutcome]:
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise ConfigError("dask: distributed is not installed; pip install 'eegm2[dask]'") from error
    try:
        client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"dask: no scheduler answers at '{scheduler}' ({error}); start one or leave --dask out"
        ) from error
    with client:
        futures = client.map(prepare_one, todo, job=job, pure=False)
        for future in as_completed(futures):
            yield future.result()


def _useful_jobs(todo: Sequence[SourceRecording], root: str) -> int:
    """Return one process per core, but no more than are worth starting: importing takes each some seconds."""
    sizes = [sum(max(stat_of(path)[0], 0) for path in source_files(source, root)) for source in todo]
    if not all(sizes):  # not files of their own: nobody knows how much work they are
        return _cores()
    return max(1, min(_cores(), round(sum(sizes) / _BYTES_PER_PROCESS)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
