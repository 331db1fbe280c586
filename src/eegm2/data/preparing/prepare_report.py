"""What a run of ``eegm2 prepare`` did, and how the store keeps it (prepare_report.json, quality.csv)."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections import Counter
from dataclasses import dataclass

from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig
from eegm2.data.files.tree import LeftOut
from eegm2.data.names import shown
from eegm2.data.preparing.worker import RecordingOutcome
from eegm2.data.signal.quality import quality_row, write_quality
from eegm2.data.storage import open_storage
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore
from eegm2.errors import DataError


@dataclass(frozen=True)
class PrepareResult:
    """What a run did: the store, one outcome per recording, and messages about the whole."""

    url: str
    recipe: str
    preprocessing: PreprocessingConfig
    outcomes: tuple[RecordingOutcome, ...]
    messages: tuple[str, ...] = ()
    status: int = 0
    left_out: tuple[LeftOut, ...] = ()
    licence: str = ""

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the run; `status` is 0 otherwise, and 128 + its number then."""
        return self.status != 0

    @property
    def counts(self) -> dict[str, int]:
        """Number of recordings by status."""
        return dict(Counter(outcome.status for outcome in self.outcomes))


def conclude(result: PrepareResult, started: str, n_found: int) -> PrepareResult:
    """Write report and quality table into the store, if there is one; refuse a run without a recording.

    Returns the result with messages about what only the whole store shows: the same samples under two names.
    """
    good = [outcome for outcome in result.outcomes if outcome.status not in ("skipped", "removed")]
    storage = open_storage(result.url)
    if not good and not result.interrupted:
        first = next(outcome.reason for outcome in result.outcomes)
        raise DataError(f"none of {n_found} recordings could be prepared; the first: {first}")
    if "store.json" not in storage.sizes(""):
        return result
    store = RecordingStore(result.url, allow_empty=True)
    result = dataclasses.replace(result, messages=(*result.messages, *_same_samples(store)))
    report = {
        "format": 1,
        "recipe": result.recipe,
        "licence": result.licence,
        "started": started,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "interrupted": result.interrupted,
        "found": n_found,
        "counts": result.counts,
        "messages": [shown(message) for message in result.messages],
        "left_out": {"count": len(result.left_out), "files": [to_dict(left) for left in result.left_out]},
        "preprocessing": to_dict(result.preprocessing),
        "versions": _versions(),
        "recordings": [to_dict(outcome) | {"quality": None} for outcome in result.outcomes],
    }
    storage.write("prepare_report.json", [json.dumps(report, indent=1, allow_nan=False).encode()])
    rows = {
        info.id: quality_row(info.id, info.subject, info.session, "in store", info.quality)
        for info in store.recordings
    }
    for outcome in result.outcomes:
        if outcome.status == "skipped":
            rejected = quality_row(
                outcome.recording,
                outcome.subject,
                outcome.session,
                "rejected",
                outcome.quality,
                outcome.reason,
            )
            rows.setdefault(outcome.recording, rejected)
    left = [quality_row(left.path, "", "", "left out", {}, left.reason) for left in result.left_out]
    write_quality(storage, [*rows.values(), *left])
    return result


def _same_samples(store: RecordingStore) -> list[str]:
    """Return a message for samples that are in the store more than once, under different names."""
    copies: dict[str, list[RecordingInfo]] = {}
    for info in store.recordings:
        copies.setdefault(info.array_sha256, []).append(info)
    lines = []
    for same in copies.values():
        if len(same) > 1:
            people = sorted({info.subject for info in same})
            whose = f" of different subjects ({', '.join(people)})" if len(people) > 1 else ""
            names = ", ".join(info.id for info in same)
            lines.append(f"the same samples under {len(same)} names{whose}: {names}; keep one of them")
    return lines


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    import eegm2

    return {"eegm2": eegm2.__version__} | {name: version(name) for name in ("mne", "numpy", "scipy")}
