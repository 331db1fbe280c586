"""What a worker of ``eegm2 prepare`` does: one recording, from its source into the store."""

from __future__ import annotations

import errno
import hashlib
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eegm2.data.config import PreprocessingConfig
from eegm2.data.files.opened import MISSING, Opened, depends_on, stat_of, watch
from eegm2.data.joins import canonical_marks, without_marks
from eegm2.data.labels import LabelSpan
from eegm2.data.names import shown, writable
from eegm2.data.recipes.base import SourceRecording, file_digest
from eegm2.data.store.recording_store import RecordingInfo, StoreWriter
from eegm2.errors import ConfigError, DataError


@dataclass(frozen=True)
class RecordingOutcome:
    """What became of one recording.

    ``prepared``, ``updated``, ``unchanged``, ``skipped`` with a reason, or ``removed`` from the store.
    """

    recording: str
    subject: str
    session: str
    source: str
    status: Literal["prepared", "updated", "unchanged", "skipped", "removed"]
    reason: str = ""
    quality: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("recording", "subject", "session", "source", "reason"):
            object.__setattr__(self, name, shown(getattr(self, name)))


@dataclass(frozen=True)
class Job:
    """What every worker needs to know."""

    out: str
    root: str
    preprocessing: PreprocessingConfig
    dtype: str


def import_readers() -> None:
    """Import what reading and preparing a recording take: a second or two that are no file's."""
    import eegm2.data.files.readers
    import eegm2.data.signal.preprocessing  # noqa: F401


def prepare_one(source: SourceRecording, job: Job) -> RecordingOutcome:
    """Prepare one recording into the store; whatever is wrong with it becomes a ``skipped`` outcome."""
    from eegm2.data.files.readers import ReadingWarning, annotation_labels
    from eegm2.data.signal.preprocessing import preprocess

    start = time.perf_counter()
    name = source_name(source, job.root)

    def outcome(status: Any, reason: str = "", quality: dict[str, Any] | None = None) -> RecordingOutcome:
        seconds = round(time.perf_counter() - start, 3)
        return RecordingOutcome(
            source.recording_id, source.subject, source.session, name, status, reason, quality or {}, seconds
        )

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ReadingWarning)
            with watch(*_folders(source, job.root)) as opened:
                depends_on(*(path for path in (source.path, *source.files) if path.is_file()))
                raw = source.load()
                spans = annotation_labels(raw) if source.labels is None else canonical_marks(source.labels)
                made = preprocess(raw, job.preprocessing, where=name, marks=spans)
        others = further_files(source, opened)
        files = source_files(source, job.root, others)
        stat = tuple(opened.files.get(os.path.abspath(path), MISSING) for path in files)  # noqa: PTH100
        if stat != tuple(map(stat_of, files)):
            raise DataError(f"{name}: changed while it was read; run again when it is complete")
        checksum = files_sha256(files)
        labels, outside = clip_labels(without_marks(spans), raw.n_times / raw.info["sfreq"])
        labels = tuple(sorted((*labels, *made.marks))) if made.marks else labels
        notes = [made.quality["notes"], f"{outside} labels outside the recording left out" if outside else ""]
        notes += source.notes
        notes += [str(item.message) for item in said if issubclass(item.category, ReadingWarning)]
        quality = {**made.quality, "notes": "; ".join(dict.fromkeys(filter(None, map(shown, notes))))}
        info = RecordingInfo(
            id=source.recording_id,
            subject=source.subject,
            session=source.session,
            n_times=0,
            sfreq_hz=job.preprocessing.sfreq_hz,
            ch_names=made.ch_names,
            labels=labels,
            attributes=source.attributes,
            source=name,
            source_sha256=checksum,
            quality=quality,
            split=source.split,
            source_stat=stat,
            source_files=tuple(os.path.relpath(path, job.root) for path in others),
        )
        StoreWriter(job.out, job.preprocessing, job.preprocessing.channels, dtype=job.dtype).write(
            info, made.array
        )
        return outcome("prepared", quality=quality)
    except ConfigError:
        raise
    except DataError as error:
        return outcome("skipped", str(error))
    except MemoryError:
        return outcome("skipped", f"{name}: not enough memory; use fewer --jobs")
    except OSError as error:
        at = f" ({error.filename})" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            at = f" for {job.out}"
        return outcome(
            "skipped", f"{name}: {error.strerror or error}{at}; check the disk and the permissions"
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        return outcome("skipped", f"{name}: unexpected {type(error).__name__}: {reason}; please report it")


def first_channels(source: SourceRecording, root: str) -> tuple[tuple[str, ...], str]:
    """Return a recording's EEG channels, or none and why it cannot be opened."""
    from eegm2.data.signal.preprocessing import default_channels

    try:
        with warnings.catch_warnings(), watch(*_folders(source, root)):
            warnings.simplefilter("ignore")  # they are told when the recording itself is prepared
            return default_channels(source.load(), source.recording_id), ""
    except DataError as error:
        return (), str(error)
    except MemoryError:
        return (), f"{source_name(source, root)}: not enough memory"


def _folders(source: SourceRecording, root: str) -> tuple[Path, ...]:
    """Return where a recording's files may be: the data set's folder, and its own."""
    return (Path(root), source.path.parent, *(path.parent for path in source.files))


def further_files(source: SourceRecording, opened: Opened) -> tuple[Path, ...]:
    """Return the files that were read, or missed, besides those the recipe knew of."""
    known = {os.path.abspath(path) for path in (source.path, *source.files)}  # noqa: PTH100
    return tuple(Path(name) for name in sorted(opened.files) if name not in known)


def clip_labels(labels: Sequence[LabelSpan], duration_s: float) -> tuple[tuple[LabelSpan, ...], int]:
    """Return the spans cut to the recording, and how many lay outside it altogether."""
    inside = []
    for span in labels:
        start, stop = max(span.onset_s, 0.0), min(span.onset_s + span.duration_s, duration_s)
        if start < duration_s and (stop > start or (span.duration_s == 0 and span.onset_s >= 0)):
            text = writable(span.label)
            inside.append(LabelSpan(round(start, 6), round(max(stop - start, 0.0), 6), text))
    return tuple(inside), len(labels) - len(inside)


def source_name(source: SourceRecording, root: str) -> str:
    """Return the path of a recording's file below the data set's folder."""
    path = source.path
    inside = path.is_relative_to(root) and path != Path(root)
    return shown(path.relative_to(root).as_posix() if inside else path.name)


def source_files(source: SourceRecording, root: str, others: Sequence[Path | str] = ()) -> list[Path]:
    """Return all files a recording is read from: those of its recipe, and others that were come across.

    Parameters
    ----------
    source : SourceRecording
    root : str
        The data set's folder.
    others : sequence of Path or str
        As `RecordingInfo.source_files` keeps them: relative to `root`.
    """
    own = [path for path in (source.path, *source.files) if path.is_file()]
    return list(dict.fromkeys([*own, *(Path(root) / name for name in others)]))


def files_sha256(paths: Sequence[Path]) -> str:
    """Return one SHA-256 over the content of files; one that is missing counts as such."""
    digest = hashlib.sha256()
    for path in paths:
        status = stat_of(path)
        digest.update(b"missing" if status == MISSING else file_digest(path, *status))
    return digest.hexdigest()
