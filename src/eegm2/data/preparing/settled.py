"""Which recordings of a store need no reading: unchanged, or changed in their facts alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from eegm2.data.files.opened import stat_of
from eegm2.data.joins import IN_PARTS, canonical_marks, cuts, is_join, is_skip, without_marks
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.worker import (
    Job,
    RecordingOutcome,
    clip_labels,
    files_sha256,
    source_files,
    source_name,
)
from eegm2.data.recipes.base import SourceRecording
from eegm2.data.store.recording_store import RecordingStore, StoreWriter

ACROSS = "{} prepared across joins by an earlier version; prepared again, each part alone"
"""What is said of `across_joins`."""


def settled(source: SourceRecording, job: Job, existing: RecordingStore | None) -> RecordingOutcome | None:
    """Return the outcome of a recording that needs no reading: a problem, or there already and unchanged."""
    about = (source.recording_id, source.subject, source.session, source_name(source, job.root))
    if source.problem is not None:
        return RecordingOutcome(*about, "skipped", source.problem)
    if existing is None or source.recording_id not in {info.id for info in existing.recordings}:
        return None
    info = existing[source.recording_id]
    files = source_files(source, job.root, info.source_files)
    stat = tuple(map(stat_of, files))
    if info.source_stat != stat and info.source_sha256 != files_sha256(files):
        return None
    if across_joins(source, existing):
        return None
    labels = info.labels
    if source.labels is not None:
        marks = [span for span in info.labels if is_join(span.label) or is_skip(span.label)]
        given = canonical_marks(source.labels)
        if not _marked_alike(given, marks, 1.5 / info.sfreq_hz, info.duration_s):
            return None  # a table marks joins that the samples were not prepared with
        labels = clip_labels(without_marks(given), info.quality.get("duration_s", info.duration_s))[0]
        labels = tuple(sorted((*labels, *marks))) if marks else labels
    now = dataclasses.replace(
        info,
        subject=source.subject,
        session=source.session,
        labels=labels,
        attributes=source.attributes,
        split=source.split,
        source_stat=stat,
    )
    if now == info:
        return RecordingOutcome(*about, "unchanged", quality=info.quality)
    StoreWriter(job.out, job.preprocessing, job.preprocessing.channels, dtype=job.dtype).update(now)
    changed = dataclasses.replace(now, source_stat=info.source_stat) != info
    return RecordingOutcome(*about, "updated" if changed else "unchanged", quality=info.quality)


def across_joins(source: SourceRecording, existing: RecordingStore | None) -> bool:
    """Return whether a recording of a store was prepared across its joins, as versions did that knew none.

    All others have the samples that they would get today, which is why `PREPROCESSING_VERSION` stayed.
    """
    if existing is None or source.recording_id not in {info.id for info in existing.recordings}:
        return False
    info = existing[source.recording_id]
    joins = cuts(canonical_marks(info.labels, source.path), info.sfreq_hz, info.n_times)
    return bool(joins) and IN_PARTS not in info.quality.get("notes", "")


def _marked_alike(
    given: Sequence[LabelSpan], marks: Sequence[LabelSpan], tolerance_s: float, duration_s: float
) -> bool:
    """Return whether all joins and skips that labels have are among those of the stored recording."""
    there = [mark.onset_s for mark in marks]
    wanted = [span.onset_s for span in given if is_join(span.label) or is_skip(span.label)]
    inside = [time for time in wanted if tolerance_s < time < duration_s - tolerance_s]
    return all(any(abs(time - mark) <= tolerance_s for mark in there) for time in inside)
