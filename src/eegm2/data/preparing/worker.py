"""What a worker of ``eegm2 prepare`` does: one recording, from its source into the store."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eegm2.data.config import PreprocessingConfig
from eegm2.data.joins import canonical_marks, without_marks
from eegm2.data.labels import LabelSpan
from eegm2.data.names import shown
from eegm2.data.recipes.base import SourceRecording
from eegm2.data.store.recording_store import RecordingInfo, StoreWriter
from eegm2.errors import ConfigError, DataError


@dataclass(frozen=True)
class Outcome:
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


def prepare_one(source: SourceRecording, job: Job) -> Outcome:
    """Prepare one recording into the store; whatever is wrong with it becomes a ``skipped`` outcome."""
    from eegm2.data.files.readers import ReadingWarning, annotation_labels
    from eegm2.data.signal.preprocessing import preprocess

    start = time.perf_counter()
    name = source_name(source, job.root)

    def outcome(status: Any, reason: str = "", quality: dict[str, Any] | None = None) -> Outcome:
        seconds = round(time.perf_counter() - start, 3)
        return Outcome(
            source.recording_id, source.subject, source.session, name, status, reason, quality or {}, seconds
        )

    try:
        stat, checksum = source_stat(source), source.source_sha256()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ReadingWarning)
            raw = source.load()
            spans = annotation_labels(raw) if source.labels is None else canonical_marks(source.labels)
            made = preprocess(raw, job.preprocessing, where=name, marks=spans)
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


def clip_labels(labels: Sequence[LabelSpan], duration_s: float) -> tuple[tuple[LabelSpan, ...], int]:
    """Return the spans cut to the recording, and how many lay outside it altogether."""
    inside = []
    for span in labels:
        start, stop = max(span.onset_s, 0.0), min(span.onset_s + span.duration_s, duration_s)
        if start < duration_s and (stop > start or (span.duration_s == 0 and span.onset_s >= 0)):
            inside.append(LabelSpan(round(start, 6), round(max(stop - start, 0.0), 6), span.label))
    return tuple(inside), len(labels) - len(inside)


def source_name(source: SourceRecording, root: str) -> str:
    """Return the path of a recording's file below the data set's folder."""
    path = source.path
    inside = path.is_relative_to(root) and path != Path(root)
    return shown(path.relative_to(root).as_posix() if inside else path.name)


def source_stat(source: SourceRecording) -> tuple[tuple[int, int], ...]:
    """Return size and modification time (ns) of each file of a recording, to notice a change cheaply."""
    paths = [path for path in (source.path, *source.files) if path.is_file()]
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in map(os.stat, paths))
